"""Informations against closed forms and scikit-learn; the aligned optimum against brute force over all label maps."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from gaplib import information as info
from gaplib.data.worlds import block_world, random_world


def test_closed_forms():
    flat = np.full((3, 5), 1 / 15)
    assert info.mutual_information(flat) == pytest.approx(0, abs=1e-15)
    assert info.mutual_information(np.eye(4) / 4) == pytest.approx(np.log(4))
    for flip in (0.0, 0.1, 0.5):
        channel = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
        entropy = 0.0 if flip == 0 else -(flip * np.log(flip) + (1 - flip) * np.log(1 - flip))
        assert info.mutual_information(channel) == pytest.approx(np.log(2) - entropy, abs=1e-12)


def test_gaussian_closed_form_against_a_fine_grid():
    rho, grid = 0.6, np.linspace(-6, 6, 601)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    density = np.exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2)))
    assert info.gaussian_mutual_information(rho) == pytest.approx(
        info.mutual_information(density / density.sum()), rel=1e-4
    )


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_mutual_information_equals_scikit_learn(seed):
    counts = np.random.default_rng(seed).integers(0, 9, size=(4, 5))
    counts[0, 0] += 1
    ours = info.mutual_information(counts / counts.sum())
    assert ours == pytest.approx(mutual_info_score(None, None, contingency=counts), abs=1e-10)


@st.composite
def block_worlds(draw):
    """Worlds with a common part: independent random blocks down the diagonal, unequal sizes and weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blocks = [tuple(draw(st.integers(1, 3)) for _ in range(2)) for _ in range(draw(st.integers(1, 4)))]
    labels = draw(st.integers(1, 4))
    joint = np.zeros((sum(b[0] for b in blocks), sum(b[1] for b in blocks), labels))
    t = v = 0
    for rows, columns in blocks:
        cell = rng.exponential(size=(rows, columns, labels)) ** draw(st.sampled_from([1, 4, 16]))
        joint[t : t + rows, v : v + columns] = cell * rng.random()
        t, v = t + rows, v + columns
    return joint / joint.sum()


@given(block_worlds())
@settings(max_examples=10_000, deadline=None)
def test_the_bound_of_theorem_3_1_holds(joint):
    assert info.aligned_excess_cross_entropy(joint) >= info.information_gap(joint) - 1e-12


def test_adversarial_search_does_not_break_the_bound():
    """Hill-climb the bound's slack over supports and weights; it may reach zero and must not pass it."""
    rng, slack_seen = np.random.default_rng(0), []
    for start in range(20):
        joint = random_world(4, 4, 3, seed=start, support=0.4)
        slack = np.inf
        for _ in range(150):
            trial = (
                joint
                * np.exp(rng.normal(scale=0.5, size=joint.shape))
                * (rng.random(joint.shape[:2]) > 0.05)[..., None]
            )
            if trial.sum() == 0:
                continue
            trial /= trial.sum()
            new = info.aligned_excess_cross_entropy(trial) - info.information_gap(trial)
            if new < slack:
                joint, slack = trial, new
        slack_seen.append(slack)
    assert min(slack_seen) >= -1e-12
    assert min(slack_seen) < 1e-3  # the search does reach the edge, so it could have broken it


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_aligned_optimum_equals_brute_force_over_all_label_maps(seed, support):
    joint = random_world(3, 3, 2, seed=seed, support=support)
    best = -np.inf
    for f, g in product(product(range(3), repeat=3), repeat=2):
        t, v, _ = np.nonzero(joint)
        if all(f[i] == g[j] for i, j in zip(t, v, strict=True)):
            best = max(best, info.mutual_information(info.coarsen(joint, np.array(f), np.array(g))))
    excess = info.mutual_information(joint) - best
    assert info.aligned_excess_cross_entropy(joint) == pytest.approx(excess, abs=1e-10)
    assert info.approximately_aligned_excess(joint, 0.0) == pytest.approx(excess, abs=1e-10)
    assert info.approximately_aligned_excess(joint, 1.0) == pytest.approx(0, abs=1e-10)


def test_tight_slack_and_trivial_worlds():
    tight = block_world(2, 2, 1, lambda c, a, b: 2 * c + a)  # the image knows only the common part
    assert info.information_gap(tight) == pytest.approx(np.log(2))
    assert info.aligned_excess_cross_entropy(tight) == pytest.approx(np.log(2))
    slack = block_world(2, 2, 2, lambda c, a, b: 4 * c + 2 * a + b)  # both know something alone: no gap, still a cost
    assert info.information_gap(slack) == pytest.approx(0, abs=1e-12)
    assert info.aligned_excess_cross_entropy(slack) == pytest.approx(2 * np.log(2))
    trivial = random_world(4, 4, 3, seed=0)  # a full support has no common part: everything is lost
    assert info.aligned_excess_cross_entropy(trivial) == pytest.approx(info.mutual_information(trivial))


def test_a_little_leakage_makes_the_cost_jump():
    def world(leakage):
        return block_world(4, 2, 1, lambda c, a, b: 2 * c + a, leakage)

    before, after = (info.aligned_excess_cross_entropy(world(e)) for e in (0.0, 1e-6))
    assert before == pytest.approx(np.log(2))
    assert after == pytest.approx(info.mutual_information(world(1e-6)), rel=1e-6)
    assert after - before > 1.3


def test_approximate_alignment_is_monotone():
    joint = block_world(2, 1, 1, lambda c, a, b: c, leakage=0.2)
    cost = [info.approximately_aligned_excess(joint, m) for m in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert all(a >= b - 1e-12 for a, b in pairwise(cost))
    assert cost[0] > 0.5
    assert cost[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        np.ones((2, 2, 2)),
        np.array([[[1.5, -0.5]]]),
        np.ones((2, 2)) / 4,
        np.full((1, 1, 2), np.nan),
        np.ones((0, 2, 2)),
        "x",
    ],
)
def test_bad_joints_are_named(bad):
    for function in (info.information_gap, info.aligned_excess_cross_entropy, info.common_part):
        with pytest.raises(ValueError, match=r"^joint:"):
            function(bad)


def test_bad_arguments_are_named():
    good = block_world(2, 1, 1, lambda c, a, b: c)
    for name, call in {
        "mismatch": lambda: info.approximately_aligned_excess(good, 1.5),
        "symbols": lambda: info.approximately_aligned_excess(good, 0.5, symbols=0),
        "joint": lambda: info.approximately_aligned_excess(random_world(12, 12, 2, seed=0), 0.5),
        "text_map": lambda: info.coarsen(good, np.zeros(3, int), np.zeros(2, int)),
        "correlation": lambda: info.gaussian_mutual_information(1.0),
        "leakage": lambda: block_world(2, 1, 1, lambda c, a, b: c, leakage=-0.1),
        "components": lambda: block_world(0, 1, 1, lambda c, a, b: c),
        "label": lambda: block_world(2, 1, 1, lambda c, a, b: -1),
        "support": lambda: random_world(2, 2, 2, seed=0, support=0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
