"""Embeddings that stay where they are, a file larger than memory say, and are read block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gaplib.geometry.inputs import ROWS_AT_A_TIME, unit_rows

_SCATTERED = 2**10  # rows taken from one map
_UNIT = 1e-3  # how far from one a norm may be before the row counts as not normalised


class StoredRows:
    """(n, d) embeddings as float64 rows of norm one, of which only a block is in memory at a time.

    It does what the cores of the metrics ask of a tensor: ``len``, ``shape``, slices and indices of rows (which give
    tensors), ``split``, ``sum`` and ``mean`` over the rows.

    Args:
        name: what errors and notes call it.
        parts: the number of rows of each part, and a function that gives the part: (rows, d) floats, NumPy (a memory
            map, say) or torch. It is called for every block anew, so that pages of a map can be let go of.
        d: columns. half_or_single: whether the floats have fewer than 64 bits.
        index: the rows of the parts that are meant, in this order; ``None`` means all of them.

    >>> import numpy as np
    >>> rows = StoredRows("x", [(2, lambda: np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float16))], 2, True)
    >>> rows[0:2].tolist(), rows.shape
    ([[0.6, 0.8], [0.0, 1.0]], (2, 2))
    >>> rows.take(np.array([1, 1, 0])).mean(dim=0).round(decimals=4).tolist()
    [0.2, 0.9333]
    """

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(
        self,
        name: str,
        parts: Sequence[tuple[int, Callable[[], Any]]],
        d: int,
        half_or_single: bool,
        index: np.ndarray | None = None,
    ) -> None:
        self.name, self.parts, self.half_or_single, self.index = name, tuple(parts), half_or_single, index
        self.ends = np.cumsum([rows for rows, _ in parts])
        self.shape = (int(self.ends[-1]) if index is None else len(index), d)

    def __len__(self) -> int:
        return self.shape[0]

    def raw(self, rows: slice | np.ndarray | torch.Tensor) -> torch.Tensor:
        """The rows at their own scale, float64."""
        if isinstance(rows, slice):
            rows = slice(*rows.indices(len(self)))
            if self.index is None:
                return self._consecutive(rows.start, rows.stop)
        at = np.asarray(rows) if not isinstance(rows, slice) else np.arange(rows.start, rows.stop)
        at = at if self.index is None else self.index[at]
        out = torch.empty(len(at), self.shape[1], dtype=torch.float64)
        for number, (first, end) in enumerate(zip([0, *self.ends[:-1]], self.ends, strict=True)):
            here = np.flatnonzero((at >= first) & (at < end))
            # In the order of the file, whatever the order that is asked for; and not too many from one map, for the
            # system counts the surroundings of every row that is touched.
            here = here[np.argsort(at[here], kind="stable")]
            for some in np.split(here, range(_SCATTERED, len(here), _SCATTERED)):
                if len(some):
                    out[torch.from_numpy(some)] = _as_float64(self.parts[number][1](), at[some] - first)
        return out

    def _consecutive(self, start: int, stop: int) -> torch.Tensor:
        blocks = [
            _as_float64(open_part(), slice(max(start, first) - first, min(stop, end) - first))
            for first, end, (_, open_part) in zip([0, *self.ends[:-1]], self.ends, self.parts, strict=True)
            if start < end and stop > first
        ]
        return blocks[0] if len(blocks) == 1 else torch.cat([torch.empty(0, self.shape[1]).double(), *blocks])

    def __getitem__(self, rows: slice | np.ndarray | torch.Tensor) -> torch.Tensor:
        x = self.raw(rows)
        # Squares of floats of fewer bits cannot leave the range of doubles.
        return x.div_(x.norm(dim=1, keepdim=True)) if self.half_or_single else unit_rows(x)

    def take(self, rows: np.ndarray) -> StoredRows:
        """The rows at ``rows``, still stored."""
        index = rows if self.index is None else self.index[rows]
        return StoredRows(self.name, self.parts, self.shape[1], self.half_or_single, index)

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Row numbers and rows, block by block."""
        size = size or ROWS_AT_A_TIME
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self[rows]

    def split(self, size: int | None = None) -> Iterator[torch.Tensor]:
        """As torch's: blocks of rows."""
        return (rows for _, rows in self.blocks(size))

    def sum(self, dim: int = 0) -> torch.Tensor:
        """Of the rows; ``dim`` is 0."""
        return self._sum

    @cached_property
    def _sum(self) -> torch.Tensor:
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for rows in self.split():
            total += rows.sum(dim=0)
        return total

    def mean(self, dim: int = 0) -> torch.Tensor:
        """Of the rows; ``dim`` is 0."""
        return self.sum(dim) / len(self)

    def check(self, note: Callable[[str], None]) -> StoredRows:
        """Itself. ``ValueError`` for NaN, infinity or a row of zeros (how many, which first); ``note`` is told of rows
        that are not L2-normalised, for they are from here on."""
        n, faults = len(self), {"finite": _Faults(), "zero": _Faults(), "norm": _Faults()}
        for start in range(0, n, ROWS_AT_A_TIME):
            rows = self.raw(slice(start, start + ROWS_AT_A_TIME))
            finite = torch.isfinite(rows).all(dim=1)
            zero = (rows == 0).all(dim=1)
            faults["finite"].add(~finite, start)
            faults["zero"].add(zero, start)
            faults["norm"].add(finite & ~zero & ((rows.norm(dim=1) - 1).abs() > _UNIT), start)
        if (bad := faults["finite"]).number:
            raise ValueError(
                f"{self.name}: expected finite values, got NaN or infinity (first in row {bad.first}) "
                f"in {bad.number} of {n} rows"
            )
        if (bad := faults["zero"]).number:
            raise ValueError(
                f"{self.name}: expected rows with a direction, got a row of zeros (row {bad.first}), "
                f"{bad.number} of {n} in all"
            )
        if (bad := faults["norm"]).number:
            note(f"{self.name}: {bad.number} of {n} rows were not L2-normalised; they are now")
        return self

    def in_memory(self) -> torch.Tensor:
        """(n, d) float64 tensor of all the rows at norm one."""
        out = torch.empty(self.shape, dtype=torch.float64)
        for rows, block in self.blocks():
            out[rows] = block
        return out


class _Faults:
    """How many rows have a fault, and which is the first."""

    def __init__(self) -> None:
        self.number, self.first = 0, -1

    def add(self, faulty: torch.Tensor, start: int) -> None:
        where = faulty.nonzero()
        if len(where) and not self.number:
            self.first = start + int(where[0])
        self.number += len(where)


def _as_float64(part: Any, rows: slice | np.ndarray) -> torch.Tensor:
    """A copy in double precision: a memory map is read-only, and may have a foreign byte order."""
    if isinstance(part, torch.Tensor):
        at: Any = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(part.device)
        return part[at].detach().cpu().to(torch.float64, copy=True)
    return torch.from_numpy(np.array(part[rows], dtype=np.float64, order="C"))
