"""Robustness: how a score falls when the embeddings are noisy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gaplib._validate import check_choice, check_integer, check_number, check_pair
from gaplib.evaluation._inputs import unit_rows
from gaplib.evaluation.retrieval import mean_recall

SIZES = (0.0, 0.25, 0.5, 1.0)
_STREAM = 11


def robustness(
    x: Any,
    y: Any = None,
    score: Callable[..., Any] | None = None,
    sizes: Sequence[float] = SIZES,
    draws: int = 3,
    seed: int = 0,
    noisy: str = "both",
) -> dict[str, float]:
    """A score under Gaussian noise that is added to unit embeddings, which are then normalised again.

    Noise of size s has the root mean square length s: its coordinates are independent N(0, s^2 / d). Draw r depends on
    (``seed``, r) and the shape alone and is the same up to its length at every size, so sweeps and embeddings of the
    same shape can be compared in pairs.

    Args:
        x: (n, d) image embeddings, NumPy or torch, any float type and scale (normalised first), no zero rows.
        y: (m, d) text embeddings, or ``None`` if ``score`` needs none.
        score: called as ``score(x, y)``, or ``score(x)`` without ``y``, on float64 arrays with unit rows; returns a
            number. ``None``: recall at 1, mean of both directions, of paired rows.
        sizes: lengths of the noise, each >= 0.
        draws: noise draws to average over, >= 1. seed: whole number >= 0.
        noisy: "both", "image" or "text": who gets the noise.

    Returns:
        ``{"score@s": mean over the draws}`` for every size s, written with six digits, from the smallest on; and
        ``"mean"``, the mean over the sizes above 0 (over all if there is none).

    Raises:
        ValueError: bad matrices, zero rows, unequal dimensions, options out of range, no ``score`` without ``y``, or a
            score that is not a finite number.
    """
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not len(sizes):
        raise ValueError(f"sizes: expected a non-empty sequence of numbers, got {sizes!r}")
    checked = sorted(float(check_number(size, "sizes", low=0)) for size in sizes)
    lengths = {f"{size:g}": size for size in checked}
    draws, seed = check_integer(draws, "draws", low=1), check_integer(seed, "seed", low=0)
    check_choice(noisy, "noisy", ("both", "image", "text"))
    clean = [unit_rows(x, "x")]
    if y is not None:
        clean.append(unit_rows(y, "y"))
        check_pair(clean[0], clean[1], paired=score is None)
    elif score is None or noisy == "text":
        raise ValueError(f"y: expected text embeddings for {'recall' if score is None else 'noisy=text'}, got None")
    score = score or (lambda x, y: mean_recall(x, y))
    means = {}
    for name, size in lengths.items():
        # Without noise every draw is the same.
        values = [_value(score(*_noisy(clean, size, seed, draw, noisy))) for draw in range(draws if size else 1)]
        means[name] = float(np.mean(values))
    noisy_means = [value for name, value in means.items() if lengths[name]]
    return {f"score@{name}": value for name, value in means.items()} | {
        "mean": float(np.mean(noisy_means or list(means.values())))
    }


def add_noise(z: Any, size: float, rng: np.random.Generator, name: str = "z") -> np.ndarray:
    """Unit rows of ``z`` (n, d) plus N(0, size^2 / d) in every coordinate, normalised again: (n, d) float64.

    Raises ``ValueError`` for bad matrices, zero rows, a negative size.
    """
    size = float(check_number(size, "size", low=0))
    rows = unit_rows(z, name)
    return unit_rows(rows + size / np.sqrt(rows.shape[1]) * rng.standard_normal(rows.shape), name)


def _noisy(clean: list[np.ndarray], size: float, seed: int, draw: int, noisy: str) -> list[np.ndarray]:
    chosen = {"both": (0, 1), "image": (0,), "text": (1,)}[noisy]
    # A generator for each side: the noise of the images is the same whether the texts get some or not. The last number
    # keeps it apart from default_rng(seed), from which random embeddings may have come.
    return [
        add_noise(z, size, np.random.default_rng([seed, draw, side, _STREAM])) if side in chosen and size else z.copy()
        for side, z in enumerate(clean)
    ]


def _value(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"score: expected a function that returns a finite number, got {value!r:.80}")
    return number
