"""Chapter 04's experiments against closed forms, loops, finite differences and toys whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from gaplib import geometry, losses
from gaplib.book.chapters import ch04_flow as chapter
from gaplib.book.chapters import ch04_runs
from gaplib.data import glyphs
from gaplib.pairs import PairedEmbeddings
from gaplib.theory import dynamics, landscape
from gaplib.theory.parallel import lifted, parallel_fit, resting_gap, resting_scale, toy_pairs, world
from gaplib.towers import tiny_towers
from gaplib.training.untrained import untrained_pairs


def matching(*args, **keywords):
    return dynamics.Matching.from_embeddings(*world(*args, **keywords))


# --- the landscape ---


def test_the_valley_s_floor_is_where_the_landscape_says():
    heights, scales = np.linspace(0, 0.999, 1500), np.array([5.0, 50.0, 100.0, 1000.0])
    depth = chapter.valley(scales, heights)
    assert depth.shape == (4, 1500)
    assert (depth >= 0).all()
    for row, scale in zip(depth, scales, strict=True):
        assert heights[row.argmin()] == pytest.approx(landscape.best_height(scale, swap=True), abs=2e-3)
        at = heights[700]
        expected = landscape.height_loss(at, scale, True) - landscape.height_loss(heights[row.argmin()], scale, True)
        assert row[700] == pytest.approx(expected, abs=1e-12)


# --- shifting ---


@pytest.fixture(scope="module")
def toy():
    return toy_pairs(120, 10, gap=0.4, noise=0.6, seed=1)


def test_shift_curves_start_from_no_shift_and_pass_through(toy):
    distance, loss = chapter.shift_curves(*toy, [-0.5, 0.0, 0.5, 2.0], scales=(100, 1))
    whole = float(geometry.centroid_distance(*toy))
    assert distance[1] == pytest.approx(whole)
    assert distance[0] > whole > distance[2] > 0 > distance[3]
    assert loss.shape == (2, 4)
    assert np.abs(loss[:, 1]).max() < 1e-12
    moved = landscape.shifted(*toy, 0.5)
    expected = landscape.batched_loss(*moved, 100, 50) - landscape.batched_loss(*toy, 100, 50)
    assert loss[0, 2] == pytest.approx(expected)


def test_halving_rise_is_the_least_over_shifts_that_halve(toy):
    shifts = np.arange(-1, 2.01, 0.25)
    distance, loss = chapter.shift_curves(*toy, shifts, scales=(30,))
    half = np.abs(distance) <= float(geometry.centroid_distance(*toy)) / 2
    assert 0 < half.sum() < len(shifts)
    assert chapter.halving_rise(*toy, 30, shifts) == pytest.approx(loss[0, half].min())
    with pytest.raises(ValueError, match="shifts: expected at least one that halves"):
        chapter.halving_rise(*toy, 30, [0.0, 0.1])


def test_best_shift_is_the_grid_s(toy):
    shift, left = chapter.best_shift(*toy, 20)
    grid = np.arange(-1, 0.851, 0.01)
    _, loss = chapter.shift_curves(*toy, grid, scales=(20,))
    assert shift == pytest.approx(grid[loss[0].argmin()], abs=0.02)
    assert left == pytest.approx(float(geometry.centroid_distance(*landscape.shifted(*toy, shift))))


def test_batch_matchings_carry_the_shift_experiment_s_loss(toy):
    x, y = toy_pairs(100, 6, gap=0.3, noise=1.0)
    u, v = x[:, :-1] / math.sqrt(0.91), y[:, :-1] / math.sqrt(0.91)
    batches = chapter.batch_matchings(u, v)
    assert len(batches) == 2
    expected = landscape.batched_loss(x, y, 40, 50)
    assert np.mean([one.loss(40 * 0.91) for one in batches]) == pytest.approx(expected, abs=1e-12)


# --- the flow ---


def test_worlds():
    u, v = world(50, 6, 3, noise=0.0, mismatch=0.3)
    for z in (u, v):
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1)
    same = np.isclose(u, v).all(axis=1)
    assert same.sum() == 35
    np.testing.assert_allclose(v[:15], np.roll(u[:15], 1, axis=0))
    u, v = world(4000, 6, 3, noise=math.inf)
    assert abs((u * v).sum(axis=1).mean()) < 4 / math.sqrt(6 * 4000)
    near, far = ((lambda w: (w[0] * w[1]).sum(axis=1).mean())(world(400, 6, 3, noise=q)) for q in (0.1, 1.0))
    assert near == pytest.approx(1, abs=0.01)
    assert 0.5 < far < 0.9


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("n", {"n": 1}),
        ("d", {"d": 0}),
        ("noise", {"noise": -1.0}),
        ("noise", {"noise": math.nan}),
        ("mismatch", {"mismatch": 1.2}),
        ("mismatch", {"mismatch": -0.1}),
        ("seed", {"seed": -1}),
    ],
)
def test_bad_worlds_name_the_argument(name, arguments):
    with pytest.raises(ValueError, match=name):
        world(**{"n": 8, "d": 3, "seed": 0, **arguments})


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    gamma=st.floats(0.05, 0.9),
    beta=st.floats(0.5, 40),
    noise=st.floats(0, 0.4),
)
def test_the_bound_holds_wherever_there_is_a_margin(seed, n, gamma, beta, noise):
    one = matching(n, 12, seed, noise=noise)
    if one.margin < 0.02:
        return
    flow = dynamics.gradient_flow(one, dynamics.exponential(), gamma=gamma, beta=beta, t_max=1e6, points=60)
    floor = chapter.bound(one, flow)
    # Both start close to gamma(0): where the bound is tight, the solver's error decides.
    assert (flow.gamma >= floor * (1 - 1e-6)).all()
    late = floor[-1] * math.log(1e6) ** 2
    assert late > 0


def test_without_a_margin_there_is_no_bound():
    one = matching(30, 8, 0, noise=0.5, mismatch=0.5)
    flow = dynamics.gradient_flow(one, dynamics.exponential(), gamma=0.3, beta=3.0, t_max=10)
    with pytest.raises(ValueError, match="matching: expected a positive margin"):
        chapter.bound(one, flow)


def synthetic(log_gamma, law=None, beta=1.0):
    time = np.geomspace(1e-3, 1e3, 4000)
    return dynamics.Flow(time, log_gamma(time), np.full(4000, beta), law or dynamics.fixed())


def test_rate_ratio_tells_exponential_from_logarithmic():
    assert chapter.rate_ratio(synthetic(lambda t: -0.3 * t)) == pytest.approx(1, abs=1e-3)
    slow = synthetic(lambda t: -2 * np.log(np.log(t + 10)))
    expected = math.log(math.log(1010) / math.log(760)) / math.log(math.log(760) / math.log(510))
    assert chapter.rate_ratio(slow) == pytest.approx(expected, rel=1e-3)
    assert expected < 0.7
    late = slow.time >= 500
    assert np.corrcoef(slow.time[late], slow.log_gamma[late])[0, 1] ** 2 > 0.98  # what the claim's note warns of


def test_fitted_slope_of_a_power_of_the_logarithm():
    flow = synthetic(lambda t: -2 * np.log(np.log(np.maximum(t, 2))))
    assert chapter.fitted_slope(flow, 10, 1e3) == pytest.approx(-2)


def test_drift_is_relative_to_the_quantity_itself():
    still = synthetic(lambda t: np.full_like(t, -1.0), dynamics.exponential(), beta=3.0)
    assert chapter.drift(still) == 0
    moved = replace(still, beta=np.where(still.time > 1, 3.0 * math.sqrt(1.01), 3.0))  # beta² grows by 1 %
    assert chapter.drift(moved) == pytest.approx(0.01)


def test_a_fixed_temperature_rests_where_the_scale_says():
    flow = chapter.mismatch_flow(0.3, 5, dynamics.fixed(), 50.0)
    s_star = resting_scale(matching(256, 64, 5, noise=0.5, mismatch=0.3))
    assert 2 * flow.gamma[-1] == pytest.approx(resting_gap(50.0, s_star), abs=2e-3)
    assert 2 * flow.gamma[0] < 2 * flow.gamma[-1]


def test_values_at_a_time():
    flow = synthetic(lambda t: -np.log(t))
    assert chapter.at(flow, 10.0) == pytest.approx(-math.log(10))
    with pytest.raises(ValueError, match="time"):
        chapter.at(flow, 1e9)


# --- the first moment ---


@pytest.mark.parametrize(("n", "d", "s"), [(16, 64, 1.0), (8, 128, 2.0), (64, 16, 3.0)])
def test_growth_chance_is_the_frequency(n, d, s):
    trials = 300
    grown = sum(chapter.grows_first(n, d, s, seed) for seed in range(trials))
    expected = float(chapter.growth_chance(n, d, s))
    assert binomtest(grown, trials, min(expected, 1 - 1e-9)).pvalue > 1e-3


def test_free_velocity_is_a_small_step_s_change():
    x, y = lifted(*world(20, 5, 1, noise=math.inf), 0.4)
    step = 1e-6
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    down = torch.autograd.grad(losses.clip_loss(PairedEmbeddings(a, b), 12.0), (a, b))
    moved = [geometry.normalize(z - step * g) for z, g in zip((x, y), down, strict=True)]
    slope = float(geometry.centroid_distance(*moved) - geometry.centroid_distance(x, y)) / step
    assert chapter.free_velocity(x, y, 12.0) == pytest.approx(slope, rel=1e-4)


# --- the sigmoid loss ---


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8])
def test_a_constellation_reaches_zero_with_its_gap(gamma):
    x, y, margin, threshold = chapter.constellation(12, 8, gamma)
    assert margin > 0
    similarity = x @ y.T
    off = ~torch.eye(12, dtype=torch.bool)
    assert float(similarity.diagonal().min()) == pytest.approx(threshold + margin)
    assert float(similarity[off].max()) == pytest.approx(threshold - margin)
    assert float(geometry.centroid_distance(x, y)) == pytest.approx(2 * gamma, abs=1e-12)
    loop = sum(
        math.log1p(math.exp(-(1 if i == j else -1) * 40 * (float(similarity[i, j]) - threshold)))
        for i in range(12)
        for j in range(12)
    )
    assert chapter.constellation_loss(x, y, 40, threshold) == pytest.approx(loop / 12, rel=1e-9)
    # Every term is at most exp(-scale m), and there are n of them an item.
    assert chapter.constellation_loss(x, y, 60 / margin, threshold) < 12 * math.exp(-60)


# --- on glyphs ---


def test_the_mean_fit_is_that_of_the_fits():
    clouds = [toy_pairs(300, 24, gap=0.5, noise=1.0, cone=1.0), toy_pairs(300, 24, gap=0.5)]
    both = ch04_runs.mean_fit(clouds)
    for name, value in both.items():
        assert value == pytest.approx(np.mean([parallel_fit(*one)[name] for one in clouds]))


def test_pair_differences_and_slopes():
    doses = [0.0, 1.0, 4.0]
    samples = [[1.0, 2.0, 3.0], [1.5, 2.5, 3.6], [3.0, 4.1, 5.0]]
    slope = ch04_runs.slope_over(doses, samples)
    assert slope.n == 3
    centred = np.array(doses) - np.mean(doses)
    expected = centred @ np.array(samples) / (centred @ centred)
    np.testing.assert_allclose(slope.samples, expected)
    assert ch04_runs.first_less_last(samples).value == pytest.approx(-6.1 / 3)


TINY = {"steps": 2, "batch_size": 16, "dim": 8, "eval_pairs": 24, "history_points": 2}


def test_runs_and_their_measures():
    one = ch04_runs.at_scale(50, 3, **TINY)
    assert (one.tau, one.learn_tau, one.seed, one.steps) == (0.02, False, 3, 2)
    assert ch04_runs.config(5).steps == ch04_runs.STEPS
    (run,) = ch04_runs.train_all([one])
    x, y = run.pairs()
    assert ch04_runs.distances([run]) == [pytest.approx(float(geometry.centroid_distance(x, y)), abs=1e-6)]
    assert ch04_runs.recalls([run, run]) == [run.recall()] * 2
    assert 0 <= run.recall() <= 1
    assert ch04_runs.paths([run, run], "step").tolist() == [[row["step"] for row in run.history]] * 2
    assert ch04_runs.paths([run])[0, -1] - ch04_runs.paths([run])[0, 0] == pytest.approx(ch04_runs.change(run))
    floor = ch04_runs.distances([run])[0] - ch04_runs.excess_distance(run)
    assert 0 < floor < 0.2
    assert ch04_runs.change(run) == run.history[-1]["centroid_distance"] - run.history[0]["centroid_distance"]


@pytest.mark.parametrize("words", [0, 4])
def test_untrained_pairs_are_those_of_fresh_towers(words):
    one = ch04_runs.config(3, style_words=words, **TINY)
    x, y = untrained_pairs(one)
    data = glyphs.load(one.image_size)
    towers = tiny_towers(one.pairing().vocabulary_size(data), dim=8, image_size=one.image_size, seed=3).eval()
    sample = one.pairing().sample(data, "test", None, seed=0)
    assert sample.tokens.shape[1] == data.tokens.shape[1] + words
    with torch.no_grad():
        expected = geometry.normalize(towers.encode_text(sample.tokens[:50]).double())
    torch.testing.assert_close(y[:50], expected, atol=1e-6, rtol=0)
    assert len(x) == len(sample.index)


def test_first_steps_are_other_initialisations_for_every_seed(monkeypatch):
    asked = []
    monkeypatch.setattr(ch04_runs, "cached_run", lambda config, device: asked.append(config))
    for seed in (100, 101):
        ch04_runs.first_steps("sgd", seed)
    assert len({one.seed for one in asked}) == len(asked) == 2 * ch04_runs.STARTS
    assert min(one.seed for one in asked) >= 100  # never a seed that something was tuned on
    assert {(one.optimizer, one.lr, one.steps) for one in asked} == {("sgd", 0.01, ch04_runs.FIRST_STEPS)}
