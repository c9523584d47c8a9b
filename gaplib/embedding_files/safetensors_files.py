"""Files of safetensors, memory-mapped: what ``python -m gaplib train`` writes, among others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from gaplib._extras import need
from gaplib.embedding_files.entry import Entry, reading


def safetensors(path: Path) -> dict[str, Entry]:
    """The tensors of a .safetensors file by name."""
    need("train", "safetensors")
    from safetensors import safe_open

    def tensor(name: str) -> Any:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    with reading(path, ".safetensors"):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        return {name: Entry.of(tensor(name), partial(tensor, name)) for name in names}
