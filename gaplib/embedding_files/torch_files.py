"""Tensors that ``torch.save`` wrote: .pt and .pth, with ``weights_only=True``, memory-mapped where the file can be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from gaplib.embedding_files.entry import Entry, reading


def pt(path: Path) -> dict[str, Entry]:
    """A tensor, without a name, or the tensors of a dictionary."""
    with reading(path, path.suffix):
        try:
            content = _loaded(path)
        except UnpicklingError as error:
            raise ValueError(
                f"{path}: expected a tensor or a dictionary of tensors and nothing else, for nothing is unpickled"
            ) from error
        if isinstance(content, torch.Tensor):
            return {"": Entry.of(content)}
        if not isinstance(content, Mapping):
            raise ValueError(f"{path}: expected a tensor or a dictionary of tensors, got {type(content).__name__}")
        return {str(name): Entry.of(one) for name, one in content.items() if isinstance(one, torch.Tensor)}


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on foreign pickles; the error says all there is
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file of before torch 1.6, which cannot be mapped, or a damaged one
            return torch.load(path, map_location="cpu", weights_only=True)
