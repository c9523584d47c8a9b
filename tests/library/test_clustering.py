"""Clusters: against scikit-learn; chance, order, bad input."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier

from gaplib.evaluation import clustering


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def pairs(n=120, c=4, d=8, noise=1.0, gap=0.0):
    labels = np.arange(n) % c
    centres = 2 * gaussian(c, d, 9)
    x, y = (unit(centres[labels] + noise * gaussian(n, d, seed)) for seed in (1, 2))
    return unit(x + gap * np.eye(d)[0]), unit(y - gap * np.eye(d)[0]), labels


def test_v_measure_and_rand_index_of_scikit_learn():
    x, y, labels = pairs(noise=0.5)
    labels = np.where(np.arange(120) % 7 == 0, (labels + 1) % 4, labels)
    got = clustering(x, y, labels)
    for prefix, z, truth in (
        ("", np.concatenate([x, y]), np.tile(labels, 2)),
        ("image.", x, labels),
        ("text.", y, labels),
    ):
        # Well-separated clusters, some labels wrong: any good k-means finds the same partition.
        found = KMeans(4, n_init=20, random_state=77).fit_predict(z)
        assert got[f"{prefix}v_measure"] == pytest.approx(v_measure_score(truth, found), abs=1e-9)
        assert got[f"{prefix}ari"] == pytest.approx(adjusted_rand_score(truth, found), abs=1e-9)
        assert 0.5 < got[f"{prefix}ari"] < 1
    assert all(type(value) is float for value in got.values())


def test_knn_of_scikit_learn():
    """One modality: leave-one-out, item by item. An odd vote between two classes has no ties."""
    x, y, labels = pairs(n=60, c=2, noise=3.0)
    got = clustering(x, y, labels, neighbours=3)
    for prefix, z in (("image.", x), ("text.", y)):
        hits = [
            KNeighborsClassifier(3).fit(np.delete(z, i, 0), np.delete(labels, i)).predict(z[i : i + 1])[0] == labels[i]
            for i in range(60)
        ]
        assert got[f"{prefix}knn"] == pytest.approx(np.mean(hits))
        assert 0.5 < got[f"{prefix}knn"] < 1


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("k", [1, 4, 5])
def test_pooled_knn_leaves_the_partner_out_and_shares_tied_votes(paired, k):
    x, y, labels = pairs(n=40, c=3, noise=2.0)
    got = clustering(x, y, labels, text_labels=None if paired else labels, neighbours=k)
    z, truth = np.concatenate([x, y]), np.tile(labels, 2)
    distances = euclidean_distances(z)
    hits = []
    for i, row in enumerate(distances):
        left_out = {i, (i + 40) % 80} if paired else {i}
        near = [j for j in np.argsort(row) if j not in left_out][:k]
        votes = np.bincount(truth[near], minlength=3)
        hits.append((votes[truth[i]] == votes.max()) / (votes == votes.max()).sum())
    assert got["knn"] == pytest.approx(np.mean(hits))


def test_aligned_pairs_do_not_find_themselves():
    """Equal partners and no class structure: with partners voting, k = 1 would be right every time."""
    x = gaussian(400, 16)
    labels = np.arange(400) % 4
    assert abs(clustering(x, x, labels, neighbours=1)["knn"] - 0.25) < 0.1
    assert clustering(x, x, labels, text_labels=labels, neighbours=1)["knn"] > 0.99


def test_a_gap_scatters_the_pooled_classes_only():
    near, far = (clustering(*pairs(noise=0.5, gap=gap)) for gap in (0, 4))
    assert near["v_measure"] > 0.8
    assert far["v_measure"] < near["v_measure"] - 0.2
    assert far["image.knn"] > 0.9


def test_random_and_constant_embeddings_are_at_chance():
    n, c = 600, 5
    labels = np.arange(n) % c
    got = clustering(gaussian(n, 16), gaussian(n, 16, 1), labels)
    for prefix in ("", "image.", "text."):
        assert abs(got[f"{prefix}ari"]) < 0.02
        assert got[f"{prefix}v_measure"] < 0.03
        assert abs(got[f"{prefix}knn"] - 1 / c) < 0.08
    constant = np.repeat(gaussian(1, 16), n, axis=0)
    for column in (labels, np.sort(labels)):
        got = clustering(constant, constant, column)
        for prefix in ("", "image.", "text."):
            assert got[f"{prefix}ari"] == pytest.approx(0, abs=1e-9)
            assert got[f"{prefix}v_measure"] == pytest.approx(0, abs=1e-9)
            assert got[f"{prefix}knn"] < 0.3


def test_order_of_items_and_names_of_classes_change_nothing():
    x, y, labels = pairs(noise=3.0)
    x[1::6], y[1::6] = x[::6], y[::6]  # copies, some of them of another class
    whole = clustering(x, y, labels, seed=3)
    order = np.random.default_rng(0).permutation(len(x))
    assert clustering(x[order], y[order], labels[order], seed=3) == pytest.approx(whole, abs=1e-12)
    names = np.array(list("abcd"))[labels]
    assert clustering(5 * x, torch.from_numpy(y), names, seed=3) == pytest.approx(whole, abs=1e-9)
    swapped = clustering(y, x, labels, seed=3)
    assert swapped["knn"] == pytest.approx(whole["knn"])
    assert swapped["image.knn"] == pytest.approx(whole["text.knn"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.full((8, 3), np.nan)), "x"),
        (dict(x=np.zeros((8, 3))), "x"),
        (dict(y=np.ones((7, 3))), "y"),
        (dict(y=np.ones((8, 4))), "y"),
        (dict(labels=np.arange(7) % 2), "labels"),
        (dict(labels=np.zeros(8, dtype=int)), "labels"),
        (dict(labels=np.ones(8)), "labels"),
        (dict(text_labels=np.arange(9) % 2), "text_labels"),
        (dict(text_labels=["a", "b"] * 4), "text_labels"),
        (dict(text_labels=[1] * 8), "text_labels"),
        (dict(clusters=0), "clusters"),
        (dict(clusters=9), "clusters"),
        (dict(neighbours=0), "neighbours"),
        (dict(neighbours=8), "neighbours"),
        (dict(restarts=0), "restarts"),
        (dict(seed=-1), "seed"),
    ],
)
def test_bad_input_of_clustering(arguments, name):
    good = dict(x=gaussian(8, 3), y=gaussian(8, 3, 1), labels=np.arange(8) % 2)
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        clustering(**good | arguments)


def test_smallest_inputs():
    got = clustering(gaussian(2, 3), gaussian(2, 3, 1), [0, 1], neighbours=1, clusters=2)
    assert got["image.knn"] == 0  # the only other item is of the other class
    assert got["image.ari"] == 1
