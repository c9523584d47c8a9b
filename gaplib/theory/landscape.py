r"""What the contrastive loss thinks of a gap: the nine-pair landscape and the shift experiment (Liang et al. 2022).

Both move the modalities along the gap, hold everything else, and read the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy, normalize

from gaplib._validate import as_float64, check_integer, check_matrix, check_number, check_pair, check_unit_rows
from gaplib.theory.dynamics import Matching

# Eight directions every 45 degrees and a ninth just beside the one at 270 degrees.
NINE_ANGLES = np.append(np.arange(8) * np.pi / 4, 1.53 * np.pi)
_NEIGHBOURS = (6, 8)  # the pair at 270 degrees and the ninth


def nine_pairs(swap: bool) -> tuple[np.ndarray, np.ndarray]:
    """The horizontal directions of nine pairs on S², two (9, 2) arrays; ``swap`` exchanges two close partners."""
    u = np.stack([np.cos(NINE_ANGLES), np.sin(NINE_ANGLES)], axis=1)
    v = u.copy()
    if swap:
        v[list(_NEIGHBOURS)] = v[list(_NEIGHBOURS[::-1])]
    return u, v


def height_loss(z: float, logit_scale: float, swap: bool) -> float:
    r"""Contrastive loss, in nats, of the nine pairs with images at height ``z`` and texts at height ``-z`` of S².

    Equal to the loss at effective inverse temperature :math:`\beta(1-z^2)`, see :mod:`gaplib.theory.dynamics`.

    Raises:
        ValueError: unless ``z`` is in [-1, 1] and ``logit_scale`` is positive.
    """
    z = float(check_number(z, "z", low=-1, high=1))
    beta = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    return Matching.from_embeddings(*nine_pairs(swap)).loss(beta * (1 - z**2))


def best_height(logit_scale: float, swap: bool) -> float:
    """The height z in [0, 1) at which :func:`height_loss` is least; half the gap that the loss asks for."""
    beta = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    matching = Matching.from_embeddings(*nine_pairs(swap))
    # The loss is convex in s = beta (1 - z^2), so its minimum over [0, beta] is unique.
    best = minimize_scalar(matching.loss, bounds=(0, beta), method="bounded", options={"xatol": 1e-10 * beta})
    s = beta if matching.slope(beta) <= 0 else best.x
    return float(np.sqrt(max(0.0, 1 - s / beta)))


def shifted(x: Any, y: Any, delta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Move both modalities towards each other by ``delta / 2`` along the gap's direction and normalise again.

    Args:
        x, y: (n, d) unit rows. ``delta`` in units of length, not of the gap; negative widens.
    """
    x, y = (as_float64(check_unit_rows(check_matrix(z, name, min_rows=2), name)) for z, name in ((x, "x"), (y, "y")))
    check_pair(x, y)
    delta = float(check_number(delta, "delta"))
    gap = x.mean(0) - y.mean(0)
    length = gap.norm()
    if float(length) < 1e-12:
        raise ValueError("y: expected modalities with different means, got a gap of zero, which has no direction")
    step = delta / 2 * gap / length
    return normalize(x - step, dim=1), normalize(y + step, dim=1)


def batched_loss(x: Any, y: Any, logit_scale: float, batch_size: int = 50, seed: int = 0) -> float:
    """Symmetric contrastive loss, in nats, a mean over random disjoint batches of ``batch_size`` pairs (rest left out).

    The paper's curves are averages over batches of 50. The same seed makes the same batches, so that curves compare.
    """
    x, y = (as_float64(check_unit_rows(check_matrix(z, name, min_rows=2), name)) for z, name in ((x, "x"), (y, "y")))
    check_pair(x, y)
    beta = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    batch_size = check_integer(batch_size, "batch_size", low=2, high=len(x))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    order = order[: len(x) // batch_size * batch_size].reshape(-1, batch_size).to(x.device)
    logits = beta * x[order] @ y[order].transpose(1, 2)
    target = torch.arange(batch_size, device=x.device).expand(len(order), -1)
    return float((cross_entropy(logits, target) + cross_entropy(logits.transpose(1, 2), target)) / 2)
