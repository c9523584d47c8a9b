"""Pictures with their captions, in order: what every reader of this package gives back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image, UnidentifiedImageError

SPLITS = ("train", "val", "test")


class Captioned(Sequence):
    """``data[i]`` is ``(picture, captions)``: a path or a PIL image, and a list of at least one string.

    Args:
        pictures: a path or PIL image each.
        captions: a sequence of texts each.
        name: what errors and results call it, such as "coco:/data/coco".
        split: "train", "val", "test", or "" where there is only one part.

    >>> data = Captioned(["cat.jpg", "dog.jpg"], [["a cat", "a grey cat"], ["a dog"]], "pets")
    >>> len(data), data[0], len(data[1:])
    (2, ('cat.jpg', ['a cat', 'a grey cat']), 1)
    """

    def __init__(self, pictures: Sequence[Any], captions: Sequence[Sequence[str]], name: str, split: str = ""):
        if len(pictures) != len(captions):
            raise ValueError(f"captions: expected one list a picture ({len(pictures)}), got {len(captions)}")
        self.pictures, self.captions, self.name, self.split = pictures, captions, name, split

    def __len__(self) -> int:
        return len(self.captions)

    @overload
    def __getitem__(self, place: int) -> tuple[Any, list[str]]: ...
    @overload
    def __getitem__(self, place: slice) -> Captioned: ...
    def __getitem__(self, place: int | slice) -> tuple[Any, list[str]] | Captioned:
        if isinstance(place, slice):
            return self.subset(range(*place.indices(len(self))))
        return self.pictures[place], list(self.captions[place])

    def subset(self, rows: Sequence[int] | np.ndarray) -> Captioned:
        """The rows of these numbers, in this order."""
        chosen = [int(row) for row in rows]
        pictures = [self.pictures[row] for row in chosen]
        return Captioned(pictures, [self.captions[row] for row in chosen], self.name, self.split)

    def sample(self, n: int, seed: int = 0) -> Captioned:
        """``n`` rows drawn without replacement by ``seed``, in order; all where there are not more."""
        return self if n >= len(self) else self.subset(self.sample_rows(n, seed))

    def sample_rows(self, n: int, seed: int = 0) -> np.ndarray:
        """Which rows :meth:`sample` draws, in order."""
        return np.sort(np.random.default_rng(seed).permutation(len(self))[:n])


def picture(image: Any) -> Image.Image:
    """A path or PIL image as a picture in red, green and blue. ``ValueError`` names the file that cannot be read."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(Path(image)) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"{image}: expected a picture, got a file that cannot be read ({error})") from None
