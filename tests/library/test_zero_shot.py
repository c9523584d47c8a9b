"""Zero-shot against other libraries and enumeration of ties; bad input, which calibration reads alike."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from gaplib.evaluation import calibration, zero_shot
from gaplib.evaluation.zero_shot import class_embeddings


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def task(n=200, c=7, d=16, noise=1.5, seed=0):
    classes = gaussian(c, d, seed)
    labels = np.random.default_rng(seed + 1).integers(c, size=n)
    return classes[labels] + noise * gaussian(n, d, seed + 2), labels, classes


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


# --- zero-shot -------------------------------------------------------------------------------------------------------


def test_accuracy_of_scikit_learn():
    x, labels, classes = task()
    got = zero_shot(x, labels, classes, ks=(1, 3))
    scores = unit(x) @ unit(classes).T
    assert 0.3 < got["accuracy@1"] < 0.99
    for k in (1, 3):
        assert got[f"accuracy@{k}"] == pytest.approx(top_k_accuracy_score(labels, scores, k=k))
    assert got["class_mean_accuracy@1"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))
    assert all(type(value) is float for value in got.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), c=st.integers(1, 5), k=st.integers(1, 6))
def test_ties_are_those_of_enumeration(seed, n, c, k):
    rng = np.random.default_rng(seed)
    corners = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b], dtype=float)
    x, classes = corners[rng.integers(len(corners), size=n)], corners[rng.integers(len(corners), size=c)]
    labels = rng.integers(c, size=n)
    scores = np.round(unit(x) @ unit(classes).T, 9)
    hits = [
        label in sorted(order, key=lambda j: -row[j])[:k]
        for row, label in zip(scores, labels, strict=True)
        for order in itertools.permutations(range(c))
    ]
    assert zero_shot(x, labels, classes, ks=(k,))[f"accuracy@{k}"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_constant_embeddings_give_exactly_k_over_c(dtype):
    row = gaussian(1, 33).astype(dtype)
    x, classes = np.repeat(row, 40, axis=0), np.repeat(row, 8, axis=0)
    classes[3:] *= 3  # level, though of another length
    got = zero_shot(x, np.arange(40) % 5, classes, ks=(1, 2, 20))
    assert got["accuracy@1"] == pytest.approx(1 / 8, abs=1e-12)
    assert got["class_mean_accuracy@2"] == pytest.approx(2 / 8, abs=1e-12)
    assert got["accuracy@20"] == 1


def test_random_embeddings_give_about_k_over_c():
    n, c = 4000, 10
    got = zero_shot(gaussian(n, 32), np.arange(n) % c, gaussian(c, 32, 1), ks=(1, 3))
    for k in (1, 3):
        # Random classes favour some classes, but labels are balanced: four standard errors.
        assert abs(got[f"accuracy@{k}"] - k / c) < 4 * np.sqrt(k / c * (1 - k / c) / n)


def test_order_of_items_and_of_classes_changes_nothing():
    x, labels, classes = task()
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(x)), rng.permutation(len(classes))
    whole = zero_shot(x, labels, classes, ks=(1, 2))
    assert zero_shot(x[rows], labels[rows], classes, ks=(1, 2)) == pytest.approx(whole)
    assert zero_shot(x, labels, classes[columns], ks=(1, 2), class_labels=columns) == pytest.approx(whole)
    names = np.array([f"class {j}" for j in range(len(classes))])
    assert zero_shot(x, names[labels], classes, ks=(1, 2), class_labels=names.tolist()) == whole


def test_chunks_change_nothing(monkeypatch):
    x, labels, classes = task()
    whole = zero_shot(x, labels, classes), calibration(x, labels, classes, 10.0)
    monkeypatch.setattr("gaplib.evaluation._inputs._SCORES_AT_A_TIME", 20)
    parts = zero_shot(x, labels, classes), calibration(x, labels, classes, 10.0)
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_prompts_are_normalised_averaged_and_normalised():
    prompts = [np.array([[1.0, 0], [0, 5]]), np.array([[0, -2.0]])]
    np.testing.assert_allclose(class_embeddings(prompts), [[np.sqrt(0.5), np.sqrt(0.5)], [0, -1]])
    x, labels, classes = task()
    assert zero_shot(x, labels, [row[None] for row in classes]) == zero_shot(x, labels, classes)
    assert zero_shot(x, labels, [torch.from_numpy(row[None]) for row in classes]) == zero_shot(x, labels, classes)


def test_an_ensemble_beats_its_noisy_prompts():
    x, labels, classes = task(n=1000)
    prompts = [row + 2 * gaussian(20, 16, 5 + j) for j, row in enumerate(classes)]
    single = [zero_shot(x, labels, np.stack([p[i] for p in prompts]))["accuracy@1"] for i in range(20)]
    assert zero_shot(x, labels, prompts)["accuracy@1"] > np.mean(single) + 0.1


def test_classes_without_items_only_distract():
    x, labels = np.eye(3)[[0, 1, 1]], [0, 1, 1]
    got = zero_shot(x, labels, np.eye(3))
    assert got == {"accuracy@1": 1, "class_mean_accuracy@1": 1}
    # Class 2 at the place of class 1 halves its hits.
    got = zero_shot(x, labels, np.eye(3)[[0, 1, 1]])
    assert got == {"accuracy@1": pytest.approx(2 / 3), "class_mean_accuracy@1": 0.75}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.full((4, 2), np.nan)), "x"),
        (dict(x=np.zeros((4, 2))), "x"),
        (dict(classes=np.ones((2, 5))), "classes"),
        (dict(classes=np.array([[1.0, 0], [0, np.inf]])), "classes"),
        (dict(classes=[]), "classes"),
        (dict(classes=[np.ones((1, 2)), np.ones((1, 3))]), r"classes\[1\]"),
        (dict(classes=[np.ones((1, 2)), np.zeros((2, 2))]), r"classes\[1\]"),
        (dict(classes=[np.ones((1, 2)), np.ones((0, 2))]), r"classes\[1\]"),
        (dict(classes=[np.ones((1, 2)), np.array([[1.0, 2], [-2, -4]])]), r"classes\[1\]"),
        (dict(classes={"a": np.ones((1, 2))}), "classes"),
        (dict(labels=[0, 1, 0]), "labels"),
        (dict(labels=[0, 1, 2, 0]), "labels"),
        (dict(labels=[0, 1, -1, 0]), "labels"),
        (dict(labels=[0.0, 1, 0, 1]), "labels"),
        (dict(labels=["a", "b", "a", "b"]), "labels"),
        (dict(class_labels=["a", "b"]), "labels"),
        (dict(class_labels=[0, 1, 2]), "class_labels"),
        (dict(class_labels=[1, 1]), "class_labels"),
    ],
)
def test_bad_input_is_named(arguments, name):
    good = dict(x=gaussian(4, 2), labels=[0, 1, 1, 0], classes=gaussian(2, 2, 1))
    for score in (zero_shot, calibration):
        with pytest.raises(ValueError, match=rf"^{name}: expected"):
            score(**good | arguments | (dict(logit_scale=1.0) if score is calibration else {}))


@pytest.mark.parametrize("ks", [(), (0,), "1", 1, (1.5,)])
def test_bad_cutoffs(ks):
    with pytest.raises(ValueError, match=r"^ks: expected"):
        zero_shot(gaussian(4, 2), [0, 1, 1, 0], gaussian(2, 2), ks=ks)


def test_the_missing_class_is_named():
    with pytest.raises(ValueError, match="'greek'"):
        zero_shot(gaussian(2, 3), ["latin", "greek"], gaussian(2, 3), class_labels=["latin", "cyrillic"])
