"""How training pairs are made of the glyphs: which two inputs form a pair, and what is done to them on purpose.

A cause of the gap is studied by adding it and nothing else: partners exchanged between pairs (mismatch), captions that
name the font's style by degrees (information), look-alikes kept apart or brought together (false negatives), or two
image towers that see the identical picture (no second modality at all).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gaplib._validate import check_choice, check_integer, check_number
from gaplib.data.glyphs import GlyphPairs, Glyphs
from gaplib.data.views import VIEW_WORDS

MODALITIES = ("image-text", "image-image")
LOOK_ALIKES = ("as drawn", "apart", "together")

#: The attributes in the order in which captions name them: (word without, word with, the face that has it).
STYLE = (
    ("<regular>", "<bold>", "DejaVuSans-Bold"),
    ("<upright>", "<oblique>", "DejaVuSans-Oblique"),
    ("<sans>", "<serif>", "DejaVuSerif"),
    ("<proportional>", "<mono>", "DejaVuSansMono"),
)
STYLE_WORDS = tuple(word for without, with_, _ in STYLE for word in (without, with_))


@dataclass(frozen=True)
class Pairing:
    """What a pair is.

    modalities    "image-text", or "image-image": the second tower sees the identical image
    mismatch      share of the training names whose texts (or second images) are exchanged among themselves, in [0, 1];
                  which ones, and with whom, is drawn once a run
    style_words   0 to 4: how many attributes of the face the caption names besides the character (weight, slant,
                  serifs, spacing, in this order); four say the face exactly
    look_alikes   "as drawn": any distinct names. "apart": of names with a pixel-identical image only one is trained on.
                  "together": only names that have such a twin, and a batch holds a name with its twins
    """

    modalities: str = "image-text"
    mismatch: float = 0.0
    style_words: int = 0
    look_alikes: str = "as drawn"

    def __post_init__(self) -> None:
        check_choice(self.modalities, "modalities", MODALITIES)
        check_choice(self.look_alikes, "look_alikes", LOOK_ALIKES)
        object.__setattr__(self, "mismatch", float(check_number(self.mismatch, "mismatch", low=0, high=1)))
        if self.modalities == "image-image" and (self.mismatch or self.style_words):
            raise ValueError("mismatch, style_words: expected 0 where both towers see the identical image")
        object.__setattr__(self, "style_words", check_integer(self.style_words, "style_words", low=0, high=len(STYLE)))

    def vocabulary_size(self, data: Glyphs, views: bool = False) -> int:
        """Number of token ids; style words, or the synonyms of second views, come behind the names' own.

        Raises:
            ValueError: for views of pairs that have none: another face contradicts style words, an image has no words.
        """
        if views and (self.style_words or self.modalities != "image-text"):
            raise ValueError("style_words, modalities: expected 0 and 'image-text' where second views are taken")
        extra = VIEW_WORDS if views else len(STYLE_WORDS) if self.style_words else 0
        return len(data.vocabulary) + extra

    def captioned(self, data: Glyphs, pairs: GlyphPairs) -> GlyphPairs:
        """The same pairs with captions that name the style of their face; faces outside the five cannot be named."""
        if not self.style_words:
            return pairs
        face = np.asarray(pairs.face)
        if (face < 0).any():
            raise ValueError("pairs: expected faces that captions can name, got one outside the alphabet's five")
        columns = []
        for place, (_, _, marked) in enumerate(STYLE[: self.style_words]):
            has = face == data.faces.index(marked)
            columns.append(len(data.vocabulary) + 2 * place + has.astype(np.int64))
        style = torch.from_numpy(np.stack(columns, axis=1)).to(pairs.tokens.device)
        return replace(pairs, tokens=torch.cat([style, pairs.tokens], dim=1))

    def second(self, pairs: GlyphPairs) -> Tensor:
        """What the second tower sees: token ids, or the images themselves."""
        return pairs.images if self.modalities == "image-image" else pairs.tokens

    def sample(self, data: Glyphs, split: str, n: int | None = None, seed: int = 0) -> GlyphPairs:
        """Matched pairs to measure on: :meth:`Glyphs.sample`, captioned as in training."""
        return self.captioned(data, data.sample(split, n, seed))

    def batches(self, data: Glyphs, batch_size: int, seed: int) -> Callable[[int], GlyphPairs]:
        """A function ``batch(step)`` of training pairs that depends on (pairing, batch_size, seed, step) alone.

        Raises:
            ValueError: for a batch larger than the names that are left.
        """
        if self.look_alikes == "as drawn":
            draw = data.batches("train", batch_size, seed)
        else:
            draw = _grouped_batches(data, self.look_alikes, batch_size, seed)
        partner = mismatched_partners(data.index("train"), self.mismatch, seed, len(data.names))

        def batch(step: int) -> GlyphPairs:
            pairs = self.captioned(data, draw(step))
            if self.mismatch == 0:
                return pairs
            return self._exchanged(data, pairs, partner)

        return batch

    def _exchanged(self, data: Glyphs, pairs: GlyphPairs, partner: np.ndarray) -> GlyphPairs:
        """The second member of each pair is that of its partner; a caption's style words stay with the image."""
        other = partner[np.asarray(pairs.index)]
        name = torch.from_numpy(data.tokens[other])
        return replace(pairs, tokens=torch.cat([pairs.tokens[:, : self.style_words], name], dim=1))


def mismatched_partners(index: np.ndarray, share: float, seed: int, n: int) -> np.ndarray:
    """Partner of each of ``n`` names, int64 (n,): itself, but for ``share`` of ``index``, moved round a circle.

    Nobody in the circle keeps a partner; a circle of one is left as it is.
    """
    partner = np.arange(n, dtype=np.int64)
    rng = np.random.default_rng([check_integer(seed, "seed", low=0), 2])
    chosen = rng.permutation(index)[: round(share * len(index))]
    partner[chosen] = np.roll(chosen, 1)
    return partner


def _grouped_batches(data: Glyphs, look_alikes: str, batch_size: int, seed: int) -> Callable[[int], GlyphPairs]:
    index = data.index("train")
    answer = data.positive_id[index]
    if look_alikes == "apart":
        index = index[np.unique(answer, return_index=True)[1]]
        answer = data.positive_id[index]
    else:
        size = np.bincount(answer, minlength=answer.max() + 1)
        index, answer = index[size[answer] > 1], answer[size[answer] > 1]
    size = check_integer(batch_size, "batch_size", low=1, high=len(index))
    per_epoch = len(index) // size

    def batch(step: int) -> GlyphPairs:
        epoch, place = divmod(check_integer(step, "step", low=0), per_epoch)
        rng = np.random.default_rng([seed, 0, epoch])
        # Classes one after another in random order, so that twins are neighbours; classes of one are just permuted.
        rank = rng.permutation(int(answer.max()) + 1)[answer]
        order = index[np.lexsort((rng.random(len(index)), rank))]
        return data.draw(order[place * size : (place + 1) * size], seed, step)

    return batch
