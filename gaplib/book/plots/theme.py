"""How figures look in light and in dark: one palette, and the marker, line style and hatch that go with each colour.

Colours are looked up by name ("C0", "C1", ...) while a figure is drawn, and so follow the theme; ``style(i)`` adds the
shapes that go with colour ``i``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
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

PIXELS_PER_INCH = 100  # of the page; the PNG itself holds twice as many, for sharp screens


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
        "figure.dpi": PIXELS_PER_INCH,
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


def look_of(given: Any, index: int) -> dict[str, Any]:
    """Keywords for ``Axes.plot`` of a series: those of ``style(index)``, or what the caller asks for instead.

    given: nothing, the index of another series, or a mapping of matplotlib keywords over it, such as ``{"index": 3,
    "linestyle": "none"}``.
    """
    if given is None:
        return style(index)
    if isinstance(given, Mapping):
        return style(given.get("index", index)) | {key: value for key, value in given.items() if key != "index"}
    return style(given)


def looks_of(given: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The look of each label; given: nothing, a sequence (one entry for each label) or a mapping (for some)."""
    if given is None or isinstance(given, Mapping):
        strange = [key for key in given or {} if key not in labels]
        if strange:
            raise ValueError(f"looks: expected labels among {list(labels)}, got {strange[0]!r}")
        return [look_of((given or {}).get(label), i) for i, label in enumerate(labels)]
    given = list(given)
    if len(given) != len(labels):
        raise ValueError(f"looks: expected {len(labels)} entries, one for each label, got {len(given)}")
    return [look_of(one, i) for i, one in enumerate(given)]
