"""Which directions a modality fills: shares of its variance, and the angles between two modalities' subspaces."""

from __future__ import annotations

from typing import Any

import torch

from gaplib._validate import check_number, check_pair
from gaplib.geometry.inputs import read, read_two
from gaplib.geometry.spread import spectrum


def explained_variance(x: Any) -> torch.Tensor:
    """Shares of the variance along the principal components of the centred rows, largest first, summing to one.

    Args:
        x: (n, d), n >= 2, any scale, NumPy or torch, any float type.

    Returns:
        (min(n, d),) float64 tensor in [0, 1], descending.

    Raises:
        ValueError: bad matrix, fewer than two rows, or rows that are all equal (there is nothing to share).
    """
    x = read(x, "x", min_rows=2)
    largest = x.abs().amax()
    if largest > 0:
        x = x / largest
    variances = spectrum(x - x.mean(dim=0)).square()
    # What the subtraction of the mean leaves of equal rows is round-off.
    if variances.sum() <= x.square().sum() * (8 * torch.finfo(x.dtype).eps) ** 2:
        raise ValueError("x: expected rows that vary, got one point")
    return variances / variances.sum()


def leading_directions(x: Any, variance: float = 0.99) -> torch.Tensor:
    """Orthonormal basis (d, k) of the fewest directions that hold the share ``variance`` of the rows' energy.

    Energy is the sum of squared projections, the mean not subtracted: the subspace passes through the origin, as the
    sphere's centre does, and holds the centroid (Yi et al. 2025, shared-space projection). At one, all directions whose
    singular value exceeds round-off count.

    Raises:
        ValueError: bad matrix, all rows zero, or ``variance`` outside (0, 1].
    """
    variance = float(check_number(variance, "variance", low=0, high=1, low_open=True))
    x = read(x, "x")
    if bool((x == 0).all()):
        raise ValueError("x: expected rows with a direction, got zeros only")
    _, singular, right = torch.linalg.svd(x, full_matrices=False)
    rank = int((singular > singular[0] * max(x.shape) * torch.finfo(x.dtype).eps).sum())
    energy = singular.square().cumsum(dim=0) / singular.square().sum()
    return right[: min(int((energy < variance).sum()) + 1, rank)].T


def principal_angles(x: Any, y: Any, variance: float = 0.99) -> torch.Tensor:
    """Principal angles, in radians and ascending, between the subspaces that the two modalities fill.

    Each subspace is spanned by :func:`leading_directions`. The first angle is the smallest between any vector of one
    and any of the other, so the angle between two vectors of the subspaces, such as the centroids where ``variance`` is
    one, is never smaller. Yi et al. (2025) derive the first angle as the optimum's angle between the modalities'
    centres.

    Args:
        x, y: (n, d), rows of norm one; the numbers of rows may differ.
        variance: share of each modality's energy that its subspace holds, in (0, 1].

    Returns:
        (min(k_x, k_y),) float64 tensor in [0, pi / 2]. From sines and cosines together: exact for small angles too.

    Raises:
        ValueError: bad matrices, rows not of norm one, dimensions that differ, ``variance`` out of range.
    """
    x, y = read_two(x, y, paired=False)
    check_pair(x, y, paired=False)
    wide, narrow = leading_directions(x, variance), leading_directions(y, variance)
    if wide.shape[1] < narrow.shape[1]:
        wide, narrow = narrow, wide
    inner = wide.T @ narrow
    cosines = torch.linalg.svdvals(inner)
    sines = torch.linalg.svdvals(narrow - wide @ inner).flip(0)
    return torch.atan2(sines, cosines)
