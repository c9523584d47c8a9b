"""Second views of glyph pairs: another drawing of the same character, another wording of the same name.

They stand for the augmentations that methods with views ask for (Jiang et al. 2023: flips and crops of photographs,
synonyms and deletions in captions). What changes here is what a character can bear without becoming another one.

Image   another face of the same name where there is one, turned by up to `ROTATION` degrees and moved by up to `SHIFT`
        pixels (at 24 x 24; both uniform). No ink is lost: a drawing that would leave the image is moved less and, if
        it is too large once turned, made smaller (at 24 x 24 never below 0.82 of its size).
Text    each word of the naming grammar (`SYNONYMS`) becomes its synonym with probability `SYNONYM`, then each word is
        dropped with probability `DROP`. One word is always left.

The values are this book's choice; neither paper states any for single characters.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gaplib._validate import check_integer
from gaplib.data.glyphs import GlyphPairs, Glyphs

ROTATION = 10.0  # degrees, either way
SHIFT = 2.0 / 24  # of the side, along each axis, either way
SYNONYM = 0.5
DROP = 0.1

#: Words that many names share, and what a view calls them. No synonym is a word of any name: each is its own token.
SYNONYMS = {
    "AND": "ALSO",
    "ABOVE": "ATOP",
    "BELOW": "BENEATH",
    "BLACK": "FILLED",
    "BOLD": "STRONG",
    "BOX": "FRAME",
    "CAPITAL": "UPPERCASE",
    "COMBINING": "JOINING",
    "DOT": "SPECK",
    "DOTS": "SPECKS",
    "DOUBLE": "TWOFOLD",
    "DRAWINGS": "SKETCHES",
    "FORM": "SHAPE",
    "HEAVY": "THICK",
    "HORIZONTAL": "LEVEL",
    "ITALIC": "CURSIVE",
    "LETTER": "GLYPH",
    "LIGHT": "THIN",
    "MATHEMATICAL": "MATHS",
    "MODIFIER": "CHANGER",
    "PATTERN": "MOTIF",
    "SIGN": "EMBLEM",
    "SMALL": "LOWERCASE",
    "STROKE": "STREAK",
    "SYMBOL": "TOKEN",
    "VERTICAL": "UPRIGHT",
    "WHITE": "HOLLOW",
    "WITH": "BEARING",
}
VIEW_WORDS = len(SYNONYMS)  # token ids that views need behind the names' own

_STREAM = 3  # of (seed, stream, step): 0 orders names, 1 draws faces, 2 exchanges partners


def second_views(data: Glyphs, pairs: GlyphPairs, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """A second view of each of ``n`` pairs, a function of the pairs, ``seed`` and ``step`` alone.

    Returns images float32 (n, 1, size, size) in [0, 1] and tokens int64 (n, L) in [0, V + `VIEW_WORDS`), V the size of
    the alphabet's vocabulary: the text tower needs that many ids. Both are on the device of ``pairs``. The view of a
    text is a view of the pair's own text, so pairs with exchanged partners keep them.

    Raises:
        ValueError: for a negative seed or step, pairs that are not of this alphabet (faces outside it, unknown names,
            images of another size), and captions that name the face's style, which another face would contradict.
    """
    rng = np.random.default_rng([check_integer(seed, "seed", low=0), _STREAM, check_integer(step, "step", low=0)])
    _check_pairs(data, pairs)
    image = _another_face(data, pairs.index.cpu().numpy(), pairs.face.cpu().numpy(), rng)
    images = _moved(data.images[image], rng)
    tokens = _reworded(pairs.tokens.cpu().numpy(), _synonym_ids(tuple(data.vocabulary)), rng)
    return images.to(pairs.images.device), torch.from_numpy(tokens).to(pairs.tokens.device)


def view_vocabulary(data: Glyphs) -> list[str]:
    """The word behind each token id of a view: the alphabet's vocabulary, then the synonyms."""
    return [*data.vocabulary, *SYNONYMS.values()]


def _check_pairs(data: Glyphs, pairs: GlyphPairs) -> None:
    wanted = "pairs: expected pairs of this alphabet"
    if tuple(pairs.images.shape[1:]) != (1, data.size, data.size):
        raise ValueError(f"{wanted}, images (n, 1, {data.size}, {data.size}), got shape {tuple(pairs.images.shape)}")
    for name, count in (("index", len(data.names)), ("face", len(data.faces)), ("tokens", len(data.vocabulary))):
        values = getattr(pairs, name)
        if not values.numel() or int(values.min()) < 0 or int(values.max()) >= count:
            extra = " (captions that name a style have no second view)" if name == "tokens" else ""
            raise ValueError(f"{wanted}, {name} in [0, {count - 1}]{extra}, got {_span(values)}")
    if (data.image_table[pairs.index.cpu().numpy(), pairs.face.cpu().numpy()] < 0).any():
        raise ValueError(f"{wanted}, each with a face that draws the name, got one with a face that does not")


