"""Figures: both themes, alt text, contrast, and nothing left behind."""

import base64
import io
import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gaplib.book import plots

ALT = "A straight line that rises from zero to one."


def contrast(a, b):
    """WCAG 2 contrast ratio of two colours."""

    def luminance(colour):
        c = np.array(mpl.colors.to_rgb(colour))
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ [0.2126, 0.7152, 0.0722]

    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def line():
    fig, ax = plots.figure()
    ax.plot([0, 1], [0, 1], **plots.style(0))
    ax.set_title("a line")
    return fig


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


@pytest.fixture
def shown(monkeypatch):
    """What ``show`` publishes, as (data, metadata)."""
    out = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata: out.append((data, metadata)))
    monkeypatch.setenv("GAPLIB_BOOK", "1")
    return out


@pytest.mark.parametrize("theme", plots.THEMES)
def test_text_and_series_stand_out_from_the_page(theme):
    s = plots.settings(theme)
    for key in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"):
        assert contrast(s[key], s["figure.facecolor"]) >= 4.5
        assert contrast(s[key], s["axes.facecolor"]) >= 4.5
        assert contrast(s[key], s["legend.facecolor"]) >= 4.5
    colours = s["axes.prop_cycle"].by_key()["color"]
    assert len(set(colours)) == len(colours) == 7
    assert min(contrast(c, s["axes.facecolor"]) for c in colours) >= 3.0


@pytest.mark.parametrize("theme", plots.THEMES)
@pytest.mark.parametrize(
    "confusion",  # Machado et al. 2009, severity 1: deuteranopia and protanopia, on linear RGB
    [
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    ],
)
def test_the_first_series_stay_apart_for_red_green_blindness(theme, confusion):
    rgb = np.array([mpl.colors.to_rgb(c) for c in plots.settings(theme)["axes.prop_cycle"].by_key()["color"][:3]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(confusion).T, 0, 1) ** (1 / 2.4)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(3, 1)]
    assert distance.min() > 0.15


def test_series_differ_in_shape_as_well_as_colour():
    looks = [plots.style(i) for i in range(7)]
    for key in ("color", "marker", "linestyle"):
        assert len({str(look[key]) for look in looks}) == 7
    with mpl.rc_context(plots.settings("light")):
        assert len({plots.bar_style(i)["hatch"] for i in range(7)}) == 7


def test_book_build_shows_an_opaque_light_and_dark_pair(shown):
    plots.show(line, alt=f"  {ALT}\n ", caption="A line.", name="fig-line")
    assert [meta["gaplib"]["theme"] for _, meta in shown] == ["light", "dark"]
    corners = []
    for data, meta in shown:
        image = pixels(base64.b64decode(data["image/png"]))
        assert image.shape[1] == 2 * meta["image/png"]["width"]
        assert image.shape[0] == 2 * meta["image/png"]["height"]
        assert (image[..., 3] == 255).all()
        assert meta["image/png"]["alt"] == meta["gaplib"]["alt"] == ALT
        assert meta["gaplib"]["caption"] == "A line."
        assert meta["gaplib"]["name"] == "fig-line"
        assert ALT in data["text/plain"]
        corners.append(tuple(int(v) for v in image[0, 0, :3]))
    assert corners == [(255, 255, 255), (18, 18, 18)]


def test_outside_the_book_only_the_light_one_is_shown(shown, monkeypatch):
    monkeypatch.delenv("GAPLIB_BOOK")
    plots.show(line, alt=ALT)
    assert [meta["gaplib"]["theme"] for _, meta in shown] == ["light"]


@pytest.mark.parametrize("alt", ["", "too short", " " * 40, None, 3])
def test_alt_text_is_demanded(shown, alt):
    with pytest.raises(ValueError, match="alt"):
        plots.show(line, alt=alt)
    with pytest.raises(TypeError):
        plots.show(line)
    assert shown == []


