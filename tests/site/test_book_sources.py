"""The book's sources agree with themselves: contents, glossary, notation, citations, licences, settings."""

import datetime
import importlib
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import yaml
from pybtex.database import parse_file

import gaplib
from gaplib.book.chapters.ch01_measures import DRAWN
from gaplib.claims import CLAIMS
from gaplib.geometry.metrics import METRICS
from tools.setup_cell import GAPLIB_SOURCE

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
SETTINGS = CONFIG["sphinx"]["config"]


def toc_files():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


@cache
def texts():
    """Markdown of every page: path relative to the root -> text (of a notebook, its markdown cells)."""
    found = {f"book/{path.name}": path.read_text(encoding="utf-8") for path in BOOK.glob("*.md")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        markdown = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[f"notebooks/{path.name}"] = "\n\n".join(markdown)
    return found


def without_code(text):
    """``text`` without literal blocks, whose roles are examples. Directives are kept."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r"\s*(`{3,})(.*)", line)
        if fence:
            if mark and mark[1] == fence and not mark[2].strip():
                fence = ""
            continue
        if mark and mark[2] and not mark[2].startswith("{"):
            fence = mark[1]
            continue
        lines.append(line)
    return re.sub(r"``.*?``", "", "\n".join(lines))


# --- contents ------------------------------------------------------------------------------------


def test_toc_names_every_page_and_every_page_is_in_the_toc():
    assert sorted(toc_files()) == sorted(path.rsplit(".", 1)[0] for path in texts())


def test_toc_has_its_three_parts():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert [part["caption"] for part in toc["parts"]] == ["Begin", "Chapters", "Reference"]
    chapters = [chapter["file"] for chapter in toc["parts"][1]["chapters"]]
    assert chapters == sorted(chapters)


def test_welcome_page_lists_eleven_chapters_and_links_those_that_exist():
    rows = re.findall(r"\* - (\d\d)\n  - (.+)\n  - (.+)", texts()["book/intro.md"])
    assert [number for number, _, _ in rows] == [f"{i:02d}" for i in range(1, 12)]
    existing = {file.removeprefix("notebooks/") for file in toc_files() if file.startswith("notebooks/")}
    linked = {match[1] for _, title, _ in rows if (match := re.search(r"\(\.\./notebooks/(.+)\.ipynb\)", title))}
    assert linked == existing
    for number, title, question in rows:
        assert question.endswith("?")
        assert ("(to come)" in title) == (number not in {name[:2] for name in existing})


def test_one_title_a_page():
    for path, text in texts().items():
        assert len(re.findall(r"^# ", without_code(text), flags=re.M)) == 1, path


@pytest.mark.parametrize("path", sorted(texts()))
def test_formulas_survive_markdown(path):
    """No line inside a formula starts like a list item or a heading, which would end the formula's paragraph."""
    prose = re.sub(r"^(`{3,}).*?^\1\s*$", "", texts()[path], flags=re.M | re.S)
    prose = re.sub(r"`[^`]*`", "", re.sub(r"\$\$.*?\$\$", "", prose, flags=re.S))
    for paragraph in re.split(r"\n\s*\n", prose):
        for formula in re.findall(r"\$[^$]+\$", paragraph):
            assert not re.search(r"\n\s*([-+*>]|#+|\d+[.)]) ", formula), formula


# --- glossary and notation -----------------------------------------------------------------------


def glossary_terms():
    block = re.search(r"```\{glossary\}\n(.*?)\n```", texts()["book/glossary.md"], flags=re.S)[1]
    return {line.strip() for line in block.splitlines() if re.match(r"\S", line) and not line.startswith(":")}


def used_terms():
    used = set()
    for text in texts().values():
        for role in re.findall(r"\{term\}`([^`]+)`", without_code(text)):
            role = " ".join(role.split())
            used.add(match[1] if (match := re.search(r"<(.+)>$", role)) else role)
    return used


def test_every_glossary_term_is_used_and_every_used_term_is_there():
    terms = glossary_terms()
    assert len(terms) >= 20
    assert terms - {term.lower() for term in used_terms()} == set()
    assert {term for term in used_terms() if term.lower() not in terms} == set()  # Sphinx ignores case


def notation_names():
    rows = re.split(r"^\* - ", texts()["book/notation.md"], flags=re.M)[1:]
    return {re.findall(r"`([a-z_.]+(?:\.[A-Za-z_]+)+)`", row)[-1] for row in rows if "Symbol" not in row}


@pytest.mark.parametrize("name", sorted(notation_names()))
def test_every_name_of_the_notation_exists(name):
    module, attribute = f"gaplib.{name}".rsplit(".", 1)
    assert hasattr(importlib.import_module(module), attribute)


def test_the_metrics_and_losses_that_chapters_use_have_their_row():
    metrics = {METRICS[name].function.__name__ for name in DRAWN} | {"gap_direction", "retrieval"}
    losses = "clip_loss siglip_loss alignment_loss uniformity_loss cross_uniformity_loss"
    named = {name.rsplit(".", 1)[1] for name in notation_names()}
    assert {*metrics, *losses.split()} <= named


# --- citations -----------------------------------------------------------------------------------

BIBLIOGRAPHY = parse_file(BOOK / "references.bib")


@pytest.mark.parametrize("key", sorted(BIBLIOGRAPHY.entries))
def test_bibliography_entry_is_whole(key):
    entry = BIBLIOGRAPHY.entries[key]
    assert entry.persons.get("author"), "no author"
    assert len(entry.fields["title"]) > 5
    year = re.fullmatch(r"[a-z]+(\d{4})[a-z0-9]+", key)
    assert year, "keys are family name, year, first word of the title"
    if "to be checked" in entry.fields.get("note", ""):
        return  # said on the page, too
    assert abs(int(entry.fields["year"]) - int(year[1])) <= 1  # some appeared a year after their preprint
    family = re.sub(r"\W", "", "".join(entry.persons["author"][0].last_names)).lower()
    assert key.startswith(family)
    if "eprint" in entry.fields:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.fields["eprint"])
        assert 2000 + int(entry.fields["eprint"][:2]) <= int(entry.fields["year"])
        assert 1 <= int(entry.fields["eprint"][2:4]) <= 12
    assert entry.type != "inproceedings" or entry.fields["booktitle"]


