"""Checks and conversions that the tasks share: embeddings to float64 arrays, labels to class numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gaplib._validate import as_float64, check_matrix, check_nonzero_rows

# Scores held at a time: 32 MiB in float64.
_SCORES_AT_A_TIME = 2**22
# As in retrieval: scores this many units in the last place of one apart are a tie.
_TIE_ULPS = 16


def features(x: Any, name: str) -> np.ndarray:
    """(n, d) float64 array of ``x``, any scale; ``ValueError`` for what is no finite float matrix."""
    return as_float64(check_matrix(x, name).detach()).cpu().numpy()


def unit_rows(x: Any, name: str) -> np.ndarray:
    """(n, d) float64 array with rows of norm one; ``ValueError`` for bad matrices and rows of zeros."""
    checked = check_nonzero_rows(check_matrix(x, name).detach(), name)
    rows = as_float64(checked).cpu().numpy()
    # First by the largest entry, so that no square over- or underflows.
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tie_tolerance(*inputs: Any) -> float:
    """How far two cosines may be apart and still be level: 16 ulps of one in the inputs' precision."""
    double = any(np.dtype(float).name in str(getattr(one, "dtype", "")) for one in inputs)
    return _TIE_ULPS * float(np.finfo(np.float64 if double else np.float32).eps)


def row_chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of ``n`` rows so that ``width`` scores a row fit in a few tens of MiB."""
    step = max(1, _SCORES_AT_A_TIME // max(1, width))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def class_numbers(labels: np.ndarray, classes: np.ndarray, name: str, where: str) -> np.ndarray:
    """Position of every label in ``classes``; ``ValueError`` for a label that is not there (``where`` says of what)."""
    if (labels.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise ValueError(f"{name}: expected the kind of {where} ({classes.dtype}), got {labels.dtype}")
    order = np.argsort(classes, kind="stable")
    at = np.searchsorted(classes, labels, sorter=order).clip(max=len(classes) - 1)
    numbers = order[at]
    missing = np.unique(labels[classes[numbers] != labels])
    if len(missing):
        raise ValueError(f"{name}: expected labels among {where}, got {_some(missing)} besides")
    return numbers


def same_classes(labels: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The classes, and every split's class numbers; ``ValueError`` where a split lacks a class or there is but one."""
    kinds = {split: column.dtype.kind in "US" for split, column in labels.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"{name}: expected all splits to have integers or all strings, got both")
    found = {split: np.unique(column) for split, column in labels.items()}
    classes = np.unique(np.concatenate(list(found.values())))
    for split, here in found.items():
        missing = np.setdiff1d(classes, here)
        if len(missing):
            raise ValueError(f"{name}: expected every class in every split, got none of {_some(missing)} in {split!r}")
    if len(classes) < 2:
        raise ValueError(f"{name}: expected at least two classes, got {_some(classes)} alone")
    return classes, {split: np.searchsorted(classes, column) for split, column in labels.items()}


def _some(values: np.ndarray) -> str:
    shown = ", ".join(repr(one) for one in values[:3].tolist())
    return shown if len(values) <= 3 else f"{shown} and {len(values) - 3} more"
