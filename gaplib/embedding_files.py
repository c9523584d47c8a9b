"""Embeddings from .npy files that others wrote: checked, in double precision, with unit rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gaplib._validate import check_labels, check_matrix, check_nonzero_rows, check_pair
from gaplib.geometry.inputs import normalize

_UNIT = 1e-3  # how far from one a norm may be before the row counts as not normalised


def load_embeddings(path: str | Path, note: Callable[[str], None] = print) -> np.ndarray:
    """Embeddings (n, d) of a .npy file, float64 with unit rows; ``note`` is told when they had to be normalised.

    Raises ``ValueError`` with the name of the file if it is missing, truncated, pickled, not .npy, not a matrix of
    floats, or holds NaN, infinity or a row of zeros. Nothing in the file is executed.
    """
    path = Path(path)
    array = _array(path)
    if array.dtype.kind != "f":
        raise ValueError(f"{path}: expected an array of floats, got type {array.dtype}")
    # In double precision before anything is squared: the norm of a half-precision row can overflow.
    rows = check_nonzero_rows(check_matrix(np.array(array, dtype=np.float64), str(path)), str(path))
    off = int(((rows.norm(dim=1) - 1).abs() > _UNIT).sum())
    if off:
        note(f"{path}: {off} of {len(rows)} rows were not L2-normalised; they are now")
    return normalize(rows).numpy()


def _array(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped; ``ValueError`` for anything else."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a .npy file, got a folder") from None
    except Exception as error:  # numpy raises a different kind for every way in which a file can be broken
        raise ValueError(f"{path}: not a readable .npy file ({error})") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path}: expected a .npy file with one array, got an .npz archive")
    return array


def load_pair(
    x: str | Path, y: str | Path, paired: bool = True, note: Callable[[str], None] = print
) -> tuple[np.ndarray, np.ndarray]:
    """Both files of embeddings; ``ValueError`` if dimensions differ or, where rows are pairs, counts do."""
    first, second = load_embeddings(x, note), load_embeddings(y, note)
    check_pair(first, second, (str(x), str(y)), paired=paired)
    return first, second


def load_groups(path: str | Path, n: int) -> np.ndarray:
    """The ``n`` groups of the rows, integers or strings: a .npy file, or UTF-8 text with one label a line.

    A .csv file has one column, and its labels may be quoted; nothing else is taken for a heading. Raises ``ValueError``
    with the name of the file if it is missing, damaged, pickled, has another number of labels or an empty one.
    """
    path = Path(path)
    labels: list[str] = []
    if path.suffix == ".npy":
        return check_labels(_array(path), n, str(path))
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise ValueError(f"{path}: there is no such file") from None
        except IsADirectoryError:
            raise ValueError(f"{path}: expected a file of labels, got a folder") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected a .npy file or UTF-8 text ({error})") from error
        lines = text.removesuffix("\n").split("\n")
        rows = csv.reader(lines) if path.suffix == ".csv" else ([line] for line in lines)
        for number, row in enumerate(rows, start=1):
            if len(row) != 1 or not row[0].strip():
                raise ValueError(
                    f"{path}: expected one label a line, got {len(row)} fields in line {number}: {row!r:.80}"
                )
            labels.append(row[0].strip())
    if len(labels) == n + 1:
        raise ValueError(f"{path}: expected {n} labels, got {n + 1}: is the first, {labels[0]!r:.40}, a heading?")
    return check_labels(labels, n, str(path))