def _span(values: Tensor) -> str:
    return f"{int(values.min())} to {int(values.max())}" if values.numel() else "no pair"


# --- images ----------------------------------------------------------------------------------------------------------


def _another_face(data: Glyphs, index: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of images: for each name, one face at random among those other than ``face``; the same one if alone."""
    table = data.image_table[index]
    rows = np.arange(len(index))
    score = np.where(table >= 0, rng.random(table.shape), -1)
    score[rows, face] = np.minimum(score[rows, face], -0.5)  # last of those that can be drawn
    return table[rows, score.argmax(axis=1)]


def _moved(images: np.ndarray, rng: np.random.Generator) -> Tensor:
    """uint8 (n, size, size) -> float32 (n, 1, size, size) in [0, 1], turned and moved at random, all ink inside.

    Lengths are in units of half a side, as `torch.nn.functional.grid_sample` has them: the image is [-1, 1] squared.
    A drawing is turned about the centre of the box round its ink; the turned box must fit into the image.
    """
    size = images.shape[1]
    angle = np.radians(rng.uniform(-ROTATION, ROTATION, len(images)))
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (len(images), 2))
    cos, sin = np.cos(angle), np.sin(angle)
    centre, half = _ink_box(images)
    turned = np.stack([half[:, 0] * cos + half[:, 1] * abs(sin), half[:, 0] * abs(sin) + half[:, 1] * cos], axis=1)
    room = 1 - 1 / size  # interpolation spreads ink by up to one pixel: half a pixel is kept free on each side
    scale = np.minimum(1, room / turned.max(axis=1))
    free = np.maximum(room - scale[:, None] * turned, 0)
    target = np.clip(centre + shift, -free, free)
    # The grid says where each pixel of the view comes from: p -> centre + R(-angle) (p - target) / scale.
    back = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1) / scale[:, None, None]
    offset = centre - np.einsum("nij,nj->ni", back, target)
    theta = torch.from_numpy(np.concatenate([back, offset[:, :, None]], axis=2).astype(np.float32))
    source = torch.from_numpy(images).unsqueeze(1).to(torch.float32) / 255
    place = (2 * torch.arange(size, dtype=torch.float32) + 1) / size - 1  # centres of the pixels
    column, row, constant = theta[:, None, None].unbind(dim=-1)
    grid = place[:, None] * column + place[:, None, None] * row + constant  # affine_grid, without its matrix product
    return functional.grid_sample(source, grid, mode="bilinear", align_corners=False).clamp_(0, 1)


def _ink_box(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half extent, each (n, 2) as (x, y), of the box round the ink, in units of half a side."""
    size = images.shape[1]
    ends = []
    for axis in (1, 2):  # columns that hold ink, then rows
        ink = images.max(axis=axis) > 0
        ends.append((ink.argmax(axis=1), size - ink[:, ::-1].argmax(axis=1)))
    low, high = (np.stack([ends[0][i], ends[1][i]], axis=1) * (2 / size) - 1 for i in (0, 1))
    return (low + high) / 2, (high - low) / 2


# --- texts -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _synonym_ids(vocabulary: tuple[str, ...]) -> np.ndarray:
    """The id of each token's synonym, int64 (V,); its own id where it has none."""
    ids = np.arange(len(vocabulary))
    for place, word in enumerate(SYNONYMS):
        if word in vocabulary:
            ids[vocabulary.index(word)] = len(vocabulary) + place
    return ids


def _reworded(tokens: np.ndarray, synonyms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 (n, L) -> int64 (n, L): synonyms, then words dropped; what is left moves up, padding stands behind."""
    swap, keep = rng.random(tokens.shape), rng.random(tokens.shape)
    real = tokens != 0
    worded = np.where(swap < SYNONYM, synonyms[tokens], tokens)
    keep = np.where(real, keep, -1)
    # The word with the largest draw always stays, so that a text is never empty.
    stays = real & ((keep >= DROP) | (keep == keep.max(axis=1, keepdims=True)))
    order = np.argsort(~stays, axis=1, kind="stable")
    return np.take_along_axis(np.where(stays, worded, 0), order, axis=1)
