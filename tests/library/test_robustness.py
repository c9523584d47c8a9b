"""Noise: the length it says, chance at its end, paired draws; bad input."""

import numpy as np
import pytest

from gaplib.evaluation import retrieval, robustness, zero_shot
from gaplib.evaluation.robustness import add_noise


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_the_sweep_starts_clean_and_ends_at_chance():
    x = gaussian(300, 16)
    y = x + 0.5 * gaussian(300, 16, 1)
    got = robustness(x, y, sizes=(1e6, 0, 0.5, 1), draws=4)
    clean = float(sum(retrieval(x, y, ks=(1,)).values()) / 2)
    assert list(got) == ["score@0", "score@0.5", "score@1", "score@1e+06", "mean"]
    assert got["score@0"] == pytest.approx(clean)
    assert clean > got["score@0.5"] > got["score@1"] > 0.05
    assert got["score@1e+06"] < 0.02
    assert got["mean"] == pytest.approx((got["score@0.5"] + got["score@1"] + got["score@1e+06"]) / 3)
    assert robustness(x, y, sizes=[0])["mean"] == got["score@0"]


def test_noise_has_the_length_it_says():
    z = unit(gaussian(2000, 64))
    for size in (0.1, 1.0):
        noisy = add_noise(z, size, np.random.default_rng(9))
        np.testing.assert_allclose(np.linalg.norm(noisy, axis=1), 1)
        # Noise is orthogonal to the row but for 1/sqrt(d): the angle's tangent is the size.
        cosine = (z * noisy).sum(1).mean()
        assert cosine == pytest.approx(1 / np.hypot(1, size), abs=0.01)
    np.testing.assert_allclose(add_noise(3 * z, 0, np.random.default_rng(0)), z)


def test_any_score_on_either_side():
    x, classes = gaussian(200, 8), gaussian(4, 8, 1)
    labels = (x @ classes.T).argmax(1)
    seen = []

    def score(images, texts):
        seen.append((images.copy(), texts.copy()))
        images[:] = texts[:] = 0  # a careless score spoils nothing
        return 0.5

    for noisy, changed in (("image", (True, False)), ("text", (False, True)), ("both", (True, True))):
        seen.clear()
        assert robustness(x, classes, score, sizes=(0, 1), draws=2, noisy=noisy)["mean"] == 0.5
        assert len(seen) == 3  # once without noise
        np.testing.assert_allclose(seen[0][0], unit(x))
        for images, texts in seen[1:]:
            assert (not np.allclose(images, unit(x)), not np.allclose(texts, unit(classes))) == changed
    alone = robustness(x, score=lambda z: zero_shot(z, labels, classes)["accuracy@1"], sizes=(0, 0.5))
    both = robustness(
        x, classes, lambda z, w: zero_shot(z, labels, w)["accuracy@1"], sizes=(0, 0.5), noisy="image", seed=0
    )
    assert alone == both
    assert alone["score@0"] > alone["score@0.5"] > 0.25


def test_draws_are_paired_and_seeded():
    x, y = gaussian(50, 8), gaussian(50, 8, 1)
    noise = {}
    for name, z in (("x", x), ("y", y)):
        for size in (0.5, 1.0):
            got = []
            robustness(z, score=lambda w, got=got: got.append(w.copy()) or 0, sizes=(size,), draws=2)
            # What was added, but for each row's length: remove the row's own direction.
            noise[name, size] = [g / (g * unit(z)).sum(1, keepdims=True) - unit(z) for g in got]
    assert not np.allclose(noise["x", 1.0][0], noise["x", 1.0][1])
    fresh = np.random.default_rng([0, 0, 0, 11]).standard_normal((50, 8)) / np.sqrt(8)
    for size in (0.5, 1.0):
        for name, z in (("x", x), ("y", y)):
            along = (size * fresh * unit(z)).sum(1, keepdims=True)
            expected = (size * fresh - along * unit(z)) / (1 + along)
            np.testing.assert_allclose(noise[name, size][0], expected, atol=1e-9)
    assert robustness(x, y, seed=1) == robustness(x, y, seed=1)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.full((6, 3), np.nan)), "x"),
        (dict(y=np.ones((5, 3))), "y"),
        (dict(y=np.ones((6, 2))), "y"),
        (dict(y=None), "y"),
        (dict(y=None, score=lambda x: 1, noisy="text"), "y"),
        (dict(sizes=()), "sizes"),
        (dict(sizes=(-1,)), "sizes"),
        (dict(sizes=(np.nan,)), "sizes"),
        (dict(sizes=0.5), "sizes"),
        (dict(draws=0), "draws"),
        (dict(seed=-1), "seed"),
        (dict(noisy="audio"), "noisy"),
        (dict(score=lambda x, y: np.nan), "score"),
        (dict(score=lambda x, y: {"recall": 1}), "score"),
        (dict(score=lambda x, y: None), "score"),
    ],
)
def test_bad_input_of_robustness(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        robustness(**dict(x=gaussian(6, 3), y=gaussian(6, 3, 1)) | arguments)
