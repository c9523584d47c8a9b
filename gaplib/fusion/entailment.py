"""Statements about one picture: entailed, neutral or contradicted."""

from __future__ import annotations

import numpy as np

from . import names
from .combinations import letters_held_out
from .names import CASES, SCRIPTS
from .sampling import Drawn

KINDS = ("script", "case")
ANSWERS = ("entailed", "neutral", "contradicted")
SENTENCES = tuple(f"this letter is {word}" for word in (*SCRIPTS, *CASES))


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    rows = names.pictures(split)
    if split == "train":
        rows = rows.take(~letters_held_out(rows))
    known, out = names.letters(), Drawn()
    while len(out.text) < n:
        row, label = rng.integers(len(rows)), ANSWERS[len(out.text) % 3]
        word = rng.choice((*SCRIPTS, *CASES))
        held = {word in (known[i].script, known[i].case) for i in rows.readings[row]}
        if label == ("neutral" if len(held) == 2 else "entailed" if True in held else "contradicted"):
            kind = "script" if word in SCRIPTS else "case"
            out.add([rows.image[row]], [rows.name[row]], f"this letter is {word}", label, kind, False)
    return out.take(rng.permutation(n))
