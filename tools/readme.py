"""Fill the README's headline block from the committed confirming results, and draw its figure.

    python -m tools.readme [--check]

Everything between ``<!-- headline:begin -->`` and ``<!-- headline:end -->`` is written by this tool, and so is
``results/headline.svg``; nobody types a number there. ``--check`` changes nothing and exits 1 where either is out of
date.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gaplib.book.results import ResultsFile, load
from gaplib.claims import CLAIMS, decide
from gaplib.stats import Estimate

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- headline:begin -->", "<!-- headline:end -->"
FIGURE = "results/headline.svg"
NOTHING_YET = "The confirming run has not been committed yet; until then there is nothing to report here."
# The figure: how far each published model's centroids are apart, beyond what exchanged modalities would give.
MODELS = {"clip": "CLIP", "convirt": "ConVIRT", "videoclip": "VideoCLIP", "clasp": "CLASP"}


def confirmed(folder: Path) -> list[ResultsFile]:
    """The committed results files of ``folder``, by chapter; an empty list where there are none."""
    return [load(path) for path in sorted(folder.glob("[0-9][0-9].json"))]


def table(files: list[ResultsFile]) -> str:
    """Markdown: a row a claim of the confirmed chapters, with the estimate that leads its verdict."""
    estimates = {name: estimate for file in files for name, estimate in file.estimates.items()}
    chapters = {file.chapter for file in files}
    rows = ["| claim | statement | measured | estimate [interval] | verdict |", "|---|---|---|---|---|"]
    for claim in CLAIMS.values():
        if claim.chapter in chapters:
            decision = decide(claim, estimates)
            estimate = estimates.get(claim.headline.quantity)
            cells = [claim.id, claim.statement, claim.headline.says, str(estimate or "none"), f"**{decision.verdict}**"]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def distances(files: list[ResultsFile]) -> dict[str, Estimate]:
    """Label -> excess centroid distance of the published models, trained and untrained, as far as they are recorded."""
    estimates: Mapping[str, Estimate] = {k: v for file in files for k, v in file.estimates.items()}
    names = {
        f"{name}, {state}": f"{claim}.{key}{suffix}.excess_distance"
        for key, name in MODELS.items()
        for state, claim, suffix in (("trained", "L1", ""), ("untrained", "L2", "_random"))
    }
    return {label: estimates[name] for label, name in names.items() if name in estimates}


def digest(rows: dict[str, Estimate]) -> str:
    """Fingerprint of what the figure shows."""
    text = json.dumps([[label, e.value, e.low, e.high] for label, e in rows.items()])
    return hashlib.sha256(text.encode()).hexdigest()


def draw(rows: dict[str, Estimate], path: Path) -> None:
    """Write the figure as an SVG that carries its data's digest."""
    import matplotlib as mpl

    from gaplib.book import plots

    with mpl.rc_context({**plots.settings("light"), "svg.hashsalt": "gaplib", "svg.fonttype": "path"}):
        figure, axes = plots.figure(width=7.0, height=0.5 + 0.4 * len(rows))
        plots.forest(rows, groups=[int("untrained" in label) for label in rows]).on(axes)
        axes.set_xlabel("centroid distance less its permutation floor")
        axes.set_xlim(left=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".svg", dir=path.parent)
        os.close(handle)
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Description": f"data {digest(rows)}"})
    os.replace(temporary, path)


def block(files: list[ResultsFile]) -> str:
    """The text between the marks."""
    if not files:
        return NOTHING_YET
    rows = distances(files)
    lines = []
    if rows:
        measured = ", ".join(f"{label} {estimate}" for label, estimate in rows.items())
        alt = f"Centroid distance less its permutation floor: {measured}"
        lines += [f"![{alt}]({FIGURE})", ""]
    seeds = sorted({len(file.seeds) for file in files})
    commits = sorted({str(file.extra.get("commit", "unknown"))[:10] for file in files})
    lines += [
        table(files),
        "",
        f"From the confirming run: {' and '.join(map(str, seeds))} seeds, commit {', '.join(commits)}; "
        "written by `python -m tools.readme`.",
    ]
    return "\n".join(lines)


def fill(readme: str, text: str) -> str:
    """``readme`` with ``text`` between the marks; ``ValueError`` where the two marks are not there exactly once."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"README.md: expected {BEGIN} and then {END}, once each")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def figure_is_current(rows: dict[str, Estimate], path: Path) -> bool:
    """True when the committed figure shows these numbers (or there is nothing to show and no figure)."""
    if not rows:
        return not path.exists()
    found = re.search(r"data ([0-9a-f]{64})", path.read_text(encoding="utf-8")) if path.exists() else None
    return bool(found) and found.group(1) == digest(rows)


def update(root: Path, check: bool = False) -> list[str]:
    """Bring README.md and the figure under ``root`` up to date; returns the names of those that were not."""
    files = confirmed(root / "results" / "confirm")
    readme, figure, rows = root / "README.md", root / FIGURE, distances(files)
    old = readme.read_text(encoding="utf-8")
    new = fill(old, block(files))
    current = {"README.md": old == new, FIGURE: figure_is_current(rows, figure)}
    stale = [name for name, fresh in current.items() if not fresh]
    if not check:
        if "README.md" in stale:
            readme.write_text(new, encoding="utf-8")
        if FIGURE in stale and rows:
            draw(rows, figure)
        elif FIGURE in stale:
            figure.unlink()
    return stale


def main(argv: list[str] | None = None) -> int:
    """Update, or with ``--check`` only report."""
    parser = argparse.ArgumentParser(description="fill the README's headline from results/confirm")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something is out of date")
    check = parser.parse_args(argv).check
    for name in (stale := update(ROOT, check)):
        print(f"{name}: {'out of date (run: python -m tools.readme)' if check else 'updated'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
