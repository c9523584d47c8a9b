"""EMNIST, handwritten letters and digits, through torchvision, in the form of the glyphs and with their names.

Cohen et al. 2017. About half a gigabyte, downloaded only when asked for; files that are there already are taken from
``<root>/EMNIST/raw`` in the publisher's IDX format.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from gaplib._extras import need

need("train", "PIL")

import numpy as np
import torch
from PIL import Image

from gaplib._validate import check_choice, check_integer
from gaplib.data import DataUnavailable, cache_dir

SPLITS = ("balanced", "letters", "digits")


@dataclass(frozen=True, eq=False)
class Emnist:
    """``n`` handwritten characters.

    images: float32 (n, 1, size, size) in [0, 1], 1 = ink. label: (n,) strings, one character each. names: for every
    label the Unicode names that are right: both cases where EMNIST does not tell them apart.
    """

    images: torch.Tensor
    label: np.ndarray
    names: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.label)


def load(
    split: str = "balanced",
    n: int | None = None,
    size: int = 24,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
) -> Emnist:
    """The test images of one of EMNIST's splits.

    Args:
        split: "balanced" (47 classes: digits, capitals, and small letters that look different), "letters" (26, cases
            merged) or "digits" (10).
        n: so many images, drawn by ``seed``; ``None``: all.
        size: side of the images in pixels, 12 to 128.
        root: folder that holds or shall hold ``EMNIST/raw``; ``None``: the cache folder.
        download: fetch what is missing (through torchvision, which checks the publisher's MD5).

    Raises:
        DataUnavailable: files that are missing (and not to be downloaded, or not reachable) or damaged; no torchvision.
        ValueError: another split, a size out of range, ``n`` outside [1, images there], a negative seed.
    """
    check_choice(split, "split", SPLITS)
    size, seed = check_integer(size, "size", low=12, high=128), check_integer(seed, "seed", low=0)
    folder = cache_dir() if root is None else Path(root)
    try:
        need("open-clip", "torchvision")
        from torchvision.datasets import EMNIST
    except ImportError as error:
        raise DataUnavailable(f"EMNIST is read through torchvision, which does not load here: {error}") from error
    try:
        found = EMNIST(folder, split=split, train=False, download=download)
        raw, targets, classes = found.data.numpy(), found.targets.numpy(), found.classes
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError, IndexError, EOFError) as error:
        wanted = folder / "EMNIST" / "raw" / f"emnist-{split}-test-images-idx3-ubyte"
        raise DataUnavailable(
            f"EMNIST {split!r}: no readable files like {wanted} (download=True fetches them): {error or 'damaged'}"
        ) from error
    _check(raw, targets, classes, split)
    chosen = np.arange(len(raw))
    if n is not None:
        count = check_integer(n, "n", low=1, high=len(raw))
        chosen = np.sort(np.random.default_rng(seed).permutation(len(raw))[:count])
    # EMNIST stores its images transposed.
    images = np.stack([_draw(raw[i].T, size) for i in chosen])
    names = {one: _names(one, classes) for one in classes if len(one) == 1}
    shown = {(one.upper() if split == "letters" else one): names[one] for one in names}
    label = np.array([classes[i].upper() if split == "letters" else classes[i] for i in targets[chosen]])
    return Emnist(torch.from_numpy(images).unsqueeze(1).float() / 255, label, shown)


def _check(raw: np.ndarray, targets: np.ndarray, classes: list[str], split: str) -> None:
    if raw.ndim != 3 or len(raw) == 0 or targets.shape != (len(raw),):
        raise DataUnavailable(f"EMNIST {split!r}: expected images with a label each, got {raw.shape}, {targets.shape}")
    known = [i for i, one in enumerate(classes) if len(one) == 1]
    if not np.isin(targets, known).all():
        raise DataUnavailable(f"EMNIST {split!r}: expected labels in {known[0]} to {known[-1]}, got others")


def _names(character: str, classes: list[str]) -> list[str]:
    """The names of a class; both cases where the other one is no class of its own."""
    merged = {character, character.swapcase()} if character.swapcase() not in classes else {character}
    return [unicodedata.name(one) for one in sorted(merged)]


def _draw(image: np.ndarray, size: int) -> np.ndarray:
    """The ink as high as a printed digit, on the same baseline, centred, as `glyph_faces.handwritten_digits` has it.

    EMNIST does not say where its writers' baseline was, so small letters become as high as capitals.
    """
    out = np.zeros((size, size), dtype=np.uint8)
    rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
    if not len(rows):
        return out
    em = round(0.75 * size)
    height = round(0.73 * em)
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = min(size, max(1, round(ink.shape[1] * height / ink.shape[0])))
    scaled = Image.fromarray(np.ascontiguousarray(ink)).resize((width, height), Image.Resampling.BICUBIC)
    left = (size - width) // 2
    out[em - height : em, left : left + width] = np.asarray(scaled)
    return out
