"""How far apart the two modalities are: centroids, true pairs, and the share of few coordinates in the gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gaplib._validate import check_integer
from gaplib.geometry.inputs import ROWS_AT_A_TIME, Embeddings, read_pair_directions, read_two

# Means of unit rows are sums of roundings of this order; a shorter gap vector has no direction of its own.
NO_GAP = 1e-13
# Coordinates that the report card calls a few.
TOP = 5


def gap_vector(x: Any, y: Any, *, paired: bool = True) -> torch.Tensor:
    """Difference of the centroids, mean_i x_i - mean_i y_i (Liang et al. 2022).

    Args:
        x, y: (n, d), rows of norm one, NumPy or torch, any float type.
        paired: ``False`` lets the numbers of rows differ.

    Returns:
        (d,) float64 tensor.

    Raises:
        ValueError: bad matrices, rows not of norm one, shapes that do not fit.
    """
    return gap_vector_of(Embeddings(*read_two(x, y, paired=paired)))


def gap_vector_of(data: Embeddings) -> torch.Tensor:
    return data.x.mean(dim=0) - data.y.mean(dim=0)


def gap_direction(x: Any, y: Any, *, paired: bool = True) -> torch.Tensor:
    """:func:`gap_vector` at norm one. Raises ``ValueError`` also where there is no gap: zero has no direction."""
    return _direction(gap_vector(x, y, paired=paired))


def _direction(gap: torch.Tensor) -> torch.Tensor:
    length = gap.norm()
    if length <= NO_GAP:
        raise ValueError("x: expected a centroid other than that of y, got the same one (the gap has no direction)")
    return gap / length


def centroid_distance(x: Any, y: Any, *, paired: bool = True) -> torch.Tensor:
    """Length of the gap vector, |mean_i x_i - mean_i y_i|, in [0, 2] (Liang et al. 2022; Fahim et al. 2024, Sec. 3.1).

    It is not zero for two samples of one distribution: about sqrt((v_x + v_y) / n) with v the variances. Read it beside
    :func:`gaplib.stats.permutation_floor`. Arguments, result type (0-d float64) and errors as for :func:`gap_vector`.
    """
    return centroid_distance_of(Embeddings(*read_two(x, y, paired=paired)))


def centroid_distance_of(data: Embeddings) -> torch.Tensor:
    return gap_vector_of(data).norm()


def alignment(x: Any, y: Any) -> torch.Tensor:
    """Mean squared distance of the true pairs, (1/n) sum_i |x_i - y_i|², in [0, 4]; 0 is perfect (Wang & Isola 2020).

    x, y: (n, d), rows of norm one, row i a pair. Returns a 0-d float64 tensor. Raises ``ValueError`` as
    :func:`gap_vector`.
    """
    return alignment_of(Embeddings(*read_two(x, y)))


def alignment_of(data: Embeddings) -> torch.Tensor:
    return data.squared_distances.mean()


def true_pair_cosine(x: Any, y: Any) -> torch.Tensor:
    """Mean cosine of the true pairs, in [-1, 1].

    x, y: (n, d), row i a pair, any scale but no zero rows. Returns a 0-d float64 tensor. Raises ``ValueError`` for bad
    matrices, zero rows, shapes that do not fit.
    """
    return true_pair_cosine_of(read_pair_directions(x, y))


def true_pair_cosine_of(directions: Embeddings) -> torch.Tensor:
    return (1 - directions.squared_distances / 2).mean()


def relative_modality_gap(x: Any, y: Any) -> torch.Tensor:
    """Distance of the true pairs relative to the spread inside the modalities, in [0, 1].

    m / ((d_x + d_y) / 2 + m), where the distance of two rows is (1 - cos) / 2, m its mean over true pairs, d_x and d_y
    its means over distinct rows of one modality (Schrodi et al. 2025). This is the form of the authors' analysis code
    (lmb-freiburg/two-effects-one-trigger, analysis/gap_precompute.py), which leaves the diagonal out; where every pair
    coincides, that code puts .001 for m and we put 0. In closed form from the centroids: O(n d).

    Args:
        x, y: (n, d), n >= 2, row i a pair; any scale but no zero rows.

    Returns:
        0-d float64 tensor; 0 where all rows of both modalities are one and the same direction.

    Raises:
        ValueError: bad matrices, zero rows, fewer than two pairs, shapes that do not fit.
    """
    return relative_modality_gap_of(read_pair_directions(x, y, min_rows=2))


def relative_modality_gap_of(directions: Embeddings) -> torch.Tensor:
    between, within_x, within_y = dissimilarities_of(directions)
    return ratio(between, (within_x + within_y) / 2)


def relative_modality_gap_with_diagonal(x: Any, y: Any) -> torch.Tensor:
    """:func:`relative_modality_gap` as the same authors' training code has it (clip_on_real_data/.../train.py).

    d_x and d_y are means over all n² entries, the zeros of the diagonal included, so the value falls slowly with n
    towards the analysis form. Arguments and errors as there.
    """
    between, within_x, within_y = dissimilarities_of(read_pair_directions(x, y, min_rows=2))
    n = len(x)
    return ratio(between, (within_x + within_y) / 2 * (n - 1) / n)


def relative_modality_gap_unhalved(x: Any, y: Any) -> torch.Tensor:
    """:func:`relative_modality_gap` as in manu-kick/Deep-subspace-aligment-and-modality-gap-dimensions.

    There the true pairs' distance is 1 - cos, in [0, 2], and the sums over the upper triangles are divided by
    2n(n - 1), which halves the means: 2m / ((d_x + d_y) / 4 + 2m), never below the paper's. Arguments and errors as
    there.
    """
    between, within_x, within_y = dissimilarities_of(read_pair_directions(x, y, min_rows=2))
    return ratio(2 * between, (within_x + within_y) / 4)


def dissimilarities_of(directions: Embeddings) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (1 - cos) / 2 over true pairs, and over distinct rows of each modality."""
    between = directions.squared_distances.mean() / 4
    return between, dissimilarity(directions.x), dissimilarity(directions.y)


