"""Every character that matplotlib's DejaVu fonts can draw, paired with its Unicode name: real pairs without a download.

Text says what an image does not (the code point's block) and the image says what the text does not (its face), names
are made of words that mean something (``LATIN SMALL LETTER E WITH ACUTE``), and different characters look alike.
``gaplib.data.glyph_summary`` counts all of it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gaplib import _dependencies
from gaplib._store import Store, content_key
from gaplib._validate import check_choice, check_integer
from gaplib.data import cache_dir, glyph_faces, glyph_names, glyph_split

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, eq=False)
class GlyphPairs:
    """``n`` image-text pairs.

    images: float32 (n, 1, size, size) in [0, 1], 1 = ink. tokens: int64 (n, L), 0 = padding, 1 = unknown.
    index: int64 (n,), the name's place in ``Glyphs.names``. positive_id: int64 (n,): pairs with the same id are both
    right (pixel-identical characters). face: int64 (n,), place in ``Glyphs.faces``, -1 for a source outside of them.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    index: torch.Tensor
    positive_id: torch.Tensor
    face: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: str | torch.device) -> GlyphPairs:
        """The same pairs on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Glyphs:
    """The alphabet: ``n`` names, ``m`` images of them in several faces, and the split of the names.

    names: list of n Unicode names. codepoints: int64 (n,). images: uint8 (m, size, size), 255 = ink, sorted by name,
    then face. name_of_image, face_of_image: int64 (m,). faces: font names. split: (n,) of "train", "dev", "test".
    positive_id: int64 (n,), names joined by pixel-identical images (in any face) share one. split_group: int64 (n,),
    names that must fall on one side (cases, base letter, identical images). tokens: int64 (n, L), padded with 0.
    vocabulary: tokens of the *training* names; 0 pads, 1 is unknown. left_out: names that were dropped because they
    hold a token that no training name has. digest: SHA-256 of all of this.
    """

    names: list[str]
    codepoints: np.ndarray
    images: np.ndarray
    name_of_image: np.ndarray
    face_of_image: np.ndarray
    faces: list[str]
    split: np.ndarray
    positive_id: np.ndarray
    split_group: np.ndarray
    tokens: np.ndarray
    vocabulary: list[str]
    left_out: list[str]
    digest: str = ""

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return self.images.shape[1]

    @cached_property
    def image_table(self) -> np.ndarray:
        """Place of the image of each name in each face, int64 (n, number of faces); -1 where the face lacks it."""
        table = np.full((len(self.names), len(self.faces)), -1, dtype=np.int64)
        table[self.name_of_image, self.face_of_image] = np.arange(len(self.images))
        return table

    @cached_property
    def _first_image(self) -> np.ndarray:
        return np.searchsorted(self.name_of_image, np.arange(len(self.names) + 1))

    def index(self, split: str, face: str | int | None = None) -> np.ndarray:
        """Names of one split (that the face can draw, if one is named), int64, ascending."""
        inside = self.split == check_choice(split, "split", SPLITS)
        if face is not None:
            inside &= self.image_table[:, self._face(face)] >= 0
        return np.flatnonzero(inside)

    def _face(self, face: str | int) -> int:
        if isinstance(face, str):
            return self.faces.index(check_choice(face, "face", self.faces))
        return check_integer(face, "face", low=0, high=len(self.faces) - 1)

    def encode(self, names: Sequence[str]) -> torch.Tensor:
        """Token ids int64 (len(names), L) of any names; words outside the vocabulary become 1 (unknown)."""
        if isinstance(names, str) or not len(names):
            raise ValueError(f"names: expected a list of at least one string, got {names!r:.80}")
        tokenised = [glyph_names.words(name) for name in names]
        return torch.from_numpy(glyph_names.encode(tokenised, self.vocabulary))

    def pairs(self, index: np.ndarray, image: np.ndarray) -> GlyphPairs:
        """Pairs of the names ``index`` (n,) with the images ``image`` (n,), places in ``images``."""
        return self._with_images(index, self.images[image], self.face_of_image[image])

    def _with_images(self, index: np.ndarray, images: np.ndarray, face: np.ndarray) -> GlyphPairs:
        return GlyphPairs(
            images=torch.from_numpy(images).unsqueeze(1).to(torch.float32) / 255,
            tokens=torch.from_numpy(self.tokens[index]),
            index=torch.from_numpy(index),
            positive_id=torch.from_numpy(self.positive_id[index]),
            face=torch.from_numpy(face),
        )

    def _draw_faces(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start, stop = self._first_image[index], self._first_image[index + 1]
        return start + np.minimum((rng.random(len(index)) * (stop - start)).astype(np.int64), stop - start - 1)

    def sample(self, split: str, n: int | None = None, seed: int = 0, face: str | int | None = None) -> GlyphPairs:
        """``n`` distinct names of a split (default: all, in order), each with one face drawn at random, or the given.

        Raises ``ValueError`` for an unknown split or face, a negative seed, or an ``n`` outside [1, names there].
        """
        index = self.index(split, face)
        rng = np.random.default_rng(check_integer(seed, "seed", low=0))
        if n is not None:
            index = rng.permutation(index)[: check_integer(n, "n", low=1, high=len(index))]
        image = self._draw_faces(index, rng) if face is None else self.image_table[index, self._face(face)]
        return self.pairs(index, image)

    def draw(self, index: np.ndarray, seed: int, step: int) -> GlyphPairs:
        """The names ``index`` (n,) with faces drawn for this (seed, step)."""
        return self.pairs(index, self._draw_faces(index, np.random.default_rng([seed, 1, step])))

    def batches(self, split: str, batch_size: int, seed: int) -> Callable[[int], GlyphPairs]:
        """A function ``batch(step) -> GlyphPairs`` that depends on (split, batch_size, seed, step) alone.

        An epoch is a permutation of the split's names (what does not fill a batch at its end is left out), so a batch
        never holds a name twice. Faces are drawn anew each step. A resumed run needs no sampler state.
        """
        index = self.index(split)
        size = check_integer(batch_size, "batch_size", low=1, high=len(index))
        seed = check_integer(seed, "seed", low=0)
        per_epoch = len(index) // size

        def batch(step: int) -> GlyphPairs:
            epoch, place = divmod(check_integer(step, "step", low=0), per_epoch)
            order = np.random.default_rng([seed, 0, epoch]).permutation(index)
            return self.draw(order[place * size : (place + 1) * size], seed, step)

        return batch

    def five_faces(self) -> np.ndarray:
        """Names that every face draws differently, int64: where style can be read from the image (and only there)."""
        full = np.flatnonzero((self.image_table >= 0).all(axis=1))
        distinct = [len({self.images[i].tobytes() for i in self.image_table[name]}) for name in full]
        return full[np.array(distinct, dtype=np.int64) == len(self.faces)]


def load(size: int = 24, cache: bool = True) -> Glyphs:
    """The alphabet at ``size`` x ``size`` pixels (12 to 128), the same on every call; about a second, less from disk.

    With ``cache`` it is kept under ``cache_dir()/glyphs``, under the digest of all that it is made from: library
    versions, font files, Unicode data and this code. A damaged file there is made anew, with a warning.
    """
    check_integer(size, "size", low=12, high=128)
    if not cache:
        return build(size)
    return _from_tensors(*Store(cache_dir() / "glyphs", "alphabet").make(_key(size), lambda: _tensors(build(size))))


def build(size: int = 24) -> Glyphs:
    """Draw, name and split the alphabet (no disk cache)."""
    drawn = []
    for face in glyph_faces.FACES:
        named = [c for c in glyph_faces.codepoints_of(face) if unicodedata.name(chr(c), "")]
        drawn.append(glyph_faces.draw(face, named, size))
    images = np.concatenate([images for images, _ in drawn])
    codepoints, name_of_image = np.unique(np.concatenate([points for _, points in drawn]), return_inverse=True)
    face_of_image = np.repeat(np.arange(len(drawn)), [len(points) for _, points in drawn])
    names = [unicodedata.name(chr(c)) for c in codepoints.tolist()]
    tokenised = [glyph_names.words(name) for name in names]
    twins = glyph_split.twin_edges(images, name_of_image)
    group = glyph_split.groups(codepoints, twins)
    side = glyph_split.assign(group, names, tokenised)

    kept = np.flatnonzero(side != "out")
    place = np.full(len(names), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    order = np.lexsort((face_of_image, place[name_of_image]))
    order = order[place[name_of_image[order]] >= 0]
    images, name_of_image = images[order], place[name_of_image[order]]
    vocabulary = glyph_names.build_vocabulary([tokenised[i] for i in kept if side[i] == "train"])
    return _seal(
        Glyphs(
            names=[names[i] for i in kept],
            codepoints=codepoints[kept],
            images=images,
            name_of_image=name_of_image,
            face_of_image=face_of_image[order].astype(np.int64),
            faces=list(glyph_faces.FACES),
            split=side[kept],
            positive_id=glyph_split.answer_classes(len(kept), glyph_split.twin_edges(images, name_of_image)),
            split_group=np.unique(group[kept], return_inverse=True)[1].astype(np.int64),
            tokens=glyph_names.encode([tokenised[i] for i in kept], vocabulary),
            vocabulary=vocabulary,
            left_out=[names[i] for i in np.flatnonzero(side == "out")],
        )
    )


def load_face(name: str, glyphs: Glyphs, split: str | None = None) -> GlyphPairs:
    """The alphabet's characters in a face that no split has: "STIXGeneral" or "cmr10" (letters and digits only).

    One pair for each name the face can draw (of one split, if given); ``face`` is -1.
    """
    check_choice(name, "name", glyph_faces.UNSEEN_FACES)
    wanted = np.arange(len(glyphs.names)) if split is None else glyphs.index(split)
    place = {int(glyphs.codepoints[i]): int(i) for i in wanted}
    images, points = glyph_faces.draw(name, [c for c in glyph_faces.codepoints_of(name) if c in place], glyphs.size)
    index = np.array([place[c] for c in points.tolist()], dtype=np.int64)
    return glyphs._with_images(index, images, np.full(len(index), -1))


def handwriting(glyphs: Glyphs) -> GlyphPairs:
    """scikit-learn's 1,797 handwritten digits with the names DIGIT ZERO to DIGIT NINE; ``face`` is -1."""
    images, digits = glyph_faces.handwritten_digits(glyphs.size)
    place = {int(c): i for i, c in enumerate(glyphs.codepoints)}
    index = np.array([place[ord("0") + d] for d in range(10)], dtype=np.int64)[digits]
    return glyphs._with_images(index, images, np.full(len(index), -1))


