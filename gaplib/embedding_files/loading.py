"""From a place on the disk to embeddings: which format, which of the arrays in it, and whether it is any good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gaplib._validate import check_choice
from gaplib.embedding_files.csv_files import csv
from gaplib.embedding_files.entry import Entry
from gaplib.embedding_files.folders import SIDES, shards, two_sides
from gaplib.embedding_files.numpy_files import npy, npz
from gaplib.embedding_files.parquet_files import parquet
from gaplib.embedding_files.safetensors_files import safetensors
from gaplib.embedding_files.torch_files import pt
from gaplib.geometry.stored import StoredRows

#: suffix -> what reads it
FORMATS: Mapping[str, Callable[[Path], dict[str, Entry]]] = {
    ".npy": npy,
    ".npz": npz,
    ".pt": pt,
    ".pth": pt,
    ".safetensors": safetensors,
    ".parquet": parquet,
    ".csv": csv,
}
#: how the two modalities are called in files and folders that hold both
BOTH = (
    SIDES,
    ("image", "text"),
    ("image_embedding", "text_embedding"),
    ("image_embeddings", "text_embeddings"),
    ("image_features", "text_features"),
    ("test_image", "test_text"),
    ("x", "y"),
)


def split_key(place: str | Path, key: str | None = None) -> tuple[Path, str | None]:
    """The file and the name of the array in it: ``FILE:NAME`` says both, where there is no file of that whole name."""
    path = Path(place)
    if not path.exists() and ":" in str(place):
        file, _, name = str(place).rpartition(":")
        if Path(file).is_file() and name:
            return Path(file), name
    return path, key


def entries(path: Path) -> dict[str, Entry]:
    """All arrays of a file by name. ``ValueError`` for a format that is none of ``FORMATS``, or a damaged file."""
    if path.suffix not in FORMATS:
        if not path.exists():
            raise ValueError(f"{path}: there is no such file")
        raise ValueError(f"{path}: expected a folder of .npy files or one of {', '.join(FORMATS)}")
    return FORMATS[path.suffix](path)


def choose(path: Path, found: Mapping[str, Entry], key: str | None, what: str = "embeddings") -> Entry:
    """The array called ``key``, or the only one that there is."""
    if key is not None:
        if list(found) == [""]:
            return found[""]
        return found[check_choice(key, f"{path}: key", found)]
    likely = {name: one for name, one in found.items() if one.embeddings} or found
    if len(likely) == 1:
        return next(iter(likely.values()))
    names = ", ".join(likely) or "no arrays"
    raise ValueError(f"{path}: expected one array of {what}, got {names}; name one with {path.name}:NAME or --key NAME")


def open_embeddings(place: str | Path, key: str | None = None, note: Callable[[str], None] = print) -> StoredRows:
    """Embeddings of a file in any of ``FORMATS``, or of a folder of .npy shards, checked and not yet loaded.

    .npy, .pt and .safetensors files are memory-mapped; .parquet and .csv are put into a temporary file once; .npz is
    read whole. Half and single precision stay as they are on the disk.

    Args:
        place: the file or folder. ``FILE:NAME`` is the array NAME of the file.
        key: the name of the array, where the place does not say it and there are several.
        note: is told when rows had to be normalised.

    Raises:
        ValueError: with the name of the file, if it is missing, damaged or pickled, of no known format, has no array
            ``key``, is not a matrix of floats of 16 bits or more, has lists of different lengths, or holds NaN,
            infinity or a row of zeros (how many, which first). Nothing in the file is executed.
    """
    path, key = split_key(place, key)
    if path.is_dir():
        if (sides := two_sides(path)) is not None:
            raise ValueError(f"{path}: expected one modality, got the folder of both; name {sides[0]} or {sides[1]}")
        found = [choose(shard, entries(shard), None) for shard in shards(path)]
    else:
        found = [choose(path, entries(path), key)]
    return _stored(str(place), found).check(note)


def _stored(name: str, found: list[Entry]) -> StoredRows:
    for one in found:
        if not one.floats:
            raise ValueError(f"{name}: expected an array of floats, got type {one.type_name}")
        if len(one.shape) != 2:
            raise ValueError(f"{name}: expected a 2-d array of shape (n, d), got shape {one.shape}")
    widths = {one.shape[1] for one in found}
    if len(widths) > 1:
        raise ValueError(f"{name}: expected shards of one dimension, got {', '.join(map(str, sorted(widths)))}")
    n, d = sum(one.shape[0] for one in found), found[0].shape[1]
    if n == 0 or d == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {(n, d)}")
    parts = [(one.shape[0], one.open) for one in found]
    return StoredRows(name, parts, d, max(one.bits for one in found) < 64)


def open_both(place: str | Path, note: Callable[[str], None] = print) -> dict[str, StoredRows]:
    """Both modalities of a place that holds them: a folder of clip-retrieval (img_emb and text_emb), or a file with
    two arrays of embeddings, whatever they are called, or with two called as in ``BOTH`` among others.

    Names are those of the arrays. ``ValueError`` where the two cannot be told, and as in :func:`open_embeddings`.

    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/run.npz", image=np.eye(3), text=np.eye(3), steps=np.arange(3))
    ...     {name: rows.shape for name, rows in open_both(f"{folder}/run.npz").items()}
    {'image': (3, 3), 'text': (3, 3)}
    """
    path = Path(place)
    if path.is_dir():
        if (sides := two_sides(path)) is None:
            raise ValueError(f"{path}: expected a second file, or a folder that holds {SIDES[0]} and {SIDES[1]}")
        return {name: open_embeddings(side, None, note) for name, side in zip(("image", "text"), sides, strict=True)}
    found = entries(path)
    names = [name for name, one in found.items() if one.embeddings]
    if names == [""]:
        raise ValueError(f"{path}: expected a second file, or one file that holds both modalities")
    chosen = next((both for both in BOTH if set(both) <= set(names)), tuple(names))
    if len(chosen) != 2:
        raise ValueError(
            f"{path}: expected two arrays of embeddings in a file that stands alone, got "
            f"{', '.join(filter(None, names)) or len(names)}; name two, each as {path.name}:NAME"
        )
    return {name: _stored(f"{path}:{name}", [found[name]]).check(note) for name in chosen}


def load_embeddings(path: str | Path, note: Callable[[str], None] = print) -> np.ndarray:
    """What :func:`open_embeddings` opens, loaded: (n, d) float64 with unit rows. Errors and notes as there."""
    return open_embeddings(path, None, note).in_memory().numpy()


def check_stored_pair(x: StoredRows, y: StoredRows, paired: bool = True) -> None:
    """``ValueError`` if dimensions differ or, where rows are pairs, counts do: with both, and what can be done."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{y.name}: expected the dimension of {x.name} ({x.shape[1]}), got {y.shape[1]}")
    if paired and len(x) != len(y):
        raise ValueError(
            f"{y.name}: expected as many rows as {x.name} ({len(x)} pairs), got {len(y)}; --pairs FILE says which row "
            "of the first each row of the second belongs to (pairs= in Python), --unpaired that none does"
        )


def load_pair(
    x: str | Path, y: str | Path, paired: bool = True, note: Callable[[str], None] = print
) -> tuple[np.ndarray, np.ndarray]:
    """Both files of embeddings; ``ValueError`` if dimensions differ or, where rows are pairs, counts do."""
    first, second = open_embeddings(x, None, note), open_embeddings(y, None, note)
    check_stored_pair(first, second, paired)
    return first.in_memory().numpy(), second.in_memory().numpy()
