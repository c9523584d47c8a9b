"""Modality swapping against its own definition."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from gaplib.swapping import Swapping, hard_swap, soft_swap


def _gapped(n=400, d=16, offset=0.7, seed=0, noise=0.3):
    """Pairs that share a content in the first coordinates and differ by an offset in the last."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    x, y = content.copy(), content + noise * rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    x[:, -1], y[:, -1] = offset, -offset
    return tuple(normalize(torch.tensor(z), dim=1) for z in (x, y))


def _gap(x, y):
    return float((x.mean(0) - y.mean(0)).norm())


def test_hard_swap_rearranges_and_soft_swap_conserves_the_sum():
    x, y = _gapped(50)
    g = torch.Generator().manual_seed(0)
    a, b = hard_swap(x, y, g, renormalize=False)
    kept = a == x
    torch.testing.assert_close(torch.where(kept, b, a), y)
    assert 0.4 < float(kept[:, :-1].double().mean()) < 0.6
    a, b = soft_swap(x, y, g, renormalize=False)
    torch.testing.assert_close(a + b, x + y)
    for swap in (hard_swap, soft_swap):
        for z in swap(x, y, g):
            torch.testing.assert_close(z.norm(dim=1), torch.ones(50, dtype=z.dtype))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_swapping_policy(kind):
    x, y = _gapped(8)
    g = torch.Generator().manual_seed(0)
    never = Swapping(kind, 0.0)
    assert all(never(x, y, s, 100, g)[0] is x for s in range(50))
    always = Swapping(kind, 1.0)
    assert all(always(x, y, s, 100, g)[0] is not x for s in range(50))
    swapped = sum(Swapping(kind, 0.25)(x, y, s, 1000, g)[0] is not x for s in range(1000))
    assert 200 < swapped < 300
    phase = [Swapping(kind, 0.1, trigger="phase")(x, y, s, 100, g)[0] is not x for s in range(100)]
    assert phase == [s < 10 for s in range(100)]


def test_swapping_closes_the_gap_on_average():
    x, y = _gapped()
    a, b = hard_swap(x, y, torch.Generator().manual_seed(0))
    assert _gap(a, b) < 0.2 * _gap(x, y)


def test_bad_input_is_named():
    for name, call in {
        "kind": lambda: Swapping("medium", 0.1),
        "trigger": lambda: Swapping("hard", 0.1, trigger="never"),
        "p": lambda: Swapping("soft", 1.5),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
