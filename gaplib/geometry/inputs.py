"""How the metrics read their arguments: any float type in, detached float64 rows out.

Every metric is two functions: the public one reads and checks its arguments, and its core (``..._of``) computes on rows
that are read. Who wants many metrics of the same rows reads once, into :class:`Embeddings`, and calls the cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from gaplib._validate import as_float64, check_matrix, check_nonzero_rows, check_pair, check_unit_rows
from gaplib.pairs import HALF_TYPES

# Many rows are gone through in blocks of so many, so that no intermediate result is as large as they are. Blocks of
# some 16 MiB use the same memory again; larger ones would get theirs anew from the system each time.
ROWS_AT_A_TIME = 2**12


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    """``x`` with rows of norm one; no row may be zero. Safe for rows whose squares would under- or overflow."""
    x = x / x.detach().abs().amax(dim=1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True)


def normalize(x: Any) -> torch.Tensor:
    """Rows of ``x`` divided by their L2 norm.

    Args:
        x: (n, d), NumPy or torch, any float type. Not changed.

    Returns:
        (n, d) tensor of the same float type and device, with gradient; half types are computed in float32.

    Raises:
        ValueError: not a float matrix, NaN or infinity, or a row of zeros.
    """
    x = check_nonzero_rows(check_matrix(x, "x"), "x")
    return unit_rows(x.float() if x.dtype in HALF_TYPES else x).to(x.dtype)


def read(x: Any, name: str, *, unit: bool = False, min_rows: int = 1) -> torch.Tensor:
    """Detached float64 rows of ``x``; ``unit`` demands rows of norm one (a distance means nothing otherwise)."""
    x = check_matrix(x, name, min_rows=min_rows).detach()
    return as_float64(check_unit_rows(x, name) if unit else x)


def read_directions(x: Any, name: str, *, min_rows: int = 1) -> torch.Tensor:
    """Detached float64 rows of ``x`` at norm one, whatever their scale; rows of zeros are refused."""
    x = check_nonzero_rows(check_matrix(x, name, min_rows=min_rows).detach(), name)
    return unit_rows(as_float64(x))


def read_two(x: Any, y: Any, *, paired: bool = True, min_rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Both modalities as detached float64 unit rows of one dimension, and of one length if ``paired``."""
    x, y = read(x, "x", unit=True, min_rows=min_rows), read(y, "y", unit=True, min_rows=min_rows)
    check_pair(x, y, paired=paired)
    return x, y


def read_pair_directions(x: Any, y: Any, *, min_rows: int = 1) -> Embeddings:
    """Both modalities as :func:`read_directions` reads one, row i a pair."""
    x, y = read_directions(x, "x", min_rows=min_rows), read_directions(y, "y", min_rows=min_rows)
    check_pair(x, y)
    return Embeddings(x, y)


@dataclass(frozen=True)
class Embeddings:
    """Both modalities, read and checked: what the cores of the metrics take.

    x: (n, d) float64 unit rows without gradient, or what stands for them (:class:`gaplib.geometry.stored.StoredRows`),
    which has norm one to the last digit. y: (m, d), likewise. paired: whether row i of ``x`` belongs to row i
    of ``y``. groups: (n,) integers from 0 on where pairs form groups.
    """

    x: torch.Tensor
    y: torch.Tensor
    paired: bool = True
    groups: np.ndarray | None = None

    @property
    def codes(self) -> np.ndarray:
        """(n,) the pairs' groups; without groups, every pair is its own."""
        return np.arange(len(self.x)) if self.groups is None else self.groups

    def directions(self) -> Embeddings:
        """The same with rows of norm one to the last digit, for what depends on cosines alone."""
        if not isinstance(self.x, torch.Tensor):
            return self
        x, y = torch.empty_like(self.x), torch.empty_like(self.y)
        for z, out in ((self.x, x), (self.y, y)):
            for rows, place in zip(z.split(ROWS_AT_A_TIME), out.split(ROWS_AT_A_TIME), strict=True):
                place.copy_(unit_rows(rows))
        return Embeddings(x, y, self.paired, self.groups)

    def differences(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """x_i - y_i of the pairs: slices of row numbers, each with its (rows, d) differences."""
        for start in range(0, len(self.x), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            yield rows, self.x[rows] - self.y[rows]

    @cached_property
    def squared_distances(self) -> torch.Tensor:
        """(n,) squared distances of the true pairs."""
        # Into one place: small results between large blocks that come and go would keep the system from reusing these.
        out = torch.empty(len(self.x), dtype=torch.float64, device=self.x.device)
        for rows, difference in self.differences():
            out[rows] = difference.square_().sum(dim=1)
        return out

    def take(self, rows: np.ndarray) -> Embeddings:
        """The pairs at ``rows``, in memory."""
        index = torch.from_numpy(rows).to(self.x.device)
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        return Embeddings(self.x[index], self.y[index], self.paired, groups)


def row_numbers(x: torch.Tensor) -> np.ndarray:
    """(n,) integers that are equal where rows of ``x`` are equal bit for bit."""
    # With 64 bits two of a million different rows are taken for equal once in thirty million times.
    digests, start = np.empty(len(x), dtype=np.uint64), 0
    for rows in x.split(ROWS_AT_A_TIME):
        for number, row in enumerate(np.ascontiguousarray(rows.cpu().numpy()), start):
            digests[number] = int.from_bytes(blake2b(row, digest_size=8).digest(), "little")
        start += len(rows)
    return np.unique(digests, return_inverse=True)[1]
