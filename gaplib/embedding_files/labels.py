"""Labels of rows from files: groups, and which rows belong together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaplib._validate import check_labels
from gaplib.embedding_files.loading import FORMATS, choose, entries, split_key


def load_groups(path: str | Path, n: int) -> np.ndarray:
    """The ``n`` groups of the rows, integers or strings: a .npy file, or UTF-8 text with one label a line.

    A .csv file has one column, and its labels may be quoted; nothing else is taken for a heading. An array of another
    format is ``FILE:NAME``. Raises ``ValueError`` with the name of the file if it is missing, damaged, pickled, has
    another number of labels or an empty one.
    """
    labels = _labels(path)
    if isinstance(labels, list) and len(labels) == n + 1:
        raise ValueError(f"{path}: expected {n} labels, got {n + 1}: is the first, {labels[0]!r:.40}, a heading?")
    return check_labels(labels, n, str(path))


def load_index(path: str | Path, n: int) -> np.ndarray:
    """The ``n`` whole numbers of a file of labels (:func:`load_groups`); ``ValueError`` for anything else."""
    labels = load_groups(path, n)
    if labels.dtype.kind in "US":
        try:
            return labels.astype(np.int64)
        except (ValueError, OverflowError):
            row = next((i for i, one in enumerate(labels) if not _is_index(one)), 0)
            raise ValueError(f"{path}: expected whole numbers, got {str(labels[row])!r:.40} in row {row}") from None
    return labels


def _is_index(label: str) -> bool:
    try:
        return abs(int(label)) < 2**63
    except ValueError:
        return False


def _labels(path: str | Path) -> Any:
    """A list of strings from text, an array from the other formats."""
    path, key = split_key(path)
    if key is not None or (path.suffix in FORMATS and path.suffix != ".csv"):
        labels = choose(path, entries(path), key, "labels").open()
        return labels.numpy() if isinstance(labels, torch.Tensor) else labels
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
    found = []
    for number, row in enumerate(rows, start=1):
        if len(row) != 1 or not row[0].strip():
            raise ValueError(f"{path}: expected one label a line, got {len(row)} fields in line {number}: {row!r:.80}")
        found.append(row[0].strip())
    return found
