"""The models measured so far: one row a model, one schema, whoever measures.

``measured.csv`` beside this file is written by ``python -m tools.measured`` from real embeddings. A table of your own
has the same columns: ``write_rows`` adds to it, ``measure(..., among=FILE)`` and ``--among FILE`` compare with it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from gaplib._atomic import atomic
from gaplib.geometry import GapReport
from gaplib.geometry.metrics import METRICS

#: model: its name; source: where model or embeddings come from; trained: whether its weights are
DESCRIPTION = ("model", "source", "trained", "n", "d")
RECALL = ("image_to_text_at_1", "text_to_image_at_1")
#: a column for each value of the report card, in its order
VALUES = (*(key for metric in METRICS.values() if metric.report for key in metric.keys), *RECALL)
COLUMNS = (*DESCRIPTION, *VALUES)
MEASURED = Path(__file__).with_name("measured.csv")


def row_of(model: str, source: str, report: GapReport, trained: bool = True) -> dict[str, Any]:
    """The row of a report: ``COLUMNS``; values to six digits, ``None`` where a metric does not apply."""
    values = {key: None if (value := report.values[key]) is None else float(f"{value:.6g}") for key in VALUES}
    return {"model": model, "source": source, "trained": trained, "n": report.n, "d": report.d, **values}


def read_rows(path: str | Path = MEASURED) -> pd.DataFrame:
    """A table of measured models. ``ValueError`` for a file that is missing, has not all of ``COLUMNS``, words where
    numbers belong, or anything but True and False in ``trained``."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table of measured models ({error})") from error
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise ValueError(f"{path}: expected the columns of a table of measured models, got none called {missing[0]}")
    if not frame.empty and frame["trained"].dtype != bool:
        raise ValueError(f"{path}: expected True or False in the column trained, got {frame['trained'].iloc[0]!r}, ...")
    if words := [name for name in VALUES if not frame.empty and not is_numeric_dtype(frame[name])]:
        raise ValueError(f"{path}: expected numbers in the column {words[0]}")
    return frame


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put ``rows`` (:func:`row_of`) into the table ``path``, new or not; a row takes the place of that of its model.

    Columns beyond ``COLUMNS`` are kept. The file is written whole or not at all.
    """
    path, rows = Path(path), [dict(row) for row in rows]
    there = read_rows(path).to_dict("records") if path.exists() else []
    new = {row["model"] for row in rows}
    merged = [row for row in there if row["model"] not in new] + rows
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in merged for name in row)]))
    with atomic(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if pd.isna(row.get(name)) else row[name] for name in columns} for row in merged)


def place(key: str, value: float, models: pd.DataFrame) -> str:
    """Where ``value`` stands among trained models, in words: "above 2 of 4; nearest CLIP, 0.948"; "" without any."""
    if key not in models:
        return ""
    others = models[models["trained"].astype(bool) & models[key].notna()]
    if others.empty:
        return ""
    nearest = others.loc[(others[key] - value).abs().idxmin()]
    above = int((others[key] < value).sum())
    return f"above {above} of {len(others)}; nearest {nearest['model']}, {nearest[key]:.3g}"
