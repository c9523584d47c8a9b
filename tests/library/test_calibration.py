"""Calibration of zero-shot classifiers: against other libraries, hand-made cases; bad input."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from gaplib.evaluation import calibration, zero_shot
from gaplib.evaluation.calibration import reliability


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def task(n=200, c=7, d=16, noise=1.5, seed=0):
    classes = gaussian(c, d, seed)
    labels = np.random.default_rng(seed + 1).integers(c, size=n)
    return classes[labels] + noise * gaussian(n, d, seed + 2), labels, classes


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [0.5, 10.0, 100.0])
def test_calibration_of_other_libraries(scale):
    x, labels, classes = task(n=500)
    got = calibration(x, labels, classes, scale, bins=10)
    p = softmax(scale * unit(x) @ unit(classes).T, axis=1)
    ece = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), len(classes), n_bins=10)
    assert got["ece"] == pytest.approx(float(ece), abs=1e-6)
    # Not scikit-learn's log_loss, which clips small probabilities.
    nll = torch.nn.functional.cross_entropy(*map(torch.from_numpy, (scale * unit(x) @ unit(classes).T, labels)))
    assert got["nll"] == pytest.approx(float(nll), rel=1e-9)
    assert got["brier"] == pytest.approx(np.square(p - np.eye(len(classes))[labels]).sum(1).mean())
    assert got["accuracy"] == pytest.approx(zero_shot(x, labels, classes)["accuracy@1"])
    assert got["confidence"] == pytest.approx(p.max(1).mean())


def test_a_hand_made_reliability_diagram():
    confidence, correct = [0.5, 0.45, 0.9, 0.95, 1.0, 0.55], [1, 0, 1, 1, 0, 1]
    table = reliability(confidence, correct, bins=2)
    assert table == {
        "low": [0, 0.5],
        "high": [0.5, 1],
        "count": [2, 4],  # the upper edge belongs to the bin
        "confidence": [pytest.approx(0.475), pytest.approx(0.85)],
        "accuracy": [0.5, 0.75],
    }
    # Two classes at right angles: p = e^s / (e^s + 1), always right but for one in four.
    scale = np.log(3)
    got = calibration(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 0], np.eye(2), scale)
    assert got["confidence"] == pytest.approx(0.75)
    assert got["accuracy"] == 0.75
    assert got["ece"] == pytest.approx(0, abs=1e-12)
    assert got["brier"] == pytest.approx((3 * 2 * 0.25**2 + 2 * 0.75**2) / 4)
    assert got["nll"] == pytest.approx(-(3 * np.log(0.75) + np.log(0.25)) / 4)
    assert calibration(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1], np.eye(2), scale)["ece"] == pytest.approx(0.25)


def test_constant_embeddings_are_calibrated_and_no_better_than_chance():
    got = calibration(np.ones((20, 4)), np.arange(20) % 4, np.ones((5, 4)), 100.0)
    assert got["accuracy"] == pytest.approx(0.2)
    assert got["ece"] == pytest.approx(0, abs=1e-9)
    assert got["nll"] == pytest.approx(np.log(5))


def test_overconfident_at_a_huge_scale_without_overflow():
    x, labels, classes = task(noise=3)
    got = calibration(x, labels, classes, 1e6)
    assert got["ece"] == pytest.approx(1 - got["accuracy"], abs=1e-3)
    assert np.isfinite(list(got.values())).all()


@pytest.mark.parametrize(("scale", "bins", "name"), [(0, 5, "logit_scale"), (np.nan, 5, "logit_scale"), (1, 0, "bins")])
def test_bad_scale_and_bins(scale, bins, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        calibration(gaussian(4, 2), [0, 1, 1, 0], gaussian(2, 2), scale, bins=bins)


@pytest.mark.parametrize(
    ("confidence", "correct", "name"),
    [([], [], "confidence"), ([0.5], [1, 0], "correct"), ([np.nan], [1], "confidence"), ([0.5], [2], "correct")],
)
def test_bad_reliability(confidence, correct, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        reliability(confidence, correct)
