"""Print the training runs in the cache: what each is, how long it took, how much room it takes (`make runs`)."""

from __future__ import annotations

import sys

import pandas as pd

from gaplib.data import cache_dir
from gaplib.run_cache import cached_runs


def table() -> pd.DataFrame:
    """One row a cached run, longest first: key, method, data, steps, batch size, seed, device, seconds, KiB."""
    rows = []
    for run in cached_runs():
        config = run.get("config", {})
        row = {"key": run["key"][:12]}
        row |= {name: config.get(name) for name in ("method", "tau", "data", "steps", "batch_size", "seed")}
        rows.append(row | {"seconds": round(float(run.get("seconds", 0.0)), 1), "KiB": run["bytes"] // 1024})
    frame = pd.DataFrame(rows)
    return frame.sort_values("seconds", ascending=False, ignore_index=True) if rows else frame


def main() -> int:
    """Print the table and its sum."""
    frame = table()
    if frame.empty:
        print(f"No finished training run in {cache_dir() / 'runs'} yet: `make book` makes them.")
        return 0
    print(frame.to_string(index=False, na_rep="-"))
    print(
        f"{len(frame)} runs, {frame['seconds'].sum() / 60:.1f} minutes of training, {frame['KiB'].sum() / 1024:.1f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
