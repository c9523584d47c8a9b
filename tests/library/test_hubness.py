"""Hubs: against scikit-learn, enumeration of ties and closed forms; bad input."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.neighbors import NearestNeighbors

from gaplib.evaluation import hubness
from gaplib.evaluation.hubness import class_hubs, gini, k_occurrence


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_occurrences_of_scikit_learn():
    x, y = gaussian(200, 6), gaussian(150, 6, 1)
    near = NearestNeighbors(n_neighbors=7, metric="cosine").fit(y).kneighbors(x, return_distance=False)
    counts = np.bincount(near.ravel(), minlength=150)
    np.testing.assert_allclose(k_occurrence(x, y, 7), counts)
    got = hubness(x, y, 7)
    assert got["image_to_text.skewness"] == pytest.approx(skew(counts))
    assert got["image_to_text.orphans"] == pytest.approx((counts == 0).mean())
    differences = np.abs(counts[:, None] - counts[None]).mean()
    assert got["image_to_text.gini"] == pytest.approx(differences / (2 * counts.mean()))
    swapped = hubness(y, x, 7)
    assert swapped["text_to_image.skewness"] == got["image_to_text.skewness"]
    assert all(type(value) is float for value in got.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), m=st.integers(1, 5), data=st.data())
def test_ties_are_those_of_enumeration(seed, n, m, data):
    k = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    corners = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b], dtype=float)
    x, y = corners[rng.integers(len(corners), size=n)], corners[rng.integers(len(corners), size=m)]
    orders = list(itertools.permutations(range(m)))
    counts = np.zeros(m)
    for row in np.round(unit(x) @ unit(y).T, 9):
        for order in orders:
            counts[sorted(order, key=lambda j: -row[j])[:k]] += 1 / len(orders)
    np.testing.assert_allclose(k_occurrence(x, y, k), counts, atol=1e-9)


def test_equal_counts_are_no_hubs():
    constant = np.repeat(gaussian(1, 5), 33, axis=0)
    circle = np.array([(np.cos(a), np.sin(a)) for a in np.arange(12) * np.pi / 6])
    for x, k in ((constant, 7), (np.eye(6), 1), (circle, 3)):
        got = hubness(x, x, k)
        assert got["image_to_text.skewness"] == 0
        assert got["image_to_text.gini"] == pytest.approx(0, abs=1e-12)
        assert got["text_to_image.orphans"] == 0


def test_a_direction_that_queries_share_makes_hubs():
    x, y = gaussian(500, 32), gaussian(500, 32, 1)
    free, cone = hubness(x, y), hubness(x + 3 * np.eye(32)[0], y)
    for key, more in (("skewness", 1), ("gini", 0.2), ("orphans", 0.05)):
        assert cone[f"image_to_text.{key}"] > free[f"image_to_text.{key}"] + more


def test_class_hubs_count_predictions():
    x, classes = gaussian(300, 8), gaussian(5, 8, 1)
    predictions = (unit(x) @ unit(classes).T).argmax(1)
    np.testing.assert_allclose(class_hubs(x, classes), np.bincount(predictions, minlength=5))
    np.testing.assert_allclose(class_hubs(x, [row[None] for row in classes]), np.bincount(predictions, minlength=5))
    np.testing.assert_allclose(class_hubs(x, np.repeat(classes[:1], 4, axis=0)), 75)
    # A shift of the images is a bias for the classes that lie along it (Sato et al.).
    shifted = class_hubs(x + 10 * unit(classes[2:3]), classes)
    assert shifted[2] == 300 > 3 * class_hubs(x, classes)[2]


def test_gini_of_known_counts():
    assert gini([3, 3, 3]) == 0
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini(torch.tensor([1.0, 3.0])) == pytest.approx(0.25)


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2], [np.nan, 1], [[1, 2]]])
def test_gini_of_bad_counts(counts):
    with pytest.raises(ValueError, match=r"^counts: expected"):
        gini(counts)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.full((6, 3), np.nan)), "x"),
        (dict(y=np.zeros((6, 3))), "y"),
        (dict(y=np.ones((6, 2))), "y"),
        (dict(k=0), "k"),
        (dict(k=6), "k"),
        (dict(k=2.0), "k"),
    ],
)
def test_bad_input_of_hubness(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        hubness(**dict(x=gaussian(6, 3), y=gaussian(5, 3, 1), k=2) | arguments)
