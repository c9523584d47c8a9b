"""Zero-shot classification: an item belongs to the class whose text embedding is the nearest by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gaplib._validate import check_integer, check_labels, check_pair
from gaplib.evaluation._inputs import (
    class_numbers,
    row_chunks,
    tie_tolerance,
    unit_rows,
)


def zero_shot(
    x: Any, labels: Any, classes: Any, ks: Sequence[int] = (1,), class_labels: Any = None
) -> dict[str, float]:
    """Accuracy of classifying ``x`` by the nearest class embedding.

    Args:
        x: (n, d) embeddings to classify, NumPy or torch, any float type and scale, no zero rows.
        labels: n integers or strings, the right class of every row.
        classes: (c, d) class embeddings, or a sequence of c matrices (p_c, d), the prompts of every class: see
            :func:`class_embeddings`.
        ks: cut-offs, each >= 1: a hit when the right class is among the k nearest.
        class_labels: c different integers or strings, the label of every class; ``None`` stands for 0 ... c - 1.
            Classes that no item belongs to are allowed: they are distractors.

    Returns:
        ``"accuracy@k"`` and ``"class_mean_accuracy@k"`` for every k, in [0, 1]: the mean over items, and the mean over
        the classes that occur in ``labels`` of each one's accuracy. Ties are broken at random and the expectation is
        returned, so that constant embeddings give k/c.

    Raises:
        ValueError: bad matrices, zero rows, prompts that average to zero, labels that do not fit in number or that no
            class has, ``class_labels`` that repeat, ``ks`` empty or below 1.
    """
    if isinstance(ks, str) or not isinstance(ks, Sequence) or not ks:
        raise ValueError(f"ks: expected a non-empty sequence of whole numbers, got {ks!r}")
    cutoffs = [check_integer(k, "ks", low=1) for k in ks]
    rows, columns, right, tolerance = classification(x, labels, classes, class_labels)
    hits = {k: np.empty(len(rows)) for k in cutoffs}
    for part in row_chunks(len(rows), len(columns)):
        scores = rows[part] @ columns.T
        for k in cutoffs:
            hits[k][part] = expected_hits(scores, right[part], k, tolerance)
    out = {}
    for k in cutoffs:
        out[f"accuracy@{k}"] = float(hits[k].mean())
        out[f"class_mean_accuracy@{k}"] = class_mean(hits[k], right)
    return out


def class_embeddings(classes: Any) -> np.ndarray:
    """One unit row a class, (c, d) float64, from (c, d) embeddings or from c matrices of prompts (p_c, d).

    Prompts are normalised, averaged and normalised again, the ensemble over embeddings of Radford et al. 2021 (CLIP).

    Raises:
        ValueError: bad matrices, unequal dimensions, zero rows, no class, or prompts that cancel out.
    """
    if not isinstance(classes, (list, tuple)):
        return unit_rows(classes, "classes")
    if not classes:
        raise ValueError("classes: expected at least one class, got none")
    means: list[np.ndarray] = []
    for number, prompts in enumerate(classes):
        rows = unit_rows(prompts, f"classes[{number}]")
        if means and rows.shape[1] != len(means[0]):
            raise ValueError(
                f"classes[{number}]: expected the dimension of classes[0] ({len(means[0])}), got {rows.shape[1]}"
            )
        mean = rows.mean(axis=0)
        # Opposite prompts leave round-off, which has no direction.
        if np.linalg.norm(mean) < 1e-12:
            raise ValueError(f"classes[{number}]: expected prompts with a mean direction, got ones that cancel out")
        means.append(mean)
    return unit_rows(np.stack(means), "classes")


def classification(
    x: Any, labels: Any, classes: Any, class_labels: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Checked arguments of :func:`zero_shot`: unit rows, unit classes, class number of every row, tie tolerance."""
    rows, columns = unit_rows(x, "x"), class_embeddings(classes)
    check_pair(rows, columns, names=("x", "classes"), paired=False)
    known = (
        np.arange(len(columns)) if class_labels is None else check_labels(class_labels, len(columns), "class_labels")
    )
    if len(np.unique(known)) < len(known):
        raise ValueError("class_labels: expected different labels, got one twice")
    right = class_numbers(check_labels(labels, len(rows), "labels"), known, "labels", "those of the classes")
    inputs = classes if isinstance(classes, (list, tuple)) else [classes]
    return rows, columns, right, tie_tolerance(x, *inputs)


def expected_hits(scores: np.ndarray, right: np.ndarray, k: int = 1, tolerance: float = 0.0) -> np.ndarray:
    """Probability that the right class is among the k best of ``scores`` (n, c), ties broken at random: (n,) floats."""
    best = scores[np.arange(len(scores)), right][:, None]
    above = (scores > best + tolerance).sum(axis=1)
    level = (scores >= best - tolerance).sum(axis=1) - above  # the right one itself is level
    return np.clip((k - above) / level, 0, 1)


def class_mean(hits: np.ndarray, right: np.ndarray) -> float:
    """Mean over the classes that occur of each one's mean."""
    counts = np.bincount(right)
    return float((np.bincount(right, weights=hits)[counts > 0] / counts[counts > 0]).mean())
