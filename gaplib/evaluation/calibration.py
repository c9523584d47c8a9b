"""Calibration of zero-shot classification: is a class named with probability p right in a share p of the cases?"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import logsumexp

from gaplib._validate import check_integer, check_number
from gaplib.evaluation._inputs import row_chunks
from gaplib.evaluation.zero_shot import classification, expected_hits


def calibration(
    x: Any, labels: Any, classes: Any, logit_scale: Any, bins: int = 15, class_labels: Any = None
) -> dict[str, float]:
    """Calibration of the probabilities softmax(logit_scale * cosine) over the classes.

    Args:
        x, labels, classes, class_labels: as for :func:`gaplib.evaluation.zero_shot.zero_shot`.
        logit_scale: 1/tau > 0, a number or a 0-d tensor.
        bins: number of bins of equal width for the calibration error, >= 1.

    Returns:
        ``ece``: expected calibration error in [0, 1], of the named class, as Guo et al. 2017 (see :func:`reliability`);
        ``brier``: mean over items of the squared distance of the probabilities from the right class, in [0, 2];
        ``nll``: mean negative log probability of the right class, nats;
        ``confidence`` and ``accuracy``: means of the named class's probability and of its being right (ties of the
        cosine by expectation).

    Raises:
        ValueError: as ``zero_shot``; ``logit_scale`` not positive, ``bins`` below 1.
    """
    scale = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    bins = check_integer(bins, "bins", low=1)
    rows, columns, right, tolerance = classification(x, labels, classes, class_labels)
    n = len(rows)
    confidence, hits, squared, loss = (np.empty(n) for _ in range(4))
    for part in row_chunks(n, len(columns)):
        cosines = rows[part] @ columns.T
        logits = scale * cosines
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        p = np.exp(log_p)
        at = np.arange(len(p)), right[part]
        confidence[part] = p.max(axis=1)
        hits[part] = expected_hits(cosines, right[part], 1, tolerance)
        squared[part] = (p**2).sum(axis=1) - 2 * p[at] + 1
        loss[part] = -log_p[at]
    table = reliability(confidence, hits, bins)
    gaps = np.abs(np.asarray(table["accuracy"]) - np.asarray(table["confidence"]))
    return {
        "ece": float((gaps * np.asarray(table["count"])).sum() / n),
        "brier": float(squared.mean()),
        "nll": float(loss.mean()),
        "confidence": float(confidence.mean()),
        "accuracy": float(hits.mean()),
    }


def reliability(confidence: Any, correct: Any, bins: int = 15) -> dict[str, list[float]]:
    """The reliability diagram of Guo et al. 2017: items by confidence in ``bins`` bins (j/bins, (j + 1)/bins].

    Args:
        confidence: n probabilities in [0, 1]; 0 is put in the first bin.
        correct: n numbers in [0, 1], whether the named class was right.
        bins: number of bins, >= 1.

    Returns:
        Lists with one entry for every bin that is not empty: ``low``, ``high``, ``count``, and the means ``confidence``
        and ``accuracy``. The expected calibration error is the mean of |accuracy - confidence| weighted by count.

    Raises:
        ValueError: lengths that differ, no items, values outside [0, 1] or NaN, ``bins`` below 1.
    """
    bins = check_integer(bins, "bins", low=1)
    confidence, correct = (np.asarray(one, dtype=np.float64) for one in (confidence, correct))
    if confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"confidence: expected a non-empty sequence of numbers, got shape {confidence.shape}")
    if correct.shape != confidence.shape:
        raise ValueError(f"correct: expected as many numbers as confidence ({len(confidence)}), got {correct.shape}")
    for values, name in ((confidence, "confidence"), (correct, "correct")):
        # Round-off of a softmax may end just above one. The negation catches NaN.
        if not ((values >= 0) & (values <= 1 + 1e-9)).all():
            raise ValueError(f"{name}: expected numbers in [0, 1], got NaN or one outside")
    edges = np.arange(bins + 1) / bins
    at = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)
    count = np.bincount(at, minlength=bins)
    full = np.flatnonzero(count)
    means = [np.bincount(at, weights=one, minlength=bins)[full] / count[full] for one in (confidence, correct)]
    return {
        "low": edges[full].tolist(),
        "high": edges[full + 1].tolist(),
        "count": count[full].astype(float).tolist(),
        "confidence": means[0].tolist(),
        "accuracy": means[1].tolist(),
    }
