"""The nine-pair landscape against its published minima, the shift experiment against plain formulas."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from gaplib.theory import landscape
from gaplib.theory.dynamics import Matching


@pytest.mark.parametrize(
    ("scale", "height"), [(1, 0), (5, 0), (10, 0), (50, 0.714), (100, 0.869), (500, 0.975), (1000, 0.988)]
)
def test_published_minima_with_a_swap(scale, height):
    """Re-run of the released notebook's landscape; heights to three decimals."""
    assert landscape.best_height(scale, swap=True) == pytest.approx(height, abs=1e-3)


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
def test_without_a_swap_the_gap_never_pays(scale):
    assert landscape.best_height(scale, swap=False) == 0


@pytest.mark.parametrize(("scale", "at_zero"), [(50, 0.180), (100, 0.209), (500, 0.516), (1000, 0.989)])
def test_published_losses(scale, at_zero):
    assert landscape.height_loss(0, scale, swap=True) == pytest.approx(at_zero, abs=1e-3)
    best = landscape.best_height(scale, swap=True)
    assert landscape.height_loss(best, scale, swap=True) == pytest.approx(0.168, abs=1e-3)


def test_height_loss_equals_the_loss_on_the_sphere():
    """Build the 3-d points and take the plain contrastive loss: no reduction to an effective temperature."""
    u, v = landscape.nine_pairs(swap=True)
    for z in (0.0, 0.3, 0.9):
        x = np.column_stack([np.sqrt(1 - z**2) * u, np.full(9, z)])
        y = np.column_stack([np.sqrt(1 - z**2) * v, np.full(9, -z)])
        assert landscape.height_loss(z, 30, swap=True) == pytest.approx(
            landscape.batched_loss(*map(torch.tensor, (x, y)), 30, 9)
        )
        grid = [landscape.height_loss(h, 100, swap=True) for h in np.linspace(0, 0.999, 1000)]
    assert np.linspace(0, 0.999, 1000)[int(np.argmin(grid))] == pytest.approx(
        landscape.best_height(100, True), abs=2e-3
    )


def test_shift_moves_the_means_together_and_back():
    g = torch.Generator().manual_seed(0)
    content = torch.randn(100, 8, generator=g, dtype=torch.float64)
    x, y = (
        normalize(content + torch.tensor([2.0] + [0] * 7), dim=1),
        normalize(content - torch.tensor([2.0] + [0] * 7), dim=1),
    )

    def gap(delta):
        a, b = landscape.shifted(x, y, delta)
        return float((a.mean(0) - b.mean(0)).norm())

    full = gap(0)
    assert full == pytest.approx(float((x.mean(0) - y.mean(0)).norm()))
    assert gap(0.5) < full < gap(-0.5)
    assert gap(full) < 0.4 * full


def test_batched_loss_of_one_batch_is_the_matching_loss():
    g = torch.Generator().manual_seed(1)
    x, y = (normalize(torch.randn(12, 4, generator=g, dtype=torch.float64), dim=1) for _ in range(2))
    want = Matching.from_embeddings(x.numpy(), y.numpy()).loss(7.0)
    assert landscape.batched_loss(x, y, 7.0, batch_size=12) == pytest.approx(want)


def test_bad_input_is_named():
    x = normalize(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    for name, call in {
        "z": lambda: landscape.height_loss(1.5, 10, True),
        "logit_scale": lambda: landscape.best_height(0, True),
        "batch_size": lambda: landscape.batched_loss(x, x, 1.0, batch_size=11),
        "delta": lambda: landscape.shifted(x, -x, float("nan")),
        "y": lambda: landscape.shifted(x, x, 0.1),
        "x": lambda: landscape.batched_loss(2 * x, x, 1.0, 5),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
