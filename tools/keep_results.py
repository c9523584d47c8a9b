"""Keep what chapter 09 stored in a build, for builds to come: ``results/kept.json`` (``gaplib.book.kept``).

    GAPLIB_CACHE=_build/cache python -m tools.keep_results [--build _build] [--into results]

A build of committed code is asked for, and the cache that it filled. Commit the file.
"""

from __future__ import annotations

from pathlib import Path

from gaplib.book import kept
from gaplib.book.chapters import ch09_rows
from gaplib.book.results import load
from tools.keep_leaderboard import NOTEBOOK, command, traced


def keep(build: Path, into: Path) -> list[Path]:
    """Write the file; ``ValueError`` or ``KeyError`` for a build that cannot be traced, or that lacks a result."""
    facts, seeds = traced(build / "executed" / NOTEBOOK), load(build / "results" / "09.json").seeds
    return [kept.keep(ch09_rows.stored(seeds), facts, into / "kept.json")]


def main(arguments: list[str] | None = None) -> int:
    return command("keep_results", __doc__.partition("\n")[0], keep, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
