"""NumPy's own files: .npy, memory-mapped, and .npz. Nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

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
    """The arrays of an .npz archive, which can only be read whole: each is, in its own type."""

    def member(name: str) -> np.ndarray:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]

    with reading(path, ".npz"):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"{path}: expected an .npz archive, got a .npy file")
        with archive:
            names = archive.files
        return {name: Entry.of(member(name)) for name in names}
