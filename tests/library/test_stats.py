"""Intervals and tests against simulation, SciPy, statsmodels and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from gaplib.stats import (
    Estimate,
    exact,
    holm,
    jackknife,
    over_seeds,
    p_above,
    p_below,
    p_within,
    paired_difference,
    permutation_floor,
    proportion,
    relative_cut,
    subsample,
)


def distance(x, y):
    return np.linalg.norm(x.mean(0) - y.mean(0))


def separability(x, y):
    """The field's probe, written anew: 80 % of the pairs to fit, 20 % to score."""
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(0.8 * len(x))
    fit, score = order[:cut], order[cut:]
    probe = LogisticRegression(max_iter=300).fit(np.r_[x[fit], y[fit]], np.repeat([0, 1], cut))
    return probe.score(np.r_[x[score], y[score]], np.repeat([0, 1], len(x) - cut))


def sphere(n, d, seed):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_t_interval_is_scipys():
    x = [0.3, 0.5, 0.45, 0.7]
    e = over_seeds(x)
    low, high = scipy_stats.t.interval(0.95, 3, loc=np.mean(x), scale=scipy_stats.sem(x))
    assert (e.low, e.high) == pytest.approx((low, high))
    assert e.n == 4
    assert e.df == 3
    assert e.samples == tuple(x)
    assert float(e) == pytest.approx(np.mean(x))


def test_t_interval_covers():
    rng = np.random.default_rng(1)
    hits = sum(e.low <= 2 <= e.high for e in (over_seeds(rng.normal(2, 3, 5)) for _ in range(2000)))
    assert 0.935 <= hits / 2000 <= 0.965  # three standard errors of a coverage of 0.95


def test_paired_difference_is_scipys_paired_test():
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 10), rng.normal(0.5, 1, 10)
    e = paired_difference(a, b)
    reference = scipy_stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert (e.low, e.high) == pytest.approx((interval.low, interval.high))
    assert 2 * min(p_above(e, 0), p_below(e, 0)) == pytest.approx(reference.pvalue)


def test_relative_cut_is_the_mean_of_each_seeds_own():
    cut = relative_cut([1.0, 2.0, 4.0], [0.5, 0.5, 3.0])
    assert cut.samples == pytest.approx((0.5, 0.75, 0.25))
    interval = scipy_stats.t.interval(0.95, 2, 0.5, 0.25 / math.sqrt(3))
    assert (cut.low, cut.high) == pytest.approx(interval)
    assert relative_cut([1.0, 2.0], [0.0, 0.0]).value == 1.0
    for arguments, word in ((([0.0, 0.4], [0.1, 0.1]), "baseline"), (([0.2, 0.4], [0.1, 0.2, 0.3]), "other")):
        with pytest.raises(ValueError, match=f"{word}: expected"):
            relative_cut(*arguments)


def test_one_sided_p_values_are_scipys():
    x = [0.3, 0.5, 0.45, 0.7]
    assert p_above(over_seeds(x), 0.2) == pytest.approx(scipy_stats.ttest_1samp(x, 0.2, alternative="greater").pvalue)
    assert p_below(over_seeds(x), 0.6) == pytest.approx(scipy_stats.ttest_1samp(x, 0.6, alternative="less").pvalue)


def test_two_one_sided_tests_are_statsmodels():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 12), rng.normal(0.1, 1, 12)
    assert p_within(paired_difference(a, b), -0.8, 0.7) == pytest.approx(ttost_paired(a, b, -0.8, 0.7)[0])
    assert p_within(over_seeds(a), -0.5, 0.9) == pytest.approx(DescrStatsW(a).ttost_mean(-0.5, 0.9)[0])


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1, then made monotone: .02 .03 .06 .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.3]) == [0.3]


def test_holm_is_statsmodels():
    rng = np.random.default_rng(7)
    for n in (2, 7):
        p = rng.uniform(0, 0.2, n).round(2)  # with ties
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 7), st.floats(0, 1))
@settings(deadline=None)
def test_holm_is_monotone_in_each_p_value(p, i, bigger):
    # A part without a result enters with p = 1: a result that comes later can only help the others.
    q = list(p)
    q[i % len(p)] = max(bigger, p[i % len(p)])
    assert all(a <= b + 1e-12 for a, b in zip(holm(p), holm(q), strict=True))
    assert all(a >= b - 1e-12 for a, b in zip(holm(p), p, strict=True))


