"""Combinations of attributes that no training question shows, though each attribute alone is in many of them."""

from __future__ import annotations

import hashlib

import numpy as np

from gaplib.fusion.letters import CASES, FACES, MARKS, SCRIPTS, Pictures

# (script, case, mark): each script, case and mark stays in training in other company.
MARKED = frozenset(
    {
        ("greek", "capital", "acute"),
        ("latin", "small", "grave"),
        ("cyrillic", "capital", "diaeresis"),
        ("latin", "capital", "macron"),
        ("cyrillic", "small", "breve"),
    }
)
# Numbers of a domino tile, in either order and orientation.
TILES = frozenset(map(frozenset, ({0, 1}, {1, 2}, {2, 3}, {3, 6}, {4, 5}, {0, 5})))
PAIR_SHARE = 0.2


def letters_held_out(rows: Pictures) -> np.ndarray:
    """Whether a picture shows a held-out combination (script, case, mark) or (script, case, face): bool (m,).

    Each case of each script has one face that training never shows it in, another one from script to script.
    """
    face = (2 * rows.script + rows.case) % len(FACES) == rows.face
    triples = zip(rows.script.tolist(), rows.case.tolist(), rows.mark.tolist(), strict=True)
    marked = [mark >= 0 and (SCRIPTS[script], CASES[case], MARKS[mark]) in MARKED for script, case, mark in triples]
    return face | np.array(marked, dtype=bool)


def held_out(*parts: str) -> bool:
    """Whether a combination of two things, in either order, is kept from training: a fifth of them, by SHA-256."""
    digest = hashlib.sha256("\n".join(sorted(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < PAIR_SHARE
