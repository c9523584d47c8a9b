"""Figures that read well in light and in dark: one palette, one display call with alt text, three common plots.

A figure is described by a function without arguments that builds and returns a matplotlib ``Figure``. ``show`` calls it
once for each theme, under that theme's settings, and renders it with matplotlib's own PNG writer, so that neither the
notebook's inline backend nor pyplot's list of open figures matters. In between, colours are looked up by name ("C0",
"C1", ...) and so follow the theme; ``style(i)`` adds the marker, line style and hatch that go with colour ``i``.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaplib._validate import check_choice, check_integer

# Okabe and Ito's hues in their order of use here, shifted in lightness until each stands out from its page by 3 to 1.
_PALETTE = {
    "light": ("#0072B2", "#C24E00", "#007A59", "#B5478A", "#9A6700", "#595959", "#1E1E1E"),
    "dark": ("#56B4E9", "#F28E2B", "#2FBF93", "#E39AC4", "#F0E442", "#B4B4B4", "#F2F2F2"),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 2)), (0, (1, 1)))
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "ooo")
# The page colours of sphinx-book-theme: page, text, grid.
_PAGE = {"light": ("#FFFFFF", "#222832", "#D1D5DA"), "dark": ("#121212", "#CED6DD", "#3D444D")}
THEMES = ("light", "dark")

_PIXELS_PER_INCH = 100  # of the page; the PNG itself holds twice as many, for sharp screens
_MIN_ALT = 20
_PLOTLY = "../_static/plotly/plotly.min.js"  # as seen from a chapter's page


def settings(theme: str = "light") -> dict[str, Any]:
    """Matplotlib's rcParams of ``theme``, "light" or "dark"."""
    check_choice(theme, "theme", THEMES)
    page, text, grid = _PAGE[theme]
    return {
        "axes.prop_cycle": cycler(color=_PALETTE[theme]),
        "figure.facecolor": page,
        "savefig.facecolor": page,
        "savefig.transparent": False,
        "axes.facecolor": page,
        "axes.edgecolor": text,
        "axes.labelcolor": text,
        "axes.titlecolor": text,
        "text.color": text,
        "xtick.color": text,
        "ytick.color": text,
        "grid.color": grid,
        "legend.facecolor": page,
        "legend.edgecolor": grid,
        "legend.framealpha": 0.9,
        "hatch.color": page,
        "hatch.linewidth": 1.0,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelsize": 10,
        "font.size": 10,
        "legend.fontsize": 9,
        "lines.linewidth": 2.0,
        "lines.markersize": 6.0,
        "figure.figsize": (7.0, 4.0),
        "figure.dpi": _PIXELS_PER_INCH,
        "figure.constrained_layout.use": True,
        "savefig.bbox": None,
    }


def style(index: int, *, marker: bool = True) -> dict[str, Any]:
    """Keywords for ``Axes.plot`` of series ``index``: colour, line style and marker, so that shape tells too."""
    i = check_integer(index, "index", low=0) % len(_MARKERS)
    return {"color": f"C{i}", "linestyle": _LINES[i], **({"marker": _MARKERS[i]} if marker else {})}


def scatter_style(index: int) -> dict[str, Any]:
    """Keywords for ``Axes.scatter`` of series ``index``."""
    i = check_integer(index, "index", low=0) % len(_MARKERS)
    return {"color": f"C{i}", "marker": _MARKERS[i]}


def bar_style(index: int) -> dict[str, Any]:
    """Keywords for bars and histograms of series ``index``: colour and hatch."""
    i = check_integer(index, "index", low=0) % len(_HATCHES)
    return {"facecolor": f"C{i}", "hatch": _HATCHES[i], "edgecolor": mpl.rcParams["axes.facecolor"]}


