"""NumPy's own files: .npy, memory-mapped, and .npz. Nothing is unpickled."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gaplib.embedding_files.entry import Entry, reading


def npy(path: Path) -> dict[str, Entry]:
    """The one array of a .npy file, without a name."""

    def mapped() -> np.ndarray:
        return np.load(path, mmap_mode="r", allow_pickle=False)

    with reading(path, ".npy"):
        array = mapped()
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(f"{path}: expected a .npy file with one array, got an .npz archive")
    return {"": Entry.of(array, mapped)}


def npz(path: Path) -> dict[str, Entry]:
    """The arrays of an .npz archive, which can only be read whole: each is, in its own type; objects are left alone."""

    def entry(archive: Any, name: str) -> Entry:
        try:
            return Entry.of(archive[name])
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            return Entry((), "object, and nothing is unpickled", 0, False, partial(_refuse, path, name))

    with reading(path, ".npz"):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"{path}: expected an .npz archive, got a .npy file")
        with archive:
            return {name: entry(archive, name) for name in archive.files}


def _refuse(path: Path, name: str) -> NoReturn:
    raise ValueError(f"{path}: {name} holds Python objects, and nothing is unpickled")
