"""Figures that read well in light and in dark: named figures, grids of them, and one display call with alt text.

A chapter's cell names a figure, hands it arrays or estimates, and shows it::

    plots.show(plots.curves(steps, {"sharp": gaps}, xlabel="step", ylabel="gap"), alt="The gap closes late.")

The named figures check their data at once and draw later, once for each theme. What no named figure can draw is a
function without arguments that returns a matplotlib ``Figure`` (``figure`` makes one), or a ``panel`` of its own.
"""

from gaplib._extras import need

need("plots", "matplotlib", "seaborn")

from gaplib.book.plots.display import render, show, show_html
from gaplib.book.plots.fields import distributions, heatmap, pictures
from gaplib.book.plots.intervals import forest, strips
from gaplib.book.plots.lines import curve, curves, seeds_against_dose
from gaplib.book.plots.panels import Frame, Panel, grid, panel
from gaplib.book.plots.points import clouds, scatter
from gaplib.book.plots.theme import THEMES, bar_style, figure, scatter_style, settings, style

__all__ = [
    "THEMES",
    "Frame",
    "Panel",
    "bar_style",
    "clouds",
    "curve",
    "curves",
    "distributions",
    "figure",
    "forest",
    "grid",
    "heatmap",
    "panel",
    "pictures",
    "render",
    "scatter",
    "scatter_style",
    "seeds_against_dose",
    "settings",
    "show",
    "show_html",
    "strips",
    "style",
]
