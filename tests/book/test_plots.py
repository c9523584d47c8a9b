"""Figures: both themes, alt text, contrast, and nothing left behind."""

import base64
import io
import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
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
        "import matplotlib as m; b = m.rcParams._get_backend_or_none(); from gaplib.book import plots\n"
        "def draw():\n    fig, ax = plots.figure(); ax.plot([0, 1]); return fig\n"
        "plots.render(draw); assert m.rcParams._get_backend_or_none() == b, b"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_interactive_figures_come_with_their_still_twin_and_the_sites_own_script(shown):
    import plotly.graph_objects as go

    plots.show_html(go.Figure(go.Scatter(x=[0, 1], y=[0, 1])), still=line, alt=ALT + ' A "quote" too.')
    assert [meta["gaplib"]["theme"] for _, meta in shown] == ["light", "dark", "interactive"]
    page = shown[-1][0]["text/html"]
    assert 'src="../_static/plotly/plotly.min.js"' in page
    assert 'aria-label="A straight line that rises from zero to one. A &quot;quote&quot; too."' in page
    assert "https://cdn" not in page


# --- the named figures draw their data -----------------------------------------------------------


def axes_of(drawing, theme="light"):
    """The axes of a drawing, drawn under a theme as ``show`` does."""
    with mpl.style.context(["default", plots.settings(theme)]):
        fig = drawing()
        fig.canvas.draw()
        assert isinstance(fig, Figure)
        return fig.axes


def colour(name, theme="light"):
    return mpl.colors.to_rgb(plots.settings(theme)["axes.prop_cycle"].by_key()["color"][int(name[1])])


def around(value, half=0.1):
    return SimpleNamespace(value=value, low=value - half, high=value + 2 * half, samples=(value - half, value + half))


def rgb(given, theme="light"):
    """A colour that an artist holds by name, as that theme shows it."""
    with mpl.rc_context(plots.settings(theme)):
        return mpl.colors.to_rgb(given)


def legend_of(ax):
    legends = [ax.get_legend()] if ax.get_legend() else ax.figure.legends
    return [text.get_text() for legend in legends for text in legend.get_texts()]


