"""Measure speed and memory, print a table, write ``bench.json`` and ``bench.png``: ``make bench``.

    python -m bench [--out _build/bench] [--parts abcdefmp]

(a) a training step of each method over a step of CLIP, at the book's default size; (b) forward and backward of cuaxu
for a large batch against the composition that public code uses; (c) its extra peak memory; (d) the cyclic terms in
closed form against their definition; (e) retrieval of 25,000 texts for 5,000 images against two usual recipes; (f) a
step of `fit` against a bare torch loop; (m) the card of 50,000 and of a million pairs in files of half precision, with
memory; (p) a step of `fit` in one process against two that share its batch, which takes two free cores.

One thread; every ratio is between things that ran by turns in the same minute, and is a median over those turns. The
file says how busy the machine was: above a load of about the number of its cores less one, do not keep the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import parts
from gaplib._atomic import atomic, write_text_atomically
from gaplib.book import plots

PARTS = {
    "a": parts.training_step,
    "b": parts.large_batch,
    "c": parts.memory,
    "d": parts.closed_forms,
    "e": parts.search,
    "f": parts.fitting,
    "m": parts.card,
    "p": parts.two_processes,
}


def load() -> float | None:
    """Processes that wanted to run, on average over the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def conditions() -> dict[str, Any]:
    """Where and on what the figures were measured."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "unknown",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "numpy", "open_clip_torch")},
        "load_before": load(),
    }


def line(row: parts.Row) -> str:
    """One line of the table."""
    number = f"{row.value:,.0f}" if abs(row.value) >= 100 else f"{row.value:.2f}"
    promise = "" if row.limit is None else f"{'<=' if row.at_most else '>='} {row.limit:g}"
    verdict = {None: "", True: "met", False: "NOT MET"}[row.met]
    return f"{row.part}  {row.name:<46}{number:>9} {row.unit:<4}{promise:>8}  {verdict}".rstrip()


def picture(rows: list[parts.Row]) -> Any:
    """Ratios as bars with what was promised, and memory by batch size."""
    fig, axes = plots.figure(1, 3, width=13.0, height=5.5)
    steps = [row for row in rows if row.part == "a"]
    speeds = [row for row in rows if row.part in "bde" and row.unit == "x"]
    for ax, shown, title in ((axes[0], steps, "A training step, over CLIP's"), (axes[1], speeds, "Gain over others")):
        names = [row.name.removesuffix(" step / clip step") for row in shown]
        ax.barh(np.arange(len(shown)), [row.value for row in shown], **plots.bar_style(0))
        ax.set_yticks(np.arange(len(shown)), names)
        ax.invert_yaxis()
        ax.axvline(1.15 if shown is steps else 1.0, color="C1", linestyle="--")
        ax.set_title(title)
        ax.set_xlabel("times")
    if speeds:
        axes[1].set_xscale("log")
    for index, kind in enumerate(("cuaxu, n", "composed, n")):
        points = [row for row in rows if row.name.startswith(kind) and not math.isnan(row.value)]
        look = plots.style(index)
        axes[2].loglog(
            [row.details["n"] for row in points], [row.value for row in points], label=kind.removesuffix(", n"), **look
        )
    axes[2].axhline(300, color="C2", linestyle=":", label="300 MiB")
    axes[2].set_title("Extra peak memory of cuaxu, d = 512")
    axes[2].set_xlabel("pairs in a batch")
    axes[2].set_ylabel("MiB")
    axes[2].legend()
    return fig


def main(argv: list[str] | None = None) -> None:
    """Run the parts asked for; files are written whole, at the end."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="measure speed and memory")
    parser.add_argument("--out", type=Path, default=Path("_build/bench"))
    parser.add_argument("--parts", default="".join(PARTS), help="letters of the parts to run")
    options = parser.parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"--parts: expected letters of {''.join(PARTS)}, got {options.parts!r}")
    torch.set_num_threads(1)
    facts, rows = conditions(), []
    for part in sorted(options.parts):
        print(PARTS[part].__doc__.splitlines()[0], flush=True)
        for row in PARTS[part]():
            rows.append(row)
            print(line(row), flush=True)
    facts["load_after"] = load()
    write(options.out, facts, rows)


def write(out: Path, facts: dict[str, Any], rows: list[parts.Row]) -> None:
    """``bench.json`` and ``bench.png`` in the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    found = [row.as_dict() | {"value": None if math.isnan(row.value) else row.value} for row in rows]
    write_text_atomically(out / "bench.json", json.dumps({**facts, "rows": found}, indent=1) + "\n")
    with atomic(out / "bench.png") as path:
        path.write_bytes(plots.render(lambda: picture(rows))[0])
    print(f"Written: {out / 'bench.json'}, {out / 'bench.png'} (load {facts['load_before']} to {facts['load_after']})")


if __name__ == "__main__":
    main()