def citations(text):
    keys = re.findall(r"\{cite(?::[a-z]+)?\}`([^`]+)`", without_code(text))
    return {key.strip() for group in keys for key in group.split(",")}


@pytest.mark.parametrize("path", sorted(texts()))
def test_cited_keys_exist_and_chapters_cite_with_their_number(path):
    text, prefix = texts()[path], ""
    if path.startswith("notebooks/"):
        prefix = f"{Path(path).name[:2]}-"
        assert f":keyprefix: {prefix}" in text
        assert ":filter: docname in docnames" in text
        assert citations(text), "a chapter without a citation"
    for key in citations(text):
        assert key.startswith(prefix)
        assert key.removeprefix(prefix) in BIBLIOGRAPHY.entries


def test_every_claim_cites_an_entry():
    assert {claim.paper for claim in CLAIMS.values() if claim.paper} <= set(BIBLIOGRAPHY.entries)


# --- licences, citation file, commands -----------------------------------------------------------


def test_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == gaplib.__version__
    assert citation["type"] == "software"
    datetime.date.fromisoformat(citation["date-released"])
    for work in (citation, *citation["references"]):
        assert all(set(author) & {"name", "family-names"} for author in work["authors"])


def test_licences():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    text = (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    assert text.startswith("SPDX-License-Identifier: CC-BY-4.0")
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in text
    others = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    assert all(word in others for word in ("MathJax", "Apache-2.0", "Liang", "Font Awesome", "DejaVu"))
    apache = (BOOK / "_static" / "licences" / "Apache-2.0.txt").read_text(encoding="utf-8")
    assert "Apache License" in apache
    assert "END OF TERMS AND CONDITIONS" in apache


def test_commands_that_the_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    for path in ("README.md", "CONTRIBUTING.md", "book/how_to_run.md", "book/how_to_write.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.M))
        assert named
        assert named <= targets, path


def test_files_that_the_recipes_name_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {
        path for path in re.findall(r"[\w.]+(?:/[\w.]*)+", text) if not path.startswith(".venv/") and "NN" not in path
    }
    assert len(named) > 30
    assert {path for path in named if not (ROOT / path).exists()} == set()


# --- settings and the Sphinx extension -----------------------------------------------------------


@cache
def extension():
    spec = importlib.util.spec_from_file_location("gapbook", BOOK / "_ext" / "gapbook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings():
    assert CONFIG["execute"]["execute_notebooks"] == "off"
    assert CONFIG["only_build_toc_files"] is True
    assert "sphinx_thebe" not in SETTINGS["extensions"]
    assert {"sphinx_exercise", "sphinx_proof", "sphinxcontrib.bibtex", "gapbook"} <= set(SETTINGS["extensions"])
    assert SETTINGS["html_theme_options"]["navbar_persistent"] == []
    assert SETTINGS["html_context"]["default_mode"] == "auto"
    assert "://" not in SETTINGS["mathjax_path"]


def test_one_repository_address():
    """The launch buttons and the setup cell name the same repository, or both none."""
    source = GAPLIB_SOURCE.removeprefix("git+").rsplit("@", 1)[0].removesuffix(".git")
    assert CONFIG["repository"]["url"].removesuffix(".git") == source


@pytest.mark.parametrize("name", ["logo.svg", "favicon.svg"])
def test_pictures_of_the_site_are_plain_svg(name):
    text = (BOOK / "_static" / name).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "<script" not in text
    assert "href" not in text


def test_style_sheet_asks_no_other_host():
    assert not re.search(r"@import|url\(|//", (BOOK / "_static" / "gapbook.css").read_text(encoding="utf-8"))


@pytest.mark.parametrize("address", ["", "https://example.org/owner/name"])
def test_launch_buttons_only_with_an_address(address):
    options = {"repository_url": address, "launch_buttons": {"colab_url": "x"}, "show_toc_level": 2}
    extension().drop_buttons_without_address(None, SimpleNamespace(html_theme_options=options))
    assert ("launch_buttons" in options) == bool(address)
    assert options["show_toc_level"] == 2


def test_mathjax_is_copied(tmp_path):
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=str(tmp_path))
    extension().copy_mathjax(app)
    copied = tmp_path / "_static" / SETTINGS["mathjax_path"]
    assert 'VERSION="3.2.2"' in copied.read_text(encoding="utf-8")
    assert (copied.parent / "output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff").stat().st_size > 10_000
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 4 * 2**20


def test_plotly_is_copied_only_when_a_page_uses_it(tmp_path):
    app = SimpleNamespace(env=SimpleNamespace(), outdir=str(tmp_path))
    names = (None, None)
    extension().mend_markup(app, *names, {"body": "text that names plotly.min.js"}, None)
    extension().copy_plotly(app, None)
    assert not list(tmp_path.rglob("*.js"))
    context = {"body": '<script src="../_static/plotly/plotly.min.js"></script><p role="doc-biblioentry">x</p>'}
    extension().mend_markup(app, *names, context, None)
    extension().copy_plotly(app, None)
    assert (tmp_path / "_static/plotly/plotly.min.js").stat().st_size > 10**6
    assert 'role="listitem"' in context["body"]
