"""What a pull request is told about its pages and numbers, and the names that the cache of runs is kept under."""

import json

import pytest

from gaplib.book.results import Recorder
from gaplib.stats import over_seeds
from tools import cache_key, changed

PAGE = """<html><body><nav>{menu}</nav><article><h1>Cone</h1><p class="gapbook-run">Reading: about {minutes} minutes</p>
<p>The gap is {gap}.</p><img src="a.png" alt="{alt}">
<p><em>This page was computed: {date}, commit <code>0123</code>. More on the <a href="s.html">status page</a>.</em></p>
</article></body></html>"""
SAME = {"menu": "one", "minutes": 3, "gap": 0.8, "alt": "Two clouds of points.", "date": "2026-01-02"}


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """Two builds of one page and three results, alike but for when they were made."""
    for name, date, menu in (("earlier", "2026-01-02", "one"), ("later", "2026-02-03", "two")):
        (tmp_path / name / "html" / "book").mkdir(parents=True)
        (tmp_path / name / "html" / "book" / "cone.html").write_text(PAGE.format(**SAME | {"date": date, "menu": menu}))
        (tmp_path / name / "html" / "book" / "status.html").write_text(f"<article>{date}</article>")
        record(tmp_path / name, monkeypatch)
    return tmp_path / "earlier", tmp_path / "later"


def record(build, monkeypatch, gap=(0.5, 0.6, 0.7), **more):
    monkeypatch.setenv("GAPLIB_RESULTS", str(build / "results"))
    run = Recorder("04")
    run.record("cone.gap", over_seeds(gap))
    run.record_all("cone", {"dimension": 12, **more})
    run.save()
    (build / "results" / "claims.json").write_text(json.dumps([{"id": "L1", "verdict": "reproduced"}]))


def test_builds_that_differ_in_their_dates_alone_are_the_same(builds):
    assert changed.report(*builds) == "No pages changed.\n\nNo verdicts changed.\n\nNo numbers changed.\n"


@pytest.mark.parametrize("change", [{"gap": 0.9}, {"alt": "Two clouds of points, further apart."}])
def test_a_page_that_says_something_else_is_named(builds, change):
    (builds[1] / "html" / "book" / "cone.html").write_text(PAGE.format(**SAME | change))
    assert changed.changed_pages(builds[0] / "html", builds[1] / "html") == [("book/cone.html", "changed")]


def test_pages_that_came_and_went_are_named_and_the_theme_s_files_are_none(builds):
    (builds[0] / "html" / "old.html").write_text("x")
    (builds[1] / "html" / "new.html").write_text("x")
    (builds[1] / "html" / "_static").mkdir()
    (builds[1] / "html" / "_static" / "part.html").write_text("x")
    found = changed.changed_pages(builds[0] / "html", builds[1] / "html")
    assert found == [("new.html", "new"), ("old.html", "gone")]


def test_numbers_that_moved_came_and_went(builds, monkeypatch):
    record(builds[0], monkeypatch, was=1)
    record(builds[1], monkeypatch, gap=(0.5, 0.6, 0.8), now=2)
    rows = changed.changed_numbers(builds[0] / "results", builds[1] / "results")
    assert [name for name, _, _ in rows] == ["04: cone.gap", "04: cone.now", "04: cone.was"]
    assert rows[0][1].startswith("0.6 [")
    assert rows[0][2].startswith("0.6333 [")
    assert rows[1][1] == rows[2][2] == "none"


def test_floats_of_another_processor_are_no_change(builds, monkeypatch):
    record(builds[1], monkeypatch, gap=(0.5, 0.6, 0.7 + 1e-8))
    assert changed.changed_numbers(builds[0] / "results", builds[1] / "results") == []


def test_another_verdict_is_named(builds):
    (builds[1] / "results" / "claims.json").write_text(json.dumps([{"id": "L1", "verdict": "partly"}]))
    assert "### Changed verdicts: 1\n\n| claim | before | after |\n" in changed.report(*builds)
    assert "| L1 | reproduced | partly |" in changed.report(*builds)


def test_a_long_table_is_cut_and_says_so(builds, monkeypatch):
    record(builds[1], monkeypatch, **{f"n{i}": i for i in range(changed.SHOWN + 5)})
    text = changed.report(*builds)
    assert f"### Changed numbers: {changed.SHOWN + 5}" in text
    assert "… and 5 more." in text


def test_command_line(builds, capsys):
    assert changed.main([str(folder) for folder in builds]) == 0
    assert "No pages changed." in capsys.readouterr().out
    assert changed.main([str(builds[0]), str(builds[0] / "html")]) == 2
    assert "expected results files such as 01.json, found none" in capsys.readouterr().err


def test_the_cache_s_names(tmp_path, monkeypatch, capsys):
    """Other code: another first name. Another run: another second name; a lock file: none."""
    empty = cache_key.content_key(tmp_path / "nothing")
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    one = cache_key.content_key(tmp_path)
    (tmp_path / "runs" / "abc.lock").touch()
    assert cache_key.content_key(tmp_path) == one != empty
    (tmp_path / "runs" / "def").mkdir()
    assert cache_key.content_key(tmp_path) != one
    before = cache_key.code_key()
    assert cache_key.main(["--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"code={before}\ncontent={cache_key.content_key(tmp_path)}\n"
    monkeypatch.setattr(cache_key, "code_digest", lambda: "other code")
    assert cache_key.code_key() != before
    monkeypatch.undo()
    monkeypatch.setattr(cache_key, "version", lambda package: "0.0" if package == "torch" else "?")
    assert cache_key.code_key() != before
