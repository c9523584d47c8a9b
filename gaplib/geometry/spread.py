"""How each modality fills the sphere: mean cosine, uniformity, effective rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gaplib._validate import check_integer, check_number
from gaplib.geometry.distance import dissimilarity
from gaplib.geometry.inputs import read, read_directions, read_two
from gaplib.tiled import gaussian_lse

# Entries of one tile of the n x n kernel when the caller does not say: 16 MiB in float64.
_ENTRIES_AT_A_TIME = 2**21


def mean_cosine(x: Any) -> torch.Tensor:
    """Mean cosine of distinct rows, in [-1/(n-1), 1]: far above 0 the rows lie in a cone (Liang et al. 2022).

    Args:
        x: (n, d), n >= 2, any scale but no zero rows, NumPy or torch, any float type.

    Returns:
        0-d float64 tensor, in closed form from the centroid: O(n d).

    Raises:
        ValueError: bad matrix, fewer than two rows, a row of zeros.
    """
    return 1 - 2 * dissimilarity(read_directions(x, "x", min_rows=2))


def uniformity(x: Any, t: float = 2.0, *, chunk_size: int | None = None) -> torch.Tensor:
    """log mean over i < j of exp(-t |x_i - x_j|²), in [-4t, 0]; lower is more uniform (Wang & Isola 2020).

    Args:
        x: (n, d), n >= 2, rows of norm one.
        t: > 0, the sharpness of the Gaussian kernel.
        chunk_size: rows compared at a time; changes memory, not the result.

    Returns:
        0-d float64 tensor.

    Raises:
        ValueError: bad matrix, fewer than two rows, rows not of norm one, ``t`` or ``chunk_size`` out of range.
    """
    x = read(x, "x", unit=True, min_rows=2)
    return _log_mean_kernel(x, x, t, chunk_size, same=True)


def cross_uniformity(x: Any, y: Any, t: float = 2.0, *, chunk_size: int | None = None) -> torch.Tensor:
    """log mean over all i != j of exp(-t |x_i - y_j|²), in [-4t, 0] (L_XUniform of Fahim et al. 2024, Sec. 4).

    x, y: (n, d), n >= 2, rows of norm one, row i a pair. The rest as for :func:`uniformity`.
    """
    x, y = read_two(x, y, min_rows=2)
    return _log_mean_kernel(x, y, t, chunk_size, same=False)


def cross_uniformity_of_groups(
    x: torch.Tensor, y: torch.Tensor, groups_x: np.ndarray, groups_y: np.ndarray, t: float = 2.0
) -> torch.Tensor:
    """:func:`cross_uniformity` over all i, j of different groups: a caption of the same image is no wrong pair.

    x, y: (n, d), (m, d), rows of norm one; groups_x, groups_y: (n,), (m,) integers, the same two or more in both.
    """
    x, y = read_two(x, y, paired=False)
    of_x, of_y = ({g: np.flatnonzero(groups == g) for g in np.unique(groups)} for groups in (groups_x, groups_y))
    within = torch.stack([gaussian_lse(x[rows], y[of_y[g]], t) for g, rows in of_x.items()]).logsumexp(dim=0)
    total = gaussian_lse(x, y, t)
    number = len(x) * len(y) - sum(len(rows) * len(of_y[g]) for g, rows in of_x.items())
    # The kernel lies between exp(-4t) and 1, so that the difference keeps its digits.
    return total + torch.log1p(-(within - total).exp()) - math.log(number)


def _log_mean_kernel(x: torch.Tensor, y: torch.Tensor, t: float, chunk_size: int | None, *, same: bool) -> torch.Tensor:
    """log mean over i != j of exp(-t |x_i - y_j|²), a tile of rows at a time; ``same`` visits i < j only."""
    t = float(check_number(t, "t", low=0, low_open=True))
    n = len(x)
    default = max(1, _ENTRIES_AT_A_TIME // n)
    chunk = default if chunk_size is None else check_integer(chunk_size, "chunk_size", low=1)
    norms_x, norms_y = x.square().sum(dim=1), y.square().sum(dim=1)
    parts = []
    for start in range(0, n, chunk):
        rows, columns = slice(start, start + chunk), slice(start if same else 0, n)
        tile = torch.addmm(norms_y[columns], x[rows], y[columns].T, beta=-t, alpha=2 * t)
        # Round-off must not make a squared distance negative.
        tile.sub_(t * norms_x[rows, None]).clamp_(max=0)
        if same:
            tile.masked_fill_(torch.ones_like(tile, dtype=torch.bool).tril_(), -torch.inf)
        else:
            index = torch.arange(len(tile), device=tile.device)
            tile[index, index + start] = -torch.inf
        parts.append(_log_sum_exp_(tile))
    total = torch.stack(parts).logsumexp(dim=0)
    return total - math.log(n * (n - 1) / 2 if same else n * (n - 1))


def _log_sum_exp_(tile: torch.Tensor) -> torch.Tensor:
    """log-sum-exp of all entries, in place: torch's own makes two copies of the tile."""
    top = tile.amax()
    # The last row of a modality has no later partner: its tile may be empty of pairs.
    return top if top == -torch.inf else tile.sub_(top).exp_().sum().log() + top


