"""Whole distributions, matrices and pictures: histograms, heat maps, rows of glyphs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gaplib._validate import check_choice
from gaplib.book.plots.panels import Frame, Panel
from gaplib.book.plots.theme import bar_style, figure, looks_of

_HATCHED = {f"C{i}": i for i in range(7)}


def distributions(
    samples: Mapping[str, Any],
    *,
    bins: Any = 40,
    kind: str = "histogram",
    means: bool = False,
    looks: Any = None,
    **frame: Any,
) -> Panel:
    """Densities of named one-dimensional samples on one axis, told apart by colour and hatch.

    samples: by label, values of any shape. bins: a number, or the edges, common to all. kind: "histogram", or "smooth"
    for a kernel estimate. means: a line at each mean. frame: the fields of ``Frame``. Raises ValueError for an empty
    sample or a value that is not a number.

    >>> drawn = distributions({"strangers": [0.0, 0.1, 0.1], "partners": [0.8, 0.9]}, bins=5, xlabel="cosine")
    >>> ax = drawn().axes[0]
    >>> float(round(sum(bar.get_height() * bar.get_width() for bar in ax.patches), 6))  # each has area one
    2.0
    """
    check_choice(kind, "kind", ("histogram", "smooth"))
    arrays = {label: np.asarray(values, dtype=float).ravel() for label, values in samples.items()}
    if not arrays:
        raise ValueError("samples: expected at least one, got none")
    for label, values in arrays.items():
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError(
                f"samples: expected finite values for {label!r}, got {values.size} with NaN or infinity, or none"
            )
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins=bins)
    styles = looks_of(looks, list(arrays))

    def paint(ax: Axes) -> None:
        for (label, values), look in zip(arrays.items(), styles, strict=True):
            if kind == "smooth":
                line = {"linestyle": look["linestyle"], "linewidth": 1.5, "alpha": 0.35, "fill": True}
                sns.kdeplot(x=values, ax=ax, color=look["color"], label=label, legend=False, **line)
            else:
                bars = {"stat": "density", "bins": edges, "alpha": 1.0 if len(arrays) == 1 else 0.75, "linewidth": 0}
                filled = bar_style(_HATCHED.get(look["color"], 0)) | {"facecolor": look["color"]}
                sns.histplot(
                    x=values, ax=ax, label=label, legend=False, color=filled.pop("facecolor"), **bars, **filled
                )
            if means:
                ax.axvline(values.mean(), color="C6", linewidth=1.5)
        ax.set(xlabel="", ylabel="density")

    return Panel(paint, Frame(**frame))


def heatmap(
    values: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    texts: Any = None,
    bold: Any = None,
    signed: bool | None = None,
    limit: float | None = None,
    bar: str = "",
    above: bool = False,
    **frame: Any,
) -> Panel:
    """A matrix as coloured cells with their numbers; colours start from the page's own in either theme.

    values: (rows, columns), an array or a DataFrame, whose names are then used. rows, columns: the words at the edges.
    texts: what stands in each cell, of the same shape; a format such as ".2f"; or "" for nothing. bold: cells to set in
    bold, of the same shape. signed: two colours, blue above zero and orange below (default: where a value is negative).
    limit: the size at which the colour is full (default: the largest). bar: words for a colour bar. above: column words
    on top. frame: the fields of ``Frame``.

    >>> drawn = heatmap([[0.5, -1.0]], ["CUA"], ["recall", "gap"], texts="+.1f", bold=[[True, False]])
    >>> [text.get_text() for text in drawn().axes[0].texts]
    ['+0.5', '-1.0']
    """
    if hasattr(values, "columns"):
        rows = list(values.index) if rows is None else rows
        columns = list(values.columns) if columns is None else columns
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"values: expected finite values of shape (rows, columns), got shape {matrix.shape}")
    for what, words, size in (("rows", rows, matrix.shape[0]), ("columns", columns, matrix.shape[1])):
        if words is not None and len(words) != size:
            raise ValueError(f"{what}: expected {size} words, got {len(words)}")
    spec = ".2f" if texts is None else texts
    written = np.vectorize(lambda value: format(value, spec))(matrix) if isinstance(spec, str) else np.asarray(texts)
    strong = np.zeros(matrix.shape, dtype=bool) if bold is None else np.asarray(bold, dtype=bool)
    for what, given in (("texts", written), ("bold", strong)):
        if given.shape != matrix.shape:
            raise ValueError(f"{what}: expected shape {matrix.shape}, got {given.shape}")
    two_sided = bool((matrix < 0).any()) if signed is None else signed
    full = limit or float(np.abs(matrix).max()) or 1.0

    def paint(ax: Axes) -> None:
        page = mpl.rcParams["axes.facecolor"]
        colours = [*(["C1"] if two_sided else []), page, "C0"]
        shades = LinearSegmentedColormap.from_list("page", [mpl.colors.to_rgb(colour) for colour in colours])
        sns.heatmap(
            np.clip(matrix, -full, full),
            vmin=-full if two_sided else 0.0,
            vmax=full,
            cmap=shades,
            annot=written if spec is not None and not (isinstance(spec, str) and not spec) else False,
            fmt="",
            annot_kws={"fontsize": 9},
            linewidths=2,
            linecolor=page,
            cbar=bool(bar),
            cbar_kws={"label": bar} if bar else None,
            xticklabels=list(columns) if columns is not None else False,
            yticklabels=list(rows) if rows is not None else False,
            ax=ax,
        )
        for text, cell, heavy in zip(ax.texts, ax.collections[0].get_facecolors(), strong.ravel(), strict=False):
            text.set(color=_ink(cell), fontweight="bold" if heavy else "normal")
        if above:
            ax.xaxis.tick_top()
        ax.tick_params(length=0, rotation=0)
        ax.grid(visible=False)

    return Panel(paint, Frame(**frame))


def _ink(cell: np.ndarray) -> str:
    """Black or white, whichever stands out more from a cell's colour (relative luminance as WCAG 2 defines it)."""
    rgb = np.where(cell[:3] <= 0.04045, cell[:3] / 12.92, ((cell[:3] + 0.055) / 1.055) ** 2.4)
    return "black" if rgb @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"