@pytest.mark.parametrize("theme", plots.THEMES)
def test_curves_are_the_mean_and_the_range_of_the_seeds(theme):
    seeds = np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 4.0]])
    drawn = plots.curves([1, 2, 4], {"both": seeds, "one": [7, 8, 9], "own": ([2, 4], [0, 1])}, xscale="log2")
    (ax,) = axes_of(drawn, theme)
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([[1, 2, 4], seeds.mean(axis=0)], axis=1))
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [7, 8, 9])
    np.testing.assert_allclose(ax.lines[2].get_xdata(), [2, 4])
    (band,) = ax.collections
    corners = {(float(x), round(float(y), 9)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(x, y) for x, column in zip([1, 2, 4], seeds.T, strict=True) for y in column}
    assert legend_of(ax) == ["both", "one", "own"]
    for i, line in enumerate(ax.lines):
        assert rgb(line.get_color(), theme) == colour(f"C{i}", theme)
        assert rgb(line.get_markeredgecolor(), theme) == colour(f"C{i}", theme)
    assert len({line.get_marker() for line in ax.lines}) == len({line.get_linestyle() for line in ax.lines}) == 3


def test_curves_take_other_looks_and_keep_markers_sparse():
    looks = {"b": {"index": 4, "marker": None}}
    (ax,) = axes_of(plots.curves(np.arange(100), {"a": np.arange(100), "b": np.arange(100)}, looks=looks))
    assert [line.get_marker() for line in ax.lines] == ["o", "None"]
    assert rgb(ax.lines[1].get_color()) == colour("C4")
    start, step = ax.lines[0].get_markevery()
    assert 8 <= len(range(start, 100, step)) <= 16
    with pytest.raises(ValueError, match="looks: expected labels among"):
        plots.curves([1], {"a": [1]}, looks={"c": 1})
    with pytest.raises(ValueError, match="looks: expected 1 entries"):
        plots.curves([1], {"a": [1]}, looks=[1, 2])


def test_a_dose_has_its_tick_and_its_seeds():
    seeds = {"all": [[1, 3], [2, 2], [5, 9]], "some": {20: [1.5]}}
    (ax,) = axes_of(plots.seeds_against_dose([0, 1, 20], seeds, even=True, xlabel="weight"))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "20"]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 2], [1, 2], [2, 7]])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[2, 1.5]])
    (ax,) = axes_of(plots.seeds_against_dose([0, 1, 20], {"all": [1, 2, 3]}))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 1], [1, 2], [20, 3]])
    for bad in ([[1], [2]], {3: [1]}, [[1], [2], [3, 4]], {}, [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="series"):
            plots.seeds_against_dose([0, 1, 20], {"bad": bad})


def test_forest_draws_every_interval_where_its_row_is():
    floor = SimpleNamespace(low=0.0, high=0.1)
    rows = {"a": around(0.5), "b": around(0.2), "published": 0.3}
    (ax,) = axes_of(plots.forest(rows, floors={"a": floor}, groups=[0, 1, 1], xline=(0, 0.25), seeds=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(rows)
    ends = [segment for container in ax.containers for lines in container.lines[2] for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [[[0.4, 0], [0.7, 0]], [[0.1, 1], [0.4, 1]]])
    marks = [container.lines[0] for container in ax.containers]
    np.testing.assert_allclose([mark.get_xydata()[0] for mark in marks], [[0.5, 0], [0.2, 1], [0.3, 2]])
    assert [mark.get_marker() for mark in marks] == ["o", "s", "s"]
    np.testing.assert_allclose(np.sort(ax.collections[0].get_offsets()[:, 0]), [0.4, 0.6])
    assert ax.yaxis_inverted()
    assert any(np.allclose(line.get_xydata(), [[0, 0], [0.1, 0]]) for line in ax.lines)
    upright = [line for line in ax.lines if list(line.get_ydata()) == [0, 1] and line.get_xdata()[0] in (0, 0.25)]
    assert [line.get_linestyle() for line in upright] == ["-", "--"]


def test_forest_with_several_series_in_a_row_names_each_once():
    rows = {"x": {"gap": around(0.5), "recall": 0.1}, "y": {"gap": around(0.3)}}
    (ax,) = axes_of(plots.forest(rows))
    assert legend_of(ax) == ["gap", "recall"]
    heights = [float(container.lines[0].get_ydata()[0]) for container in ax.containers]
    assert heights[0] < 0 < heights[1]
    assert heights[0] + 1 == pytest.approx(heights[2])
    for bad, what in ((([],), "rows"), (({"a": 1.0}, [1, 2]), "groups")):
        with pytest.raises(ValueError, match=what):
            plots.forest(bad[0], groups=bad[1] if len(bad) > 1 else None)


def test_strips_show_every_seed_the_mean_and_the_interval():
    values = {"CLIP": {"gap": [0.7, 0.9, 0.8], "recall": [0.1]}, "CUA": {"gap": around(0.3)}}
    (ax,) = axes_of(plots.strips(values, ylabel="value"))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["gap", "recall"]
    assert legend_of(ax) == ["CLIP", "CUA"]
    seeds = [np.sort(np.asarray(marks.get_offsets())[:, 1]) for marks in ax.collections if len(marks.get_offsets())]
    seeds = [ys for ys in seeds if ys.tolist() in ([0.7, 0.8, 0.9], [0.1], pytest.approx([0.2, 0.4]))]
    assert [len(ys) for ys in seeds] == [3, 1, 2]
    means = [float(container.lines[0].get_ydata()[0]) for container in ax.containers]
    np.testing.assert_allclose(means, [0.8, 0.1, 0.3])
    ends = [s[:, 1] for container in ax.containers for lines in container.lines[2] for s in lines.get_segments()]
    np.testing.assert_allclose(ends, [[0.7, 0.9], [0.2, 0.5]])  # the range of the seeds; the estimate's interval


def test_strips_lie_down_and_spread_many_seeds():
    (ax,) = axes_of(plots.strips({"a": np.arange(20.0), "b": [3.0, 4.0]}, horizontal=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    places = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(places[:, 0]), np.arange(20))
    assert len(np.unique(places[:, 1])) == 20
    assert np.abs(places[:, 1]).max() < 0.5
    for bad in ({}, {"a": []}, {"a": [np.nan]}, {"a": [1], "b": {"c": [1]}}):
        with pytest.raises(ValueError, match="samples"):
            plots.strips(bad)


def test_scatter_joins_names_and_rings_points():
    fixed = ([0.1, 0.9], [0.3, 0.2])
    drawn = plots.scatter(
        {"fixed": fixed, "swap": np.array([[0.5, 0.4]])},
        join=["fixed"],
        names={"fixed": ["0.4", None]},
        best={"swap": (0.5, 0.4)},
        size={"swap": [90]},
    )
    (ax,) = axes_of(drawn)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.transpose(fixed))
    np.testing.assert_allclose(ax.collections[1].get_offsets(), [[0.5, 0.4]])
    assert ax.collections[1].get_sizes().tolist() == [90]
    np.testing.assert_allclose(ax.collections[2].get_offsets(), [[0.5, 0.4]])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.transpose(fixed))
    assert [text.get_text() for text in ax.texts] == ["0.4"]
    assert legend_of(ax) == ["fixed", "swap"]
    for bad in ({"join": ["other"]}, {"names": {"swap": ["a", "b"]}}, {"best": {"other": (0, 0)}}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            plots.scatter({"swap": ([1], [2])}, **bad)
    for bad in ({}, {"a": ([1, 2], [1])}, {"a": ([1], [np.inf])}, {"a": np.zeros((2, 3))}):
        with pytest.raises(ValueError, match="series"):
            plots.scatter(bad)


def test_clouds_join_partners_and_centroids():
    x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]])
    drawn = plots.clouds({"images": x, "texts": y}, partners=2, centroids=True, circle=True, outwards=0.1)
    (ax,) = axes_of(drawn)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), x)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), 1.1 * y)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [x[0], 1.1 * y[0]])
    np.testing.assert_allclose(ax.lines[3].get_xydata(), [x.mean(axis=0), y.mean(axis=0)])
    np.testing.assert_allclose(np.hypot(*ax.lines[0].get_xydata().T), 1)
    assert ax.get_aspect() == 1
    with pytest.raises(ValueError, match="partners"):
        plots.clouds({"images": x, "texts": y[:1]}, partners=2)
    with pytest.raises(ValueError, match=r"clouds: .* 'texts'"):
        plots.clouds({"images": x, "texts": np.zeros((2, 3))})


