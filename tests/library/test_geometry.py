"""The gap metrics against loops over the definition, other libraries, closed forms and properties."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from torch.nn import functional as F
from torchmetrics.functional.pairwise import pairwise_cosine_similarity

from gaplib import geometry as g
from gaplib.losses import alignment_loss, cross_uniformity_loss, uniformity_loss
from gaplib.pairs import PairedEmbeddings


def unit(n, d, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x[:, 0] += shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def distinct(x):
    return itertools.combinations(x, 2)


# --- loops over the definitions ---


def loop_rmg(x, y, form="analysis"):
    def within(z):
        if form == "diagonal":
            return mean((1 - cosine(a, b)) / 2 for a in z for b in z)
        return mean((1 - cosine(a, b)) / 2 for a, b in distinct(z))

    m = mean((1 - cosine(a, b)) / 2 for a, b in zip(x, y, strict=True))
    if form == "unhalved":
        n = len(x)
        sums = sum((1 - cosine(a, b)) / 2 for z in (x, y) for a, b in distinct(z))
        return 2 * m / (sums / (2 * n * (n - 1)) + 2 * m)
    return m / ((within(x) + within(y)) / 2 + m)


def gaussian_wasserstein(x, y):
    """The 2-Wasserstein distance between two Gaussians, in its general form, to N(0, I/d)."""
    z = np.concatenate([x, y])
    d = z.shape[1]
    covariance, target = np.cov(z.T, bias=True).reshape(d, d), np.eye(d) / d
    root = sqrtm(target)
    cross = sqrtm(root @ covariance @ root).real
    return -math.sqrt(max(0, (z.mean(0) ** 2).sum() + np.trace(covariance + target - 2 * cross)))


def entropy_rank(x):
    values = np.linalg.eigvalsh(np.cov(x.T).reshape(x.shape[1], -1))
    p = values[values > 1e-14 * values.max()] / values.sum()
    return math.exp(-(p * np.log(p)).sum())


PAIR_METRICS = {
    "centroid_distance": (g.centroid_distance, lambda x, y: np.linalg.norm(x.mean(0) - y.mean(0))),
    "alignment": (g.alignment, lambda x, y: mean(((a - b) ** 2).sum() for a, b in zip(x, y, strict=True))),
    "true_pair_cosine": (g.true_pair_cosine, lambda x, y: mean(cosine(a, b) for a, b in zip(x, y, strict=True))),
    "rmg": (g.relative_modality_gap, loop_rmg),
    "rmg_diagonal": (g.relative_modality_gap_with_diagonal, lambda x, y: loop_rmg(x, y, "diagonal")),
    "rmg_unhalved": (g.relative_modality_gap_unhalved, lambda x, y: loop_rmg(x, y, "unhalved")),
    "cross_uniformity": (
        g.cross_uniformity,
        lambda x, y: math.log(
            mean(math.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(x) for j, b in enumerate(y) if i != j)
        ),
    ),
    "wasserstein_uniformity": (g.wasserstein_uniformity, gaussian_wasserstein),
}
ONE_METRICS = {
    "mean_cosine": (g.mean_cosine, lambda x: mean(cosine(a, b) for a, b in distinct(x))),
    "uniformity": (
        g.uniformity,
        lambda x: math.log(mean(math.exp(-2 * ((a - b) ** 2).sum()) for a, b in distinct(x))),
    ),
    "effective_rank": (g.effective_rank, entropy_rank),
}
ALL = {
    **PAIR_METRICS,
    **{name: (lambda x, y, f=f: f(x), lambda x, y, r=r: r(x)) for name, (f, r) in ONE_METRICS.items()},
}
metrics = pytest.mark.parametrize("name", ALL)
SCALE_FREE = ("true_pair_cosine", "rmg", "rmg_diagonal", "rmg_unhalved", "mean_cosine", "effective_rank")


@metrics
@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 5), (3, 2), (20, 6), (9, 30), (30, 4)])
def test_values_are_those_of_the_loop(name, n, d):
    metric, loop = ALL[name]
    if name == "effective_rank" and d == 1:
        d = 2
    x, y = unit(n, d), unit(n, d, 1, shift=1)
    got = metric(x, y)
    assert got.dtype == torch.float64
    assert got.shape == ()
    # scipy's matrix root of a singular covariance is good for seven digits.
    tolerance = 1e-6 if name == "wasserstein_uniformity" else 1e-11
    assert float(got) == pytest.approx(float(loop(x, y)), rel=tolerance, abs=tolerance)


def test_other_libraries():
    x, y = torch.from_numpy(unit(60, 12)), torch.from_numpy(unit(60, 12, 1, 1))
    cosines = pairwise_cosine_similarity(x, zero_diagonal=True)
    torch.testing.assert_close(g.mean_cosine(x), cosines.sum() / (60 * 59))
    torch.testing.assert_close(g.uniformity(x), torch.pdist(x).square().mul(-2).exp().mean().log())
    torch.testing.assert_close(g.uniformity(x, t=0.5), torch.pdist(x).square().mul(-0.5).exp().mean().log())
    torch.testing.assert_close(g.true_pair_cosine(x, y), F.cosine_similarity(x, y).mean())


def test_metrics_and_losses_agree():
    x, y = torch.from_numpy(unit(30, 7)), torch.from_numpy(unit(30, 7, 1))
    pairs = PairedEmbeddings(x, y)
    torch.testing.assert_close(g.alignment(x, y), alignment_loss(pairs))
    torch.testing.assert_close((g.uniformity(x) + g.uniformity(y)) / 2, uniformity_loss(pairs))
    torch.testing.assert_close(g.cross_uniformity(x, y), cross_uniformity_loss(pairs))


# --- closed forms ---


def test_opposite_poles():
    x = np.tile([1.0, 0, 0], (6, 1))
    assert float(g.centroid_distance(x, -x)) == 2
    assert float(g.alignment(x, -x)) == 4
    assert float(g.true_pair_cosine(x, -x)) == -1
    assert float(g.relative_modality_gap(x, -x)) == 1
    assert float(g.cross_uniformity(x, -x)) == pytest.approx(-8)
    assert float(g.uniformity(x)) == 0
    assert float(g.mean_cosine(x)) == 1


def test_one_point_is_a_documented_value_everywhere():
    x = np.tile(unit(1, 5), (6, 1))
    assert float(g.relative_modality_gap(x, x)) == 0
    assert float(g.effective_rank(x)) == 1
    assert float(g.effective_rank(0 * x)) == 1
    assert float(g.effective_rank(1e200 * x)) == 1
    assert float(g.wasserstein_uniformity(x, x)) == pytest.approx(-math.sqrt(2))
    assert float(g.centroid_distance(x, x)) == 0


def test_the_cross_polytope_is_uniform_and_of_full_rank():
    x = np.concatenate([np.eye(7), -np.eye(7)])
    assert float(g.effective_rank(x)) == pytest.approx(7)
    assert float(g.wasserstein_uniformity(x, x)) == pytest.approx(0, abs=1e-7)
    assert float(g.mean_cosine(x)) == pytest.approx(-1 / 13)


def test_effective_rank_knows_scale_and_shift_as_nothing():
    x = np.diag([3.0, 2, 1]) @ np.random.default_rng(0).standard_normal((3, 40))
    plain = float(g.effective_rank(x.T))
    assert float(g.effective_rank(1e180 * x.T)) == pytest.approx(plain)
    assert float(g.effective_rank(1e-180 * x.T)) == pytest.approx(plain)
    assert float(g.effective_rank(x.T + 100)) == pytest.approx(plain)
    assert 1 < plain < 3
    # Two points make one direction, whatever the dimension.
    assert float(g.effective_rank(unit(2, 50))) == pytest.approx(1)


def test_parallel_modalities():
    """x = [sqrt(1 - c²) u, c] and y = [sqrt(1 - c²) u, -c]: centroids 2c apart, pairs at 1 - 2c²."""
    u, c = unit(40, 6), 0.6
    x, y = (np.column_stack([math.sqrt(1 - c * c) * u, np.full(40, s * c)]) for s in (1, -1))
    assert float(g.centroid_distance(x, y)) == pytest.approx(2 * c)
    assert float(g.true_pair_cosine(x, y)) == pytest.approx(1 - 2 * c * c)
    assert float(g.alignment(x, y)) == pytest.approx(4 * c * c)
    np.testing.assert_allclose(g.gap_direction(x, y).numpy(), np.eye(7)[6], atol=1e-12)
    np.testing.assert_allclose(g.gap_vector(x, y).numpy(), 2 * c * np.eye(7)[6], atol=1e-12)
    assert float(g.top_coordinate_share(x, y, 1)) == pytest.approx(1)
    assert float(g.linear_separability(x, y)) == 1
    within = float(1 - g.mean_cosine(x)) / 2
    assert float(g.relative_modality_gap(x, y)) == pytest.approx(c * c / (within + c * c))


def test_relative_gap_variants_order_and_meet():
    x, y = unit(400, 5), unit(400, 5, 1, 1)
    plain, diagonal, unhalved = (
        float(f(x, y))
        for f in (g.relative_modality_gap, g.relative_modality_gap_with_diagonal, g.relative_modality_gap_unhalved)
    )
    assert plain < diagonal < plain * 400 / 399
    assert unhalved == pytest.approx(4 * plain / (1 + 3 * plain))


def test_mean_cosine_of_a_collapsing_cloud_keeps_its_digits():
    u = unit(50, 8)
    x = np.eye(8)[0] + 1e-7 * u
    spread = mean(((a - b) ** 2).sum() / 2 for a, b in distinct(1e-7 * (u * (np.arange(8) > 0))))
    assert 2 * float(g.relative_modality_gap(x, x)) == 0
    assert 1 - float(g.mean_cosine(x)) == pytest.approx(spread, rel=1e-2)


# --- shares of few coordinates ---


def test_top_coordinate_share_and_its_null():
    x, y = unit(50, 20), unit(50, 20, 1, shift=2)
    gap = (x.mean(0) - y.mean(0)) ** 2
    for k in (1, 5, 20):
        assert float(g.top_coordinate_share(x, y, k)) == pytest.approx(np.sort(gap)[::-1][:k].sum() / gap.sum())
    null = g.rotation_null(x, y, 5, repeats=300, seed=3)
    assert null.shape == (300,)
    assert torch.equal(null, g.rotation_null(x, y, 5, repeats=300, seed=3))
    assert not torch.equal(null, g.rotation_null(x, y, 5, repeats=300, seed=4))
    # The same null by rotating the embeddings themselves, with Haar matrices from the QR of a Gaussian.
    rng, rotated = np.random.default_rng(0), []
    for _ in range(300):
        q, r = np.linalg.qr(rng.standard_normal((20, 20)))
        q = q * np.sign(np.diag(r))
        rotated.append(float(g.top_coordinate_share(x @ q, y @ q, 5)))
    error = math.hypot(np.std(rotated), float(null.std())) / math.sqrt(300)
    assert abs(float(null.mean()) - np.mean(rotated)) < 4 * error
    assert g.rotation_null(x, y, 20).min() == pytest.approx(1)


def test_no_gap_has_no_direction():
    x = unit(20, 4)
    for call in (lambda: g.gap_direction(x, x[::-1]), lambda: g.top_coordinate_share(x, x, 2)):
        with pytest.raises(ValueError, match=r"^x: expected a centroid other than that of y"):
            call()
    for k in (0, 5, 1.0, True):
        with pytest.raises(ValueError, match=r"^k: "):
            g.top_coordinate_share(x, unit(20, 4, 1), k)
        with pytest.raises(ValueError, match=r"^k: "):
            g.rotation_null(x, unit(20, 4, 1), k)


# --- linear separability ---


def test_separability_is_scikit_learns():
    x, y = unit(100, 8), unit(100, 8, 1, 0.7)
    train, test = next(GroupShuffleSplit(1, test_size=0.2, random_state=5).split(x, groups=np.arange(100)))
    probe = LogisticRegression().fit(np.concatenate([x[train], y[train]]), [0] * 80 + [1] * 80)
    expected = probe.score(np.concatenate([x[test], y[test]]), [0] * 20 + [1] * 20)
    assert 0.5 < expected < 1
    assert float(g.linear_separability(x, y, seed=5)) == pytest.approx(expected)


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("C", [1.0, 1e4])
def test_two_samples_of_one_distribution_stay_at_chance(n, C):
    """On the training pairs 512 dimensions separate 100 points of anything; held out they must not."""
    repeats = 12 if n == 100 else 4
    rng = np.random.default_rng(n)
    draws = [rng.standard_normal((2, n, 512)) for _ in range(repeats)]
    accuracy = np.mean([float(g.linear_separability(*draw, seed=s, C=C)) for s, draw in enumerate(draws)])
    error = 0.5 / math.sqrt(0.4 * n * repeats)
    assert abs(accuracy - 0.5) < 4 * error


def test_tuned_separability_stays_at_chance_and_finds_a_small_gap():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 300, 16))
    assert abs(float(g.linear_separability(x, y, C=None)) - 0.5) < 4 * 0.5 / math.sqrt(120)
    # A thin gap along one small coordinate: C = 1 does not see it on rows of this scale, standardising does.
    x[:, 0], y[:, 0] = 0.01 + 0.002 * x[:, 0], -0.01 + 0.002 * y[:, 0]
    assert float(g.linear_separability(x, y, C=None)) > 0.99
    assert float(g.linear_separability(x, y)) < 0.8


def test_groups_are_never_split():
    """Copies on both sides let a probe remember; the group keeps them together."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 40, 300))
    copies = np.repeat(np.arange(40), 5)
    leaking = mean(float(g.linear_separability(x[copies], y[copies], seed=s)) for s in range(5))
    grouped = mean(float(g.linear_separability(x[copies], y[copies], seed=s, groups=copies)) for s in range(5))
    assert leaking > 0.95
    assert abs(grouped - 0.5) < 4 * 0.5 / math.sqrt(16 * 5)
    tuned = mean(float(g.linear_separability(x[copies], y[copies], seed=s, groups=copies, C=None)) for s in range(5))
    assert abs(tuned - 0.5) < 4 * 0.5 / math.sqrt(16 * 5)


