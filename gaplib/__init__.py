"""Measure, open and close the modality gap of contrastive two-encoder models."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: name that is at hand as ``gaplib.<name>`` -> its module, imported on first use: ``import gaplib`` stays fast
_LAZY = {
    "as_open_clip_loss": "gaplib.open_clip_loss",
    "embed": "gaplib.embedding",
    "measure": "gaplib.measuring",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
