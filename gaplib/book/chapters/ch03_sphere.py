"""Chapter 03, two clouds on a sphere in three dimensions: a picture from one side, and the film to turn by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gaplib._validate import check_choice
from gaplib.book import plots

TOWERS = ("first tower", "second tower")
#: So many points of each cloud are drawn.
SHOWN = 250


def seen(clouds: Sequence[Any], view: Any) -> dict[str, np.ndarray]:
    """Tower -> (at most ``SHOWN``, 3) coordinates along the columns of ``view``: to the right, up, to the onlooker.

    clouds: two of shape (n, 3), in pairs. view: (3, 3), as ``ch03_runs.side_view`` finds it. The same random rows of
    both clouds are taken. ``ValueError`` for other shapes.
    """
    view = np.asarray(view, dtype=float)
    x, y = (np.asarray(cloud, dtype=float) for cloud in clouds)
    if view.shape != (3, 3) or x.shape != y.shape or x.shape[1:] != (3,):
        raise ValueError(
            f"clouds, view: expected two of shape (n, 3) and (3, 3), got {x.shape}, {y.shape} and {view.shape}"
        )
    rows = np.random.default_rng(0).permutation(len(x))[:SHOWN]
    return dict(zip(TOWERS, (x[rows] @ view, y[rows] @ view), strict=True))


def sphere(clouds: Sequence[Any], view: Any, *, size: float = 13.0) -> plots.Panel:
    """The sphere from the side, points on its far half pale. clouds, view: as for ``seen``; size: area of a point.

    >>> drawn = sphere([np.eye(3), -np.eye(3)], np.eye(3))
    >>> [len(points.get_offsets()) for points in drawn().axes[0].collections]  # far and near, tower by tower
    [0, 3, 1, 2]
    """
    points = seen(clouds, view)

    def paint(ax: Axes) -> None:
        turn = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(turn), np.sin(turn), color="C5", linewidth=1)
        for i, (label, x) in enumerate(points.items()):
            for half, alpha, words in ((x[:, 2] < 0, 0.25, None), (x[:, 2] >= 0, 0.8, label)):
                marks = {"s": size, "alpha": alpha, "linewidth": 0, **plots.scatter_style(i)}
                ax.scatter(*x[half, :2].T, label=words, **marks)
        ax.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)

    return plots.panel(paint)


def turntable(film: Mapping[int, Sequence[Any]], view: Any, opens_at: int) -> Any:
    """A plotly figure of all steps, one of them visible: the mouse turns it, a slider changes the step.

    film: step -> clouds, view: as for ``seen``. opens_at: the step that is shown first; ``ValueError`` for one that is
    not in the film. Nothing moves by itself.
    """
    import plotly.graph_objects as go

    check_choice(opens_at, "opens_at", film)
    colors = plots.settings("light")["axes.prop_cycle"].by_key()["color"]
    marks = [
        go.Scatter3d(
            **dict(zip("xyz", np.round(x, 3).T, strict=True)), mode="markers", name=label, visible=step == opens_at,
            marker={"size": 3, "color": color, "symbol": symbol, "opacity": 0.8},
        )
        for step, clouds in film.items()
        for (label, x), color, symbol in zip(seen(clouds, view).items(), colors, ("circle", "diamond"), strict=False)
    ]  # fmt: skip
    visible = {step: [other == step for other in film for _ in TOWERS] for step in film}
    slide = [{"label": str(step), "method": "restyle", "args": [{"visible": shown}]} for step, shown in visible.items()]
    axis = {"range": [-1.05, 1.05], "showticklabels": False, "title": ""}
    axis |= {"backgroundcolor": "rgba(0,0,0,0)", "gridcolor": "#999999"}
    layout = go.Layout(
        width=640, height=520, margin={"l": 10, "r": 10, "t": 10, "b": 10}, paper_bgcolor="rgba(0,0,0,0)",
        font={"color": "#888888"}, legend={"orientation": "h", "y": 1.0},
        sliders=[{"active": list(film).index(opens_at), "steps": slide, "currentvalue": {"prefix": "step "}}],
        scene={"aspectmode": "cube", "camera": {"eye": {"x": 0.3, "y": 0.5, "z": 1.7}}}
        | dict.fromkeys(("xaxis", "yaxis", "zaxis"), axis),
    )  # fmt: skip
    return go.Figure(data=marks, layout=layout)