def test_the_choice_of_C_sees_no_held_out_pair_and_splits_no_group(monkeypatch):
    seen = []
    original = g.separability.GridSearchCV.fit

    def spy(search, features, labels, groups):
        folds = list(search.cv.split(features, labels, groups))
        seen.append((features, labels, groups, folds))
        return original(search, features, labels, groups=groups)

    monkeypatch.setattr(g.separability.GridSearchCV, "fit", spy)
    x, y, copies = unit(40, 3), unit(40, 3, 1, 0.5), np.repeat(np.arange(20), 2)
    g.linear_separability(x, y, groups=copies, C=None)
    [(features, labels, groups, folds)] = seen
    # 16 of 20 groups, two pairs each, both modalities, every one with the group of its own row.
    assert len(features) == 2 * 32
    for features_of, matrix in ((features[labels == 0], x), (features[labels == 1], y)):
        rows = [int(np.flatnonzero((matrix == row).all(axis=1))[0]) for row in features_of]
        np.testing.assert_array_equal(copies[rows], groups[: len(rows)])
    for fitted, scored in folds:
        assert not set(groups[fitted]) & set(groups[scored])


def test_groups_may_be_numbers_strings_or_tensors():
    x, y, groups = unit(40, 3), unit(40, 3, 1, 0.5), np.repeat(np.arange(20), 2)
    values = {
        float(g.linear_separability(x, y, groups=kind))
        for kind in (groups, groups.tolist(), torch.from_numpy(groups), [f"{i:02d}" for i in groups])
    }
    assert len(values) == 1


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1e6, 1e150])
def test_separability_takes_any_scale(scale):
    x, y = unit(60, 4), unit(60, 4, 1, 6)
    assert float(g.linear_separability(scale * x, scale * y, C=None)) > 0.8
    # At C = 1 tiny rows cannot beat the penalty, but the call must come through.
    assert float(g.linear_separability(scale * x, scale * y)) > (0.8 if scale >= 1 else 0.2)


