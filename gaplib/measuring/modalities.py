"""Whatever a modality comes as, an array, a tensor, a file, to rows that are checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gaplib._validate import check_labels, check_matrix
from gaplib.embedding_files import load_groups, load_index, open_both, open_embeddings
from gaplib.embedding_files.loading import split_key
from gaplib.geometry.stored import StoredRows

#: Bytes that a modality may take in double precision to be loaded; larger ones are gone through block by block.
IN_MEMORY = 2**26
DEFAULT_NAMES = ("image", "text")


def is_path(one: Any) -> bool:
    """Whether it names a file."""
    return isinstance(one, str | os.PathLike)


def read_rows(one: Any, name: str, key: str | None, note: Callable[[str], None]) -> StoredRows:
    """A path, an array or a tensor as checked rows, not copied. ``ValueError`` names the file or ``name``."""
    if isinstance(one, StoredRows):
        return one
    if is_path(one):
        return open_embeddings(one, key, note)
    if not isinstance(one, np.ndarray) or one.dtype.kind != "f" or isinstance(one, np.ma.MaskedArray) or one.ndim != 2:
        one = check_matrix(one, name, finite=False).detach()  # a tensor, or an error in the usual words
    n, d = one.shape
    if n == 0 or d == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {(n, d)}")
    return StoredRows(name, [(n, lambda: one)], d, one.dtype.itemsize < 8).check(note)


def in_memory_if_small(rows: tuple[StoredRows, ...]) -> tuple[StoredRows, ...] | tuple[torch.Tensor, ...]:
    """Float64 tensors if each fits into ``IN_MEMORY`` bytes, else all as they are."""
    if all(8 * len(one) * one.shape[1] <= IN_MEMORY for one in rows):
        return tuple(one.in_memory() for one in rows)
    return rows


def named_modalities(
    modalities: tuple[Any, ...], names: Any, note: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Names and modalities of the arguments of :func:`gaplib.measure`."""
    if len(modalities) == 1 and isinstance(modalities[0], Mapping):
        if names is not None:
            raise ValueError("names: expected None beside a mapping, whose keys are the names")
        names, modalities = tuple(modalities[0]), tuple(modalities[0].values())
    elif len(modalities) == 1 and is_path(modalities[0]):
        found = open_both(modalities[0], note)
        names = tuple(name.removeprefix("test_") for name in found) if names is None else names
        modalities = tuple(found.values())
    if len(modalities) < 2:
        raise ValueError(
            "modalities: expected two or more arrays, tensors or paths, or one file that holds two, "
            f"got {len(modalities)}"
        )
    if names is None:
        names = _own_names(modalities)
    if isinstance(names, str):
        raise ValueError(f"names: expected a tuple of {len(modalities)} strings, got {names!r}")
    names = tuple(names)
    if len(names) != len(modalities) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"names: expected {len(modalities)} different strings, got {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"names: expected different strings, got {names!r}")
    return names, modalities


def _own_names(modalities: tuple[Any, ...]) -> tuple[str, ...]:
    """The names of files, else ``DEFAULT_NAMES`` of two modalities."""
    if all(is_path(one) for one in modalities):
        texts = [str(one) for one in modalities]
        stems = [key or path.stem or text for text in texts for path, key in [split_key(text)]]
        for candidates in (stems, texts):
            if len(set(candidates)) == len(candidates):
                return tuple(candidates)
        return tuple("XYZ"[i] if len(texts) <= 3 else f"modality {i + 1}" for i in range(len(texts)))
    if len(modalities) == 2:
        return DEFAULT_NAMES
    raise ValueError("names: expected a name for each of more than two modalities, or one mapping of name to array")


def read_groups(groups: Any, n: int) -> np.ndarray | None:
    """Labels of ``n`` rows, from a file or as they are."""
    if groups is None:
        return None
    return load_groups(groups, n) if is_path(groups) else check_labels(groups, n, "groups")


def read_pairs(pairs: Any, n: int, m: int, names: tuple[str, str]) -> np.ndarray:
    """(m,) for every row of the second modality, the row of the first, 0 to n - 1."""
    where = str(pairs) if is_path(pairs) else "pairs"
    index = load_index(pairs, m) if is_path(pairs) else check_labels(pairs, m, "pairs")
    if index.dtype.kind not in "iu":
        raise ValueError(f"{where}: expected whole numbers, one a row of {names[1]}, got type {index.dtype}")
    bad = np.flatnonzero((index < 0) | (index >= n))
    if len(bad):
        raise ValueError(
            f"{where}: expected rows of {names[0]}, 0 to {n - 1}, got {index[bad[0]]} in row {bad[0]} "
            f"({len(bad)} of {m} are outside)"
        )
    return index.astype(np.int64)
