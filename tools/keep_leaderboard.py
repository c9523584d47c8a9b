"""Take over chapter 09's leaderboard from a build, for chapter 11 to decide by: ``results/leaderboard.csv``.

    python -m tools.keep_leaderboard [--build _build] [--into results]

A build of committed code is asked for. Beside the table lies ``leaderboard.json``: commit, date, versions, and the
table's SHA-256. Commit both. A build of ``make confirm`` (``--build _build/confirm``) gives ten seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from gaplib._atomic import sha256, write_text_atomically
from gaplib.book.chapters.ch11_decision import COLUMNS
from gaplib.book.results import write_json
from tools.execute import committed

NOTEBOOK = "09_downstream.ipynb"


def keep(build: Path, into: Path) -> list[Path]:
    """Write both files; ``ValueError`` for a build without the table, or one that cannot be traced to a commit."""
    table, notebook = build / "results" / "leaderboard.csv", build / "executed" / NOTEBOOK
    for file in (table, notebook):
        if not file.exists():
            raise ValueError(f"{file} is not there: make notebook N=09")
    facts = traced(notebook)
    kept = pd.read_csv(table)[list(COLUMNS)]
    file = into / "leaderboard.csv"
    write_text_atomically(file, kept.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    said = {name: facts.get(name) for name in ("date", "cpu", "versions", "profile")}
    return [file, write_json(file.with_suffix(".json"), said | {"commit": facts["commit"], "sha256": sha256(file)})]


def traced(notebook: Path) -> dict[str, Any]:
    """What an executed notebook says of its run; ``ValueError`` if that cannot be traced to a commit."""
    facts: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("gaplib", {})
    commit, traceable = committed(facts)
    if not traceable:
        raise ValueError(f"{notebook}: made from uncommitted code ({commit})")
    return facts


def command(name: str, about: str, keep: Callable[[Path, Path], list[Path]], arguments: list[str] | None) -> int:
    """The command line of what keeps a part of a build: ``keep(build, into)`` gives the files that it wrote."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--build", type=Path, default=Path("_build"))
    parser.add_argument("--into", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    try:
        written = keep(options.build, options.into)
    except (ValueError, KeyError, OSError) as error:
        print(f"{name}: nothing was written. {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"{name}: {path} (commit it)")
    return 0


def main(arguments: list[str] | None = None) -> int:
    return command("keep_leaderboard", __doc__.partition("\n")[0], keep, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
