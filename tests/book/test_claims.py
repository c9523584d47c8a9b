"""The rows, the machine that decides them, and the tools that keep confirming results and put verdicts on the page."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaplib import claims
from gaplib.book.results import Recorder, load
from gaplib.claims import CLAIMS, Baseline, Claim, Deviation, Part, decide
from gaplib.claims.decide import samples_needed
from gaplib.stats import Estimate, exact, over_seeds, proportion
from tools import build_claims
from tools import confirm as confirm_tool
from tools.claims_page import escape, page
from tools.execute import result_hash

# Typed from the list of claims, by chapter.
IDS = {
    "01": "L1 L2 S2 C3 E1",
    "02": "L3 L4 L5 L6",
    "03": "F1 F2 F3 F4 D1",
    "04": "L7 L8 L9 Y1 Y2 Y3 Y4 Y5 S1 G1",
    "05": "J1 J2 J3",
    "06": "F5 F6 A1",
    "07": "Y6 Y7 Y8 Y9 Y10 Y11",
    "08": "J4 J5 J6",
    "09": "L10 F7 F8 Y12 Y13 J7 J8 M1 C1 C2 H1 R1 T1",
    "10": "J9 J10 J11",
}


def around(value, se, n=10):
    """An estimate over seeds with this mean and standard error."""
    offsets = [2 * i - n + 1 for i in range(n)]
    scale = se * math.sqrt(n * (n - 1) / sum(o * o for o in offsets))
    return over_seeds([value + scale * o for o in offsets])


def claim(*parts, seeds=10, status="frozen", **options):
    text = dict.fromkeys(("paper", "source", "statement", "test", "refuted_if"), "text")
    row = {"id": "T9", "chapter": "01", "setting": "G", "parts": parts, "seeds": seeds, "status": status}
    return Claim(**(text | row | options))


def above(name, threshold=0.2, **options):
    return Part(name, "above", threshold, "the gap", **options)


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_every_claim_is_there_once_and_in_its_chapter():
    assert {id: c.chapter for id, c in CLAIMS.items()} == {id: n for n, ids in IDS.items() for id in ids.split()}
    assert len(CLAIMS) == 55
    assert all(id == c.id for id, c in CLAIMS.items())
    for chapter, ids in IDS.items():
        assert sorted(c.id for c in claims.chapter_claims(chapter)) == sorted(ids.split())
    with pytest.raises(ValueError, match="chapter"):
        claims.table("11")


@pytest.mark.parametrize("row", CLAIMS.values(), ids=CLAIMS)
def test_rows_keep_the_rules_of_the_book(row):
    assert row.status == "frozen"
    for part in row.parts:
        assert part.quantity.startswith(f"{row.id}.")
        # "No change" in a task score says nothing at a floor or a ceiling.
        if part.comparison == "within" and ("recall" in part.quantity or row.id == "Y13"):
            assert part.baseline is not None
    assert len({row.statement, row.test, row.refuted_if}) == 3
    # Each row can reach both ends: the machine accepts its parts.
    value = {p.quantity: _inside(p) for p in row.parts}
    value |= {p.baseline.quantity: _middle(p.baseline) for p in row.parts if p.baseline}
    assert decide(row, value).verdict == "reproduced"
    assert decide(row, {p.quantity: _outside(p) for p in row.parts} | _bases(row)).verdict == "not reproduced"


def _make(part, value):
    return exact(value) if part.exact else around(value, 1e-9)


def _inside(part):
    if part.comparison == "within":
        return _make(part, sum(part.threshold) / 2)
    return _make(part, part.threshold + (1 if part.comparison == "above" else -1))


def _outside(part):
    if part.comparison == "within":
        return _make(part, part.threshold[1] + 1)
    return _make(part, part.threshold - (1 if part.comparison == "above" else -1))


def _middle(baseline):
    return around(baseline.chance + 0.5 * (baseline.ceiling - baseline.chance), 1e-3)


def _bases(row):
    return {p.baseline.quantity: _middle(p.baseline) for p in row.parts if p.baseline}


# --- rule and hash ----------------------------------------------------------------------------------------------------


def test_the_hash_follows_every_field_of_a_part_and_what_else_decides():
    part = Part("T9.a", "within", (0.0, 1.0), "x", "why", "u", False, "f", Baseline("T9.b", 0.0, 1.0), False)
    changed = {
        "quantity": "T9.c",
        "threshold": (0.0, 1.5),
        "says": "y",
        "why": "because",
        "unit": "v",
        "exact": True,
        "family": "g",
        "headline": True,
    }
    parts = [dataclasses.replace(part, **{k: v}) for k, v in changed.items()]
    parts += [dataclasses.replace(part, comparison="above", threshold=0.0)]
    bases = (None, Baseline("T9.d", 0.0, 1.0), Baseline("T9.b", 0.1, 1.0), Baseline("T9.b", 0.0, 0.9))
    parts += [dataclasses.replace(part, baseline=b) for b in bases]
    assert {f.name for f in dataclasses.fields(Part)} == {*changed, "comparison", "baseline"}
    row = claim(part)
    others = [claim(p) for p in parts] + [claim(part, part2) for part2 in [above("T9.z")]]
    others += [claim(part, statement="s"), claim(part, seeds=11), claim(part, id="T8")]
    hashes = [row.rule_hash, *(c.rule_hash for c in others)]
    assert len(set(hashes)) == len(hashes) == len(parts) + 5
    assert claim(dataclasses.replace(part)).rule_hash == row.rule_hash
    # What decides nothing may be reworded.
    assert claim(part, note="n", source="s", status="draft").rule_hash == row.rule_hash


def test_the_machinery_version_is_hashed(monkeypatch):
    before = CLAIMS["L1"].rule_hash
    monkeypatch.setattr("gaplib.claims.rules.MACHINERY", 99)
    assert CLAIMS["L1"].rule_hash != before


def test_the_rule_text_is_made_from_the_parts():
    text = claim(above("T9.a", why="so"), Part("T9.b", "within", (-1, 1), "b", baseline=Baseline("T9.c", 0.1))).rule
    for words in ("T9.a above 0.2", "so", "T9.b within [-1, 1]", "30 to 85 %", "T9.c", "Holm", "At least 10 seeds"):
        assert words in text


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Part("a", "above", 1, "x"), "quantity"),
        (lambda: Part("a.b", "over", 1, "x"), "comparison"),
        (lambda: Part("a.b", "above", math.nan, "x"), "threshold"),
        (lambda: Part("a.b", "above", (0, 1), "x"), "threshold"),
        (lambda: Part("a.b", "within", 1, "x"), "threshold"),
        (lambda: Part("a.b", "within", (1, 1), "x"), "threshold"),
        (lambda: Part("a.b", "above", 1, ""), "says"),
        (lambda: Baseline("a.b", 1.0, 1.0), "ceiling"),
        (lambda: claim(), "parts"),
        (lambda: claim(above("a.b"), above("a.b")), "once"),
        (lambda: claim(above("a.b", headline=True), above("a.c", headline=True)), "headline"),
        (lambda: claim(above("a.b"), chapter="1"), "chapter"),
        (lambda: claim(above("a.b"), setting="Q"), "setting"),
        (lambda: claim(above("a.b"), statement=""), "statement"),
        (lambda: claim(above("a.b"), status="done"), "status"),
        (lambda: claim(above("a.b"), seeds=-1), "seeds"),
    ],
)
def test_bad_rows_are_refused(make, word):
    with pytest.raises(ValueError, match=word):
        make()


# --- verdicts ---------------------------------------------------------------------------------------------------------

HIGH, LOW, OPEN = around(0.5, 0.01), around(-0.1, 0.01), around(0.25, 0.1)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((HIGH, HIGH), "reproduced"),
        ((LOW, LOW), "not reproduced"),
        ((HIGH, LOW), "partly"),
        ((HIGH, OPEN), "partly"),
        ((OPEN, OPEN), "undecided"),
        ((LOW, OPEN), "undecided"),
        ((HIGH, None), "partly"),
        ((LOW, None), "undecided"),
        ((None, None), "not yet"),
    ],
)
def test_verdicts_of_two_parts(values, verdict):
    row = claim(above("T9.a"), above("T9.b"))
    decision = decide(row, {p.quantity: v for p, v in zip(row.parts, values, strict=True) if v is not None})
    assert decision.verdict == verdict
    assert decision.explanation
    if values[1] is None and values[0] is not None:
        assert "no result T9.b" in decision.explanation


def test_out_of_reach():
    decision = decide(claim(above("T9.a"), out_of_reach="It takes MSCOCO and a GPU-week."), {})
    assert decision.verdict == "out of reach here"
    assert "GPU-week" in decision.explanation


@pytest.mark.parametrize(
    ("comparison", "threshold", "estimate", "verdict"),
    [
        ("below", 0.2, LOW, "reproduced"),
        ("below", 0.2, HIGH, "not reproduced"),
        ("below", 0.2, OPEN, "undecided"),
        ("within", (-0.02, 0.02), around(0.0, 0.004), "reproduced"),
        ("within", (-0.02, 0.02), around(0.1, 0.01), "not reproduced"),
        ("within", (-0.02, 0.02), around(-0.1, 0.01), "not reproduced"),
        # A difference test that fails to find anything is no evidence of equality.
        ("within", (-0.02, 0.02), around(0.0, 0.05), "undecided"),
        # A significant difference inside the margin is still "no change".
        ("within", (-0.02, 0.02), around(0.01, 0.001), "reproduced"),
        ("above", 0.9, proportion(100, 100), "reproduced"),
        ("above", 0.9, proportion(33, 100), "not reproduced"),
        ("above", 0.9, proportion(92, 100), "undecided"),
    ],
)
def test_verdicts_of_one_part(comparison, threshold, estimate, verdict):
    decision = decide(claim(Part("T9.a", comparison, threshold, "x")), {"T9.a": estimate})
    assert decision.verdict == verdict
    assert decision.estimate is estimate
    if verdict == "undecided":
        assert "would decide it" in decision.explanation


def test_a_verdict_is_visible_in_the_interval():
    # One-sided p = 0.03, but the printed 95 % interval holds the threshold.
    e = around(0.2 + 2.15 * 0.01, 0.01)
    decision = decide(claim(above("T9.a")), {"T9.a": e})
    assert decision.parts[0].p < 0.05
    assert e.low < 0.2
    assert decision.verdict == "undecided"


def test_holm_takes_from_many_what_one_would_have():
    e = around(0.2 + 2.6 * 0.01, 0.01)  # clears the threshold alone: p = 0.014, interval above
    assert decide(claim(above("T9.a")), {"T9.a": e}).verdict == "reproduced"
    four = claim(*(above(f"T9.{k}") for k in "abcd"))
    assert decide(four, {f"T9.{k}": e for k in "abcd"}).verdict == "undecided"
    # A part whose result is missing keeps its place in the correction.
    assert decide(four, {"T9.a": e}).parts[0].p == pytest.approx(
        4 * decide(claim(above("T9.a")), {"T9.a": e}).parts[0].p
    )
    # So it does for refutations.
    low = around(0.2 - 2.6 * 0.01, 0.01)
    assert decide(claim(above("T9.a")), {"T9.a": low}).verdict == "not reproduced"
    assert decide(four, {f"T9.{k}": low for k in "abcd"}).verdict == "undecided"
    families = claim(*(above(f"T9.{k}", family=k) for k in "abcd"))
    assert decide(families, {f"T9.{k}": e for k in "abcd"}).verdict == "reproduced"


@pytest.mark.parametrize(
    ("base", "verdict"), [(0.5, "reproduced"), (0.1, "undecided"), (0.95, "undecided"), (None, "undecided")]
)
def test_no_change_counts_only_off_the_floor_and_the_ceiling(base, verdict):
    row = claim(Part("T9.a", "within", (-0.02, 0.02), "recall", baseline=Baseline("T9.base", 0.0)))
    results = {"T9.a": around(0, 0.004)} | ({"T9.base": around(base, 0.01)} if base else {})
    decision = decide(row, results)
    assert decision.verdict == verdict
    if verdict == "undecided":
        assert "baseline" in decision.explanation
        assert ("an easier task" in decision.explanation) == (base == 0.1)
        assert ("a harder task" in decision.explanation) == (base == 0.95)


def test_baseline_range_is_relative_to_chance():
    base = Baseline("T9.b", 0.25, 1.0)
    assert [base.holds(v) for v in (0.25 + 0.75 * 0.29, 0.25 + 0.75 * 0.31, 0.25 + 0.75 * 0.84, 0.9)] == [
        False,
        True,
        True,
        False,
    ]


def test_exact_parts_and_forgotten_intervals():
    row = claim(Part("T9.a", "within", (-0.01, 0.01), "z", exact=True), seeds=0)
    assert decide(row, {"T9.a": exact(0.009)}).verdict == "reproduced"
    assert decide(row, {"T9.a": exact(0.02)}).verdict == "not reproduced"
    assert decide(row, {"T9.a": around(0, 1e-4)}).verdict == "undecided"
    assert "on the threshold" in decide(row, {"T9.a": exact(0.01)}).explanation
    assert "without an interval" in decide(claim(above("T9.a")), {"T9.a": exact(9)}).explanation


def test_too_few_seeds_decide_nothing():
    row = claim(above("T9.a"))
    few = {"T9.a": around(0.5, 0.001, n=4)}
    assert decide(row, few).verdict == "undecided"
    assert "rests on 4 seeds" in decide(row, few).explanation
    assert decide(row, few, seeds=2).verdict == "reproduced"
    assert decide(row, {"T9.a": Estimate(0.5, 0.4, 0.6, 900, "jackknife", 0.05, 19)}).verdict == "reproduced"


def test_samples_needed_against_simulation():
    import numpy as np

    part = above("T9.a", 0.0)
    pilot = around(0.5, 1 / math.sqrt(10))  # sd 1, effect 0.5
    n = samples_needed(part, pilot)
    assert n == pytest.approx((1.96 + 0.842) ** 2 / 0.25, abs=1.5)
    rng = np.random.default_rng(0)
    power = np.mean([over_seeds(rng.normal(0.5, 1, n)).low > 0 for _ in range(500)])
    assert 0.70 < power < 0.88
    assert samples_needed(part, pilot, tests=9) > n
    assert samples_needed(part, around(0.0, 0.1)) is None
    assert f"about {n} seeds" in decide(claim(part), {"T9.a": pilot}).explanation


numbers = st.floats(-1, 1)


@given(numbers, st.floats(1e-4, 1), st.floats(1, 10), numbers, st.sampled_from(["above", "below", "within"]))
@settings(max_examples=150, deadline=None)
def test_a_wider_interval_never_makes_a_verdict(value, se, factor, threshold, comparison):
    bounds = (threshold - 0.1, threshold + 0.1) if comparison == "within" else threshold
    row = claim(Part("T9.a", comparison, bounds, "x"))
    narrow, wide = decide(row, {"T9.a": around(value, se)}), decide(row, {"T9.a": around(value, factor * se)})
    assert wide.verdict in (narrow.verdict, "undecided")


@given(numbers, st.floats(1e-4, 1), numbers)
@settings(max_examples=100, deadline=None)
def test_flipping_the_signs_flips_above_and_below(value, se, threshold):
    up = decide(claim(above("T9.a", threshold)), {"T9.a": around(value, se)})
    down = decide(claim(Part("T9.a", "below", -threshold, "x")), {"T9.a": around(-value, se)})
    assert up.verdict == down.verdict
    opposite = decide(claim(Part("T9.a", "below", threshold, "x")), {"T9.a": around(value, se)})
    swapped = {"reproduced": "not reproduced", "not reproduced": "reproduced", "undecided": "undecided"}
    assert opposite.verdict == swapped[up.verdict]


# --- what readers see -------------------------------------------------------------------------------------------------


def test_tables_hold_every_row_and_escape_html():
    table = claims.table("04")
    for row in claims.chapter_claims("04"):
        assert f'<th scope="row">{row.id}</th>' in table._repr_html_()
        assert row.statement in table._repr_markdown_()
    hostile = claims.table.__globals__["trial_table"]([claim(above("T9.a"), statement="a <script> | b")])
    assert "<script>" not in hostile._repr_html_()
    assert "a <script> \\| b" in hostile._repr_markdown_()


def test_page_escapes_markdown():
    assert escape("a|b_c*d`e<f>$g\nh") == "a\\|b\\_c\\*d\\`e\\<f\\>\\$g h"


# --- the tools, end to end in a folder of their own -------------------------------------------------------------------

# A chapter of two claims; the machine reads them in place of the book's own.
BOOK = {
    "T1": claim(above("T1.gap", 0.2), id="T1", chapter="77"),
    "T2": claim(Part("T2.height", "within", (0.8, 0.9), "height", exact=True), id="T2", chapter="77", seeds=0),
    "T3": claim(above("T3.gap", 0.2), id="T3", chapter="78"),
}


def _git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A checkout with one confirming run of chapter 77 in it."""
    (tmp_path / "gaplib").mkdir()
    (tmp_path / "gaplib" / "code.py").write_text("x = 1\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "gaplib")
    _git(tmp_path, "commit", "-q", "-m", "code")
    monkeypatch.setattr("gaplib.book.results.CLAIMS", BOOK)
    monkeypatch.setattr(
        "gaplib.book.results.chapter_claims", lambda n: tuple(c for c in BOOK.values() if c.chapter == n)
    )
    monkeypatch.chdir(tmp_path)
    _run(tmp_path, "_build/confirm", "confirm", 10)
    return tmp_path


def _run(folder, build, profile, seeds, gap=0.5, height=0.869, commit=None):
    """What the runner leaves of chapter 77: its results file and its executed notebook."""
    run = Recorder("77", profile, seeds)
    run.record("T1.gap", around(gap, 0.02, n=seeds))
    run.record("T2.height", exact(height))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLIB_RESULTS", str(folder / build / "results"))
        path = run.save()
    executed = folder / build / "executed"
    executed.mkdir(parents=True, exist_ok=True)
    facts = {"commit": commit or _git(folder, "rev-parse", "HEAD"), "result_hash": result_hash(path), "date": "today"}
    (executed / "77_toy.ipynb").write_text(json.dumps({"metadata": {"gaplib": facts}, "cells": []}))
    return path


def _take_over(work):
    return confirm_tool.confirm(work / "_build/confirm", work / "results/confirm", work, BOOK)


def _decide(work, deviations=(), book=None):
    folders = work / "_build", work / "results/confirm", work / "notebooks"
    return build_claims.build(*folders, claims=book or BOOK, deviations=deviations)


def test_a_confirming_run_is_taken_over_and_decides(work):
    (path,) = _take_over(work)
    content = json.loads(path.read_text())
    assert content["commit"] == _git(work, "rev-parse", "HEAD")
    assert content["digest"]
    assert load(path).estimates == load(work / "_build/confirm/results/77.json").estimates
    _run(work, "_build", "quick", 3, gap=0.51)
    (work / "notebooks").mkdir()
    (work / "notebooks/77_toy.ipynb").write_text("{}")
    rows = {row["id"]: row for row in _decide(work)}
    assert rows == {row["id"]: row for row in json.loads((work / "_build/results/claims.json").read_text())}
    keys = "id statement verdict rule effect low high n unit chapter profile device rule_hash explanation source live"
    assert all(set(keys.split()) <= set(row) for row in rows.values())
    assert {k: r["verdict"] for k, r in rows.items()} == {"T1": "reproduced", "T2": "reproduced", "T3": "not yet"}
    assert rows["T1"]["effect"] == pytest.approx(0.5)
    assert rows["T1"]["n"] == 10
    assert rows["T1"]["profile"] == "confirm"
    assert rows["T1"]["live"]["effect"] == pytest.approx(0.51)
    assert rows["T1"]["live"]["n"] == 3
    assert rows["T3"]["effect"] is None
    assert rows["T3"]["live"] is None
    text = (work / "_build/results/claims_table.md").read_text()
    assert "[77](../notebooks/77_toy.ipynb)" in text
    assert "| 78 |" in text
    assert "**reproduced**" in text
    assert "No rule was changed" in text
    assert rows["T1"]["rule_hash"][:12] in text


def test_a_quick_run_alone_decides_nothing(work):
    _run(work, "_build", "quick", 3)
    rows = _decide(work)
    assert {row["verdict"] for row in rows} == {"not yet"}
    assert rows[0]["live"]["effect"] == pytest.approx(0.5)


def _uncommitted(work):
    (work / "gaplib" / "code.py").write_text("x = 2\n")


def _new_file(work):
    (work / "gaplib" / "new.py").write_text("x = 2\n")


def _edited_results(work):
    path = work / "_build/confirm/results/77.json"
    path.write_text(path.read_text().replace('"unit": ""', '"unit": "m"'))


def _no_results(work):
    (work / "_build/confirm/results/77.json").unlink()


def _truncated(work):
    path = work / "_build/confirm/results/77.json"
    path.write_text(path.read_text()[:100])


def _no_notebook(work):
    (work / "_build/confirm/executed/77_toy.ipynb").unlink()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (_uncommitted, "uncommitted"),
        (_new_file, "gaplib/new.py"),
        (_edited_results, "not what its executed notebook wrote"),
        (_no_results, "no results"),
        (_truncated, "not a valid results file"),
        (_no_notebook, "no executed notebook"),
        (lambda w: _run(w, "_build/confirm", "quick", 10), "profile"),
        (lambda w: _run(w, "_build/confirm", "confirm", 9), "at least 10 seeds"),
        (lambda w: _run(w, "_build/confirm", "confirm", 10, commit="abc-dirty"), "uncommitted code"),
    ],
)
def test_a_run_that_cannot_be_traced_is_not_taken_over(work, spoil, word):
    spoil(work)
    with pytest.raises(ValueError, match=word):
        _take_over(work)
    assert not (work / "results").exists()


