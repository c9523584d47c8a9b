"""Devices: which this machine has, which of them lack double precision, and which were computed on.

What computes on a device of the caller's choice says so (:func:`note_device`), so that a chapter's results can name the
device that was used and not the one that was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import torch

#: kinds of device by name, and whether this machine has one
DEVICES: dict[str, Callable[[], bool]] = {
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}
#: kinds of device that compute in single precision at most
WITHOUT_FLOAT64 = {"mps"}

_noted: Counter[str] = Counter()


def check_device(device: str) -> tuple[str, int | None]:
    """("cuda", 1) for "cuda:1"; ``ValueError`` for a device of another kind, or one that this machine does not have.

    >>> check_device("cpu")
    ('cpu', None)
    """
    kind, colon, index = str(device).partition(":")
    if kind not in DEVICES or (colon and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"device: expected cpu, cuda, cuda:N or mps, got {device!r}")
    if not DEVICES[kind]() or (colon and int(index) >= torch.cuda.device_count()):
        raise ValueError(f"device: this machine has no {device}")
    return kind, int(index) if colon else None


def has_float64(device: torch.device) -> bool:
    """Whether tensors on the device can have double precision.

    >>> has_float64(torch.device("cpu")), has_float64(torch.device("mps"))
    (True, False)
    """
    return device.type not in WITHOUT_FLOAT64


def note_device(device: torch.device | str) -> None:
    """Say that something was computed on ``device``: towers, a training, or a result that was kept from there."""
    _noted[torch.device(device).type] += 1


def noted_devices() -> Mapping[str, int]:
    """How often each kind of device was noted in this process so far."""
    return dict(_noted)


def devices_since(before: Mapping[str, int]) -> tuple[str, ...]:
    """Kinds of device that were noted since ``noted_devices()`` gave ``before``, sorted.

    >>> before = noted_devices()
    >>> note_device("cuda:1")
    >>> devices_since(before)
    ('cuda',)
    """
    return tuple(sorted(kind for kind, count in _noted.items() if count > before.get(kind, 0)))
