"""The leaderboard's rows as a table, and the order of its methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gaplib._atomic import atomic
from gaplib.glyph_tasks.controls import CONTROLS
from gaplib.methods import METHODS
from gaplib.training import presets

#: what None asks for: everything that is trained, every treatment (of CLIP), every control
METHODS_AND_CONTROLS = (*presets.TRAINED, *(name for name, row in METHODS.items() if row.post_hoc), *CONTROLS)


def columns(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: what they are, then a column a metric (empty where a control has no such metric)."""
    flat = [{**{k: v for k, v in one.items() if k != "metrics"}, **one["metrics"]} for one in rows]
    return pd.DataFrame(flat)


def write_table(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """leaderboard.csv and leaderboard.parquet, ordered by method (as the table of methods has them) and seed."""
    place = {name: i for i, name in enumerate(METHODS_AND_CONTROLS)}
    ordered = sorted(rows, key=lambda row: (place.get(row["method"], len(place)), row["method"], row["seed"]))
    if not ordered:
        return
    table = columns(ordered)
    with atomic(folder / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    with atomic(folder / "leaderboard.parquet") as partial:
        table.to_parquet(partial, index=False)
