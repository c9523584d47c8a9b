"""Lightning Fabric for a named device, imported on first use: who only reads finished runs need not wait for it."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from gaplib._devices import check_device
from gaplib.training.processes import own_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def launch(device: str, precision: str) -> Fabric:
    """A launched Fabric on one device, this process's own where there are several; errors as for ``check_device``."""
    kind, index = own_device(*check_device(device))
    with _version_only("torchmetrics"):
        from lightning_fabric import Fabric
    with _no_command_line():
        fabric = Fabric(accelerator=kind, devices=1 if index is None else [index], precision=precision)
        fabric.launch()
    return fabric


@contextmanager
def _no_command_line() -> Iterator[None]:
    """Inside the block, what ``fabric run`` said to the process is unsaid: one device is all that is asked for here."""
    said = {name: value for name, value in os.environ.items() if name.startswith("LT_")}
    for name in said:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(said)


@contextmanager
def _version_only(package: str) -> Iterator[None]:
    """Inside the block ``package`` is an empty module with its version.

    lightning_fabric 2.6 imports all of torchmetrics, with torchvision and scipy.signal behind it, only to read its
    version: over three seconds a process.
    """
    spec = None if package in sys.modules or "lightning_fabric" in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    stand_in = types.ModuleType(package)
    stand_in.__version__, stand_in.__spec__ = version(package), spec
    sys.modules[package] = stand_in
    try:
        yield
    finally:
        del sys.modules[package]