def dissimilarity(x: torch.Tensor) -> torch.Tensor:
    """Mean (1 - cos) / 2 over distinct unit rows: sum over i != j of |x_i - x_j|² is 2n sum_i |x_i - mean|²."""
    mean = x.mean(dim=0)
    total = sum((rows - mean).square_().sum() for rows in x.split(ROWS_AT_A_TIME))
    return total / (2 * (len(x) - 1))


def ratio(between: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
    """between / (between + within), 0 where both are 0."""
    total = between + within
    return torch.where(total > 0, between / total, torch.zeros_like(total))


def top_coordinate_share(x: Any, y: Any, k: int, *, paired: bool = True) -> torch.Tensor:
    """Share of the squared gap vector that its k largest coordinates hold, in [k/d, 1] (after Schrodi et al. 2025).

    Args:
        x, y: (n, d), rows of norm one.
        k: between 1 and d.
        paired: ``False`` lets the numbers of rows differ.

    Returns:
        0-d float64 tensor. Read it beside :func:`rotation_null`: even a random direction has large coordinates.

    Raises:
        ValueError: as :func:`gap_vector`, no gap at all, or k outside [1, d].
    """
    gap = gap_vector(x, y, paired=paired)
    _direction(gap)
    return top_share_of(gap, check_integer(k, "k", low=1, high=len(gap)))


def top_share_of(gap: torch.Tensor, k: int) -> torch.Tensor:
    """:func:`top_coordinate_share` of a gap vector that is not zero."""
    return _direction(gap).square().topk(k).values.sum().clamp(max=1)


def top5_coordinate_share_of(data: Embeddings) -> torch.Tensor | None:
    """:func:`top_coordinate_share` of ``TOP`` coordinates, of all where there are fewer; ``None`` without a gap."""
    gap = gap_vector_of(data)
    return top_share_of(gap, min(TOP, len(gap))) if gap.norm() > NO_GAP else None


def rotation_null(x: Any, y: Any, k: int, repeats: int = 200, seed: int = 0, *, paired: bool = True) -> torch.Tensor:
    """:func:`top_coordinate_share` after random rotations of the embeddings: what coordinates mean nothing would give.

    A rotated gap is a uniformly random direction, so only d matters. Returns a (repeats,) float64 tensor. Errors as
    there, and for ``repeats`` < 1 or a negative ``seed``.
    """
    d = len(gap_vector(x, y, paired=paired))
    k = check_integer(k, "k", low=1, high=d)
    return rotation_null_of(d, k, check_integer(repeats, "repeats", low=1), check_integer(seed, "seed", low=0))


def rotation_null_of(d: int, k: int, repeats: int, seed: int) -> torch.Tensor:
    squares = torch.from_numpy(np.random.default_rng(seed).standard_normal((repeats, d))).square()
    return (squares.topk(k, dim=1).values.sum(dim=1) / squares.sum(dim=1)).clamp(max=1)
