"""Parquet: a column of lists of floats is a matrix of embeddings, every other column may hold labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from gaplib._extras import need
from gaplib.embedding_files.entry import Entry, gathered, reading

_ROWS = 2**14


def parquet(path: Path) -> dict[str, Entry]:
    """The columns by name. Lists must have one length, which is found when they are read."""
    need("train", "pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with reading(path, ".parquet"), ParquetFile(path) as file:
        found: dict[str, Entry] = {}
        for column in file.schema_arrow:
            kind: Any = column.type
            if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
                floats = pa.types.is_floating(kind.value_type)
                d = _length_of_first(file, column.name) if floats else 0
                shape: tuple[int, ...] = (file.metadata.num_rows, d)
                bits = kind.value_type.bit_width if floats else 0
                matrix = cache(partial(_matrix, path, column.name, d))
                found[column.name] = Entry(shape, str(kind), bits, floats, partial(_mapped, matrix))
            else:
                shape = (file.metadata.num_rows,)
                found[column.name] = Entry(shape, str(kind), 0, False, partial(_labels, path, column.name))
        return found


def _length_of_first(file: Any, column: str) -> int:
    for batch in file.iter_batches(1, columns=[column]):
        first = batch.column(0)[0].as_py()
        return 0 if first is None else len(first)
    return 0


def _matrix(path: Path, column: str, d: int) -> Callable[[], np.ndarray]:
    """A function that maps the column, which is decoded once."""
    with reading(path, ".parquet"):
        return gathered(_blocks(path, column, d), d)


def _blocks(path: Path, column: str, d: int) -> Iterator[np.ndarray]:
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    start = 0
    with ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=[column]):
            lists = batch.column(0)
            lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
            if (lengths != d).any():
                row = int(np.flatnonzero(lengths != d)[0])
                has = "no list" if lengths[row] < 0 else f"{lengths[row]}"
                raise ValueError(
                    f"{path}: column {column!r}: expected lists of one length, got {has} in row {start + row} "
                    f"and {d} in row 0"
                )
            yield lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, d)
            start += len(lists)


def _mapped(matrix: Callable[[], Callable[[], np.ndarray]]) -> np.ndarray:
    return matrix()()


def _labels(path: Path, column: str) -> np.ndarray:
    from pyarrow.parquet import read_table

    with reading(path, ".parquet"):
        return read_table(path, columns=[column]).column(0).to_pandas().to_numpy()
