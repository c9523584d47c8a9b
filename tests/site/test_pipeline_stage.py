"""Staging: what a page shows of an executed notebook, and what it does not; and how the rendered site is slimmed."""

import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gaplib import zoo
from gaplib.methods import METHODS
from tools import build_site, stage

FIXTURES = Path(__file__).parents[1] / "fixtures" / "notebooks"
FACTS = {
    "seconds": 131.0,
    "peak_memory_mib": 812,
    "device": "cpu",
    "cpu": "Some processor",
    "profile": "quick",
    "parameters": {"SEEDS": 3},
    "versions": {"python": "3.11.7", "torch": "2.11.0"},
    "commit": "0123456789abcdef-dirty",
    "date": "2026-01-02 03:04 UTC",
    "result_hash": "fedcba9876543210",
}


@pytest.fixture
def good():
    notebook = nbformat.read(FIXTURES / "good.ipynb", as_version=4)
    notebook.metadata["gaplib"] = FACTS
    return notebook


@pytest.fixture
def project(tmp_path):
    (tmp_path / "book" / "_generated").mkdir(parents=True)
    (tmp_path / "book" / "intro.md").write_text("# Intro\n")
    (tmp_path / "book" / "_generated" / "stale.md").write_text("old")
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).write_text("{}\n")
    return tmp_path


def test_pair_becomes_dark_then_light_with_caption_and_name_on_the_light_one(good):
    cells = stage.page(good).cells
    dark, light = [cell for cell in cells if "mystnb" in cell.metadata]
    alt = "Two points, one beside the other, 0.5 apart."
    assert dark.metadata.mystnb == {"image": {"alt": alt, "classes": "only-dark"}}
    assert light.metadata.mystnb == {
        "image": {"alt": alt, "classes": "only-light"},
        "figure": {"caption": "Two points.", "name": "fig-a"},
    }
    for cell in (dark, light):
        assert cell.metadata.tags == ["remove-input"]
        assert cell.source  # myst-nb drops cells without source, outputs included
        assert [set(output.data) for output in cell.outputs] == [{"image/png"}]
    drawing = next(cell for cell in cells if cell.source == "draw()")
    assert drawing.outputs == []
    assert cells.index(drawing) + 1 == cells.index(dark)


def test_light_figure_alone_is_shown_in_both_modes(good):
    good.cells[2].outputs.pop()
    (figure,) = [cell for cell in stage.page(good).cells if "mystnb" in cell.metadata]
    assert "classes" not in figure.metadata.mystnb.image
    assert figure.metadata.mystnb.figure.name == "fig-a"


def test_settings_are_hidden_and_glue_stays(good):
    page = stage.page(good)
    assert page.cells[0].metadata.tags == ["parameters", "remove-cell"]
    assert any("application/papermill.record/text/plain" in o.data for c in page.cells for o in c.get("outputs", []))


def test_volatile_metadata_is_dropped(good):
    good.cells[1].metadata["papermill"] = {"duration": 1.5}
    good.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-02"}
    page = stage.page(good)
    assert set(page.metadata) == {"kernelspec", "language_info"}
    assert page.metadata.kernelspec.name == "python3"
    assert all("papermill" not in cell.metadata and "execution" not in cell.metadata for cell in page.cells)


def test_staging_twice_gives_the_same_cells(good):
    assert stage.page(good).cells == stage.page(good).cells
    ids = [cell.id for cell in stage.page(good).cells]
    assert len(set(ids)) == len(ids)


def test_page_ends_with_where_its_numbers_come_from(good):
    note = stage.page(good).cells[-1].source
    for part in ("2026-01-02 03:04 UTC", "`quick` with 3 seeds", "2.2 min", "`0123456789-dirty`", "`fedcba9876`"):
        assert part in note


def test_page_starts_with_how_long_it_takes(good):
    """Words are counted in the text alone; the line is HTML, so that no description of the page starts with it."""
    words = " ".join(["word"] * (3 * stage.WORDS_A_MINUTE - 2))  # with the two words of the title
    good.cells.insert(0, nbformat.v4.new_markdown_cell(f"# Title\n{words}"))
    title = next(cell for cell in stage.page(good).cells if cell.cell_type == "markdown").source.splitlines()
    said = "Reading: about 3 minutes. Running it took 2.2 min (profile quick, 3 seeds, cpu)."
    assert title == ["# Title", "", f'<p class="gapbook-run">{said}</p>', "", words]


def test_reading_time_is_at_least_a_minute(good):
    short = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    assert "about 1 minute." in stage.run_line(short, FACTS)
    assert "<" not in stage.run_line(short, FACTS | {"device": "<b>"}).removeprefix("<p ").removesuffix("</p>")


