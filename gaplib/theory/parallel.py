r"""The parallel model: two modalities at heights :math:`\pm\gamma` over directions u and v.

.. math:: x_i = (\sqrt{1-\gamma^2}\,u_i,\ \gamma), \qquad y_i = (\sqrt{1-\gamma^2}\,v_i,\ -\gamma)

Pairs that follow it (:func:`world`, :func:`lifted`, :func:`toy_pairs`), embeddings brought to it (:func:`flattened`,
:func:`heights_dealt`), how well they fit it (:func:`parallel_fit`), and the gap at which the contrastive loss rests in
it (:func:`resting_scale`, :func:`resting_gap`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from gaplib import geometry
from gaplib._validate import check_integer, check_number
from gaplib.theory.dynamics import Matching

# --- pairs that follow it --------------------------------------------------------------------------------------------


def world(n: int, d: int, seed: int, noise: float = 0.0, mismatch: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """u and v (n, d): uniform on the sphere, v = u moved by ``noise`` times a Gaussian of length about one; a share
    ``mismatch`` of the v goes round a circle. ``noise`` infinite: v independent of u."""
    n, d = check_integer(n, "n", low=2), check_integer(d, "d", low=1)
    noise = float("inf") if noise == float("inf") else float(check_number(noise, "noise", low=0))
    mismatch = float(check_number(mismatch, "mismatch", low=0, high=1))
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    u, other = rng.standard_normal((2, n, d))
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    v = other if np.isinf(noise) else u + noise * other / np.sqrt(d)
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    moved = round(mismatch * n)
    v[:moved] = np.roll(v[:moved], 1, axis=0)
    return u, v


def lifted(u: Any, v: Any, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y (n, d + 1) of the parallel model, float64 unit rows."""
    gamma = float(check_number(gamma, "gamma", low=-1, high=1))
    u, v = (torch.as_tensor(z, dtype=torch.float64) for z in (u, v))
    height = torch.full((len(u), 1), gamma, dtype=torch.float64)
    width = (1 - gamma**2) ** 0.5
    return torch.cat([width * u, height], dim=1), torch.cat([width * v, -height], dim=1)


def toy_pairs(
    n: int = 400, d: int = 16, *, gap: float = 0.0, cone: float = 0.0, noise: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of the parallel model, float64 (n, d): x_i = (sqrt(1 - gap²) u_i, gap), y_i = (sqrt(1 - gap²) v_i, -gap).

    u_i and v_i are unit vectors in d - 1 dimensions, the directions of b_i + noise a_i + cone e and b_i + noise a'_i
    + cone e: b, a, a' Gaussian of expected squared length one, e a fixed unit vector. Without a cone they are uniform
    on the sphere, without noise u_i = v_i; then the centroid distance is 2 gap and the true pairs' cosine 1 - 2 gap².
    gap in [0, 1), cone and noise >= 0, d >= 3, n >= 2; ``ValueError`` otherwise.
    """
    check_number(gap, "gap", low=0, high=1, high_open=True)
    check_number(cone, "cone", low=0)
    check_number(noise, "noise", low=0)
    n, d = check_integer(n, "n", low=2), check_integer(d, "d", low=3)
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    shared, *own = torch.from_numpy(rng.standard_normal((3, n, d - 1)) / np.sqrt(d - 1))
    axis = torch.eye(d - 1, dtype=torch.float64)[0]
    u, v = (geometry.normalize(shared + noise * one + cone * axis) for one in own)
    side, width = torch.full((n, 1), gap, dtype=torch.float64), np.sqrt(1 - gap**2)
    return torch.cat([width * u, side], dim=1), torch.cat([width * v, -side], dim=1)


# --- embeddings brought to it ----------------------------------------------------------------------------------------


def flattened(x: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """u and v (n, d): the embeddings without their component along the gap, normalised: the parallel model's."""
    g = geometry.gap_direction(x, y)
    u, v = (geometry.normalize(z - torch.outer(z @ g, g)) for z in (x, y))
    return u, v


def heights_dealt(x: Any, y: Any, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The same u, v and the same heights along the gap, but each modality's heights dealt to other pairs at random."""
    g = geometry.gap_direction(x, y)
    generator = torch.Generator().manual_seed(seed)
    dealt = []
    for z, direction in zip((x, y), flattened(x, y), strict=True):
        height = (z @ g)[torch.randperm(len(z), generator=generator), None]
        dealt.append((1 - height**2).sqrt() * direction + height * g)
    return tuple(dealt)


def parallel_fit(x: Any, y: Any) -> dict[str, float]:
    """How well paired embeddings fit the parallel model, x_i = (sqrt(1 - gamma²) u_i, gamma), y_i with -gamma.

    constant     share of the squared heights along the gap that one common height +-gamma explains; 1 in the model
    gap_share    squared gap over the mean squared distance of the true pairs: how much of what separates partners is
                 the one constant vector; 1 in the model with u_i = v_i
    tilt         |gamma_x - gamma_y| / (gamma_x + gamma_y), the modalities' mean heights; 0 in the model
    cone         mean cosine of u and of v, averaged; 0 where they are uniform on the sphere, as Theorem 3.3 assumes
    """
    g = geometry.gap_direction(x, y)
    heights = torch.stack([x @ g, -(y @ g)])
    gamma_x, gamma_y = (float(h.mean()) for h in heights)
    u, v = (geometry.normalize(z - torch.outer(z @ g, g)) for z in (x, y))
    return {
        "constant": float(heights.mean() ** 2 / heights.square().mean()),
        "gap_share": float(geometry.centroid_distance(x, y) ** 2 / geometry.alignment(x, y)),
        "tilt": abs(gamma_x - gamma_y) / abs(gamma_x + gamma_y),
        "cone": float(geometry.mean_cosine(u) + geometry.mean_cosine(v)) / 2,
    }


# --- where the loss rests --------------------------------------------------------------------------------------------


def resting_scale(matching: Matching | Sequence[Matching], high: float = 1e4) -> float:
    """The effective inverse temperature s* at which the (mean) loss is least; infinite where it falls for ever.

    The loss is convex in s, so there is one. Raises ``ValueError`` where even s = 0 is best (pairs worse than random).
    """
    batches = [matching] if isinstance(matching, Matching) else list(matching)

    def slope(s: float) -> float:
        return float(np.mean([one.slope(s) for one in batches]))

    if slope(0.0) >= 0:
        raise ValueError("matching: expected true pairs closer than strangers on average, got the contrary")
    return np.inf if slope(high) < 0 else float(brentq(slope, 0.0, high))


def resting_gap(logit_scale: float, s_star: float) -> float:
    """The gap 2 gamma at which beta (1 - gamma²) = s*, 0 where the temperature is too high to need one."""
    beta = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    return float(2 * np.sqrt(max(0.0, 1 - s_star / beta)))
