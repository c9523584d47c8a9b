"""How each modality fills the sphere: mean cosine, uniformity, effective rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gaplib._validate import check_number
from gaplib.geometry.distance import dissimilarity
from gaplib.geometry.inputs import ROWS_AT_A_TIME, Embeddings, read, read_directions, read_two
from gaplib.tiled import gaussian_lse

# Rows and entries of one tile of the kernel when the caller does not say: as fast as the whole matrix at any size.
_TILE_ROWS = 128
_TILE_ENTRIES = 2**21
# Above so many singular values, or so many rows for each of them, the nuclear norm is tried from the Gram matrix first,
# several times as fast, and kept where its round-off is certain to be below this share.
_GRAM_FROM = 1024
_GRAM_ROWS = 64
_GRAM_ERROR = 1e-9


def mean_cosine(x: Any) -> torch.Tensor:
    """Mean cosine of distinct rows, in [-1/(n-1), 1]: far above 0 the rows lie in a cone (Liang et al. 2022).

    Args:
        x: (n, d), n >= 2, any scale but no zero rows, NumPy or torch, any float type.

    Returns:
        0-d float64 tensor, in closed form from the centroid: O(n d).

    Raises:
        ValueError: bad matrix, fewer than two rows, a row of zeros.
    """
    return mean_cosine_of(read_directions(x, "x", min_rows=2))


def mean_cosine_of(directions: torch.Tensor) -> torch.Tensor:
    return 1 - 2 * dissimilarity(directions)


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
    return uniformity_of(read(x, "x", unit=True, min_rows=2), t, chunk_size)


def uniformity_of(x: torch.Tensor, t: float = 2.0, chunk_size: int | None = None) -> torch.Tensor:
    return _log_mean_kernel(x, None, t, chunk_size)


def cross_uniformity(x: Any, y: Any, t: float = 2.0, *, chunk_size: int | None = None) -> torch.Tensor:
    """log mean over all i != j of exp(-t |x_i - y_j|²), in [-4t, 0] (L_XUniform of Fahim et al. 2024, Sec. 4).

    x, y: (n, d), n >= 2, rows of norm one, row i a pair. The rest as for :func:`uniformity`.
    """
    return cross_uniformity_of(Embeddings(*read_two(x, y, min_rows=2)), t, chunk_size)


def cross_uniformity_of(data: Embeddings, t: float = 2.0, chunk_size: int | None = None) -> torch.Tensor:
    return _log_mean_kernel(data.x, data.y, t, chunk_size)


def _log_mean_kernel(x: torch.Tensor, y: torch.Tensor | None, t: float, chunk_size: int | None) -> torch.Tensor:
    """log of the mean over i != j; round-off must not lift it above that of distance zero."""
    n, t = len(x), float(check_number(t, "t", low=0, low_open=True))
    chunk = max(1, min(_TILE_ROWS, _TILE_ENTRIES // n)) if chunk_size is None else chunk_size
    total = gaussian_lse(x, y, t, exclude_diagonal=True, chunk_size=chunk)
    return (total - math.log(n * (n - 1))).clamp(max=0)


def cross_uniformity_of_groups(
    x: torch.Tensor, y: torch.Tensor, groups_x: np.ndarray, groups_y: np.ndarray, t: float = 2.0
) -> torch.Tensor:
    """:func:`cross_uniformity` over all i, j of different groups: a caption of the same image is no wrong pair.

    x, y: (n, d), (m, d), rows that are read; groups_x, groups_y: (n,), (m,) integers, not all of them equal.
    """
    total, number = gaussian_lse(x, y, t), len(x) * len(y)
    within = torch.full_like(total, -torch.inf)
    for group in np.intersect1d(groups_x, groups_y):
        mine, theirs = x[groups_x == group], y[groups_y == group]
        within = within.logaddexp(gaussian_lse(mine, theirs, t))
        number -= len(mine) * len(theirs)
    # The kernel lies between exp(-4t) and 1, so that the difference keeps its digits.
    return (total + torch.log1p(-(within - total).exp()) - math.log(number)).clamp(max=0)


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
    return wasserstein_uniformity_of(Embeddings(*read_two(x, y, paired=paired), paired))


def wasserstein_uniformity_of(data: Embeddings) -> torch.Tensor:
    n, d = len(data.x) + len(data.y), data.x.shape[1]
    mean = (data.x.sum(dim=0) + data.y.sum(dim=0)) / n
    total = sum((rows - mean).square_().sum() for z in (data.x, data.y) for rows in z.split(ROWS_AT_A_TIME)) / n
    spread = _nuclear_norm((data.x, data.y), mean) / math.sqrt(n)
    squared = mean.square().sum() + 1 + total - 2 / math.sqrt(d) * spread
    return -squared.clamp(min=0).sqrt()


def _nuclear_norm(parts: Sequence[torch.Tensor], mean: torch.Tensor) -> torch.Tensor:
    """Sum of the singular values of all rows less ``mean``."""
    n, d = sum(map(len, parts)), len(mean)
    if n > _GRAM_ROWS * d:
        gram = mean.new_zeros(d, d)
        for part in parts:
            for block in part.split(ROWS_AT_A_TIME):
                centred = block - mean
                gram += centred.T @ centred
        if (total := _from_variances(torch.linalg.eigvalsh(gram).clamp(min=0))) is not None:
            return total
    if n > 2 * d:
        # Rows are taken in by blocks, so that no copy of them all is made.
        blocks = (block - mean for part in parts for block in part.split(max(4 * d, ROWS_AT_A_TIME)))
        factor = next(blocks)
        for block in blocks:
            factor = torch.linalg.qr(torch.cat([factor, block]), mode="r").R
        return spectrum(factor).sum()
    centred = torch.cat([block for part in parts for block in part.split(ROWS_AT_A_TIME)]) - mean
    # Without their mean, n rows have at most n - 1 directions.
    if min(n, d) > _GRAM_FROM and (total := _from_variances(_variances(centred)[int(n <= d) :])) is not None:
        return total
    return spectrum(centred).sum()


def _from_variances(variances: torch.Tensor) -> torch.Tensor | None:
    """Sum of the roots of eigenvalues in ascending order; ``None`` where their round-off might show."""
    singular = variances.sqrt()
    error = torch.finfo(variances.dtype).eps * variances[-1] * (0.5 / singular).sum()
    return singular.sum() if error < _GRAM_ERROR * singular.sum() else None


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
    return effective_rank_of(read(x, "x", min_rows=2))


def effective_rank_of(x: torch.Tensor) -> torch.Tensor:
    n, d = x.shape
    largest = torch.zeros((), dtype=x.dtype, device=x.device)
    for rows in x.split(ROWS_AT_A_TIME):
        largest = torch.maximum(largest, rows.abs().amax())
    if largest == 0:
        return torch.ones_like(largest)
    mean = x.mean(dim=0) / largest
    energy, gram = torch.zeros_like(largest), largest.new_zeros((d, d) if n > d else (0, 0))
    blocks = []
    for rows in x.split(ROWS_AT_A_TIME):
        rows = rows / largest
        energy = energy + torch.linalg.vector_norm(rows).square()
        rows -= mean
        if n > d:
            gram += rows.T @ rows
        else:
            blocks.append(rows)
    variances = torch.linalg.eigvalsh(gram).clamp(min=0) if n > d else _variances(torch.cat(blocks))
    total = variances.sum()
    # What the subtraction of the mean leaves of equal rows is round-off: no spectrum to speak of.
    if total <= energy * (8 * torch.finfo(largest.dtype).eps) ** 2:
        return torch.ones_like(total)
    return torch.special.entr(variances / total).sum().exp().clamp(min=1)


def _variances(centred: torch.Tensor) -> torch.Tensor:
    """Squared singular values, ascending, from the smaller Gram matrix: exact to the round-off of the largest."""
    n, d = centred.shape
    return torch.linalg.eigvalsh(centred.T @ centred if n > d else centred @ centred.T).clamp(min=0)


def spectrum(centred: torch.Tensor) -> torch.Tensor:
    """Singular values; from the triangular factor where there are many rows, which keeps the small ones exact."""
    tall = centred.shape[0] > 2 * centred.shape[1]
    return torch.linalg.svdvals(torch.linalg.qr(centred, mode="r").R if tall else centred)
