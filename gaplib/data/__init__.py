"""Samples: where they come from is known here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from gaplib._extras import need


def cache_dir() -> Path:
    """The folder for everything that can be made or downloaded again: ``GAPLIB_CACHE``, else the platform's own.

    The folder need not exist yet; who writes there makes it.
    """
    named = os.environ.get("GAPLIB_CACHE", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    need("train", "pooch")
    import pooch

    return Path(pooch.os_cache("gaplib"))


class DataUnavailable(RuntimeError):
    """Data or weights that are neither here nor reachable, or that are not what their publisher published."""
