"""Quantities along an axis: mean over seeds with the band of the seeds, against anything or against a dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from gaplib.book.plots.panels import Frame, Panel
from gaplib.book.plots.theme import look_of, looks_of

_MARKED = 16  # longer lines get half as many markers, spread along them


def curve(ax: Axes, x: Any, samples: Any, *, label: str = "", index: int = 0, every: int = 1, **keywords: Any) -> None:
    """On ``ax``: the mean over seeds with a band from the smallest to the largest seed.

    ``samples`` has shape (seeds, points) or (points,), ``x`` (points,); a marker on every ``every``-th point.
    """
    x, y = _points(x, samples, label)
    look = look_of({"index": index} | keywords, index)
    several = {"estimator": "mean", "errorbar": ("pi", 100), "err_kws": {"alpha": 0.25, "linewidth": 0}}
    sns.lineplot(
        x=np.tile(x, len(y)),
        y=y.ravel(),
        ax=ax,
        label=label or None,
        legend=False,
        markevery=every,
        markeredgecolor=look["color"],
        **(several if len(y) > 1 else {"estimator": None, "sort": False}),
        **look,
    )


def curves(
    x: Any,
    series: Mapping[str, Any],
    *,
    looks: Any = None,
    every: Any = None,
    **frame: Any,
) -> Panel:
    """Lines over a common axis: the mean over seeds with a band from the smallest to the largest.

    x: (points,). series: by label, values (points,) or (seeds, points); or a tuple ``(x, values)`` for a series with an
    axis of its own. looks: for some labels, or one for each series, the index of another look or matplotlib keywords:
    ``{"theory": {"index": 0, "marker": None}}`` is a line without markers, ``{"linestyle": "none"}`` markers only.
    every: marker on every so many points (default: all of up to 16 points, else about eight). frame: the fields of
    ``Frame``. Raises ValueError where lengths differ or a value is not a number.

    >>> drawn = curves([1, 10, 100], {"sharp": [[1, 2, 3], [3, 4, 5]]}, xscale="log", xlabel="step", ylabel="gap")
    >>> drawn().axes[0].lines[0].get_ydata().tolist()
    [2.0, 3.0, 4.0]
    """
    if not series:
        raise ValueError("series: expected at least one, got none")
    lines = []
    for label, given in series.items():
        own, values = given if isinstance(given, tuple) and len(given) == 2 else (x, given)
        lines.append((label, *_points(own, values, label)))
    styles = looks_of(looks, list(series))

    def paint(ax: Axes) -> None:
        for i, ((label, places, values), look) in enumerate(zip(lines, styles, strict=True)):
            step = every or (1 if len(places) <= _MARKED else -(-2 * len(places) // _MARKED))
            # Lines that run together keep their markers apart.
            curve(ax, places, values, label=label, every=(i % step, step) if every is None else step, **look)

    return Panel(paint, Frame(**frame))


def seeds_against_dose(
    doses: Sequence[float], series: Mapping[str, Any], *, even: bool = False, looks: Any = None, **frame: Any
) -> Panel:
    """How a quantity follows a dose that was set: a line through the means, a band over the seeds, a tick at each dose.

    doses: (doses,). series: by label, a list of seeds for each dose, or a mapping from some of the doses to seeds, or
    to single values. even: doses at equal distances, whatever their values (a zero among powers). frame: the fields of
    ``Frame``. Raises ValueError where a series does not fit the doses.

    >>> gaps = {"images": [[0.5, 0.7], [0.2, 0.4]], "two image towers": {8: [0.1, 0.1]}}
    >>> drawn = seeds_against_dose([2, 8], gaps, xscale="log2", xlabel="dimension", ylabel="gap")
    >>> [round(float(y), 3) for y in drawn().axes[0].lines[0].get_ydata()]
    [0.6, 0.3]
    """
    doses = list(doses)
    places = dict(zip(doses, range(len(doses)) if even else doses, strict=True))
    lines = {}
    for label, given in series.items():
        by_dose = isinstance(given, Mapping)
        if not len(given) or (any(dose not in places for dose in given) if by_dose else len(given) != len(doses)):
            raise ValueError(
                f"series: expected seeds for each of {doses}, or by dose, for {label!r}, got {given!r:.80}"
            )
        found = given if by_dose else dict(zip(doses, given, strict=True))
        values = [np.atleast_1d(np.asarray(seeds, dtype=float)) for seeds in found.values()]
        if len({len(seeds) for seeds in values}) > 1:
            raise ValueError(f"series: expected as many seeds for each dose of {label!r}, got {[*map(len, values)]}")
        lines[label] = ([places[dose] for dose in found], np.stack(values, axis=1))
    ticks = {place: f"{dose:g}" for dose, place in places.items()}
    return curves(list(places.values()), lines, looks=looks, every=1, **({"xticks": ticks} | frame))


def _points(x: Any, samples: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    """x (points,) and values (seeds, points), checked."""
    x, y = np.asarray(x, dtype=float), np.asarray(samples, dtype=float)
    y = y[None] if y.ndim == 1 else y
    if y.ndim != 2 or y.size == 0 or x.shape != y.shape[1:]:
        raise ValueError(f"samples: expected shape (seeds, {x.size}) or ({x.size},) for {label!r}, got {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError(f"samples: expected finite values for {label!r}, got {int((~np.isfinite(y)).sum())} others")
    return x, y