def test_proportion_is_clopper_pearson():
    for successes, trials, level in ((47, 50, 0.95), (0, 7, 0.9), (7, 7, 0.99), (1, 20_000, 0.95), (300, 1000, 0.8)):
        e = proportion(successes, trials, level)
        reference = proportion_confint(successes, trials, alpha=1 - level, method="beta")
        assert (e.low, e.high) == pytest.approx(reference, rel=1e-9)
    e = proportion(47, 50)
    assert p_above(e, 0.8) == pytest.approx(scipy_stats.binomtest(47, 50, 0.8, alternative="greater").pvalue)
    assert p_below(e, 0.99) == pytest.approx(scipy_stats.binomtest(47, 50, 0.99, alternative="less").pvalue)
    everything = proportion(100, 100)
    assert everything.high == 1
    assert everything.low == pytest.approx(0.025 ** (1 / 100))
    assert p_above(everything, 0.95) == pytest.approx(0.95**100)


def test_subsample_of_a_mean_has_the_textbook_standard_error():
    x = np.random.default_rng(4).normal(size=(400, 1))
    for fraction in (0.5, 0.8):
        e = subsample(np.mean, x, fraction=fraction, repeats=2000)
        assert e.value == x.mean()
        assert e.se == pytest.approx(x.std(ddof=1) / math.sqrt(400), rel=0.06)
    assert jackknife(np.mean, x, blocks=400).se == pytest.approx(x.std(ddof=1) / math.sqrt(400))


@pytest.mark.parametrize("method", [lambda s, x, y: subsample(s, x, y, repeats=60), jackknife])
def test_intervals_of_a_centroid_distance_cover(method):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        x, y = rng.normal(size=(120, 8)) + 2 * np.eye(8)[0], rng.normal(size=(120, 8))
        e = method(lambda a, b: float((a.mean(0) - b.mean(0))[0]), x, y)
        hits += e.low <= 2 <= e.high
    assert 0.90 <= hits / 300 <= 0.985


def test_bootstrap_invents_separability_and_subsampling_does_not():
    x, y = sphere(150, 64, 0), sphere(150, 64, 1)  # one distribution: no gap at all
    rng = np.random.default_rng(6)
    bootstrap = [separability(x[i], y[i]) for i in (rng.integers(0, 150, 150) for _ in range(30))]
    e = subsample(separability, x, y, repeats=30)
    assert np.mean(bootstrap) > 0.58
    assert np.mean(e.samples) < 0.55
    assert e.low < 0.5 < e.high


def test_paired_takes_the_same_rows_and_unpaired_does_not():
    x = np.arange(40.0)[:, None]
    same = lambda a, b: float((a == b).mean()) if len(a) == len(b) else 0.0  # noqa: E731
    assert set(subsample(same, x, x, repeats=5).samples) == {1.0}
    assert max(subsample(same, x, x, repeats=5, paired=False).samples) < 1
    assert subsample(lambda a, b: a.mean() - b.mean(), x, np.ones((10, 1)), repeats=5, paired=False).n == 10


def test_permutation_floor_of_two_spheres():
    x, y = sphere(300, 16, 0), sphere(300, 16, 1)
    gap = x + 2 * np.eye(16)[0]
    floor = permutation_floor(distance, x, y, repeats=100)
    # E|mean difference|² = 2/n for independent unit vectors.
    assert floor.mean == pytest.approx(math.sqrt(2 / 300), rel=0.1)
    assert floor.low < floor.mean < floor.high
    assert permutation_floor(distance, gap, y, repeats=50).mean < 0.1 * distance(gap, y) + 0.1
    assert permutation_floor(distance, x, y, repeats=5).samples == permutation_floor(distance, x, y, repeats=5).samples