def test_the_figure_does_not_depend_on_the_readers_style_and_leaves_it_alone():
    reference = plots.render(line, "dark")[0]
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "figure.figsize": (2, 2), "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        assert (pixels(plots.render(line, "dark")[0]) == pixels(reference)).all()
        assert dict(mpl.rcParams) == before


def test_pyplot_figures_are_closed_even_when_drawing_fails():
    import matplotlib.pyplot as plt

    mine = plt.figure()

    def with_pyplot():
        fig, ax = plt.subplots()
        ax.plot([1, 2])
        return fig

    def failing():
        with_pyplot()
        raise RuntimeError("no data")

    assert pixels(plots.render(with_pyplot)[0]).std() > 0
    with pytest.raises(RuntimeError, match="no data"):
        plots.render(failing)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_a_failing_dark_twin_shows_nothing(shown):
    def only_light():
        if mpl.rcParams["figure.facecolor"] != "#FFFFFF":
            raise RuntimeError("no dark")
        return line()

    with pytest.raises(RuntimeError):
        plots.show(only_light, alt=ALT)
    assert shown == []


def test_drawing_functions_must_return_a_figure():
    with pytest.raises(ValueError, match="draw: expected a function that returns a matplotlib Figure, got NoneType"):
        plots.render(lambda: None)
    with pytest.raises(ValueError, match="theme"):
        plots.render(line, "sepia")


def test_the_backend_is_never_chosen():
    code = (
        "import matplotlib as m; b = m.rcParams._get_backend_or_none(); from gaplib import plots\n"
        "def draw():\n    fig, ax = plots.figure(); ax.plot([0, 1]); return fig\n"
        "plots.render(draw); assert m.rcParams._get_backend_or_none() == b, b"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_forest_curve_and_histograms_draw_what_they_are_given():
    estimate = SimpleNamespace(value=0.5, low=0.4, high=0.7)
    with mpl.style.context(["default", plots.settings("light")]):
        fig, axes = plots.figure(1, 3)
        plots.forest(axes[0], [("a", estimate), ("b", estimate)], floors={"a": SimpleNamespace(low=0, high=0.1)})
        assert [t.get_text() for t in axes[0].get_yticklabels()] == ["a", "b"]
        (segment,) = axes[0].containers[0].lines[2][0].get_segments()
        np.testing.assert_allclose(segment[:, 0], [0.4, 0.7])
        plots.curve(axes[1], [1, 2], [[1, 2], [3, 4]], label="mean")
        np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [2, 3])
        plots.histograms(axes[2], {"a": np.arange(5.0), "b": np.arange(9.0)}, bins=4)
        assert isinstance(fig, Figure)
        heights = [[p.get_height() * p.get_width() for p in c] for c in axes[2].containers]
        np.testing.assert_allclose([sum(h) for h in heights], 1.0)
        for bad in ([1.0, 2.0], [[1.0, 2.0, 3.0]]):
            with pytest.raises(ValueError, match="samples"):
                plots.curve(axes[1], [1, 2], bad)
        with pytest.raises(ValueError, match="'a'"):
            plots.histograms(axes[2], {"a": [np.nan]})
        with pytest.raises(ValueError, match="rows"):
            plots.forest(axes[0], [])


def test_interactive_figures_come_with_their_still_twin_and_the_sites_own_script(shown):
    import plotly.graph_objects as go

    plots.show_html(go.Figure(go.Scatter(x=[0, 1], y=[0, 1])), still=line, alt=ALT + ' A "quote" too.')
    assert [meta["gaplib"]["theme"] for _, meta in shown] == ["light", "dark", "interactive"]
    page = shown[-1][0]["text/html"]
    assert 'src="../_static/plotly/plotly.min.js"' in page
    assert 'aria-label="A straight line that rises from zero to one. A &quot;quote&quot; too."' in page
    assert "https://cdn" not in page
