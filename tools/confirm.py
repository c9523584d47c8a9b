"""Take over a confirming run: check what ``make confirm`` left, and write ``results/confirm/NN.json`` to be committed.

    python -m tools.confirm [--run _build/confirm] [--into results/confirm]

A chapter is taken over only if its run can be traced and its rules were fixed first: made by profile ``confirm`` from
committed code, at least 10 seeds from 100 on, the results those that the executed notebook wrote, every rule of the
chapter frozen and the same as the one that the run hashed, every quantity that a rule names recorded. Nothing is
written unless every chapter passes. To each file go the commit that it was made from, the date, and a digest of the
whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gaplib.book.results import ResultsFile, load, write_json
from gaplib.claims import CLAIMS, Claim
from gaplib.stats import FIRST_SEED
from tools.execute import committed, result_hash

CODE = ("gaplib", "notebooks", "requirements.txt")
LEAST_SEEDS = 10


def digest(content: dict[str, Any]) -> str:
    """SHA-256 of a confirming file's content without its digest."""
    text = json.dumps({k: v for k, v in content.items() if k != "digest"}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def uncommitted(root: Path) -> list[str]:
    """Files of the code that differ from the commit, new ones included; raises RuntimeError outside git."""
    command = ["git", "-C", str(root), "status", "--porcelain", "--", *CODE]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"git status: {result.stderr.strip()}")
    return [line[3:] for line in result.stdout.splitlines()]


def quantities(claims: Iterable[Claim]) -> list[str]:
    """Every result that a part or its baseline names."""
    parts = [part for claim in claims for part in claim.parts]
    return [name for part in parts for name in (part.quantity, part.baseline and part.baseline.quantity) if name]


def check_seeds(results: ResultsFile) -> list[str]:
    """Why the seeds may not confirm; empty when they may."""
    if len(set(results.seeds)) >= LEAST_SEEDS and min(results.seeds) >= FIRST_SEED:
        return []
    return [f"a confirming run takes at least {LEAST_SEEDS} seeds from {FIRST_SEED} on, not {list(results.seeds)}"]


def check(results: ResultsFile, facts: dict[str, Any] | None, claims: dict[str, Claim] = CLAIMS) -> list[str]:
    """Why a results file may not become a confirming one; empty when it may. facts: the executed notebook's own."""
    problems = []
    if results.profile != "confirm":
        problems.append(f"its profile is {results.profile}, not confirm")
    problems += check_seeds(results)
    if facts is None:
        problems.append("there is no executed notebook that it came from")
    else:
        commit, traceable = committed(facts)
        if not traceable:
            problems.append(
                f"it was made from uncommitted code ({commit}): commit, remove its executed notebook, rerun"
            )
        if facts.get("result_hash") != result_hash(results.path):
            problems.append("it is not what its executed notebook wrote")
    own = [claim for claim in claims.values() if claim.chapter == results.chapter]
    for claim in own:
        if claim.status != "frozen":
            problems.append(f"the rule of {claim.id} is a draft: freeze and commit it before the run")
        if results.rules.get(claim.id) != claim.rule_hash:
            problems.append(f"the rule of {claim.id} changed since the run")
    missing = [name for name in dict.fromkeys(quantities(own)) if name not in results.estimates]
    if missing:
        problems.append(f"no result {', '.join(missing)}")
    return problems


def _facts(run: Path, chapter: str) -> dict[str, Any] | None:
    """What the runner wrote into the executed notebook of the chapter."""
    found = sorted((run / "executed").glob(f"{chapter}_*.ipynb"))
    if len(found) != 1:
        return None
    return json.loads(found[0].read_text(encoding="utf-8")).get("metadata", {}).get("gaplib")


def confirm(run: Path, into: Path, root: Path, claims: dict[str, Claim] = CLAIMS) -> list[Path]:
    """Check every chapter of ``run``, write the confirming files; raises ValueError with all problems, a line each."""
    dirty = uncommitted(root)
    problems = [f"{name}: uncommitted change" for name in dirty]
    files = sorted((run / "results").glob("[0-9][0-9].json"))
    if not files:
        problems.append(f"{run / 'results'}: no results of a confirming run; run `make confirm`")
    contents = {}
    for path in files:
        try:
            results = load(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if results.chapter != path.stem:
            problems.append(f"{path}: holds chapter {results.chapter}")
        facts = _facts(run, results.chapter)
        problems += [f"{path}: {problem}" for problem in check(results, facts, claims)]
        content = json.loads(path.read_text(encoding="utf-8"))
        if facts:
            content |= {"commit": facts.get("commit"), "date": facts.get("date"), "cpu": facts.get("cpu")}
        contents[path.name] = content
    if problems:
        raise ValueError("\n".join(problems))
    return [write_json(into / name, content | {"digest": digest(content)}) for name, content in contents.items()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("_build/confirm"), help="build folder of the confirming run")
    parser.add_argument("--into", type=Path, default=Path("results/confirm"), help="folder of the committed files")
    parser.add_argument("--root", type=Path, default=Path("."), help="the checkout")
    options = parser.parse_args(arguments)
    try:
        written = confirm(options.run, options.into, options.root)
    except (ValueError, RuntimeError) as error:
        print(f"confirm: nothing was written.\n{error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"confirm: {path} (commit it)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