def test_drafts_changed_rules_and_missing_results_are_not_taken_over(work):
    for other, word in [
        (dataclasses.replace(BOOK["T1"], status="draft"), "is a draft"),
        (dataclasses.replace(BOOK["T1"], seeds=12), "changed since the run"),
        (claim(above("T1.gap"), above("T1.more"), id="T1", chapter="77"), r"no result T1\.more"),
    ]:
        with pytest.raises(ValueError, match=word):
            confirm_tool.confirm(work / "_build/confirm", work / "results/confirm", work, BOOK | {"T1": other})


def test_seeds_for_tuning_do_not_confirm(work):
    path = _run(work, "_build/confirm", "confirm", 10)
    tuned = dataclasses.replace(load(path), seeds=tuple(range(10)))
    assert confirm_tool.check_seeds(tuned)
    assert not confirm_tool.check_seeds(load(path))


def test_an_edited_confirming_file_is_detected(work):
    (path,) = _take_over(work)
    _decide(work)
    original = path.read_text()
    for old, new in [("0.869", "0.8689"), ('"n": 10', '"n": 12'), ('"date": "today"', '"date": "earlier"')]:
        assert old in original
        path.write_text(original.replace(old, new))
        with pytest.raises(ValueError, match="its digest differs"):
            _decide(work)