def test_separability_of_small_identical_and_uneven_samples():
    x = unit(50, 4)
    assert float(g.linear_separability(x, x)) == 0.5
    assert float(g.linear_separability(unit(2, 3), unit(2, 3, 1))) in (0, 0.5, 1)
    assert float(g.linear_separability(x, unit(300, 4, 1), paired=False)) == pytest.approx(0.5, abs=0.45)
    assert float(g.linear_separability(x, unit(300, 4, 1, 9), paired=False)) > 0.9


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        (dict(seed=-1), "seed"),
        (dict(seed=1.5), "seed"),
        (dict(seed=2**32), "seed"),
        (dict(C=0), "C"),
        (dict(C=float("nan")), "C"),
        (dict(C="1"), "C"),
        (dict(groups=[0] * 6), "groups"),
        (dict(groups=[0, 1]), "groups"),
        (dict(groups=[0.5] * 6), "groups"),
        (dict(groups=[0, 0, 0, 1, 1, 1], C=None), "groups"),
    ],
)
def test_separability_names_bad_arguments(keywords, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        g.linear_separability(unit(6, 3), unit(6, 3, 1), **keywords)


# --- properties of all metrics ---

sizes = st.tuples(st.integers(2, 12), st.integers(2, 9), st.integers(0, 10**6))


@metrics
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_rotation_order_and_swap_change_nothing(name, size):
    n, d, seed = size
    metric = ALL[name][0]
    x, y = unit(n, d, seed), unit(n, d, seed + 1, 0.5)
    value = float(metric(x, y))
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    order = np.random.default_rng(seed).permutation(n)
    others = [(x @ rotation, y @ rotation), (x[order], y[order])] + ([(y, x)] if name in PAIR_METRICS else [])
    for other in others:
        # A root of a difference near zero (Wasserstein) keeps half of the digits.
        assert float(metric(*other)) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("scale", [1e-200, 1e-3, 7.0, 1e200])
def test_cosines_do_not_see_the_scale(name, scale):
    metric = ALL[name][0]
    x, y = unit(9, 5), unit(9, 5, 1)
    # A factor a row for the cosines; the effective rank takes one common factor.
    each = np.exp(np.random.default_rng(0).standard_normal((9, 1))) if name != "effective_rank" else 1.0
    assert float(metric(scale * each * x, y)) == pytest.approx(float(metric(x, y)))


@pytest.mark.parametrize("chunk", [1, 2, 7, 19, 20, 500])
@pytest.mark.parametrize("t", [2.0, 1e4, 1e-6])
def test_chunks_change_nothing(chunk, t):
    x, y = unit(20, 5), unit(20, 5, 1)
    assert float(g.uniformity(x, t, chunk_size=chunk)) == pytest.approx(float(g.uniformity(x, t)), rel=1e-11)
    got, whole = g.cross_uniformity(x, y, t, chunk_size=chunk), g.cross_uniformity(x, y, t)
    assert float(got) == pytest.approx(float(whole), rel=1e-11)


def test_many_rows_take_the_tiled_paths(monkeypatch):
    x, y = unit(300, 3), unit(300, 3, 1)
    whole = [float(f) for f in (g.uniformity(x), g.cross_uniformity(x, y))]
    monkeypatch.setattr("gaplib.geometry.spread._TILE_ENTRIES", 1000)
    assert [float(f) for f in (g.uniformity(x), g.cross_uniformity(x, y))] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 90), (90, 40), (60, 60), (100, 20)])
