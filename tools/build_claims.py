"""Decide every claim: ``results/confirm`` (committed) gives the verdicts, this build's own results stand beside them.

    python -m tools.build_claims [--build _build] [--confirm results/confirm]

Writes ``_build/results/claims.json`` and the claims page's table, ``_build/results/claims_table.md``. Exit status 1,
and nothing written, when a confirming file is malformed or was edited, when a rule differs from the one that the
confirming run hashed and no deviation is logged, or when a live interval does not meet the confirming one (and few
seeds that lie together by chance do not explain it, see ``by_chance``).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

from gaplib._atomic import write_text_atomically
from gaplib.book.results import ResultsFile, load, write_json
from gaplib.claims import CLAIMS, DEVIATIONS, VERDICTS, Claim, Decision, Deviation, decide
from gaplib.stats import Estimate
from tools.claims_page import page
from tools.confirm import check_seeds, digest, quantities

# Intervals meet with this slack, relative to the larger value and at least absolute: the same code gives slightly other
# floats on other processors and thread counts, and exact values have no interval to absorb that.
TOLERANCE = 1e-6


def intervals_overlap(a: Estimate, b: Estimate) -> bool:
    """Whether the intervals of two estimates of one quantity overlap, up to ``TOLERANCE``."""
    slack = TOLERANCE * max(1.0, abs(a.value), abs(b.value))
    return max(a.low, b.low) <= min(a.high, b.high) + slack


def by_chance(live: Estimate, confirmed: Estimate, comparisons: int) -> bool:
    """Whether intervals that do not meet are still what so few live seeds may give.

    Among hundreds of intervals over three seeds some are far too short, because their seeds lie together. So the live
    mean is asked for in the range that the confirming seeds predict for a mean of ``live.n`` more, at 95 % for all
    ``comparisons`` at once (Bonferroni). Only for means over seeds; anything else must meet.
    """
    means = all(one.n == len(one.samples) == one.df + 1 for one in (live, confirmed))
    if not means or live.n >= confirmed.n:
        return False
    deviation = confirmed.se * math.sqrt(1 + confirmed.n / live.n)
    return abs(live.value - confirmed.value) <= t.ppf(1 - 0.025 / comparisons, confirmed.df) * deviation


def rule_problem(claim: Claim, hashed: str | None, deviations: Sequence[Deviation]) -> str:
    """What is wrong with the hash in the confirming run; empty if it is today's, or the way there is logged."""
    if hashed is None:
        return f"the confirming run holds no rule of {claim.id}"
    logged = {d.old: d.new for d in deviations if d.id == claim.id}
    seen = set()
    while hashed != claim.rule_hash and hashed in logged and hashed not in seen:
        seen.add(hashed)
        hashed = logged[hashed]
    if hashed != claim.rule_hash:
        return (
            f"the rule of {claim.id} changed after the confirming run and gaplib/claims/deviations.py does not say why"
        )
    return ""