def pictures(
    images: Sequence[Sequence[Any]],
    words: Sequence[Sequence[str]] | None = None,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    heat: Sequence[Sequence[Any]] | None = None,
    below: bool = False,
    wrap: int = 22,
    fontsize: float = 8,
    width: float = 7.8,
    height: float | None = None,
) -> Callable[[], Figure]:
    """Rows of pictures, ink dark on white in both themes; returns what ``plots.show`` takes.

    images: rows of arrays (height, width), ink as 0 to 255 in whole numbers or as 0 to 1; None leaves a place empty.
    words: above each picture (below: under it), wrapped at ``wrap`` characters. rows, columns: words at the left and on
    top. heat: rows of arrays with values from 0 to 1, laid over the pictures where they are large.

    >>> glyph = np.eye(4)
    >>> drawn = pictures([[glyph, None], [glyph, glyph]], rows=["digit seven", "euro sign"], columns=["Sans", "Serif"])
    >>> [len(ax.images) for ax in drawn().axes]
    [1, 0, 1, 1]
    """
    across = max((len(line) for line in images), default=0)
    if not across:
        raise ValueError("images: expected rows of pictures, got none")
    for what, given, size in (("rows", rows, len(images)), ("columns", columns, across), ("words", words, len(images))):
        if given is not None and len(given) != size:
            raise ValueError(f"{what}: expected {size}, got {len(given)}")

    def draw() -> Figure:
        tall = height or len(images) * (width / max(across, 4) + (0.25 if words else 0.0))
        fig, axes = figure(len(images), across, width=width, height=tall, squeeze=False)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        for r, line in enumerate(images):
            for c, image in enumerate(line):
                ax = axes[r, c]
                if image is not None:
                    picture = np.asarray(image)
                    size = (0, picture.shape[1], picture.shape[0], 0)
                    top = 255 if np.issubdtype(picture.dtype, np.integer) else 1
                    ax.imshow(picture, cmap="gray_r", vmin=0, vmax=top, extent=size)
                    if heat is not None:
                        hot = np.clip(np.asarray(heat[r][c], dtype=float), 0, 1)
                        ax.imshow(hot, cmap="YlOrRd", vmin=0, vmax=1, alpha=0.75 * hot, extent=size)
                if words is not None:
                    told = "\n".join(textwrap.fill(part, wrap) for part in words[r][c].split("\n"))
                    if below:
                        ax.set_xlabel(told, fontsize=fontsize)
                    else:
                        ax.set_title(told, fontsize=fontsize, loc="center")
            if rows is not None:
                axes[r, 0].set_ylabel(rows[r], rotation=0, ha="right", va="center")
        for ax, word in zip(axes[0], columns or (), strict=False):
            ax.set_title(word, fontsize=fontsize + 1, loc="center")
        return fig

    return draw
