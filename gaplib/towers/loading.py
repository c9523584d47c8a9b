"""What loading other people's models takes: their remarks kept quiet, a hub that fails soon, nothing unpickled."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from gaplib.data import DataUnavailable


def check_device(device: str | torch.device) -> torch.device:
    """The device of that name; ``ValueError`` for a name that is none, or a device that this machine does not have.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected a name as cpu, cuda, cuda:1 or mps, got {device!r}") from error
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # each kind of device has a way of its own to say so
        raise ValueError(f"device: this machine has no {found}") from error
    return found


def near(wanted: str, names: Iterable[str]) -> str:
    """``"; did you mean A, B?"`` with the names that are near, else nothing. Upper and lower case are the same."""
    lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(str(wanted).lower(), lower, n=3)
    return f"; did you mean {', '.join(lower[one] for one in found)}?" if found else ""


def reason(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing.

    >>> reason(OSError("no such\\n  file"))
    'no such file'
    """
    return " ".join(str(error).split()) or type(error).__name__


def unavailable(what: str, error: Exception, instead: str) -> DataUnavailable:
    """The error that says what cannot be had here, why, and what to do ``instead``."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataUnavailable(f"{what} cannot be had here ({first[:200]}); {instead}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's remarks to the root logger (and the handler that they would install) out of a page."""
    root, level, handler = logging.getLogger(), logging.getLogger().level, logging.NullHandler()
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@contextmanager
def no_retries(asked: bool = True) -> Iterator[None]:
    """Without network, let the model hub say so at once (from its cache if it can) and not after minutes of retries.

    asked: whether anything is asked of the hub at all; else this does nothing.
    """
    if not asked:
        yield
        return
    import requests
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        requests.head(constants.ENDPOINT, timeout=4)
    except requests.RequestException:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def nothing_unpickled() -> Iterator[None]:
    """Inside, ``torch.load`` reads weights only, whatever a library asks of it (its fallbacks included)."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