def read(folder: Path) -> tuple[dict[str, ResultsFile], list[str]]:
    """The results files of a folder by chapter, and what is wrong with them."""
    files, problems = {}, []
    for path in sorted(folder.glob("[0-9][0-9].json")):
        try:
            results = load(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if results.chapter != path.stem:
            problems.append(f"{path}: holds chapter {results.chapter}")
        files[results.chapter] = results
    return files, problems


def confirm_problems(results: ResultsFile, claims: Sequence[Claim], deviations: Sequence[Deviation]) -> list[str]:
    """What is wrong with a committed confirming file."""
    problems = []
    if results.extra.get("digest") != digest(json.loads(results.path.read_text(encoding="utf-8"))):
        problems.append("it was edited after tools/confirm.py wrote it (its digest differs)")
    if results.profile != "confirm":
        problems.append(f"its profile is {results.profile}, not confirm")
    problems += check_seeds(results)
    problems += filter(None, (rule_problem(claim, results.rules.get(claim.id), deviations) for claim in claims))
    missing = [name for name in dict.fromkeys(quantities(claims)) if name not in results.estimates]
    problems += [f"no result {name}, which a rule names" for name in missing]
    return [f"{results.path}: {problem}" for problem in problems]


def live_problems(live: ResultsFile, confirmed: ResultsFile, claims: Sequence[Claim]) -> list[str]:
    """Where this build's results contradict the confirming ones.

    A result about published embeddings (setting P) may be missing: without network and GAPLIB_DATA a build has none.
    """
    problems = []
    comparisons = len(set(quantities(CLAIMS.values())))
    needed = set(quantities(claim for claim in claims if "P" not in claim.setting.split()))
    for name in dict.fromkeys(quantities(claims)):
        old, new = confirmed.estimates.get(name), live.estimates.get(name)
        if old is None or (new is None and name not in needed):
            continue
        if new is None:
            problems.append(f"{live.path}: no result {name}, which the confirming run recorded and a rule names")
        elif not intervals_overlap(old, new) and not by_chance(new, old, comparisons):
            problems.append(f"{name}: this build reads {new}, the confirming run {old}: the intervals do not meet")
    return problems


def row(decision: Decision, confirmed: ResultsFile | None, live: ResultsFile | None) -> dict[str, Any]:
    """One claim as it stands in claims.json."""
    claim, estimate = decision.claim, decision.estimate
    here = live.estimates.get(claim.headline.quantity) if live else None
    return {
        "id": claim.id,
        "statement": claim.statement,
        "verdict": decision.verdict,
        "rule": claim.rule,
        **_interval("effect", estimate),
        "unit": claim.headline.unit,
        "chapter": claim.chapter,
        "profile": confirmed.profile if estimate else None,
        "device": confirmed.device if estimate else None,
        "commit": confirmed.extra.get("commit") if estimate else None,
        "rule_hash": claim.rule_hash,
        "rule_status": claim.status,
        "explanation": decision.explanation,
        "source": claim.source,
        "paper": claim.paper,
        "headline": claim.headline.says,
        "live": _interval("effect", here) | {"profile": live.profile, "device": live.device} if here else None,
        "parts": [
            {"quantity": d.part.quantity, "rule": d.part.rule(), "verdict": d.verdict, **_interval("value", d.estimate)}
            for d in decision.parts
        ],
    }


def _interval(key: str, e: Estimate | None) -> dict[str, Any]:
    return {key: e and e.value, "low": e and e.low, "high": e and e.high, "n": e and e.n}


def build(
    build_folder: Path,
    confirm_folder: Path,
    notebooks: Path,
    claims: Mapping[str, Claim] = CLAIMS,
    deviations: Sequence[Deviation] = DEVIATIONS,
) -> list[dict[str, Any]]:
    """Decide all claims and write the two files; returns the rows. Raises ValueError with all problems, a line each."""
    confirmed, problems = read(confirm_folder)
    live, live_trouble = read(build_folder / "results")
    problems += live_trouble
    problems += [f"deviation of {d.id}: there is no such claim" for d in deviations if d.id not in claims]
    for chapter, results in confirmed.items():
        own = [claim for claim in claims.values() if claim.chapter == chapter]
        problems += confirm_problems(results, own, deviations)
        if chapter in live:
            problems += live_problems(live[chapter], results, own)
    if problems:
        raise ValueError("\n".join(problems))
    rows = []
    for claim in claims.values():
        results = confirmed.get(claim.chapter)
        decision = decide(claim, results.estimates if results else {})
        rows.append(row(decision, results, live.get(claim.chapter)))
    write_json(build_folder / "results" / "claims.json", rows)
    pages = {path.name[:2]: path.name for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))}
    write_text_atomically(build_folder / "results" / "claims_table.md", page(rows, claims, deviations, pages))
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("_build"), help="the build folder")
    parser.add_argument(
        "--confirm", type=Path, default=Path("results/confirm"), help="the committed confirming results"
    )
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"), help="the chapters, for links")
    options = parser.parse_args(arguments)
    try:
        rows = build(options.build, options.confirm, options.notebooks)
    except ValueError as error:
        print(f"build_claims: the claims cannot be decided.\n{error}", file=sys.stderr)
        return 1
    counts = Counter(row["verdict"] for row in rows)
    print(f"{len(rows)} claims: " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]))
    for verdict in (v for v in VERDICTS if v != "not yet" and counts[v]):
        print(f"  {verdict}: " + " ".join(row["id"] for row in rows if row["verdict"] == verdict))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
