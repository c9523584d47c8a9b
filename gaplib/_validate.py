"""Argument checks that every public function shares: each error names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any

import numpy as np
import torch

from gaplib._devices import has_float64

# How far a row's norm may be from one before the row counts as not normalised; half types round each entry.
_NORM_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 2e-2, torch.float32: 1e-3, torch.float64: 1e-3}
_CAN = "a 2-d float array or tensor of shape (n, d)"
_READ_VALUES: ContextVar[bool] = ContextVar("read_values", default=True)


@contextmanager
def reading_values(read: bool) -> Iterator[None]:
    """Inside, with ``read`` false, the losses do not look at values of tensors, which waits for the device.

    ``PairedEmbeddings(check=False)`` says so for the embeddings; this is for what the losses are given beside them.
    """
    token = _READ_VALUES.set(read)
    try:
        yield
    finally:
        _READ_VALUES.reset(token)


def values_are_read() -> bool:
    """Whether a check may look at the values of a tensor (:func:`reading_values`)."""
    return _READ_VALUES.get()


def _describe(x: Any) -> str:
    shape = getattr(x, "shape", None)
    kind = type(x).__name__
    return f"{kind} of shape {tuple(shape)} and type {x.dtype}" if shape is not None else f"{kind} {x!r:.80}"


def check_matrix(x: Any, name: str, *, min_rows: int = 1, finite: bool = True) -> torch.Tensor:
    """Return ``x`` as a float tensor of shape (n, d), on its device, gradient kept; raise ``ValueError`` otherwise.

    16, 32 and 64 bits are taken. The memory of a NumPy array is shared where torch can share it: never write into it.
    """
    if isinstance(x, np.ndarray):
        # A masked array would lose its mask without a word.
        if x.dtype.kind != "f" or isinstance(x, np.ma.MaskedArray):
            raise ValueError(f"{name}: expected {_CAN}, got {_describe(x)}")
        # A copy where torch cannot share: negative strides, a foreign byte order, a read-only memory map, long doubles.
        native = x.astype(np.float64) if x.dtype.itemsize > 8 else x.astype(x.dtype.newbyteorder("="), copy=False)
        x = torch.from_numpy(np.require(native, requirements=["C", "W"]))
    dense = isinstance(x, torch.Tensor) and x.layout == torch.strided
    if not dense or x.dtype not in _NORM_TOLERANCE or x.ndim != 2:
        raise ValueError(f"{name}: expected {_CAN}, got {_describe(x)}")
    n, d = x.shape
    if n == 0 or d == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {(n, d)}")
    if n < min_rows:
        raise ValueError(f"{name}: expected at least {min_rows} rows, got {n}")
    if finite and not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).any(dim=1).nonzero()[0])
        raise ValueError(f"{name}: expected finite values, got NaN or infinity (first in row {bad})")
    return x


def check_unit_rows(x: torch.Tensor, name: str) -> torch.Tensor:
    """Raise ``ValueError`` unless every row of the float matrix ``x`` has norm one (tolerance by dtype)."""
    norms = x.detach().to(torch.float64 if has_float64(x.device) else torch.float32).norm(dim=1)
    worst = int((norms - 1).abs().argmax())
    if abs(float(norms[worst]) - 1) > _NORM_TOLERANCE.get(x.dtype, 1e-3):
        raise ValueError(
            f"{name}: expected L2-normalised rows, got norm {float(norms[worst]):.4g} in row {worst} "
            "(gaplib.geometry.normalize makes them so)"
        )
    return x


def check_nonzero_rows(x: torch.Tensor, name: str) -> torch.Tensor:
    """Raise ``ValueError`` if a row of ``x`` is all zeros, which has no direction."""
    zero = (x.detach() == 0).all(dim=1)
    if bool(zero.any()):
        raise ValueError(f"{name}: expected rows with a direction, got a row of zeros (row {int(zero.nonzero()[0])})")
    return x


def check_pair(
    x: torch.Tensor | np.ndarray,
    y: torch.Tensor | np.ndarray,
    names: tuple[str, str] = ("x", "y"),
    *,
    paired: bool = True,
) -> None:
    """Raise ``ValueError`` unless ``x`` and ``y`` share dimension, device and, if ``paired``, the number of rows."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{names[1]}: expected the dimension of {names[0]} ({x.shape[1]}), got {y.shape[1]}")
    if paired and x.shape[0] != y.shape[0]:
        raise ValueError(f"{names[1]}: expected as many rows as {names[0]} ({x.shape[0]} pairs), got {y.shape[0]}")
    devices = [getattr(z, "device", None) for z in (x, y)]
    if all(isinstance(device, torch.device) for device in devices) and devices[0] != devices[1]:
        raise ValueError(f"{names[1]}: expected the device of {names[0]} ({devices[0]}), got {devices[1]}")


