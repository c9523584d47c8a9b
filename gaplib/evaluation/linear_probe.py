"""Linear probe: what a logistic regression reads from frozen embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from gaplib._validate import check_integer, check_labels, check_number, check_pair
from gaplib.evaluation._inputs import features, same_classes
from gaplib.evaluation.zero_shot import class_mean, expected_hits

SPLITS = ("train", "dev", "test")
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)


def linear_probe(
    embeddings: Mapping[str, Any],
    labels: Mapping[str, Any],
    Cs: Sequence[float] = PENALTIES,
    max_iter: int = 200,
) -> dict[str, float]:
    """Logistic regression fitted on "train", its penalty chosen on "dev", scored on "test".

    Features are standardised with the means and deviations of "train", so that a direction which is only shrunk is not
    hidden from the probe. C has the least cross-entropy on "dev"; "test" is scored once, with that C.

    Args:
        embeddings: ``{"train": (n, d), "dev": (m, d), "test": (k, d)}``, NumPy or torch, any scale.
        labels: the same keys, one integer or string a row. Every class must occur in every split.
        Cs: inverse strengths of the penalty to choose from, each > 0. Tried from the strongest penalty to the weakest,
            each from the last one's solution.
        max_iter: bound on the solver's steps at each C; where it stops early, what it found is scored.

    Returns:
        ``accuracy``, ``class_mean_accuracy``, ``cross_entropy`` (nats) on test; ``dev_accuracy``; and the ``C`` chosen.

    Raises:
        ValueError: a missing split, bad matrices, unequal dimensions, labels that do not fit in number, a class missing
            from a split, fewer than two classes, ``Cs`` empty or not positive, ``max_iter`` below 1.
    """
    if isinstance(Cs, str) or not isinstance(Cs, Sequence) or not Cs:
        raise ValueError(f"Cs: expected a non-empty sequence of numbers, got {Cs!r}")
    strengths = sorted({float(check_number(C, "Cs", low=0, low_open=True)) for C in Cs})
    max_iter = check_integer(max_iter, "max_iter", low=1)
    x, (classes, right) = _checked(embeddings, labels)
    model = LogisticRegression(warm_start=True, max_iter=max_iter, tol=1e-3)
    best: tuple[float, float, float, np.ndarray] = (np.inf, 0.0, 0.0, np.empty(0))
    for C in strengths:
        model.set_params(C=C)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x["train"], right["train"])
        probabilities = model.predict_proba(x["dev"])
        loss = log_loss(right["dev"], probabilities, labels=range(len(classes)))
        if loss < best[0]:
            hits = expected_hits(probabilities, right["dev"])
            best = (loss, C, float(hits.mean()), model.predict_proba(x["test"]))
    _, C, dev_accuracy, probabilities = best
    hits = expected_hits(probabilities, right["test"])
    return {
        "accuracy": float(hits.mean()),
        "class_mean_accuracy": class_mean(hits, right["test"]),
        "cross_entropy": float(log_loss(right["test"], probabilities, labels=range(len(classes)))),
        "dev_accuracy": dev_accuracy,
        "C": C,
    }


def _checked(embeddings: Any, labels: Any) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Standardised features and class numbers of every split."""
    for given, name in ((embeddings, "embeddings"), (labels, "labels")):
        if not isinstance(given, Mapping) or set(given) != set(SPLITS):
            got = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise ValueError(f"{name}: expected a mapping with keys {', '.join(SPLITS)}, got {got}")
    x = {split: features(embeddings[split], f"embeddings[{split!r}]") for split in SPLITS}
    for split in SPLITS[1:]:
        names = ("embeddings['train']", f"embeddings[{split!r}]")
        check_pair(x["train"], x[split], names=names, paired=False)
    columns = {split: check_labels(labels[split], len(x[split]), f"labels[{split!r}]") for split in SPLITS}
    # One common factor keeps squares from over- and underflowing.
    peak = max(float(np.abs(one).max()) for one in x.values()) or 1.0
    scaler = StandardScaler().fit(x["train"] / peak)
    return {split: scaler.transform(x[split] / peak) for split in SPLITS}, same_classes(columns, "labels")
