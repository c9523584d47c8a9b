"""Versions of what a result may depend on."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata

import torch

import gaplib

PACKAGES = (
    *("numpy", "scipy", "scikit-learn", "torchvision", "open_clip_torch", "lightning-fabric"),
    "matplotlib",  # draws the glyphs
)


def versions() -> dict[str, str]:
    """Name -> version of Python, gaplib, torch (with its build) and those of ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version(), "gaplib": gaplib.__version__, "torch": torch.__version__}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
