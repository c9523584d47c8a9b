"""Estimates with their intervals: rows of a forest, and strips of seeds by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from gaplib.book.plots.panels import Frame, Panel
from gaplib.book.plots.theme import looks_of, style


def forest(
    rows: Any,
    *,
    floors: Mapping[str, Any] | None = None,
    groups: Sequence[int] | None = None,
    seeds: bool = False,
    looks: Any = None,
    **frame: Any,
) -> Panel:
    """One estimate or more in each row, with intervals, from top to bottom.

    rows: a mapping or pairs from label to estimate: an object with ``value``, ``low``, ``high`` (``stats.Estimate``), a
    plain number (drawn without an interval), or a mapping from series to either, which the legend names. groups: the
    look (colour, marker) of each row, where rows hold single estimates. floors: by label, objects with ``low`` and
    ``high``, drawn as grey bars. seeds: dots for ``estimate.samples`` below the interval. looks: of the series. frame:
    the fields of ``Frame``; the height follows from the rows. Raises ValueError for no rows, or other groups than rows.

    >>> from gaplib.stats import over_seeds
    >>> rows = {"CLIP": over_seeds([0.7, 0.8, 0.9]), "CUA": over_seeds([0.1, 0.2, 0.3])}
    >>> drawn = forest(rows, groups=[0, 1], xline=0, xlabel="centroid distance")
    >>> [tick.get_text() for tick in drawn().axes[0].get_yticklabels()]
    ['CLIP', 'CUA']
    """
    pairs = list(rows.items()) if isinstance(rows, Mapping) else [tuple(pair) for pair in rows]
    if not pairs:
        raise ValueError("rows: expected at least one (label, estimate), got none")
    if groups is not None and len(groups) != len(pairs):
        raise ValueError(f"groups: expected {len(pairs)}, one for each row, got {len(groups)}")
    series = list(dict.fromkeys(name for _, one in pairs if isinstance(one, Mapping) for name in one))
    styles = dict(zip(series, looks_of(looks, series), strict=True))
    lanes = {name: 0.32 * (i - (len(series) - 1) / 2) / max(1, len(series) - 1) for i, name in enumerate(series)}

    def paint(ax: Axes) -> None:
        named = set()
        for y, (label, given) in enumerate(pairs):
            if floors and label in floors:
                ends = [floors[label].low, floors[label].high]
                ax.plot(ends, [y, y], color="C5", alpha=0.5, linewidth=9, solid_capstyle="butt", zorder=1)
            for name, one in given.items() if isinstance(given, Mapping) else [("", given)]:
                look = styles[name] if name else style(groups[y] if groups is not None else 0)
                lane = y + lanes.get(name, 0.0)
                if seeds and getattr(one, "samples", ()):
                    sns.scatterplot(
                        x=list(one.samples), y=lane + 0.25, ax=ax, color="C5", s=14, linewidth=0, legend=False
                    )
                _interval(ax, one, lane, look, horizontal=True, label=None if name in named else name)
                named.add(name)
        ax.set_yticks(range(len(pairs)), [label for label, _ in pairs])
        ax.set_ylim(len(pairs) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)

    return Panel(paint, Frame(**({"height": 1.0 + 0.33 * len(pairs)} | frame)))


def strips(samples: Mapping[str, Any], *, horizontal: bool = False, looks: Any = None, **frame: Any) -> Panel:
    """Every seed as a small mark, their mean as a large one with its interval, by category.

    samples: by category, values (seeds,) or an ``Estimate`` with its samples; or by series, then by category: series
    stand beside each other and are named in the legend. The bar is the estimate's interval, or runs from the smallest
    to the largest value. horizontal: categories from top to bottom. looks: of the series, or of the categories where
    there are no series. frame: the fields of ``Frame``. Raises ValueError for an empty category or a value that is not
    a number.

    >>> drawn = strips({"CLIP": {"gap": [0.7, 0.9]}, "CUA": {"gap": [0.1, 0.3]}}, ylabel="centroid distance")
    >>> [tick.get_text() for tick in drawn().axes[0].get_xticklabels()]
    ['gap']
    """
    nested = {name: one for name, one in samples.items() if isinstance(one, Mapping)}
    if not samples or (nested and len(nested) < len(samples)):
        raise ValueError("samples: expected values by category, or by series and then by category, got neither or both")
    series = nested or {"": samples}
    categories = list(dict.fromkeys(category for one in series.values() for category in one))
    styles = looks_of(looks, list(nested or samples))
    apart = min(0.3, 0.7 / len(series)) if nested else 0.5
    marks = []  # place, values, the estimate or none, look, label
    for i, (name, by_category) in enumerate(series.items()):
        for k, (category, given) in enumerate(by_category.items()):
            values = np.asarray(getattr(given, "samples", given), dtype=float).ravel()
            if values.size == 0 or not np.isfinite(values).all():
                raise ValueError(f"samples: expected finite values for {category!r}, got none, or NaN or infinity")
            place = categories.index(category) + apart * (i - (len(series) - 1) / 2)
            label = name if k == 0 else None
            marks.append((place, values, given, styles[i if nested else k], label))

    def paint(ax: Axes) -> None:
        for place, values, given, look, label in marks:
            # Side by side, so that no seed hides another one or stands behind the bar.
            places = place + apart * (np.arange(1, 1 + len(values)) / (1 + len(values)) - 0.5)
            small = {"s": 22, "alpha": 0.6, "linewidth": 0, "marker": look["marker"], "color": look["color"]}
            x, y = (values, places) if horizontal else (places, values)
            sns.scatterplot(x=x, y=y, ax=ax, legend=False, zorder=2, **small)
            if not hasattr(given, "value"):
                given = _Range(values)
            _interval(ax, given, place, look | {"markersize": 8}, horizontal=horizontal, label=label)
        axis, limits = (ax.yaxis, ax.set_ylim) if horizontal else (ax.xaxis, ax.set_xlim)
        if any(categories):
            axis.set_ticks(range(len(categories)), labels=categories)
        else:
            axis.set_ticks([])
        axis.grid(visible=False)
        limits(*((len(categories) - 0.5, -0.5) if horizontal else (-0.5, len(categories) - 0.5)))
        ax.set(xlabel="", ylabel="")

    return Panel(paint, Frame(**frame))


class _Range:
    """Mean and range of the values of the seeds."""

    def __init__(self, values: np.ndarray):
        self.value, self.low, self.high = values.mean(), values.min(), values.max()


def _interval(ax: Axes, estimate: Any, place: float, look: Mapping[str, Any], *, horizontal: bool, label: Any) -> None:
    value = float(getattr(estimate, "value", estimate))
    low, high = (float(getattr(estimate, end, value)) for end in ("low", "high"))
    error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    ax.errorbar(
        *((value, place) if horizontal else (place, value)),
        **{"xerr" if horizontal else "yerr": error if high > low else None},
        fmt=look["marker"],
        color=look["color"],
        markersize=look.get("markersize", 6),
        label=label or None,
        capsize=3,
        linewidth=1.5,
        zorder=3,
    )
