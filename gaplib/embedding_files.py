"""Embeddings from .npy files that others wrote: checked, in double precision, with unit rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gaplib._validate import check_matrix, check_nonzero_rows, check_pair
from gaplib.geometry.inputs import normalize

_UNIT = 1e-3  # how far from one a norm may be before the row counts as not normalised


def load_embeddings(path: str | Path, note: Callable[[str], None] = print) -> np.ndarray:
    """Embeddings (n, d) of a .npy file, float64 with unit rows; ``note`` is told when they had to be normalised.

    Raises ``ValueError`` with the name of the file if it is missing, truncated, pickled, not .npy, not a matrix of
    floats, or holds NaN, infinity or a row of zeros. Nothing in the file is executed.
    """
    path = Path(path)
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
    if array.dtype.kind != "f":
        raise ValueError(f"{path}: expected an array of floats, got type {array.dtype}")
    # In double precision before anything is squared: the norm of a half-precision row can overflow.
    rows = check_nonzero_rows(check_matrix(np.array(array, dtype=np.float64), str(path)), str(path))
    off = int(((rows.norm(dim=1) - 1).abs() > _UNIT).sum())
    if off:
        note(f"{path}: {off} of {len(rows)} rows were not L2-normalised; they are now")
    return normalize(rows).numpy()


def load_pair(
    x: str | Path, y: str | Path, paired: bool = True, note: Callable[[str], None] = print
) -> tuple[np.ndarray, np.ndarray]:
    """Both files of embeddings; ``ValueError`` if dimensions differ or, where rows are pairs, counts do."""
    first, second = load_embeddings(x, note), load_embeddings(y, note)
    check_pair(first, second, (str(x), str(y)), paired=paired)
    return first, second
