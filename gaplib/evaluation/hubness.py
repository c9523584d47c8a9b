"""Hubness: a few items of the gallery are among the nearest of very many queries, many of none."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import skew

from gaplib._validate import check_integer, check_pair
from gaplib.evaluation._inputs import row_chunks, tie_tolerance, unit_rows
from gaplib.evaluation.zero_shot import class_embeddings


def hubness(x: Any, y: Any, k: int = 10) -> dict[str, float]:
    """How unevenly the k nearest items of the other modality are spread over that modality.

    Args:
        x: (n, d) image embeddings, NumPy or torch, any float type and scale, no zero rows. y: (m, d) text embeddings.
        k: neighbours that each query names, 1 <= k <= min(n, m).

    Returns:
        For each direction ``image_to_text`` (texts are the hubs) and ``text_to_image``, from the counts of
        :func:`k_occurrence`: ``.skewness`` (that of Radovanovic et al. 2010; 0 for equal counts), ``.gini`` in [0, 1)
        (0 for equal counts), ``.orphans`` (share of items that no query names).

    Raises:
        ValueError: bad matrices, zero rows, unequal dimensions, ``k`` out of range.
    """
    out = {}
    for direction, queries, gallery in (("image_to_text", (x, "x"), (y, "y")), ("text_to_image", (y, "y"), (x, "x"))):
        counts = _occurrences(*queries, *gallery, k)
        # Shares of ties add up with round-off, which is no skewness.
        uneven = counts.std() > 1e-9 * counts.mean()
        out[f"{direction}.skewness"] = float(skew(counts)) if uneven else 0.0
        out[f"{direction}.gini"] = gini(counts)
        out[f"{direction}.orphans"] = float((counts == 0).mean())
    return out


def k_occurrence(queries: Any, gallery: Any, k: int = 10) -> np.ndarray:
    """How many of the (n, d) ``queries`` have each item of the (m, d) ``gallery`` among their k nearest by cosine.

    (m,) float64 that add up to n k. Items level at the k-th place share what is left of the k places, which is the
    expectation under random tie-breaking. Raises ``ValueError`` as :func:`hubness`.
    """
    return _occurrences(queries, "queries", gallery, "gallery", k)


def class_hubs(x: Any, classes: Any) -> np.ndarray:
    """How many rows of ``x`` (n, d) are assigned to each class in zero-shot classification: (c,) float64, sum n.

    ``classes`` as for :func:`gaplib.evaluation.zero_shot.class_embeddings`. A class with many more than its share is a
    hub among the predictions (Sato et al.). Raises ``ValueError`` for bad matrices.
    """
    inputs = classes if isinstance(classes, (list, tuple)) else [classes]
    columns = class_embeddings(classes)
    rows = unit_rows(x, "x")
    check_pair(rows, columns, names=("x", "classes"), paired=False)
    return _count(rows, columns, 1, tie_tolerance(x, *inputs))


def gini(counts: Any) -> float:
    """Gini coefficient of counts >= 0: 0 when all are equal, 1 - 1/m when one of m has everything.

    Mean absolute difference of two counts over twice their mean. Raises ``ValueError`` for counts that are not 1-d,
    finite and non-negative, or that are all zero.
    """
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(f"counts: expected finite counts >= 0 that are not all zero, got {counts!r:.80}")
    values = np.sort(values)
    m = len(values)
    return float(max(0.0, ((2 * np.arange(1, m + 1) - m - 1) * values).sum() / (m * values.sum())))


def _occurrences(queries: Any, query_name: str, gallery: Any, gallery_name: str, k: int) -> np.ndarray:
    rows, columns = unit_rows(queries, query_name), unit_rows(gallery, gallery_name)
    check_pair(rows, columns, names=(query_name, gallery_name), paired=False)
    k = check_integer(k, "k", low=1, high=len(columns))
    return _count(rows, columns, k, tie_tolerance(queries, gallery))


def _count(rows: np.ndarray, columns: np.ndarray, k: int, tolerance: float) -> np.ndarray:
    counts = np.zeros(len(columns))
    for part in row_chunks(len(rows), len(columns)):
        scores = rows[part] @ columns.T
        last = np.partition(scores, len(columns) - k, axis=1)[:, len(columns) - k, None]  # the k-th largest
        above, level = scores > last + tolerance, np.abs(scores - last) <= tolerance
        share = (k - above.sum(axis=1)) / level.sum(axis=1)
        counts += above.sum(axis=0) + (level * share[:, None]).sum(axis=0)
    return counts