def wasserstein_uniformity(x: Any, y: Any, *, paired: bool = True) -> torch.Tensor:
    """Minus the 2-Wasserstein distance of the pooled cloud from N(0, I/d), both as Gaussians, in [-sqrt(2), 0].

    -sqrt(|mu|² + 1 + tr S - (2 / sqrt(d)) tr S^(1/2)), with mean mu and covariance S (divided by the number of rows) of
    both modalities together; 0 is uniform, -sqrt(2) one point (Fang et al. 2024, as in the code of Grassucci et al.
    2026, without its 1e-8 on the eigenvalues).

    Args:
        x, y: (n, d), rows of norm one.
        paired: ``False`` lets the numbers of rows differ.

    Returns:
        0-d float64 tensor.

    Raises:
        ValueError: bad matrices, rows not of norm one, shapes that do not fit.
    """
    pooled = torch.cat(read_two(x, y, paired=paired))
    mean, d = pooled.mean(dim=0), pooled.shape[1]
    deviations = spectrum(pooled - mean) / math.sqrt(len(pooled))
    squared = mean.square().sum() + 1 + deviations.square().sum() - 2 / math.sqrt(d) * deviations.sum()
    return -squared.clamp(min=0).sqrt()


def effective_rank(x: Any) -> torch.Tensor:
    """exp of the entropy of the centred covariance's normalised eigenvalues, in [1, min(n - 1, d)].

    The number of equally strong directions that would spread as the rows do (Roy & Vetterli 2007 take singular values;
    here they are squared, as variances).

    Args:
        x: (n, d), n >= 2, any scale.

    Returns:
        0-d float64 tensor; 1 for rows that are all equal, the least that it can be.

    Raises:
        ValueError: bad matrix or fewer than two rows.
    """
    x = read(x, "x", min_rows=2)
    largest = x.abs().amax()
    if largest == 0:
        return torch.ones_like(largest)
    x = x / largest
    variances = spectrum(x - x.mean(dim=0)).square()
    total = variances.sum()
    # What the subtraction of the mean leaves of equal rows is round-off: no spectrum to speak of.
    if total <= x.square().sum() * (8 * torch.finfo(x.dtype).eps) ** 2:
        return torch.ones_like(total)
    return torch.special.entr(variances / total).sum().exp().clamp(min=1)


def spectrum(centred: torch.Tensor) -> torch.Tensor:
    """Singular values; from the triangular factor where there are many rows, which keeps the small ones exact."""
    tall = centred.shape[0] > 2 * centred.shape[1]
    return torch.linalg.svdvals(torch.linalg.qr(centred, mode="r").R if tall else centred)