@pytest.mark.parametrize("rank", [3, 200])
def test_spectra_from_gram_matrices_and_blocks(n, d, rank, monkeypatch):
    """The short cuts for large matrices give the singular values' sums; a matrix of low rank falls back on them."""
    rng = np.random.default_rng(rank)
    rank = min(rank, d)
    x, y = (rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) + 0.3 for _ in range(2))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    pooled = np.concatenate([x, y])
    values = np.linalg.svd(pooled - pooled.mean(axis=0), compute_uv=False) / np.sqrt(2 * n)
    squared = 1 + (pooled.mean(axis=0) ** 2).sum() + (values**2).sum() - 2 * values.sum() / np.sqrt(d)
    monkeypatch.setattr("gaplib.geometry.spread._GRAM_FROM", 5)
    monkeypatch.setattr("gaplib.geometry.spread.ROWS_AT_A_TIME", 16)
    assert float(g.wasserstein_uniformity(x, y)) == pytest.approx(-np.sqrt(squared), rel=1e-9)
    shares = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    shares = shares[shares > 1e-20] / shares.sum()
    assert float(g.effective_rank(x)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-11)


def variants(x, tmp_path):
    frozen = x.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((x.shape[0], 2 * x.shape[1]))
    wide[:, ::2] = x
    return {
        "tensor": torch.from_numpy(x),
        "gradient": torch.from_numpy(x).requires_grad_(),
        "transposed": torch.from_numpy(x.T.copy()).T,
        "negative stride": x[::-1].copy()[::-1],
        "strided": wide[:, ::2],
        "read-only": frozen,
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "big-endian": x.astype(">f8"),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [*ALL, "linear_separability", "gap_report", "normalize"])
def test_every_kind_of_array_gives_the_same_and_stays_as_it_was(name, tmp_path):
    named = {"linear_separability": g.linear_separability, "normalize": lambda x, y: g.normalize(x).sum()}
    report = {"gap_report": lambda x, y: torch.tensor(g.gap_report(x, y).centroid_distance)}
    metric = ALL[name][0] if name in ALL else {**named, **report}[name]
    x, y = unit(24, 6), unit(24, 6, 1, 1)
    expected = float(metric(x, y))
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 - the global one
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    others = variants(y, tmp_path / "y")
    for kind, value in variants(x, tmp_path / "x").items():
        got = metric(value, others[kind])
        assert float(got.detach()) == pytest.approx(expected, abs=1e-12), kind
        assert got.requires_grad == (name == "normalize" and kind == "gradient"), kind
        kept = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        np.testing.assert_array_equal(kept, x, err_msg=kind)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002 - the global one
    assert random.getstate() == states[2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@metrics
def test_low_precision_is_only_that_of_the_input(name, dtype):
    """Everything is computed in float64, so the error is that of rounding the entries: never above the naive form's."""
    metric = ALL[name][0]
    x, y = (torch.from_numpy(z).to(dtype) for z in (unit(40, 64), unit(40, 64, 1, 1)))
    got = metric(x, y)
    assert got.dtype == torch.float64
    if dtype == torch.float32 or name in SCALE_FREE:
        assert float(got) == pytest.approx(float(metric(x.double(), y.double())), rel=1e-12)
    exact = float(metric(unit(40, 64), unit(40, 64, 1, 1)))
    assert float(got) == pytest.approx(exact, rel=4 * torch.finfo(dtype).eps, abs=4 * torch.finfo(dtype).eps)


def test_normalize():
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(g.normalize(x).numpy(), F.normalize(torch.from_numpy(x)).numpy())
    for dtype, tiny, huge in ((torch.float16, 6e-8, 6e4), (torch.float32, 1e-44, 3e38), (torch.float64, 1e-320, 1e308)):
        for scale in (tiny, huge):
            got = g.normalize(torch.full((2, 4), scale, dtype=dtype))
            assert got.dtype == dtype
            torch.testing.assert_close(got, torch.full((2, 4), 0.5, dtype=dtype))
    with pytest.raises(ValueError, match=r"^x: expected rows with a direction"):
        g.normalize(np.zeros((2, 3)))
    z = torch.from_numpy(x).requires_grad_()
    assert torch.autograd.gradcheck(g.normalize, z)


# --- bad input ---

BAD = {
    "integers": (lambda z: z.astype(int), "float"),
    "booleans": (lambda z: z.astype(bool), "float"),
    "complex": (lambda z: z.astype(complex), "float"),
    "vector": (lambda z: z[0], "shape"),
    "cube": (lambda z: z[None], "shape"),
    "empty": (lambda z: z[:0], "at least one row"),
    "no columns": (lambda z: z[:, :0], "at least one row"),
    "nan": (lambda z: np.where(np.arange(6)[:, None] == 2, np.nan, z), "finite"),
    "inf": (lambda z: np.where(np.arange(6)[:, None] == 2, np.inf, z), "finite"),
    "list": (lambda z: z.tolist(), "float"),
}
TWO = {name: f for name, (f, _) in PAIR_METRICS.items()} | {
    "gap_vector": g.gap_vector,
    "gap_direction": g.gap_direction,
    "top": lambda x, y: g.top_coordinate_share(x, y, 2),
    "null": lambda x, y: g.rotation_null(x, y, 2),
    "linear_separability": g.linear_separability,
    "gap_report": g.gap_report,
}
ONE = {name: f for name, (f, _) in ONE_METRICS.items()} | {"normalize": g.normalize}
NEEDS_UNIT = (
    "centroid_distance",
    "alignment",
    "cross_uniformity",
    "wasserstein_uniformity",
    "gap_vector",
    "gap_report",
)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", [*TWO, *ONE])
def test_bad_matrices_are_named(name, kind):
    spoil, say = BAD[kind]
    good, other = unit(6, 3), unit(6, 3, 1)
    with pytest.raises(ValueError, match=rf"^x: expected .*{say}"):
        TWO[name](spoil(good), other) if name in TWO else ONE[name](spoil(good))
    if name in TWO:
        with pytest.raises(ValueError, match=rf"^y: expected .*{say}"):
            TWO[name](good, spoil(other))


@pytest.mark.parametrize("name", TWO)
def test_misfits_and_lonely_rows(name):
    metric = TWO[name]
    for other in (unit(5, 3), unit(6, 4)):
        with pytest.raises(ValueError, match=r"^y: expected"):
            metric(unit(6, 3), other)
    single = {"centroid_distance", "alignment", "true_pair_cosine", "wasserstein_uniformity"}
    if name in single | {"gap_vector", "gap_direction", "top", "null"}:
        assert torch.isfinite(metric(unit(1, 3), unit(1, 3, 1))).all()
    else:
        with pytest.raises(ValueError, match=r"^x: expected at least 2 rows"):
            metric(unit(1, 3), unit(1, 3, 1))


@pytest.mark.parametrize("name", ONE_METRICS)
def test_one_row_has_no_spread(name):
    with pytest.raises(ValueError, match=r"^x: expected at least 2 rows"):
        ONE_METRICS[name][0](unit(1, 3))


@pytest.mark.parametrize("name", [*NEEDS_UNIT, "uniformity"])
def test_distances_want_unit_rows(name):
    metric = TWO[name] if name in TWO else lambda x, y: g.uniformity(x)
    with pytest.raises(ValueError, match=r"^x: expected L2-normalised rows"):
        metric(20 * unit(6, 3), unit(6, 3))


@pytest.mark.parametrize("name", ["true_pair_cosine", "rmg", "mean_cosine", "rmg_diagonal", "rmg_unhalved"])
def test_cosines_refuse_rows_of_zeros(name):
    x = unit(6, 3)
    x[4] = 0
    with pytest.raises(ValueError, match=r"^x: expected rows with a direction.*row 4"):
        ALL[name][0](x, unit(6, 3))


def test_sharpness_and_chunks_are_checked():
    x = unit(4, 3)
    for call in (lambda **k: g.uniformity(x, **k), lambda **k: g.cross_uniformity(x, x, **k)):
        for t in (0, -1, math.nan, "2"):
            with pytest.raises(ValueError, match=r"^t: "):
                call(t=t)
        for chunk in (0, 1.5, True):
            with pytest.raises(ValueError, match=r"^chunk_size: "):
                call(chunk_size=chunk)


def test_unpaired_forms_take_other_counts():
    x, y = unit(6, 3), unit(9, 3, 1)
    expected = np.linalg.norm(x.mean(0) - y.mean(0))
    assert float(g.centroid_distance(x, y, paired=False)) == pytest.approx(expected)
    assert float(g.wasserstein_uniformity(x, y, paired=False)) == pytest.approx(gaussian_wasserstein(x, y), abs=1e-6)
    assert g.gap_direction(x, y, paired=False).norm() == pytest.approx(1)
