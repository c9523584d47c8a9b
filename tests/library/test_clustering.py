"""Clusters, hubs and noise: against scikit-learn, enumeration of ties and closed forms; chance, order, bad input."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from gaplib.evaluation import clustering, hubness, retrieval, robustness, zero_shot
from gaplib.evaluation.hubness import class_hubs, gini, k_occurrence
from gaplib.evaluation.robustness import add_noise


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def pairs(n=120, c=4, d=8, noise=1.0, gap=0.0):
    labels = np.arange(n) % c
    centres = 2 * gaussian(c, d, 9)
    x, y = (unit(centres[labels] + noise * gaussian(n, d, seed)) for seed in (1, 2))
    return unit(x + gap * np.eye(d)[0]), unit(y - gap * np.eye(d)[0]), labels


# --- clustering ------------------------------------------------------------------------------------------------------


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


# --- hubness ---------------------------------------------------------------------------------------------------------


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


# --- robustness ------------------------------------------------------------------------------------------------------


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
