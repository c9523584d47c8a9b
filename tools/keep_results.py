"""Keep what chapter 09 stored in a build, for builds to come: ``results/kept.json`` (``gaplib.book.kept``).

    GAPLIB_CACHE=_build/cache python -m tools.keep_results [--build _build] [--into results]

A build of committed code is asked for, and the cache that it filled. Commit the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gaplib.book import kept
from gaplib.book.chapters import ch09_rows
from tools.keep_leaderboard import NOTEBOOK, traced


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("_build"))
    parser.add_argument("--into", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    try:
        facts = traced(options.build / "executed" / NOTEBOOK)
        results = json.loads((options.build / "results" / "09.json").read_text(encoding="utf-8"))
        written = kept.keep(ch09_rows.stored(results["seeds"]), facts, options.into / "kept.json")
    except (ValueError, KeyError, OSError) as error:
        print(f"keep_results: nothing was written. {error}", file=sys.stderr)
        return 1
    print(f"keep_results: {written} (commit it)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
