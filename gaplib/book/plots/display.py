"""One display call for all figures: light and, in the book, dark, with alt text.

A figure is described by a function without arguments that builds and returns a matplotlib ``Figure``. ``show`` calls it
once for each theme, under that theme's settings, and renders it with matplotlib's own PNG writer, so that neither the
notebook's inline backend nor pyplot's list of open figures matters.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.style
from matplotlib.figure import Figure

from gaplib.book.plots.theme import PIXELS_PER_INCH, THEMES, settings

_MIN_ALT = 20
_PLOTLY = "../_static/plotly/plotly.min.js"  # as seen from a chapter's page


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
            fig.savefig(buffer, format="png", dpi=2 * PIXELS_PER_INCH)
            width, height = (round(inches * PIXELS_PER_INCH) for inches in fig.get_size_inches())
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
    # Every theme is rendered before the first is shown: a failure never publishes only one theme.
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
