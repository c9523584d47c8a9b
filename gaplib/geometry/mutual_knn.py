"""Do both modalities see the same items as neighbours? Mutual k-nearest-neighbour alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gaplib._validate import check_integer
from gaplib.evaluation._inputs import row_chunks, tie_tolerance
from gaplib.geometry.inputs import Embeddings, read_directions

_K = 10


def mutual_knn_alignment(x: Any, y: Any, k: int = _K) -> torch.Tensor:
    """Share of an item's k nearest neighbours in ``x`` that are among its k nearest in ``y``, mean over the items.

    The mutual nearest-neighbour metric of Huh et al. 2024 ("The Platonic Representation Hypothesis"), by cosine.
    Neighbours are sought in the own modality, the item itself left out: what counts is what is near to what, not how
    far apart the modalities are. Two unrelated modalities give k / (n - 1) on average, so values for different n or k
    do not compare.

    Ties for the last places share them: of t rows level at the k-th place with p places left, each counts p / t, in
    either modality, which is the mean over all ways to break the ties. Level are cosines within 16 units in the last
    place of one, so that neither the order of the items nor round-off decides, among copies of one row say.

    Args:
        x, y: (n, d), (n, e), n > k, row i of both an item; any scale but no zero rows, NumPy or torch, any float type.
        k: how many neighbours, 1 to n - 1.

    Returns:
        0-d float64 tensor in [0, 1]. Time grows with n²; cosines are held for a block of rows only.

    Raises:
        ValueError: bad matrices, rows of zeros, fewer than two rows, shapes that do not fit, ``k`` out of range.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=(200, 16))
    >>> text = image @ np.linalg.qr(rng.normal(size=(16, 16)))[0]  # the same shape elsewhere
    >>> round(float(mutual_knn_alignment(image, text)), 6)
    1.0
    >>> bool(mutual_knn_alignment(image, rng.normal(size=(200, 16))) < 0.1)  # chance: 10 / 199
    True
    """
    x, y = read_directions(x, "x", min_rows=2), read_directions(y, "y", min_rows=2)
    if len(x) != len(y):
        raise ValueError(f"y: expected as many rows as x ({len(x)}), got {len(y)}")
    return _mean_overlap(Embeddings(x, y), check_integer(k, "k", low=1, high=len(x) - 1))


def mutual_knn_alignment_of(directions: Embeddings, k: int = _K) -> torch.Tensor | None:
    """:func:`mutual_knn_alignment` of the first pair of every group; ``None`` where they are too few for ``k``."""
    if directions.groups is not None:
        directions = directions.take(np.sort(np.unique(directions.groups, return_index=True)[1]))
    return _mean_overlap(directions, k) if len(directions.x) > k else None


def _mean_overlap(directions: Embeddings, k: int) -> torch.Tensor:
    n = len(directions.x)
    overlap = directions.x.new_zeros(())
    for rows in row_chunks(n, n):
        overlap += (_places(directions.x, rows, k) * _places(directions.y, rows, k)).sum()
    return (overlap / (n * k)).clamp(max=1)


def _places(z: torch.Tensor, rows: slice, k: int) -> torch.Tensor:
    """(rows, n) how much of a place among the k nearest of an item every other has: 1, 0, or a share where they tie."""
    cosine = z[rows] @ z.T
    items = torch.arange(len(z), device=z.device)[rows]
    cosine[torch.arange(len(items)), items] = -torch.inf
    last, tolerance = cosine.topk(k, dim=1).values[:, -1:], tie_tolerance(z)
    nearer, level = cosine > last + tolerance, (cosine - last).abs() <= tolerance
    left = k - nearer.double().sum(dim=1, keepdim=True)
    return nearer + level * (left / level.sum(dim=1, keepdim=True))
