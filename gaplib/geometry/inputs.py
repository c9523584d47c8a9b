"""How the metrics read their arguments: any float type in, detached float64 rows out."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from gaplib._validate import as_float64, check_matrix, check_nonzero_rows, check_pair, check_unit_rows
from gaplib.pairs import HALF_TYPES


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


def row_numbers(x: torch.Tensor) -> np.ndarray:
    """(n,) integers that are equal where rows of ``x`` are equal bit for bit."""
    numbers: dict[bytes, int] = {}
    rows = np.ascontiguousarray(x.cpu().numpy())
    return np.array([numbers.setdefault(blake2b(row, digest_size=16).digest(), len(numbers)) for row in rows])
