"""Cut an alphabet into train, dev and test without the leaks that a cut by characters alone would have."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Shares of the hash range. The held-out sides end smaller, because groups move to train (see `assign`).
DEV_SHARE, TEST_SHARE = 0.12, 0.22


def _components(n: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    a, b = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)[1].astype(np.int64)


def twin_edges(images: np.ndarray, name_of_image: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of names that have a pixel-identical image, whatever the faces."""
    first: dict[bytes, int] = {}
    out = []
    for image, name in zip(images, name_of_image.tolist(), strict=True):
        other = first.setdefault(image.tobytes(), name)
        if other != name:
            out.append((other, name))
    return out


def relatives(character: str) -> list[str]:
    """Characters that a reader would call the same letter: other cases, and the base letter of its decomposition.

    Canonical decompositions give the base letter (``é`` -> ``e``). Compatibility ones count when they hold a single
    character (a bold, subscript or circled ``e`` -> ``e``); ligatures and fractions, which hold several, would chain
    unlike things.
    Letters whose modifier Unicode does not decompose (``ø``) are letters of their own, as in their alphabets.
    """
    found = {character.lower(), character.upper(), character.title(), character.casefold()}
    tag, *rest = unicodedata.decomposition(character).split() or [""]
    if tag.startswith("<"):
        found |= {chr(int(rest[0], 16))} if len(rest) == 1 else set()
    elif tag:
        found.add(chr(int(tag, 16)))
    return sorted(c for c in found if len(c) == 1 and c != character)


def answer_classes(n: int, twins: Sequence[tuple[int, int]]) -> np.ndarray:
    """Class of each of ``n`` names, int64 (n,): names joined by pixel-identical images are one answer."""
    return _components(n, twins)


def groups(codepoints: np.ndarray, twins: Sequence[tuple[int, int]]) -> np.ndarray:
    """Group of each name, int64 (n,): relatives and twins, joined transitively, must fall on one side of the split."""
    place = {int(c): i for i, c in enumerate(codepoints)}
    kin = [(i, place[ord(r)]) for c, i in place.items() for r in relatives(chr(c)) if ord(r) in place]
    return _components(len(codepoints), [*kin, *twins])


def assign(group: np.ndarray, names: Sequence[str], tokenised: Sequence[Sequence[str]]) -> np.ndarray:
    """Side of each name: array of "train", "dev", "test" and, for a few, "out".

    A group's side is drawn by the SHA-256 of its alphabetically first name, so it does not depend on order, platform
    or Python's own hash. Then *require seen tokens*: a token that no training name has says nothing about a held-out
    character. A held-out group moves to train when more than half of its names hold such a token (the hexagrams' and
    tetragrams' own words do); of the others the names that still hold one are left out.
    Moving every group with one such name instead would take nearly all Latin, Greek and Cyrillic from the test side.
    """
    group = np.asarray(group)
    first: dict[int, str] = {}
    for g, name in zip(group.tolist(), names, strict=True):
        first[g] = min(name, first.get(g, name))
    drawn = {g: _draw(name) for g, name in first.items()}
    side = np.array([drawn[g] for g in group.tolist()], dtype="<U5")

    unseen = _unseen(side, tokenised)
    share = np.bincount(group, unseen) / np.maximum(np.bincount(group), 1)
    side[share[group] > 0.5] = "train"
    side[_unseen(side, tokenised)] = "out"
    return side


def _unseen(side: np.ndarray, tokenised: Sequence[Sequence[str]]) -> np.ndarray:
    """Whether a name holds a token that no training name has, bool (n,)."""
    seen = {token for tokens, s in zip(tokenised, side, strict=True) if s == "train" for token in tokens}
    return np.array([not seen.issuperset(tokens) for tokens in tokenised], dtype=bool)


def _draw(key: str) -> str:
    u = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "test" if u < TEST_SHARE else "dev" if u < TEST_SHARE + DEV_SHARE else "train"
