"""Tune every method on the dev split with the same budget: six tries, two seeds each, all of 300 steps.

    python -m gaplib.training.tune [--methods cua,gc]

What is tried is a temperature where a method is about the temperature or about nothing else, and otherwise temperature
and strength together. The best try by recall at 1 on the dev characters (mean of both directions and of the seeds) is
the tuned point. Runs come from the cache: interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import pprint
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gaplib._atomic import write_text_atomically
from gaplib.methods import METHODS
from gaplib.temperature import SCHEDULES
from gaplib.training import cached_run, tuned
from gaplib.training.presets import TRAINED, config

SEEDS = (0, 1)
TRIES = 6
FIXED = (0.01, 0.02, 0.04, 0.07, 0.1, 0.2)
STARTS = (0.02, 0.04, 0.07, 0.1, 0.2, 0.4)
RISING = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05)
SHARES = (0.01, 0.04, 0.1, 0.3, 0.6, 1.0)
STRENGTHS = (0.1, 0.3, 1.0)


def grid(name: str) -> list[dict[str, Any]]:
    """The six tries of a method: changes of its ``RunConfig``."""
    row = METHODS[name]
    if row.swapping:
        tries = [{"swapping": {"p": p}} for p in SHARES]
    elif row.towers == "shared":  # a transformer wants a smaller learning rate than convolutions
        tries = [{"tau": tau, "lr": lr} for tau, lr in product((0.04, 0.07, 0.15), (1e-3, 3e-3))]
    elif row.terms:
        temperatures = ({"tau": 0.07, "learn_tau": True}, {"tau": 0.05, "learn_tau": False})
        tries = [
            {**temperature, "weights": {term: s * weight for term, weight in row.terms.items()}}
            for temperature, s in product(temperatures, STRENGTHS)
        ]
    else:
        taus = RISING if row.temperature in SCHEDULES else FIXED if row.temperature == "fixed" else STARTS
        tries = [{"tau": tau} for tau in taus]
    assert len(tries) == TRIES
    return tries


def tune(name: str, device: str = "cpu") -> list[dict[str, Any]]:
    """All tries of a method with what they gave on dev: a dictionary each, best first."""
    found = []
    for changes in grid(name):
        runs = [cached_run(config(name, seed, "paper", **changes), device=device) for seed in SEEDS]
        found.append(
            {
                "method": name,
                "changes": changes,
                "recall": float(np.mean([run.recall("dev") for run in runs])),
                "gap": float(np.mean([run.gap("dev") for run in runs])),
            }
        )
    return sorted(found, key=lambda one: -one["recall"])


def main() -> None:
    """Tune the methods and write ``tuned.py``."""
    parser = argparse.ArgumentParser(description="Tune the methods on the dev split; writes tuned.py.")
    parser.add_argument("--methods", default=",".join(TRAINED), help="names, joined by commas (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="only train and print")
    options = parser.parse_args()
    tries = {one["method"]: [] for one in tuned.TRIES}
    for one in tuned.TRIES:
        tries[one["method"]].append(one)
    for name in options.methods.split(","):
        tries[name] = tune(name)
        best = tries[name][0]
        print(f"{name:20} recall {best['recall']:.3f}  gap {best['gap']:.3f}  {best['changes']}", flush=True)
    if options.dry_run:
        return
    ordered = [one for name in TRAINED for one in tries.get(name, [])]
    best = {name: tries[name][0]["changes"] for name in TRAINED if name in tries}
    rounded = [one | {key: round(one[key], 4) for key in ("recall", "gap")} for one in ordered]
    write_text_atomically(Path(tuned.__file__), _source(best, rounded))


def _source(best: dict[str, Any], tries: list[dict[str, Any]]) -> str:
    """Text of ``tuned.py``."""
    best, tries = (pprint.pformat(one, width=110, sort_dicts=False) for one in (best, tries))
    return (
        '"""Written by ``python -m gaplib.training.tune``: each method\'s tuned point. Not edited by hand."""\n\n'
        "# fmt: off\n#: method -> changes of its configuration\n"
        f"TUNED: dict[str, dict] = {best}\n\n"
        "#: every try: mean recall at 1 and centroid distance on dev\n"
        f"TRIES: list[dict] = {tries}\n"
    )


if __name__ == "__main__":
    main()
