"""Clusters and neighbours: do embeddings of one class lie together, across the modalities and within each?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.neighbors import NearestNeighbors

from gaplib._validate import check_integer, check_labels, check_pair
from gaplib.evaluation._inputs import unit_rows


def clustering(
    x: Any,
    y: Any,
    labels: Any,
    text_labels: Any = None,
    clusters: int | None = None,
    neighbours: int = 5,
    restarts: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """K-means V-measure and adjusted Rand index, and kNN accuracy, on both modalities pooled and on each alone.

    The pooled scores are those with which Grassucci et al. 2026 argue that a gap scatters the classes. Distances are
    Euclidean between unit rows.

    Args:
        x: (n, d) image embeddings, NumPy or torch, any float type and scale, no zero rows. y: (m, d) text embeddings.
        labels: n integers or strings, the class of every image.
        text_labels: m integers or strings, the class of every text. ``None``: row i of ``y`` belongs to row i of ``x``.
        clusters: number of clusters; ``None`` takes the number of classes.
        neighbours: k of kNN. Every item is classified by the vote of its k nearest others; with paired rows its own
            partner does not vote, else the score would measure retrieval. A tied vote counts by expectation.
        restarts: k-means starts from so many seedings and keeps the tightest result. seed: of the seedings.

    Returns:
        ``v_measure``, ``ari``, ``knn`` (pooled), and the same with the prefixes ``image.`` and ``text.``. V-measure and
        kNN lie in [0, 1], ARI in [-1, 1] with 0 at chance. The order of the items does not matter.

    Raises:
        ValueError: bad matrices, zero rows, shapes or labels that do not fit, fewer than two classes in a modality,
            more clusters than items, ``neighbours`` not below the number of items (less two when pooled pairs).
    """
    x, y = unit_rows(x, "x"), unit_rows(y, "y")
    check_pair(x, y, paired=text_labels is None)
    labels = check_labels(labels, len(x), "labels")
    paired = text_labels is None
    text_labels = labels if paired else check_labels(text_labels, len(y), "text_labels")
    if (labels.dtype.kind in "US") != (text_labels.dtype.kind in "US"):
        raise ValueError("text_labels: expected the kind of labels (integers or strings), got the other")
    for column, name in ((labels, "labels"), (text_labels, "text_labels")):
        if len(np.unique(column)) < 2:
            raise ValueError(f"{name}: expected at least two classes, got {column[0].item()!r} alone")
    least = min(len(x), len(y))
    if clusters is not None:
        clusters = check_integer(clusters, "clusters", low=1, high=least)
    neighbours = check_integer(neighbours, "neighbours", low=1, high=least - 1)
    restarts, seed = check_integer(restarts, "restarts", low=1), check_integer(seed, "seed", low=0, high=2**32 - 1)
    partner = np.concatenate([np.arange(len(x)) + len(x), np.arange(len(x))]) if paired else None
    out = {}
    for prefix, z, z_labels, other in (
        ("", np.concatenate([x, y]), np.concatenate([labels, text_labels]), partner),
        ("image.", x, labels, None),
        ("text.", y, text_labels, None),
    ):
        codes = np.unique(z_labels, return_inverse=True)[1]
        # In an order that the items alone decide, so that seedings and ties do not depend on how they came.
        order = _canonical_order(z, codes)
        z, codes, other = z[order], codes[order], None if other is None else np.argsort(order)[other[order]]
        found = _clusters(z, clusters or int(codes.max()) + 1, restarts, seed)
        out[f"{prefix}v_measure"] = float(v_measure_score(codes, found))
        out[f"{prefix}ari"] = float(adjusted_rand_score(codes, found))
        out[f"{prefix}knn"] = _knn_accuracy(z, codes, neighbours, other)
    return out


def _canonical_order(z: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Rows by their inner product with a fixed random vector, equal rows by class."""
    direction = np.random.default_rng(0).standard_normal(z.shape[1])
    # Summed row by row: a matrix product may round equal rows differently.
    return np.lexsort((codes, (z * direction).sum(axis=1)))


def _clusters(z: np.ndarray, clusters: int, restarts: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        return KMeans(clusters, n_init=restarts, random_state=seed).fit(z).labels_


def _knn_accuracy(z: np.ndarray, codes: np.ndarray, k: int, partner: np.ndarray | None) -> float:
    """Leave-one-out accuracy of a vote of the k nearest; ``partner[i]`` does not vote on item i."""
    # By brute force: trees would give equal points the neighbours of their leaf.
    search = NearestNeighbors(n_neighbors=k + (partner is not None), algorithm="brute").fit(z)
    near = search.kneighbors(return_distance=False)  # without the item itself
    if partner is not None:
        # Where the partner is not among them, the farthest goes.
        drop = near == partner[:, None]
        drop[:, -1] |= ~drop.any(axis=1)
        near = near[~drop].reshape(len(z), k)
    votes = np.zeros((len(z), int(codes.max()) + 1))
    np.add.at(votes, (np.arange(len(z))[:, None], codes[near]), 1)
    most = votes == votes.max(axis=1, keepdims=True)
    return float((most[np.arange(len(z)), codes] / most.sum(axis=1)).mean())
