"""The parallel model: pairs that follow it, embeddings brought to it, and where the contrastive loss rests in it."""

import math

import numpy as np
import pytest
import torch

from gaplib import geometry
from gaplib.theory import dynamics, landscape
from gaplib.theory.parallel import (
    flattened,
    heights_dealt,
    lifted,
    parallel_fit,
    resting_gap,
    resting_scale,
    toy_pairs,
    world,
)


def matching(*args, **keywords):
    return dynamics.Matching.from_embeddings(*world(*args, **keywords))


def test_one_number_explains_the_published_minima():
    s_star = resting_scale(dynamics.Matching.from_embeddings(*landscape.nine_pairs(True)))
    for scale, height in {50: 0.714, 100: 0.869, 500: 0.975, 1000: 0.988}.items():
        assert resting_gap(scale, s_star) / 2 == pytest.approx(height, abs=1e-3)
    assert resting_gap(s_star * 0.99, s_star) == 0.0
    assert resting_scale(dynamics.Matching.from_embeddings(*landscape.nine_pairs(False))) == math.inf
    u, _ = world(9, 3, 0)
    with pytest.raises(ValueError, match="matching: expected true pairs closer"):
        resting_scale(dynamics.Matching.from_embeddings(u, -u))
    with pytest.raises(ValueError, match="logit_scale"):
        resting_gap(0.0, s_star)


def test_resting_scale_of_batches_is_that_of_their_mean_loss():
    batches = [matching(30, 8, seed, noise=0.5, mismatch=0.4) for seed in range(3)]
    s_star = resting_scale(batches)
    grid = np.linspace(0.5 * s_star, 2 * s_star, 4001)
    loss = [np.mean([one.loss(s) for one in batches]) for s in grid]
    assert grid[np.argmin(loss)] == pytest.approx(s_star, rel=1e-3)


def test_flattened_embeddings_are_the_toy_s_own():
    x, y = toy_pairs(2000, 8, gap=0.4)  # without noise u = v, and the gap is exactly the last axis
    u, v = flattened(x, y)
    torch.testing.assert_close(u, v)
    torch.testing.assert_close(u[:, :-1], x[:, :-1] / math.sqrt(1 - 0.16))
    assert float(u[:, -1].abs().max()) < 1e-12


def test_dealt_heights_are_the_same_heights_elsewhere():
    x, y = toy_pairs(60, 6, gap=0.4)
    tilted = torch.zeros(6, dtype=torch.float64)
    tilted[0] = 0.5
    x = geometry.normalize(x + tilted)  # heights that differ from pair to pair
    g = geometry.gap_direction(x, y)
    u, v = flattened(x, y)
    a, b = heights_dealt(x, y)
    for before, after, direction in ((x, a, u), (y, b, v)):
        torch.testing.assert_close(after.norm(dim=1), torch.ones(60, dtype=torch.float64))
        torch.testing.assert_close((after @ g).sort().values, (before @ g).sort().values)
        assert not torch.allclose(after @ g, before @ g)
        torch.testing.assert_close(geometry.normalize(after - torch.outer(after @ g, g)), direction)


def test_lifted_pairs():
    u, v = world(30, 4, 0)
    x, y = lifted(u, v, 0.6)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(x @ y.T, 0.64 * torch.as_tensor(u @ v.T) - 0.36)
    with pytest.raises(ValueError, match="gamma"):
        lifted(u, v, 1.5)


def test_the_parallel_model_fits_itself():
    fit = parallel_fit(*toy_pairs(3000, 24, gap=0.5))
    assert fit["constant"] == pytest.approx(1)
    assert fit["gap_share"] == pytest.approx(1)
    assert fit["tilt"] == pytest.approx(0, abs=1e-12)
    assert abs(fit["cone"]) < 0.01
    # Noise separates partners in other directions: |u - v|² adds to the pairs' distance, (1 - gamma²) |u - v|² of it.
    x, y = toy_pairs(3000, 24, gap=0.5, noise=1.0, cone=1.0)
    fit = parallel_fit(x, y)
    assert fit["gap_share"] == pytest.approx(1 / float(geometry.alignment(x, y)), rel=0.05)
    assert fit["cone"] > 0.2
    # Turned towards images: heights .5 + t against .5 - t.
    centre = torch.zeros(24, dtype=torch.float64)
    centre[-1] = 0.3
    x, y = (geometry.normalize(z + centre) for z in toy_pairs(3000, 24, gap=0.5))
    assert parallel_fit(x, y)["tilt"] > 0.3


@pytest.mark.parametrize("wrong", [{"gap": 1.0}, {"gap": -0.1}, {"cone": -1}, {"noise": math.nan}, {"n": 1}, {"d": 2}])
def test_toy_pairs_refuse_what_they_cannot_make(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        toy_pairs(**wrong)