def figure(rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 4.0, **subplots: Any):
    """A new ``Figure`` that pyplot does not know of, with its axes (one or an array of them); sizes in inches."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, **subplots)


def render(draw: Callable[[], Figure], theme: str = "light") -> tuple[bytes, int, int]:
    """PNG bytes of ``draw()`` under ``theme``, and the width and height it takes on the page, in CSS pixels.

    Figures that ``draw`` opened through pyplot are closed again, also when it fails. ``ValueError`` if it returns
    anything else than a figure.
    """
    import matplotlib.pyplot as plt

    known = set(plt.get_fignums())
    try:
        with mpl.style.context(["default", settings(theme)]):  # not the reader's own style, nor the inline backend's
            fig = draw()
            if not isinstance(fig, Figure):
                raise ValueError(
                    f"draw: expected a function that returns a matplotlib Figure, got {type(fig).__name__}"
                )
            buffer = io.BytesIO()
            fig.savefig(buffer, format="png", dpi=2 * _PIXELS_PER_INCH)
            width, height = (round(inches * _PIXELS_PER_INCH) for inches in fig.get_size_inches())
    finally:
        for number in set(plt.get_fignums()) - known:
            plt.close(number)
    return buffer.getvalue(), width, height


def show(draw: Callable[[], Figure], *, alt: str, caption: str = "", name: str = "") -> None:
    """Display ``draw()`` in light and, in the book build (environment variable GAPLIB_BOOK=1), its dark twin too.

    ``alt`` says what the figure shows to those who cannot see it: the finding, in at least 20 characters; it may hold
    measured numbers. ``caption`` (MyST text) and ``name`` (a label for references) travel in the output's metadata.
    """
    from IPython.display import publish_display_data

    if not isinstance(alt, str) or len(alt.strip()) < _MIN_ALT:
        raise ValueError(
            f"alt: expected a sentence of at least {_MIN_ALT} characters that states the finding, got {alt!r}"
        )
    alt = " ".join(alt.split())
    in_book = os.environ.get("GAPLIB_BOOK") == "1"
    # Every theme is rendered before the first is shown: a failure leaves no half of a pair.
    images = [(theme, *render(draw, theme)) for theme in (THEMES if in_book else THEMES[:1])]
    for theme, png, width, height in images:
        publish_display_data(
            {"image/png": base64.b64encode(png).decode("ascii"), "text/plain": f"Figure: {alt}"},
            {
                "image/png": {"alt": alt, "width": width, "height": height},
                "gaplib": {"alt": alt, "caption": caption, "name": name, "theme": theme},
            },
        )


def show_html(interactive: Any, *, still: Callable[[], Figure], alt: str, caption: str = "", name: str = "") -> None:
    """Display a plotly figure below its still twin ``still``, which says the same to readers without scripts.

    In the book the fragment refers to the site's own copy of plotly, so that the page needs no network.
    """
    from IPython.display import display, publish_display_data

    show(still, alt=alt, caption=caption, name=name)
    if os.environ.get("GAPLIB_BOOK") != "1":
        display(interactive)
        return
    fragment = interactive.to_html(full_html=False, include_plotlyjs=_PLOTLY)
    alt = " ".join(alt.split())
    publish_display_data(
        {"text/html": f'<div role="figure" aria-label="{html.escape(alt)}">{fragment}</div>', "text/plain": alt},
        {"gaplib": {"alt": alt, "theme": "interactive"}},
    )


def histograms(ax: Axes, samples: Mapping[str, Any], *, bins: Any = 40, offset: int = 0) -> None:
    """Overlaid densities of named one-dimensional samples over shared bins, told apart by colour and hatch."""
    arrays = {label: np.asarray(values, dtype=float).ravel() for label, values in samples.items()}
    for label, values in arrays.items():
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError(
                f"samples: expected finite values for {label!r}, got {values.size} with NaN or infinity, or none"
            )
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins=bins)
    for i, (label, values) in enumerate(arrays.items()):
        ax.hist(values, bins=edges, density=True, alpha=0.75, label=label, **bar_style(i + offset))
    ax.set_ylabel("density")
    ax.legend()


def curve(ax: Axes, x: Any, samples: Any, *, label: str = "", index: int = 0, every: int = 1, **keywords: Any) -> None:
    """The mean over seeds with a band from the smallest to the largest seed.

    ``samples`` has shape (seeds, points), ``x`` (points,); a marker on every ``every``-th point.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(samples, dtype=float)
    if y.ndim != 2 or x.shape != y.shape[1:]:
        raise ValueError(f"samples: expected shape (seeds, {x.size}), got {y.shape}")
    look = style(index) | keywords
    ax.plot(x, y.mean(axis=0), label=label or None, markevery=every, **look)
    ax.fill_between(x, y.min(axis=0), y.max(axis=0), color=look["color"], alpha=0.25, linewidth=0)


def forest(
    ax: Axes,
    rows: Sequence[tuple[str, Any]],
    *,
    floors: Mapping[str, Any] | None = None,
    groups: Iterable[int] | None = None,
) -> None:
    """One line a row: ``(label, estimate)`` with ``value``, ``low``, ``high``; its permutation floor as a grey bar.

    ``floors`` maps labels to objects with ``low`` and ``high``; ``groups`` gives each row its series (colour, marker).
    """
    if not rows:
        raise ValueError("rows: expected at least one (label, estimate), got none")
    for y, ((label, estimate), group) in enumerate(zip(rows, groups or [0] * len(rows), strict=True)):
        if floors and label in floors:
            floor = floors[label]
            ax.plot(
                [floor.low, floor.high], [y, y], color="C5", alpha=0.5, linewidth=9, solid_capstyle="butt", zorder=1
            )
        error = [[max(estimate.value - estimate.low, 0.0)], [max(estimate.high - estimate.value, 0.0)]]
        look = style(group)
        ax.errorbar(estimate.value, y, xerr=error, fmt=look["marker"], color=look["color"], capsize=3, linewidth=1.5)
    ax.set_yticks(range(len(rows)), [label for label, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
