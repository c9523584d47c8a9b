"""Points in a plane: methods by two quantities, and clouds of paired embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from gaplib._validate import check_integer
from gaplib.book.plots.panels import Frame, Panel
from gaplib.book.plots.theme import looks_of

_TURN = np.linspace(0, 2 * np.pi, 200)


def scatter(
    series: Mapping[str, Any],
    *,
    join: Sequence[str] = (),
    names: Mapping[str, Sequence[str | None]] | None = None,
    best: Mapping[str, tuple[float, float]] | None = None,
    size: float | Mapping[str, Any] = 34,
    alpha: float = 0.8,
    looks: Any = None,
    **frame: Any,
) -> Panel:
    """Points by two quantities, such as gap and recall, one colour and shape for each series.

    series: by label, ``(x, y)`` with one value for each point, or an array (points, 2). join: labels whose points a
    line joins in their order. names: by label, words beside its points (None for none). best: by label, one point that
    an open mark of the same shape rings. size: area in square points, or by label, a number or one for each point.
    frame: the fields of ``Frame``. Raises ValueError where x and y differ in length or a value is not a number.

    >>> drawn = scatter({"fixed": ([0.1, 0.9], [0.3, 0.2])}, join=["fixed"], names={"fixed": ["0.4", "0.01"]})
    >>> [text.get_text() for text in drawn().axes[0].texts]
    ['0.4', '0.01']
    """
    points = {label: _plane(given, "series", label) for label, given in series.items()}
    if not points:
        raise ValueError("series: expected at least one, got none")
    for what, given in (("join", join), ("names", names or {}), ("best", best or {})):
        for label in given:
            if label not in points:
                raise ValueError(f"{what}: expected labels among {list(points)}, got {label!r}")
    for label, words in (names or {}).items():
        if len(words) != len(points[label]):
            raise ValueError(f"names: expected {len(points[label])} for {label!r}, got {len(words)}")
    styles = looks_of(looks, list(points))

    def paint(ax: Axes) -> None:
        for (label, xy), look in zip(points.items(), styles, strict=True):
            if label in join:
                line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.5}
                ax.plot(*xy.T, zorder=1, **line)
            area = size.get(label, 34) if isinstance(size, Mapping) else size
            marks = {"s": area, "alpha": alpha, "marker": look["marker"], "color": look["color"], "linewidth": 0}
            sns.scatterplot(x=xy[:, 0], y=xy[:, 1], ax=ax, label=label or None, legend=False, zorder=2, **marks)
            for where, words in zip(xy, (names or {}).get(label, ()), strict=False):
                if words:
                    ax.annotate(words, where, (6, 4), textcoords="offset points", fontsize=8.5)
            if best and label in best:
                ring = {"s": 150, "facecolor": "none", "edgecolor": look["color"], "linewidth": 2}
                ax.scatter(*best[label], marker=look["marker"], zorder=3, **ring)
        ax.set(xlabel="", ylabel="")

    return Panel(paint, Frame(**frame))


def clouds(
    clouds: Mapping[str, Any],
    *,
    partners: int = 0,
    centroids: bool = False,
    circle: bool = False,
    outwards: float = 0.0,
    size: float = 14,
    alpha: float = 0.75,
    looks: Any = None,
    **frame: Any,
) -> Panel:
    """Clouds of points in a plane, drawn to one scale in both directions.

    clouds: by label, arrays (points, 2). partners: lines between so many of the first pairs of the first two clouds.
    centroids: a large mark for the mean of each, and a line between those of the first two, the gap vector. circle: on
    the unit circle, without ticks. outwards: draw cloud ``i`` at the radius ``1 + i * outwards``, so that clouds that
    coincide are all seen. frame: the fields of ``Frame``.

    >>> drawn = clouds({"images": [[1, 0], [0, 1]], "texts": [[-1, 0], [0, -1]]}, circle=True, centroids=True)
    >>> len(drawn().axes[0].collections)  # two clouds, two centroids
    4
    """
    planes = {label: _plane(given, "clouds", label) for label, given in clouds.items()}
    if not planes:
        raise ValueError("clouds: expected at least one, got none")
    one, other = (list(planes.values()) * 2)[:2]
    check_integer(partners, "partners", low=0, high=min(len(one), len(other)))
    styles = looks_of(looks, list(planes))

    def paint(ax: Axes) -> None:
        if circle:
            ax.plot(np.cos(_TURN), np.sin(_TURN), color="C5", linewidth=0.8, alpha=0.6)
        for a, b in zip(one[:partners], (1 + outwards) * other[:partners], strict=True):
            ax.plot(*np.transpose([a, b]), color="C5", alpha=0.3, linewidth=0.7, zorder=1)
        for i, ((label, xy), look) in enumerate(zip(planes.items(), styles, strict=True)):
            x, y = ((1 + i * outwards) * xy).T
            marks = {"s": size, "alpha": alpha, "linewidth": 0, "marker": look["marker"], "color": look["color"]}
            sns.scatterplot(x=x, y=y, ax=ax, label=label, legend=False, zorder=2, **marks)
        if centroids:
            ax.plot(*np.transpose([one.mean(axis=0), other.mean(axis=0)]), color="C6", linewidth=2.5, zorder=3)
            for xy, look in zip(planes.values(), styles, strict=True):
                large = {"s": 70, "edgecolor": "C6", "linewidth": 1.5, "marker": look["marker"], "color": look["color"]}
                ax.scatter(*xy.mean(axis=0), zorder=4, **large)
        ax.set(xlabel="", ylabel="")
        ax.set_aspect("equal", adjustable="box" if circle else "datalim")
        if circle:
            reach = 1.12 + outwards
            ax.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach))
            ax.spines[:].set_visible(False)

    return Panel(paint, Frame(**({"width": 5.0, "height": 4.6} if circle else {"height": 4.6}) | frame))


def _plane(given: Any, what: str, label: str) -> np.ndarray:
    """An array (points, 2) of finite numbers, from one or from (x, y)."""
    try:
        xy = np.stack([np.asarray(one, dtype=float) for one in given], 1 if isinstance(given, tuple) else 0)
    except ValueError:
        raise ValueError(f"{what}: expected x and y of one length for {label!r}, got {given!r:.60}") from None
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all():
        raise ValueError(f"{what}: expected finite values of shape (points, 2) for {label!r}, got shape {xy.shape}")
    return xy
