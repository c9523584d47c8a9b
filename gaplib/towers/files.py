"""Towers from their recipe, and from a file that `TwoTower.save` wrote."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gaplib.towers.external import open_clip_towers
from gaplib.towers.tiny import image_pair_towers, tiny_towers
from gaplib.towers.transformer import transformer_towers
from gaplib.towers.two_tower import TwoTower


def build(recipe: Mapping) -> TwoTower:
    """Towers of the architecture that a model's ``recipe`` names, at some random initialisation."""
    options = dict(recipe)
    builders: dict[Any, Callable[..., TwoTower]] = {
        "tiny": tiny_towers,
        "transformer": transformer_towers,
        "image-pair": image_pair_towers,
        "open_clip": open_clip_towers,
    }
    builder = builders.get(options.pop("kind", None))
    if builder is None:
        raise ValueError("recipe: it does not say how its model was built")
    return builder(**options)


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