# --- digest and disk cache -------------------------------------------------------------------------------------------

_ARRAYS = ("codepoints", "images", "name_of_image", "face_of_image", "split", "positive_id", "split_group", "tokens")
_LISTS = ("names", "faces", "vocabulary", "left_out")


def _seal(glyphs: Glyphs) -> Glyphs:
    """The same with its digest, arrays read-only."""
    digest = hashlib.sha256()
    for field in _ARRAYS:
        array = np.ascontiguousarray(getattr(glyphs, field))
        array.setflags(write=False)
        digest.update(f"{field} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    for field in _LISTS:
        digest.update("\n".join([field, *getattr(glyphs, field)]).encode())
    return replace(glyphs, digest=digest.hexdigest())


def _key(size: int) -> str:
    modules = (__file__, glyph_faces.__file__, glyph_names.__file__, glyph_split.__file__)
    made_from = [unicodedata.unidata_version, glyph_faces.fingerprint(), _dependencies.digest(modules)]
    return content_key([size, *made_from])


def _tensors(glyphs: Glyphs) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """The alphabet as what the store keeps; the sides of the split as their places in ``SPLITS``."""
    arrays = {field: getattr(glyphs, field) for field in _ARRAYS}
    arrays["split"] = np.array([SPLITS.index(side) for side in glyphs.split.tolist()])
    return {k: torch.tensor(v) for k, v in arrays.items()}, {field: list(getattr(glyphs, field)) for field in _LISTS}


def _from_tensors(tensors: dict[str, torch.Tensor], lists: dict[str, list[str]]) -> Glyphs:
    fields: dict[str, Any] = {field: tensors[field].numpy() for field in _ARRAYS}
    return _seal(Glyphs(**fields | {"split": np.array(SPLITS)[fields["split"]]} | lists))
