"""Towers from a file that `TwoTower.save` wrote."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gaplib.towers.registry import build
from gaplib.towers.two_tower import TwoTower


def load(path: str | Path) -> TwoTower:
    """Towers that `TwoTower.save` wrote, on the CPU in evaluation mode; ``ValueError`` for a file that is none."""
    try:
        with safe_open(path, framework="pt") as file:
            recipe = json.loads((file.metadata() or {}).get("gaplib.towers", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        towers = build(recipe)
        towers.load_state_dict(weights)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, struct.error) as error:
        raise ValueError(f"path: expected a file written by TwoTower.save, got {path}: {error}") from error
    return towers.eval()
