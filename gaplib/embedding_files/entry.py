"""What a file holds, whatever its format: arrays by name, of which only shape and type are known at first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Entry:
    """One array of a file: its ``shape``, its type in words, its bits an item, whether it holds floats, and how to get
    at it. ``open`` maps the file anew where the format can be mapped, and reads nothing then."""

    shape: tuple[int, ...]
    type_name: str
    bits: int
    floats: bool
    open: Callable[[], Any]

    @classmethod
    def of(cls, array: Any, open_array: Callable[[], Any] | None = None) -> Entry:
        """The entry of a NumPy array or a tensor; ``open_array`` gets it again, where it need not be kept."""
        if isinstance(array, torch.Tensor):
            # The types of 8 bits are formats of storage with a scale of their own.
            floats = array.dtype.is_floating_point and array.dtype.itemsize > 1
            name = str(array.dtype).removeprefix("torch.")
        else:
            floats, name = array.dtype.kind == "f", str(array.dtype)
        return cls(tuple(array.shape), name, 8 * array.dtype.itemsize, floats, open_array or (lambda: array))

    @property
    def embeddings(self) -> bool:
        """Whether it can be embeddings: a matrix of floats."""
        return self.floats and len(self.shape) == 2


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Errors of a reader as one line: ``ValueError`` with the name of the file."""
    try:
        yield
    except ImportError:
        raise
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a {kind} file, got a folder") from None
    except ValueError as error:
        if str(error).startswith(str(path)):  # one of ours
            raise
        raise ValueError(f"{path}: not a readable {kind} file ({_line(error)})") from error
    except Exception as error:  # every library raises a different kind for every way in which a file can be broken
        raise ValueError(f"{path}: not a readable {kind} file ({_line(error)})") from error


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "pickle" in text or "Python objects" in text:  # NumPy, which goes on to say how to run them
        return "it holds Python objects, and nothing is unpickled"
    return text[:200] or type(error).__name__


def gathered(blocks: Iterable[np.ndarray], d: int) -> Callable[[], np.ndarray]:
    """Blocks (rows, d) of one float type, put into a temporary file without a name; a function that maps it.

    For formats that cannot be mapped: the file goes with the last that refers to it.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the function below)
    rows, dtype = 0, np.dtype(np.float32)
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)
        rows, dtype = rows + len(block), block.dtype
    file.flush()
    if not rows:
        return lambda: np.empty((0, d), dtype)
    return lambda: np.memmap(file, dtype, "r", shape=(rows, d))
