"""Few-shot classification: a linear classifier on a handful of labelled embeddings of each class, over many draws."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from gaplib._validate import check_choice, check_integer, check_labels, check_number, check_pair
from gaplib.evaluation._inputs import features, same_classes
from gaplib.evaluation.zero_shot import expected_hits

SHOTS = (1, 2, 4, 8, 16)
CLASSIFIERS = ("ridge", "mean", "logistic")
# Decision scores this close, relative to the largest, are a tie.
_LEVEL = 1e-9


def few_shot(
    x: Any,
    labels: Any,
    test_x: Any,
    test_labels: Any,
    shots: Sequence[int] = SHOTS,
    draws: int = 10,
    seed: int = 0,
    classifier: str = "ridge",
    penalty: float = 1.0,
) -> dict[str, float]:
    """Test accuracy of a classifier that sees ``shots`` examples of each class, mean over random draws of them.

    Draw r depends on (``seed``, r) and on the order of the rows alone, so two sets of embeddings of the same items see
    the same draws and can be compared in pairs; within a draw the fewer shots are among the more. Features are centred
    at the drawn examples' mean and divided by their root mean square distance from it, one number, so that the penalty
    means the same in a narrow cone as on the whole sphere. Nothing is tuned.

    Args:
        x: (n, d) embeddings to draw from, NumPy or torch, any scale. labels: n integers or strings.
        test_x: (m, d) embeddings to score. test_labels: m integers or strings, the same classes as ``labels``.
        shots: numbers of examples a class, each >= 1.
        draws: number of draws >= 1. seed: whole number >= 0.
        classifier: "ridge" (least squares on +-1 targets, closed form), "mean" (nearest class mean, closed form, no
            penalty) or "logistic".
        penalty: strength > 0 of the L2 penalty (ridge's alpha; 1/C of the logistic regression).

    Returns:
        ``"s_shot"`` and ``"s_shot_sd"`` for every s: mean and standard deviation over the draws (0 for one draw);
        ``"mean"``: mean over the shots. Ties count by expectation.

    Raises:
        ValueError: bad matrices, unequal dimensions, labels that do not fit in number, a class missing from either
            side, fewer than two classes, fewer examples of a class than ``shots`` asks for, options out of range.
    """
    if isinstance(shots, str) or not isinstance(shots, Sequence) or not shots:
        raise ValueError(f"shots: expected a non-empty sequence of whole numbers, got {shots!r}")
    numbers = sorted({check_integer(s, "shots", low=1) for s in shots})
    draws, seed = check_integer(draws, "draws", low=1), check_integer(seed, "seed", low=0)
    check_choice(classifier, "classifier", CLASSIFIERS)
    penalty = float(check_number(penalty, "penalty", low=0, low_open=True))
    x, test_x = features(x, "x"), features(test_x, "test_x")
    check_pair(x, test_x, names=("x", "test_x"), paired=False)
    columns = {
        "x": check_labels(labels, len(x), "labels"),
        "test_x": check_labels(test_labels, len(test_x), "test_labels"),
    }
    classes, right = same_classes(columns, "labels")
    rows_of = [np.flatnonzero(right["x"] == one) for one in range(len(classes))]
    fewest = int(np.argmin([len(rows) for rows in rows_of]))
    if len(rows_of[fewest]) < numbers[-1]:
        raise ValueError(
            f"shots: expected at most the {len(rows_of[fewest])} examples of class {classes[fewest].item()!r}, "
            f"got {numbers[-1]}"
        )
    accuracy = np.empty((draws, len(numbers)))
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        order = np.stack([rng.permutation(rows)[: numbers[-1]] for rows in rows_of])  # (c, most shots)
        for column, s in enumerate(numbers):
            rows = order[:, :s]
            scores = _scores(x[rows], test_x, classifier, penalty)
            tolerance = _LEVEL * float(np.abs(scores).max())
            accuracy[draw, column] = expected_hits(scores, right["test_x"], 1, tolerance).mean()
    out = {}
    for column, s in enumerate(numbers):
        out[f"{s}_shot"] = float(accuracy[:, column].mean())
        out[f"{s}_shot_sd"] = float(accuracy[:, column].std(ddof=1)) if draws > 1 else 0.0
    return out | {"mean": float(accuracy.mean())}


def _scores(examples: np.ndarray, test: np.ndarray, classifier: str, penalty: float) -> np.ndarray:
    """Scores (m, c) of the test rows under a classifier fitted on ``examples`` (c, s, d)."""
    c, s, d = examples.shape
    flat = examples.reshape(c * s, d)
    # First by the largest entry, so that no square over- or underflows.
    peak = np.abs(flat).max() or 1.0
    flat, test = flat / peak, test / peak
    centre = flat.mean(axis=0)
    flat, test = flat - centre, test - centre
    spread = float(np.sqrt((flat**2).sum(axis=1).mean()))
    # A cloud that is a point up to round-off says nothing about the classes.
    if spread < 1e-13:
        return np.zeros((len(test), c))
    flat, test = flat / spread, test / spread
    if classifier == "mean":
        means = flat.reshape(c, s, d).mean(axis=1)
        return 2 * test @ means.T - (means**2).sum(axis=1)
    targets = np.repeat(np.arange(c), s)
    if classifier == "ridge":
        model = RidgeClassifier(alpha=penalty).fit(flat, targets)
    else:
        model = LogisticRegression(C=1 / penalty, max_iter=100, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(flat, targets)
    scores = model.decision_function(test)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