def test_permutation_floor_exchanges_a_group_as_one():
    x, y = np.arange(12.0)[:, None], -np.arange(12.0)[:, None]
    groups = pd.Series(list("aabbbccccdab"), dtype=object)

    def flipped(a, b):
        np.testing.assert_array_equal(a, -b)
        signs = pd.Series(np.sign(a[1:, 0]), index=range(1, 12))
        assert (signs.groupby(groups[1:]).nunique() == 1).all()
        return signs.groupby(groups[1:]).first().gt(0).sum()

    floor = permutation_floor(flipped, x, y, repeats=400, groups=groups)
    assert floor.mean == pytest.approx(2, abs=0.2)
    assert set(floor.samples) == {0, 1, 2, 3, 4}
    with pytest.raises(ValueError, match=r"^groups: expected 12"):
        permutation_floor(flipped, x, y, groups=[0, 1])


def test_torch_and_numpy_agree_and_inputs_stay_as_they_are():
    x, y = sphere(40, 5, 0), sphere(40, 5, 1)
    tx, ty = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
    state = torch.random.get_rng_state()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_distance = lambda a, b: (a.mean(0) - b.mean(0)).norm()  # noqa: E731
    for function in (subsample, jackknife, permutation_floor):
        assert function(torch_distance, tx, ty).samples == pytest.approx(function(distance, x, y).samples)
    assert torch.equal(tx, torch.from_numpy(x))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6), st.floats(-10, 10))
@settings(max_examples=60)
def test_flipping_the_sign_flips_above_and_below(x, threshold):
    assert p_above(over_seeds(x), threshold) == pytest.approx(
        p_below(over_seeds([-v for v in x]), -threshold), abs=1e-9
    )


def test_no_spread_is_documented():
    e = over_seeds([0.1] * 10)
    assert (e.value, e.low, e.high, e.se) == (0.1, 0.1, 0.1, 0)
    assert p_above(e, 0.09) == 0
    assert p_above(e, 0.1) == 1
    assert p_below(e, 0.2) == 0
    assert p_within(exact(0.5), 0.4, 0.6) == 0
    assert p_within(exact(0.7), 0.4, 0.6) == 1


def test_text_shows_what_the_interval_supports():
    assert str(Estimate(0.8514, 0.8461, 0.8567, 5, "t", 0.002)) == "0.851 [0.846, 0.857]"
    assert str(over_seeds([35.0, 41.0, 38.0])) == "38.0 [30.5, 45.5]"
    assert str(exact(0.869)) == "0.869"
    assert f"{exact(2):.1f}" == "2.0"
    assert f"{over_seeds([1, 2]):.1f}" == "1.5 [-4.9, 7.9]"


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: over_seeds([1.0]), "samples"),
        (lambda: over_seeds([1.0, math.nan]), "samples"),
        (lambda: over_seeds("ab"), "samples"),
        (lambda: over_seeds([1, 2], level=1), "level"),
        (lambda: paired_difference([1, 2], [1, 2, 3]), "b:"),
        (lambda: proportion(3, 2), "successes"),
        (lambda: proportion(0, 0), "trials"),
        (lambda: exact(math.inf), "value"),
        (lambda: Estimate(1, 2, 3, 1, "t", 0), "low, high"),
        (lambda: subsample(distance, np.ones((4, 2)), np.ones((5, 2))), "arrays"),
        (lambda: subsample(distance, np.ones((2, 2)), np.ones((2, 2))), "arrays"),
        (lambda: subsample(np.mean, np.ones((9, 2)), fraction=1), "fraction"),
        (lambda: subsample(np.mean), "arrays"),
        (lambda: subsample(lambda x: math.nan, np.ones((9, 2))), "statistic"),
        (lambda: jackknife(np.mean, np.ones((5, 2)), blocks=6), "blocks"),
        (lambda: permutation_floor(distance, np.ones((4, 2)), np.ones((4, 3))), "y:"),
        (lambda: holm([0.5, 1.5]), "pvalues"),
        (lambda: holm([math.nan]), "pvalues"),
        (lambda: p_above(exact(1), math.nan), "threshold"),
        (lambda: p_within(exact(1), 2, 1), "high"),
    ],
)
def test_bad_input_is_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()