@pytest.mark.parametrize(
    ("live", "word"),
    [
        ({"gap": 0.9}, r"T1\.gap: .* do not meet"),
        ({"height": 0.8691}, r"T2\.height: .* do not meet"),
    ],
)
def test_a_live_run_that_contradicts_is_detected(work, live, word):
    _take_over(work)
    _run(work, "_build", "quick", 3, **live)
    with pytest.raises(ValueError, match=word):
        _decide(work)
    assert not (work / "_build/results/claims.json").exists()


def test_three_seeds_that_lie_together_are_no_contradiction_and_a_shift_is():
    """Draws from one distribution pass at least 95 times in 100 as a family; a mean far away does not."""
    rng = np.random.default_rng(0)
    refused = apart = 0
    for _ in range(200):
        old, new = over_seeds(rng.normal(size=10)), over_seeds(rng.normal(size=3))
        apart += not build_claims.intervals_overlap(old, new)
        refused += not build_claims.intervals_overlap(old, new) and not build_claims.by_chance(new, old, 300)
    assert apart > 0
    assert refused == 0
    old, together = over_seeds(rng.normal(size=10)), over_seeds([9.0, 9.01, 9.02])
    assert not build_claims.by_chance(together, old, 300)
    assert not build_claims.by_chance(exact(0.3), exact(0.2), 300)
    assert not build_claims.by_chance(old, old, 300)


