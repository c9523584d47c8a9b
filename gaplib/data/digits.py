"""scikit-learn's 1,797 handwritten digits with their number words: a data set of ten captions, for a look in seconds.

Many images share one caption, so most other pairs of a batch with the same word are right answers too
(``RunConfig(data="digits", multi_positive=True)``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from gaplib._validate import check_choice, check_integer
from gaplib.data.glyph_faces import handwritten_digits
from gaplib.data.glyphs import SPLITS, GlyphPairs

WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_SHARES = (0.7, 0.15, 0.15)  # of train, dev and test


@dataclass(frozen=True, eq=False)
class Digits:
    """``n`` images, each with the word of what it shows; what the fields are: ``gaplib.data.datasets``.

    images: uint8 (n, size, size), 255 = ink. positive_id: int64 (n,), the digit.
    """

    images: np.ndarray
    positive_id: np.ndarray
    split: np.ndarray
    vocabulary: tuple[str, ...] = ("", "<unknown>", *WORDS)
    faces: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The caption of each image."""
        return [WORDS[digit] for digit in self.positive_id]

    @property
    def tokens(self) -> np.ndarray:
        """Token ids int64 (n, 1)."""
        return self.positive_id[:, None] + (len(self.vocabulary) - len(WORDS))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of this."""
        seen = hashlib.sha256("\n".join(self.vocabulary).encode())
        for array in (self.images, self.positive_id, self.split == "train", self.split == "dev"):
            seen.update(f"{array.dtype.str} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return seen.hexdigest()

    def index(self, split: str) -> np.ndarray:
        """Images of one split, int64, ascending."""
        return np.flatnonzero(self.split == check_choice(split, "split", SPLITS))

    def draw(self, index: np.ndarray, seed: int = 0, step: int = 0) -> GlyphPairs:
        """The images ``index`` (k,) with their words; nothing about them is random."""
        return GlyphPairs(
            images=torch.from_numpy(self.images[index]).unsqueeze(1).float() / 255,
            tokens=torch.from_numpy(self.tokens[index]),
            index=torch.from_numpy(index),
            positive_id=torch.from_numpy(self.positive_id[index]),
            face=torch.full((len(index),), -1),
        )

    def sample(self, split: str, n: int | None = None, seed: int = 0) -> GlyphPairs:
        """``n`` distinct images of a split, or all in order; ``ValueError`` for an ``n`` outside [1, images there]."""
        index = self.index(split)
        if n is not None:
            rng = np.random.default_rng(check_integer(seed, "seed", low=0))
            index = rng.permutation(index)[: check_integer(n, "n", low=1, high=len(index))]
        return self.draw(index)

    def batches(self, split: str, batch_size: int, seed: int) -> Callable[[int], GlyphPairs]:
        """A function ``batch(step)`` of (split, batch_size, seed, step) alone; an epoch is a permutation."""
        index = self.index(split)
        size = check_integer(batch_size, "batch_size", low=1, high=len(index))
        per_epoch = len(index) // size

        def batch(step: int) -> GlyphPairs:
            epoch, place = divmod(check_integer(step, "step", low=0), per_epoch)
            order = np.random.default_rng([seed, 0, epoch]).permutation(index)
            return self.draw(order[place * size : (place + 1) * size])

        return batch


def load(size: int = 24) -> Digits:
    """The digits at ``size`` x ``size`` pixels (12 to 128), split at random, the same on every call.

    >>> data = load()
    >>> data.images.shape, data.names[:3]
    ((1797, 24, 24), ['ZERO', 'ONE', 'TWO'])
    """
    images, digits = handwritten_digits(size)
    order = np.random.default_rng(0).permutation(len(digits)) / len(digits)
    split = np.array(SPLITS)[np.searchsorted(np.cumsum(_SHARES)[:-1], order, side="right")]
    return Digits(images, digits, split)
