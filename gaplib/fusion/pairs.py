"""Statements about two pictures, true or false, in the manner of NLVR2.

Every pair of pictures is asked both a statement and its complement, and every statement is asked of as many pairs that
make it true as pairs that make it false: neither the text nor the pictures alone say anything.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np

from . import names
from .combinations import held_out, letters_held_out
from .names import CASES, FACES, SCRIPTS, Pictures
from .sampling import Drawn, balanced

STATEMENTS = {  # kind -> (the statement, its complement)
    "script": ("both letters are of the same script", "the letters are of different scripts"),
    "capital": ("the left is the capital of the right", "the left is not the capital of the right"),
    "diacritic": ("the letters differ in the mark only", "the letters differ in more than the mark"),
}
KINDS = tuple(STATEMENTS)
ANSWERS = ("true", "false")
SENTENCES = tuple(text for both in STATEMENTS.values() for text in both)
ROUND_SIZE = 4 * len(KINDS)  # a kind: two pairs of pictures, two statements each


@cache
def _pool(split: str) -> tuple[Pictures, np.ndarray, np.ndarray, dict]:
    rows = names.pictures(split)
    rows = rows.take(names.clear(rows) & (rows.mark >= 0))
    novel = letters_held_out(rows)
    if split == "train":
        rows, novel = rows.take(~novel), novel[~novel]
    weight = balanced([rows.script, rows.case, rows.mark, rows.face])
    known = names.letters()
    cells = defaultdict(list)
    for row, name in enumerate(rows.name.tolist()):
        a = known[name]
        cells["all"].append(row)
        cells[a.script].append(row)
        cells[a.script, a.case].append(row)
        cells[a.script, a.case, a.mark].append(row)
        cells["base", a.script, a.base].append(row)
        cells["base", a.script, a.base.lower(), a.mark, a.case].append(row)
    return rows, novel, weight, {key: np.array(found) for key, found in cells.items()}


def combination(rows: Pictures, left: int, right: int) -> tuple[str, str]:
    """What two pictures show together: script and face of each."""
    return tuple(f"{SCRIPTS[rows.script[i]]} in {FACES[rows.face[i]]}" for i in (left, right))


def truth(kind: str, left: names.Letter, right: names.Letter) -> bool:
    """Whether the statement (not its complement) holds of two letters."""
    if kind == "script":
        return left.script == right.script
    same = left.script == right.script and left.base.lower() == right.base.lower()
    if kind == "capital":
        return same and left.mark == right.mark and (left.case, right.case) == CASES
    return same and left.case == right.case and left.mark != right.mark


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    """``n`` statements in random order; whole rounds of 12 are exactly balanced."""
    out = Drawn()
    rows, novel, _, _ = _pool(split)
    for _ in range(-(-n // ROUND_SIZE)):
        for kind, both in STATEMENTS.items():
            for wanted in (True, False):
                left, right = _draw_pair(kind, wanted, split, rng)
                new = novel[left] or novel[right] or held_out(*combination(rows, left, right))
                for complement, text in enumerate(both):
                    answer = ANSWERS[int(wanted == bool(complement))]
                    out.add(rows.image[[left, right]], rows.name[[left, right]], text, answer, kind, new)
    return out.take(rng.permutation(len(out.text))[:n])


def _draw_pair(kind: str, wanted: bool, split: str, rng: np.random.Generator) -> tuple[int, int]:
    """Rows of two pictures for which the statement is ``wanted``, by rejection from near misses and hits."""
    rows, _, weight, cells = _pool(split)
    known = names.letters()

    def pick(among) -> int:
        mass = np.cumsum(weight[among])
        return int(among[min(np.searchsorted(mass, rng.random() * mass[-1], side="right"), len(among) - 1)])

    while True:
        left = pick(cells["all"])
        a = known[int(rows.name[left])]
        other = CASES[1 - CASES.index(a.case)]
        base = a.base.lower()
        if kind == "script":
            script = a.script if wanted else str(rng.choice([s for s in SCRIPTS if s != a.script]))
            key = (script,)[0]
        elif kind == "capital":
            near = rng.random() < 0.5
            key = ("base", a.script, base, a.mark, other) if wanted or near else (a.script, other)
        else:
            near = rng.random() < 0.5
            key = ("base", a.script, a.base) if wanted else (a.script, a.case) if near else ("base", a.script, base)
        if key not in cells:
            continue
        right = pick(cells[key])
        b = known[int(rows.name[right])]
        if a == b or truth(kind, a, b) != wanted:
            continue
        if split == "train" and held_out(*combination(rows, left, right)):
            continue
        return left, right