def test_floats_of_another_machine_are_no_contradiction(work):
    _take_over(work)
    _run(work, "_build", "quick", 3, height=0.869 * (1 + 3e-7))
    assert _decide(work)


def test_a_live_run_that_stopped_recording_is_detected(work, monkeypatch):
    _take_over(work)
    monkeypatch.setenv("GAPLIB_RESULTS", str(work / "_build/results"))
    Recorder("77").save()
    with pytest.raises(ValueError, match=r"no result T1\.gap"):
        _decide(work)
    # Published embeddings may be out of reach of a build; then it shows nothing live.
    published = {k: dataclasses.replace(c, setting="P") for k, c in BOOK.items()}
    assert _decide(work, book=published)[0]["live"] is None


def test_a_rule_that_changed_needs_a_logged_deviation(work):
    _take_over(work)
    old, middle, new = (
        BOOK["T1"],
        claim(above("T1.gap", 0.3), id="T1"),
        claim(above("T1.gap", 0.4), id="T1", chapter="77"),
    )
    book = BOOK | {"T1": new}
    with pytest.raises(ValueError, match="T1 changed after the confirming run"):
        _decide(work, book=book)
    first = Deviation("T1", "2026-01-01", old.rule_hash, middle.rule_hash, "a slip | of the pen")
    second = Deviation("T1", "2026-01-02", middle.rule_hash, new.rule_hash, "another")
    with pytest.raises(ValueError, match="T1 changed"):
        _decide(work, (first,), book)
    assert _decide(work, (first, second), book)[0]["verdict"] == "reproduced"
    text = (work / "_build/results/claims_table.md").read_text()
    assert "a slip \\| of the pen" in text
    assert old.rule_hash[:12] in text
    with pytest.raises(ValueError, match="no such claim"):
        _decide(work, (first, second, dataclasses.replace(first, id="Z9")), book)