def test_distributions_share_bins_and_have_area_one():
    samples = {"a": np.arange(5.0), "b": np.arange(9.0)}
    (ax,) = axes_of(plots.distributions(samples, bins=4, means=True))
    bars = [[(bar.get_x(), bar.get_height() * bar.get_width()) for bar in group] for group in ax.containers]
    assert [x for x, _ in bars[0]] == [x for x, _ in bars[1]]
    np.testing.assert_allclose([sum(area for _, area in group) for group in bars], 1)
    np.testing.assert_allclose([area for _, area in bars[0]], np.histogram(np.arange(5), bins=4, range=(0, 8))[0] / 5)
    assert [line.get_xdata()[0] for line in ax.lines] == [2, 4]
    assert len({group[0].get_hatch() for group in ax.containers}) == 2
    assert legend_of(ax) == ["a", "b"]
    (ax,) = axes_of(plots.distributions(samples, kind="smooth"))
    assert len(ax.collections) == 2
    for bad in ({"a": [np.nan]}, {"a": []}):
        with pytest.raises(ValueError, match="'a'"):
            plots.distributions(bad)


@pytest.mark.parametrize("theme", plots.THEMES)
def test_heat_map_cells_start_from_the_page_and_hold_their_numbers(theme):
    frame = pd.DataFrame([[1.0, 0.0], [-0.5, 4.0]], index=["CUA", "GC"], columns=["recall", "gap"])
    (ax,) = axes_of(plots.heatmap(frame, texts="+.1f", bold=frame > 0.5, limit=1.0), theme)
    assert [text.get_text() for text in ax.texts] == ["+1.0", "+0.0", "-0.5", "+4.0"]
    assert [text.get_fontweight() for text in ax.texts] == ["bold", "normal", "normal", "bold"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["CUA", "GC"]
    colours = ax.collections[0].get_facecolors()[:, :3]
    page = mpl.colors.to_rgb(plots.settings(theme)["axes.facecolor"])
    np.testing.assert_allclose(colours[0], colour("C0", theme), atol=0.02)
    np.testing.assert_allclose(colours[3], colours[0])  # beyond the limit
    np.testing.assert_allclose(colours[1], page, atol=0.02)
    np.testing.assert_allclose(colours[2], (np.array(page) + colour("C1", theme)) / 2, atol=0.02)
    for text, cell in zip(ax.texts, colours, strict=True):
        assert contrast(text.get_color(), cell) >= 4.5


def test_heat_maps_refuse_what_does_not_fit():
    for bad in ({"rows": ["a", "b"]}, {"columns": ["a"]}, {"texts": [["a"]]}, {"bold": [[True]]}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            plots.heatmap([[1.0, 2.0]], **bad)
    with pytest.raises(ValueError, match="values"):
        plots.heatmap([[np.nan]])


def test_pictures_are_ink_on_white_with_their_words():
    glyph = (255 * np.eye(3)).astype(np.uint8)
    drawn = plots.pictures([[glyph, None]], [["LATIN LETTER", ""]], rows=["a"], heat=[[np.eye(2), None]], wrap=6)
    first, second = axes_of(drawn, "dark")
    assert [len(first.images), len(second.images)] == [2, 0]
    np.testing.assert_array_equal(first.images[0].get_array(), glyph)
    assert first.images[0].get_clim() == (0, 255)
    assert first.get_title(loc="center") == "LATIN\nLETTER"
    assert first.get_ylabel() == "a"
    with pytest.raises(ValueError, match="rows"):
        plots.pictures([[glyph]], rows=["a", "b"])
    with pytest.raises(ValueError, match="images"):
        plots.pictures([])


def test_grids_share_one_legend_and_label_the_edge():
    one = plots.curves([0, 1], {"a": [0, 1], "b": [1, 0]}, xlabel="x", ylabel="y")
    other = plots.curves([0, 1], {"b": [0, 1], "c": [1, 0]}, xlabel="x", ylabel="y")
    axes = axes_of(plots.grid({"left": one, "right": other, "below": one}, columns=2, sharex=True, sharey=True))
    assert [ax.get_title(loc="left") for ax in axes[:3]] == ["left", "right", "below"]
    assert [ax.get_visible() for ax in axes] == [True, True, True, False]
    assert [ax.get_ylabel() for ax in axes[:3]] == ["y", "", "y"]
    assert [ax.get_xlabel() for ax in axes[:3]] == ["", "x", "x"]
    assert legend_of(axes[0]) == ["a", "b", "c"]
    axes = axes_of(plots.grid([one, other], legend=1))
    assert axes[0].get_legend() is None
    assert legend_of(axes[1]) == ["b", "c"]
    assert legend_of(axes_of(plots.grid([one, other], legend=""))[0]) == []
    for bad in (
        {"panels": []},
        {"panels": [line]},
        {"panels": [one], "legend": 1},
        {"panels": [one], "legend": "left"},
    ):
        with pytest.raises(ValueError, match=r"panels|legend"):
            plots.grid(**bad)


def test_frames_set_ticks_limits_and_reference_lines():
    (ax,) = axes_of(
        plots.panel(
            lambda ax: ax.plot([0.1, 10], [0, 1]),
            xscale="log",
            xticks={0.1: "a tenth", 10: "ten"},
            yticks=(0, 0.5),
            ylim=(-1, None),
            xline={"the bound": 2},
            yline=0,
        ).then(lambda ax: ax.text(1, 0, "more"))
    )
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a tenth", "ten"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "0.5"]
    assert ax.get_ylim()[0] == -1
    assert {text.get_text() for text in ax.texts} == {"the bound", "more"}
    assert [line.get_linestyle() for line in ax.lines[1:]] == [":", "-"]
    with pytest.raises(ValueError, match="xscale"):
        plots.curves([1], {"a": [1]}, xscale="logarithmic")
    with pytest.raises(TypeError, match="colour"):
        plots.curves([1], {"a": [1]}, colour="red")


def test_a_curve_on_axes_of_ones_own():
    _, ax = plots.figure()
    plots.curve(ax, [1, 2], [[1, 2], [3, 4]], label="mean")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2, 3])
    for bad in ([1.0], [[1.0, 2.0, 3.0]], [1.0, np.nan]):
        with pytest.raises(ValueError, match="samples"):
            plots.curve(ax, [1, 2], bad)
