"""Can a straight cut tell the modalities apart? Held-out accuracy of a linear classifier."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gaplib._validate import as_float64, check_integer, check_labels, check_matrix, check_number, check_pair
from gaplib.geometry.inputs import Embeddings

HELD_OUT = 0.2
_CS = tuple(10.0**exponent for exponent in range(-4, 5))
_FOLDS = 5


def linear_separability(
    x: Any, y: Any, seed: int = 0, C: float | None = 1.0, groups: Any = None, *, paired: bool = True
) -> torch.Tensor:
    """Held-out accuracy of a logistic regression that tells ``x`` from ``y``: .5 is mixed, 1 separable.

    The protocol of Fahim et al. 2024, Sec. 3.1: scikit-learn's ``LogisticRegression``, 80 % of the pairs for training,
    both modalities split at the same pairs, accuracy on the other 20 %. Two samples of one distribution stay at chance,
    whatever the dimension, because nothing is scored that was fitted; the standard error there is about .8 / sqrt(n).

    Args:
        x, y: (n, d), n >= 2, any scale, NumPy or torch, any float type.
        seed: of the split; NumPy's and torch's global generators are not touched.
        C: inverse strength of the penalty, > 0. The library's default of 1, which the paper takes, is a strong penalty
            on unit rows: a short gap may read .5. ``None`` standardises the features and chooses C from 1e-4 to 1e4 on
            folds of the training pairs alone.
        groups: length-n sequence of integers or strings: pairs of one group (copies, captions of one image) are never
            on both sides. ``None`` makes every pair its own group.
        paired: ``False`` lets the numbers of rows differ; a random part of the larger modality, as large as the smaller
            one, is used, so that chance stays .5.

    Returns:
        0-d float64 tensor in [0, 1].

    Raises:
        ValueError: bad matrices, shapes or groups that do not fit, fewer than two groups (three for ``C=None``), ``C``
            or ``seed`` out of range.
    """
    seed = check_integer(seed, "seed", low=0, high=2**32 - 1)
    if C is not None:
        C = float(check_number(C, "C", low=0, low_open=True))
    x, y = check_matrix(x, "x", min_rows=2).detach(), check_matrix(y, "y", min_rows=2).detach()
    check_pair(x, y, paired=paired)
    if groups is not None and len(x) != len(y):
        raise ValueError(f"groups: expected equal numbers of rows in x and y, got {len(x)} and {len(y)}")
    x, y = equal_rows(as_float64(x).cpu(), as_float64(y).cpu(), seed)
    groups = None if groups is None else _check_groups(groups, len(x))
    data = Embeddings(x, y, groups=groups)
    least = 2 if C is not None else 3
    if (number := len(np.unique(data.codes))) < least:
        raise ValueError(f"groups: expected at least {least} different groups to split, got {number}")
    # One common factor keeps float64 from overflowing inside the solver and changes nothing for ordinary scales.
    peak = max(float(x.abs().amax()), float(y.abs().amax()))
    factor = 1 / peak if peak > 1e100 else 1.0
    return separability_of(data if factor == 1 else Embeddings(x * factor, y * factor, groups=groups), seed, C)


def separability_of(data: Embeddings, seed: int = 0, C: float | None = 1.0) -> torch.Tensor:
    """:func:`linear_separability` of as many rows in both modalities, any scale that a solver can square."""
    x, y, groups = data.x.cpu().numpy(), data.y.cpu().numpy(), data.codes
    split = GroupShuffleSplit(n_splits=1, test_size=HELD_OUT, random_state=seed)
    train, test = next(split.split(groups, groups=groups))

    def stacked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([x[rows], y[rows]]), np.repeat([0, 1], len(rows))

    model: Any = LogisticRegression(C=1.0 if C is None else C, max_iter=1000)
    fit_arguments = {}
    if C is None:
        folds = GroupKFold(min(_FOLDS, len(np.unique(groups[train]))))
        grid = {"logisticregression__C": list(_CS)}
        model = GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=folds, error_score="raise")
        fit_arguments["groups"] = np.tile(groups[train], 2)
    with warnings.catch_warnings():
        # At extreme scales the solver stops early; the accuracy of what it found is still the answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*stacked(train), **fit_arguments)
    return torch.tensor(model.score(*stacked(test)), dtype=torch.float64)


def equal_rows(x: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with the smaller number of rows; of the larger one, a random choice."""
    choices = row_choices((len(x), len(y)), seed)
    x, y = (
        z if index is None else z[torch.from_numpy(index).to(z.device)]
        for z, index in zip((x, y), choices, strict=True)
    )
    return x, y


def row_choices(numbers: tuple[int, int], seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Of either number of rows, which of them make it the smaller of the two: ``None`` where all do."""
    n, rng = min(numbers), np.random.default_rng(seed)
    first, second = (None if number == n else rng.permutation(number)[:n] for number in numbers)
    return first, second


def _check_groups(groups: Any, n: int) -> np.ndarray:
    return np.unique(check_labels(groups, n, "groups"), return_inverse=True)[1]