def test_every_verdict_stands_on_the_page():
    rows = []
    for i, verdict in enumerate(claims.VERDICTS):
        decision = dataclasses.replace(decide(CLAIMS["L1"], {}), claim=dataclasses.replace(CLAIMS["L1"], id=f"L{i}"))
        rows.append(build_claims.row(dataclasses.replace(decision, verdict=verdict), None, None))
    text = page(rows, {row["id"]: CLAIMS["L1"] for row in rows}, (), {})
    assert all(f"**{verdict}**" in text for verdict in claims.VERDICTS)


def test_the_commands(tmp_path, capsys):
    """The real claims, from the command line: the summary, and one clear line where a file is broken."""
    options = ["--build", str(tmp_path), "--confirm", str(tmp_path / "c")]
    assert build_claims.main(options) == 0
    assert "55 claims: 55 not yet" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results/claims.json").read_text())) == 55
    empty = ["--run", str(tmp_path / "none"), "--into", str(tmp_path / "into")]
    assert confirm_tool.main(empty) == 1
    assert "nothing was written" in capsys.readouterr().err
    (tmp_path / "c").mkdir()
    (tmp_path / "c/01.json").write_text('{"chapter": "01"')
    command = [sys.executable, "-m", "tools.build_claims", *options]
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "01.json: not a valid results file" in bad.stderr
    assert "Traceback" not in bad.stderr
