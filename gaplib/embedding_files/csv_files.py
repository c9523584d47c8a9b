"""CSV: numbers, one row an embedding, with or without a heading."""

from __future__ import annotations

import csv as csv_module
from pathlib import Path

import numpy as np
import pandas as pd

from gaplib.embedding_files.entry import Entry, gathered, reading

_ROWS = 2**12


def csv(path: Path) -> dict[str, Entry]:
    """The matrix of a .csv file, without a name. A first line is a heading if no field in it is a number, or if it
    numbers three columns or more from 0, as pandas does. A first column without a name is an index: refused."""
    with reading(path, ".csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv_module.reader(file), [])
        if len(first) > 1 and not first[0]:
            raise ValueError(
                f"{path}: expected a number or a name in every column, got none in the first of line 1; "
                "an index is no embedding (pandas leaves it out with index=False)"
            )
        header = 0 if first and (not any(_is_number(field) for field in first) or _counts(first)) else None
        with pd.read_csv(path, header=header, dtype=np.float64, chunksize=_ROWS) as read:
            open_matrix = gathered((block.to_numpy() for block in read), len(first))
        return {"": Entry.of(open_matrix(), open_matrix)}


def _counts(fields: list[str]) -> bool:
    """Whether they number columns; "0,1" may be an embedding."""
    return len(fields) > 2 and fields == [str(number) for number in range(len(fields))]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