def test_tree(good, project):
    executed = project / "_build" / "executed"
    executed.mkdir(parents=True)
    nbformat.write(good, executed / "01_good.ipynb")
    (project / "_build" / "results").mkdir()
    (project / "_build" / "results" / "claims_table.md").write_text("| L1 | reproduced |\n")
    target = stage.stage([executed / "01_good.ipynb"], project / "_build", project)
    generated = target / "book" / "_generated"
    names = ["claims_table.md", "methods_table.md", "status_table.md", "zoo_table.md"]
    assert sorted(path.name for path in generated.iterdir()) == names
    table = (generated / "methods_table.md").read_text().splitlines()
    assert len(table) == 2 + len(METHODS)
    assert all(row.count("|") == 6 for row in table)
    cua = next(row for row in table if row.startswith("| `cua` "))
    assert "clip + 1 uniformity + 1 alignment | fixed, tau = 0.01 |" in cua
    assert (generated / "claims_table.md").read_text() == "| L1 | reproduced |\n"
    assert (generated / "zoo_table.md").read_text() == stage.NO_MODELS
    row = (generated / "status_table.md").read_text().splitlines()[2]
    assert row.startswith("| [01 good](../notebooks/01_good.ipynb) | quick | 3 | cpu | 2.2 min | 812 MiB |")
    nbformat.validate(nbformat.read(target / "notebooks" / "01_good.ipynb", as_version=4))


def test_models_of_the_zoo_are_on_its_page(tmp_path):
    file = tmp_path / "zoo.csv"
    row = {"model": "m<1>", "data": "coco", "n": 5000} | dict.fromkeys(zoo.SHOWN, 0.25)
    pd.DataFrame([row]).to_csv(file, index=False)
    text = stage.zoo_table(file)
    assert text.startswith("<table")
    assert "m&lt;1&gt;" in text
    assert text.count("<td>0.250</td>") == len(zoo.SHOWN)
    assert "\n\n" not in text  # an empty line would end the HTML in Markdown
    file.write_text("model\n")
    with pytest.raises(ValueError, match="no column 'data'"):
        stage.zoo_table(file)


def test_refused_notebook_is_never_staged_and_the_older_tree_stays(project):
    older = project / "_build" / "stage" / "kept.md"
    older.parent.mkdir(parents=True)
    older.write_text("older")
    with pytest.raises(ValueError, match="error: cell 2: error ZeroDivisionError"):
        stage.stage([FIXTURES / "error.ipynb"], project / "_build", project)
    assert older.read_text() == "older"


def png_of(pixels):
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, format="png")
    return written.getvalue()


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


@pytest.fixture
def drawing():
    from matplotlib.figure import Figure

    fig = Figure(figsize=(4, 3))
    axes = fig.subplots()
    axes.plot([0, 1, 2], [0, 1, 0], marker="o", label="text with edges")
    axes.legend()
    written = io.BytesIO()
    fig.savefig(written, format="png", dpi=200)
    return written.getvalue()


def test_drawing_gets_small_and_looks_the_same(drawing):
    small = build_site.smaller(drawing)
    assert len(small) < len(drawing) / 1.5
    moved = np.abs(pixels_of(small) - pixels_of(drawing)).max(axis=-1)
    assert (moved > 16).mean() < 0.002
    assert (pixels_of(small)[0, 0] == 255).all()  # the page's colour exactly: no visible frame around a figure


def test_picture_of_few_colours_keeps_every_pixel():
    rng = np.random.default_rng(0)
    png = png_of(rng.integers(0, 256, (200, 3), dtype=np.uint8)[rng.integers(0, 200, (40, 50))])
    assert (pixels_of(build_site.smaller(png)) == pixels_of(png)).all()


def test_smooth_colours_and_transparency_are_left_alone(drawing):
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    smooth = png_of(np.stack([rows, columns, 255 - rows], axis=-1))
    assert build_site.smaller(smooth) == smooth
    clear = png_of(
        np.concatenate([pixels_of(drawing).astype(np.uint8), np.full((600, 800, 1), 100, np.uint8)], axis=-1)
    )
    assert build_site.smaller(clear) == clear


def test_slim_site_offers_source_notebooks(good, drawing, project):
    html = project / "html"
    for folder in ("_sources/notebooks", "_static", "_images", "notebooks"):
        (html / folder).mkdir(parents=True)
    (project / "notebooks").mkdir()
    nbformat.write(good, html / "_sources" / "notebooks" / "01_good.ipynb")
    nbformat.write(good, html / "_sources" / "notebooks" / "99_elsewhere.ipynb")
    (project / "notebooks" / "01_good.ipynb").write_text("the source")
    (html / "notebooks" / "01_good.html").write_text("page")
    (html / "_static" / "style.css.map").write_text("{}")
    (html / "_static" / "style.css").write_text("p {}")
    (html / "_images" / "a.png").write_bytes(drawing)
    build_site.slim(html, project)
    assert (html / "_sources" / "notebooks" / "01_good.ipynb").read_text() == "the source"
    stripped = nbformat.read(html / "_sources" / "notebooks" / "99_elsewhere.ipynb", as_version=4)
    assert [cell.source for cell in stripped.cells] == [cell.source for cell in good.cells]
    assert not any(cell.get("outputs") for cell in stripped.cells)
    assert [path.name for path in (html / "_static").iterdir()] == ["style.css"]
    sizes = build_site.sizes(html)
    assert sizes["figures"] == len(build_site.smaller(drawing)) < len(drawing)
    assert (sizes["pages"], sizes["theme and scripts"]) == (4, 4)