def as_float64(x: torch.Tensor) -> torch.Tensor:
    """``x`` in double precision, on its own device where that has doubles, else on the CPU."""
    return (x if has_float64(x.device) else x.cpu()).to(torch.float64)


def check_number(
    value: Any,
    name: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> Any:
    """Return ``value`` (a real number or a 0-d tensor, kept as it is) if it is finite and inside the interval."""
    opening = "(" if low_open or low == -math.inf else "["
    closing = ")" if high_open or high == math.inf else "]"
    wanted = f"a number in {opening}{low:g}, {high:g}{closing}"
    tensor = isinstance(value, torch.Tensor)
    is_scalar_tensor = tensor and value.ndim == 0 and value.dtype != torch.bool and not value.dtype.is_complex
    if isinstance(value, bool) or not (is_scalar_tensor or isinstance(value, Real)):
        raise ValueError(f"{name}: expected {wanted}, got {_describe(value)}")
    if tensor and not values_are_read():
        return value
    try:
        number = float(value.detach() if tensor else value)
    except OverflowError:  # a whole number beyond the range of floats
        number = math.inf
    inside = (number > low if low_open else number >= low) and (number < high if high_open else number <= high)
    if not math.isfinite(number) or not inside:
        raise ValueError(f"{name}: expected {wanted}, got {number:g}")
    return value


def check_integer(value: Any, name: str, *, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` as an ``int`` if it is a whole number inside the interval (booleans are refused)."""
    bounds = f"in [{'-inf' if low is None else low}, {'inf' if high is None else high}]"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name}: expected a whole number {bounds}, got {_describe(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name}: expected a whole number {bounds}, got {value}")
    return int(value)


def check_labels(labels: Any, n: int, name: str) -> np.ndarray:
    """Return ``labels`` as an array of ``n`` integers, booleans or strings.

    A list, array, tensor or pandas Series is taken; objects are strings or integers if each one is. ``ValueError`` for
    another length or type, and for a mixture of the two, which NumPy would make strings of.
    """
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    column = np.asarray(labels)
    kind = column.dtype.kind
    if column.ndim == 1 and (kind in ("O", "T") or (kind == "U" and not hasattr(labels, "dtype"))):
        values = list(labels)
        if all(isinstance(one, str) for one in values):
            column = column.astype(str)
        elif values and all(isinstance(one, int | np.integer) for one in values):
            column = np.array(values)
        else:
            column = np.array(values, dtype=object)
    if column.shape != (n,) or column.dtype.kind not in "biuUS":
        raise ValueError(
            f"{name}: expected {n} integers or strings, one a row, got shape {column.shape} and type {column.dtype}"
        )
    return column


def check_choice(value: Any, name: str, choices: Any) -> Any:
    """Return ``value`` if it is one of ``choices``, else raise ``ValueError`` that lists the near ones first."""
    import difflib

    options = list(choices)
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), [str(o) for o in options], n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"{name}: expected one of {', '.join(map(str, options))}, got {value!r}{hint}")
