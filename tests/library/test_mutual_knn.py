"""Mutual k-nearest-neighbour alignment: sets of neighbours found by sorting, ties by all orders, chance, refusals."""

from itertools import combinations

import numpy as np
import pytest
import torch

from gaplib.evaluation import _inputs
from gaplib.geometry import gap_report, mutual_knn_alignment, normalize


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def related(n, d, seed=0):
    x = normal(n, d, seed)
    return x, x + normal(n, d, seed + 1)


def cosines(z):
    return [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in z] for a in z]


def by_sets(x, y, k):
    n = len(x)
    near = [[set(sorted(set(range(n)) - {i}, key=lambda j, row=c[i]: -row[j])[:k]) for i in range(n)]
            for c in (cosines(x), cosines(y))]  # fmt: skip
    return np.mean([len(a & b) / k for a, b in zip(*near, strict=True)])


def by_all_ways(x, y, k):
    """Mean over all sets of k that are nearest of item i in x, and all in y: every way to break the ties."""

    def nearest(row, i):
        found = []
        for some in combinations([j for j in range(len(row)) if j != i], k):
            rest = [row[j] for j in range(len(row)) if j != i and j not in some]
            if not rest or min(row[j] for j in some) >= max(rest) - 1e-9:
                found.append(set(some))
        return found

    ways = [
        [len(a & b) / k for a in nearest(one, i) for b in nearest(other, i)]
        for i, (one, other) in enumerate(zip(cosines(x), cosines(y), strict=True))
    ]
    return np.mean([np.mean(way) for way in ways])


@pytest.mark.parametrize(("n", "k"), [(2, 1), (12, 3), (30, 10), (25, 24)])
def test_value_is_that_of_sorted_neighbours(n, k):
    x, y = related(n, 5)
    got = mutual_knn_alignment(3 * x, y[:, :4], k)
    assert (got.dtype, got.shape) == (torch.float64, ())
    assert float(got) == pytest.approx(by_sets(x, y[:, :4], k), rel=1e-12)
    assert float(got) == float(mutual_knn_alignment(y[:, :4], x, k))


def test_ties_are_the_mean_over_all_ways_to_break_them():
    copies = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    x, y = normal(4, 3)[copies], normal(8, 3, 1)
    both = normal(3, 3, 2)[np.array([0, 1, 0, 1, 2, 2, 0, 1])]
    for one, other in ((x, y), (x, both), (x, x)):
        for k in (1, 2, 3, 5, 7):
            expected = by_all_ways(one, other, k)
            assert float(mutual_knn_alignment(one, other, k)) == pytest.approx(expected, rel=1e-12), k
            order = np.random.default_rng(k).permutation(8)
            assert float(mutual_knn_alignment(one[order], other[order], k)) == pytest.approx(expected, rel=1e-12)


def test_round_off_breaks_no_tie():
    """Rotated copies differ in their last digits; no neighbour is nearer for that."""
    rotation = np.linalg.qr(normal(64, 64, 3))[0]
    x = np.repeat(normal(9, 64), 5, axis=0)
    moved = normalize((x * np.linspace(1, 7, 45)[:, None]) @ rotation)
    assert len(np.unique(moved.numpy(), axis=0)) > 9
    y = normal(45, 8, 1)
    assert float(mutual_knn_alignment(moved, y)) == pytest.approx(float(mutual_knn_alignment(x, y)), rel=1e-12)


def test_its_ends_and_its_chance():
    x = normal(300, 8)
    rotation = np.linalg.qr(normal(8, 8, 1))[0]
    assert float(mutual_knn_alignment(x, -5 * x @ rotation)) == 1.0
    chance = np.mean([float(mutual_knn_alignment(x, normal(300, 8, seed))) for seed in range(1, 6)])
    assert chance == pytest.approx(10 / 299, abs=0.005)
    point = np.ones((20, 3))  # all level: chance exactly
    assert float(mutual_knn_alignment(point, point)) == pytest.approx(10 / 19, rel=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch):
    x, y = related(50, 6)
    whole = float(mutual_knn_alignment(x, y))
    monkeypatch.setattr(_inputs, "_SCORES_AT_A_TIME", 7 * 50)
    assert float(mutual_knn_alignment(x, y)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_that_of_its_numbers_in_double(dtype):
    x, y = (torch.from_numpy(z).to(dtype) for z in related(40, 6))
    assert float(mutual_knn_alignment(x, y)) == float(mutual_knn_alignment(x.double(), y.double()))


@pytest.mark.parametrize("k", [0, 10, -1, 2.0, True, "3"])
def test_bad_k_is_named(k):
    x = normal(10, 3)
    with pytest.raises(ValueError, match=r"^k: expected a whole number in \[1, 9\], got "):
        mutual_knn_alignment(x, x, k)


def test_bad_matrices_are_named():
    x = normal(12, 3)
    with pytest.raises(ValueError, match=r"^k: expected .*got 10"):
        mutual_knn_alignment(x[:10], x[:10])  # as many items as neighbours
    with pytest.raises(ValueError, match=r"^x: expected at least 2 rows"):
        mutual_knn_alignment(x[:1], x[:1])
    with pytest.raises(ValueError, match=r"^y: expected"):
        mutual_knn_alignment(x, x[:11])
    with pytest.raises(ValueError, match=r"^y: expected rows with a direction.*row 3"):
        mutual_knn_alignment(x, np.where(np.arange(12)[:, None] == 3, 0, x))


def test_the_report_takes_one_pair_of_a_group_and_a_sample_of_many(monkeypatch):
    x, y = (normalize(z) for z in related(60, 6))
    assert gap_report(x, y).mutual_knn_alignment == float(mutual_knn_alignment(x, y))
    group = np.repeat(np.arange(20), 3)
    captions = gap_report(x, y, groups=group[::-1])
    assert captions.mutual_knn_alignment == pytest.approx(float(mutual_knn_alignment(x[::3], y[::3])), rel=1e-12)
    assert gap_report(x, y, groups=group // 2).mutual_knn_alignment is None  # ten groups: no ten neighbours
    assert gap_report(x[:10], y[:10]).mutual_knn_alignment is None
    monkeypatch.setattr("gaplib.geometry.report.SEPARABILITY_PAIRS", 30)
    drawn = np.sort(np.random.default_rng(4).permutation(60)[:30])
    report = gap_report(x, y, seed=4)
    assert report.mutual_knn_alignment == pytest.approx(float(mutual_knn_alignment(x[drawn], y[drawn])), rel=1e-12)
    assert "mutual kNN alignment, floors included, from 30 pairs" in report.notes[0]
