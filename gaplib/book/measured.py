"""What was measured on several runs, one dictionary per seed: one quantity of all, its mean, its paired difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gaplib.stats import Estimate, over_seeds, paired_difference


def column(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """One quantity of all seeds, (seeds,)."""
    return np.array([row[name] for row in rows])


def estimate(rows: Sequence[Mapping[str, float]], name: str) -> Estimate:
    """Mean and interval of one quantity over seeds."""
    return over_seeds(column(rows, name))


def estimates(rows: Sequence[Mapping[str, float]], *names: str) -> dict[str, Estimate]:
    """The ``estimate`` of each of ``names``, or of every quantity: what ``Recorder.record_all`` takes.

    >>> found = estimates([{"gap": 0.1, "recall": 0.5}, {"gap": 0.3, "recall": 0.7}])
    >>> {name: round(float(one), 3) for name, one in found.items()}
    {'gap': 0.2, 'recall': 0.6}
    """
    return {name: estimate(rows, name) for name in names or rows[0]}


def gain(a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]], name: str) -> Estimate:
    """``a`` minus ``b`` of one quantity, paired by seed."""
    return paired_difference(column(a, name), column(b, name))
