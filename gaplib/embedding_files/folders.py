"""Folders of .npy shards, in the order of their numbers, as clip-retrieval writes them: img_emb/, text_emb/."""

from __future__ import annotations

import re
from pathlib import Path

SIDES = ("img_emb", "text_emb")


def shards(folder: Path) -> list[Path]:
    """The .npy files of a folder by their numbers: img_emb_2 comes before img_emb_10. ``ValueError`` without any."""
    found = sorted(folder.glob("*.npy"), key=lambda path: (_number(path), path.name))
    if not found:
        raise ValueError(
            f"{folder}: expected files of embeddings, got a folder that holds neither .npy files nor "
            f"{SIDES[0]} and {SIDES[1]}"
        )
    return found


def _number(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)]


def two_sides(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of texts inside ``folder``, where it has both."""
    image, text = (folder / side for side in SIDES)
    return (image, text) if image.is_dir() and text.is_dir() else None
