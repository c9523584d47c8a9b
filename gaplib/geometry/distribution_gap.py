"""What is left of the gap when each modality's mean is taken off: that of the distributions, not of the centroids."""

from __future__ import annotations

from typing import Any

import numpy as np

from gaplib._validate import check_pair
from gaplib.evaluation._inputs import unit_rows
from gaplib.geometry.inputs import Embeddings


def centred(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows less their own modality's mean, not normalised again: (n, d) and (m, d) float64."""
    x, y = unit_rows(x, "x"), unit_rows(y, "y")
    check_pair(x, y, paired=False)
    return x - x.mean(axis=0), y - y.mean(axis=0)


def distribution_gap(x: Any, y: Any) -> float:
    """2-Wasserstein distance of the two modalities as Gaussians once their means are taken off (Bures distance).

    sqrt(tr A + tr B - 2 tr (A^(1/2) B A^(1/2))^(1/2)) with the covariances A and B (divided by the rows). It is our
    choice for the "distribution gap" that Liu et al. 2026 (TPC-CMA) set against the centroid gap; their formula was not
    read. The squared Wasserstein distance of the two Gaussians with their means is this one squared plus the squared
    centroid distance, so the two gaps are its two parts.

    Args:
        x, y: (n, d), (m, d) embeddings, n, m >= 2; any scale, normalised first.

    Returns:
        float >= 0.

    Raises:
        ValueError: bad matrices, rows of zeros, unequal dimensions, fewer than two rows.
    """
    a, b = centred(x, y)
    for z, name in ((a, "x"), (b, "y")):
        if len(z) < 2:
            raise ValueError(f"{name}: expected at least 2 rows, got {len(z)}")
    # Triangular factors stand for the data: A = Ra' Ra, and tr (A^1/2 B A^1/2)^1/2 is the nuclear norm of Ra Rb'.
    a, b = (np.linalg.qr(z, mode="r") / np.sqrt(len(z)) for z in (a, b))
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(np.sqrt(max(0.0, (a**2).sum() + (b**2).sum() - 2 * overlap)))


def distribution_gap_of(data: Embeddings) -> float:
    return distribution_gap(data.x, data.y)
