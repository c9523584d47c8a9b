"""What differs between two builds of the book: pages, numbers, verdicts. Markdown on stdout, for a pull request.

    python -m tools.changed EARLIER LATER

Both are build folders, with the pages in ``html`` and the results in ``results``. Dates, commits and run times are no
change. Exit status 0 whether or not anything changed, 2 where a folder holds no results.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from bs4 import BeautifulSoup

from gaplib.book.results import load
from gaplib.stats import Estimate

# The same code gives slightly other floats on other processors: relative to the larger value, and at least absolute.
TOLERANCE = 1e-6
SHOWN = 60  # rows of a table; a comment of thousands is read by nobody
# Pages that differ each time: when and where it ran. On the others that line and the reading time are left out.
TIMED_PAGES = {"book/status.html", "genindex.html", "search.html"}
TIMED = ".gapbook-run, p:has(> em:-soup-contains('This page was computed'))"


def changed_pages(earlier: Path, later: Path) -> list[tuple[str, str]]:
    """Pages below two ``html`` folders that are new, gone or say something else, with which of the three."""
    before, after = _pages(earlier), _pages(later)
    found = [(page, "new") for page in after.keys() - before.keys()]
    found += [(page, "gone") for page in before.keys() - after.keys()]
    found += [
        (page, "changed")
        for page in before.keys() & after.keys()
        if page not in TIMED_PAGES and _content(before[page]) != _content(after[page])
    ]
    return sorted(found)


def _pages(html: Path) -> dict[str, Path]:
    files = {path.relative_to(html).as_posix(): path for path in html.rglob("*.html")}
    return {name: path for name, path in files.items() if not name.startswith("_")}


def _content(page: Path) -> tuple[str, tuple[str, ...]]:
    """What a reader reads on a page, and the descriptions of its pictures."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article") or soup
    for note in article.select(TIMED):
        note.decompose()
    return " ".join(article.get_text(" ").split()), tuple(image.get("alt", "") for image in article.find_all("img"))


def changed_numbers(earlier: Path, later: Path) -> list[tuple[str, str, str]]:
    """Results below two ``results`` folders that are new, gone or have another value: name, before, after.

    Raises ``ValueError`` for a folder without results files, and for a file that is none.
    """
    before, after = _estimates(earlier), _estimates(later)
    rows = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or not _same(old, new):
            rows.append((name, _shown(old), _shown(new)))
    return rows


def _estimates(folder: Path) -> dict[str, Estimate]:
    files = sorted(folder.glob("[0-9][0-9].json"))
    if not files:
        raise ValueError(f"{folder}: expected results files such as 01.json, found none")
    loaded = [load(file) for file in files]
    return {f"{one.chapter}: {name}": estimate for one in loaded for name, estimate in one.estimates.items()}


def _same(old: Estimate, new: Estimate) -> bool:
    pairs = ((old.value, new.value), (old.low, new.low), (old.high, new.high))
    return old.n == new.n and all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs)


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return "none"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}], n = {estimate.n}"


def changed_verdicts(earlier: Path, later: Path) -> list[tuple[str, str, str]]:
    """Claims below two ``results`` folders whose verdict differs: claim, before, after."""
    before, after = _verdicts(earlier), _verdicts(later)
    names = sorted(before.keys() | after.keys())
    pairs = [(name, before.get(name, "none"), after.get(name, "none")) for name in names]
    return [row for row in pairs if row[1] != row[2]]


def _verdicts(folder: Path) -> dict[str, str]:
    file = folder / "claims.json"
    if not file.exists():
        return {}
    return {row["id"]: row["verdict"] for row in json.loads(file.read_text(encoding="utf-8"))}


def report(earlier: Path, later: Path) -> str:
    """What changed from the build folder ``earlier`` to ``later``, as markdown. Errors as for ``changed_numbers``."""
    results = earlier / "results", later / "results"
    parts = [
        _table("pages", ("page", "what"), changed_pages(earlier / "html", later / "html")),
        _table("verdicts", ("claim", "before", "after"), changed_verdicts(*results)),
        _table("numbers", ("result", "before", "after"), changed_numbers(*results)),
    ]
    return "\n".join(parts)


def _table(what: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    if not rows:
        return f"No {what} changed.\n"
    lines = [f"### Changed {what}: {len(rows)}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows[:SHOWN]]
    lines += ["", f"… and {len(rows) - SHOWN} more."] if len(rows) > SHOWN else []
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description="what differs between two builds of the book")
    parser.add_argument("earlier", type=Path)
    parser.add_argument("later", type=Path)
    options = parser.parse_args(argv)
    try:
        print(report(options.earlier, options.later))
    except ValueError as error:
        print(f"changed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
