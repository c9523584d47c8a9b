"""What every named figure is made of: a panel that knows its data and its frame, and grids of panels.

A ``Panel`` is drawn only when it is called, once for each theme; ``plots.show`` takes it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaplib._validate import check_choice
from gaplib.book.plots.theme import figure

SCALES = ("linear", "log", "log2", "symlog")
_OUTSIDE = {"above": "outside upper center", "below": "outside lower center"}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """All that surrounds the data of one panel; the named figures take these as keywords.

    title, xlabel, ylabel: words (None: what the figure itself writes). xscale, yscale: "linear", "log", "log2" or
    "symlog". xlim, ylim: (low, high), with None for an end that follows the data. xticks, yticks: numbers, or a mapping
    from number to what stands there. xline, yline: reference lines at these x (upright) or y (level): a number, several
    (solid, dashed, dotted), or a mapping from words, written at the end of the line, to numbers (dotted, dashed,
    dash-dotted). legend: a place in matplotlib's words, "above" or "below" for outside the axes, "" for none. width,
    height: inches, of a panel that is shown alone.
    """

    title: str | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    xscale: str = "linear"
    yscale: str = "linear"
    xlim: tuple[float | None, float | None] | None = None
    ylim: tuple[float | None, float | None] | None = None
    xticks: Sequence[float] | Mapping[float, str] | None = None
    yticks: Sequence[float] | Mapping[float, str] | None = None
    xline: float | Sequence[float] | Mapping[str, float] = ()
    yline: float | Sequence[float] | Mapping[str, float] = ()
    legend: str = "best"
    legend_title: str = ""
    legend_columns: int | None = None
    width: float = 7.0
    height: float = 4.0

    def __post_init__(self):
        check_choice(self.xscale, "xscale", SCALES)
        check_choice(self.yscale, "yscale", SCALES)

    def before(self, ax: Axes) -> None:
        """Set the scales: some figures place their marks by them."""
        for scale, set_scale in ((self.xscale, ax.set_xscale), (self.yscale, ax.set_yscale)):
            if scale == "log2":
                set_scale("log", base=2)
            elif scale != "linear":
                set_scale(scale)

    def after(self, ax: Axes) -> None:
        """Add labels, limits, ticks and reference lines."""
        for words, put in ((self.title, ax.set_title), (self.xlabel, ax.set_xlabel), (self.ylabel, ax.set_ylabel)):
            if words is not None:
                put(words)
        for where, words, line in _reference_lines(self.xline):
            ax.axvline(where, zorder=1, **line)
            _beside(ax, words, (where, 1.0), ax.get_xaxis_transform(), (0, 2), ha="center", va="bottom")
        for where, words, line in _reference_lines(self.yline):
            ax.axhline(where, zorder=1, **line)
            _beside(ax, words, (0.99, where), ax.get_yaxis_transform(), (0, 2), ha="right", va="bottom")
        for ticks, axis in ((self.xticks, ax.xaxis), (self.yticks, ax.yaxis)):
            if ticks is not None:
                words = ticks if isinstance(ticks, Mapping) else {tick: f"{tick:g}" for tick in ticks}
                axis.set_ticks(list(words), labels=list(words.values()))
                axis.set_ticks([], minor=True)
        if self.xlim is not None:
            ax.set_xlim(*self.xlim)
        if self.ylim is not None:
            ax.set_ylim(*self.ylim)


def _reference_lines(given: Any) -> Iterator[tuple[float, str, dict[str, Any]]]:
    if isinstance(given, Mapping):
        named, shapes = given.items(), (":", "--", "-.")
    else:
        places = given if isinstance(given, Sequence) else [given]
        named, shapes = [("", where) for where in places], ("-", "--", ":")
    for (words, where), shape in zip(named, cycle(shapes), strict=False):
        yield where, words, {"color": "C5", "linestyle": shape, "linewidth": 1.0 if shape == "-" else 1.5}


def _beside(ax: Axes, words: str, where, transform, offset, **place) -> None:
    if words:
        halo = {"facecolor": ax.get_facecolor(), "alpha": 0.7, "linewidth": 0, "pad": 1}
        ax.annotate(words, where, offset, transform, textcoords="offset points", fontsize=9, bbox=halo, **place)


@dataclass(frozen=True)
class Panel:
    """A drawing for one pair of axes. Called without arguments it is a figure, as ``plots.show`` wants it.

    paint: draws the data on the axes that it is given. frame: what surrounds them.
    """

    paint: Callable[[Axes], None]
    frame: Frame

    def on(self, ax: Axes) -> Axes:
        """Draw on ``ax``, without a legend; returns ``ax``."""
        self.frame.before(ax)
        self.paint(ax)
        self.frame.after(ax)
        return ax

    def then(self, more: Callable[[Axes], Any]) -> Panel:
        """The same panel with ``more(ax)`` drawn on top: what only this one figure has, such as an arrow."""

        def paint(ax: Axes) -> None:
            self.paint(ax)
            more(ax)

        return replace(self, paint=paint)

    def __call__(self) -> Figure:
        fig, ax = figure(width=self.frame.width, height=self.frame.height)
        self.on(ax)
        self.put_legend(ax)
        return fig

    def put_legend(self, ax: Axes) -> None:
        """The legend of the labelled marks on ``ax``, where the frame wants it; nothing without labels."""
        _legend([ax], self.frame.legend, self.frame.legend_title, self.frame.legend_columns, ax)


def panel(paint: Callable[[Axes], None], **frame: Any) -> Panel:
    """A panel of your own drawing, for grids; frame: the fields of ``Frame``.

    >>> diagonal = panel(lambda ax: ax.plot([0, 1], [0, 1]), xlabel="before", ylabel="after")
    >>> diagonal().axes[0].get_xlabel()
    'before'
    """
    return Panel(paint, Frame(**frame))


def grid(
    panels: Sequence[Panel] | Mapping[str, Panel],
    *,
    columns: int | None = None,
    width: float = 7.8,
    height: float | None = None,
    widths: Sequence[float] | None = None,
    sharex: bool = False,
    sharey: bool = False,
    legend: str | int = "below",
    legend_title: str = "",
    legend_columns: int | None = None,
) -> Callable[[], Figure]:
    """Several panels in one figure, row by row; returns what ``plots.show`` takes.

    panels: in order, or a mapping from title to panel. columns: as many as there are panels, up to four. widths:
    relative widths of the columns. sharex, sharey: common limits, labels at the outer edge only. legend: one for all,
    "below" or "above"; "each" panel its own; the position of the one panel that shows its own; "" for none.

    >>> two = {name: panel(lambda ax: ax.plot([0, 1], label="a line")) for name in ("left", "right")}
    >>> [ax.get_title() for ax in grid(two, sharey=True)().axes]
    ['left', 'right']
    """
    named = list(panels.items()) if isinstance(panels, Mapping) else [("", one) for one in panels]
    if not named or not all(isinstance(one, Panel) for _, one in named):
        raise ValueError(f"panels: expected one or more panels, got {panels!r:.80}")
    if not (legend in ("", "each", *_OUTSIDE) or (isinstance(legend, int) and 0 <= legend < len(named))):
        raise ValueError(f"legend: expected 'below', 'above', 'each', '' or a panel's position, got {legend!r}")
    across = columns or min(len(named), 4)
    down = -(-len(named) // across)

    def draw() -> Figure:
        tall = height or (3.5 if down == 1 else 2.6 * down)
        options = {"sharex": sharex, "sharey": sharey, "width_ratios": widths, "squeeze": False}
        fig, axes = figure(down, across, width=width, height=tall, **options)
        used = list(axes.flat[: len(named)])
        for k, (ax, (title, one)) in enumerate(zip(used, named, strict=True)):
            one.on(ax)
            if title:
                ax.set_title(title)
            if sharey and k % across:
                ax.set_ylabel("")
            if sharex and k + across < len(named):
                ax.set_xlabel("")
            elif sharex:
                ax.xaxis.set_tick_params(labelbottom=True)
            if legend == "each" or (legend == k and not isinstance(legend, str)):
                one.put_legend(ax)
        for ax in axes.flat[len(named) :]:
            ax.set_visible(False)
        if legend in _OUTSIDE:
            _legend(used, legend, legend_title, legend_columns, used[0])
        return fig

    return draw


def _legend(drawn: Sequence[Axes], place: str, title: str, columns: int | None, ax: Axes) -> None:
    entries = {}  # the first mark of every label
    for one in drawn:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries or not place:
        return
    what = {"handles": list(entries.values()), "labels": list(entries), "title": title or None}
    if place in _OUTSIDE:
        ax.figure.legend(**what, loc=_OUTSIDE[place], ncols=columns or min(len(entries), 4), frameon=False)
    else:
        ax.legend(**what, loc=place, ncols=columns or 1)
