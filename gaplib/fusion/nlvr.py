"""Statements about two pictures, true or false, in the manner of NLVR2.

Every pair of pictures is asked both a statement and its complement, and every statement is asked of as many pairs that
make it true as pairs that make it false: neither the text nor the pictures alone say anything.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np

from gaplib.fusion import letters as names
from gaplib.fusion.held_out import held_out, letters_held_out
from gaplib.fusion.letters import CASES, FACES, MARKED_SCRIPTS, SCRIPTS, Letter, Pictures
from gaplib.fusion.sampling import Drawn, balanced

STATEMENTS = {  # kind -> (the statement, its complement)
    "script": ("both letters are of the same script", "the letters are of different scripts"),
    "capital": ("the left is the capital of the right", "the left is not the capital of the right"),
    "diacritic": ("the letters differ in the mark only", "the letters differ in more than the mark"),
}
KINDS = tuple(STATEMENTS)
ANSWERS = ("true", "false")
SENTENCES = tuple(text for both in STATEMENTS.values() for text in both)
ROUND_SIZE = 4 * len(KINDS)  # of each kind two pairs of pictures, with two statements each


def truth(kind: str, left: Letter, right: Letter) -> bool:
    """Whether the statement of this kind (not its complement) holds of two letters."""
    if kind == "script":
        return left.script == right.script
    if kind == "capital":
        return (left.case, right.case) == CASES and left.base == right.base.upper() and left.mark == right.mark
    return left.base == right.base and left.mark != right.mark


def _regular(a: Letter) -> bool:
    """Whether a letter is the only one in its case with its counterpart: final sigma, long s and dotless i are not."""
    return a.base.upper().lower() == a.base.lower()


def combination(rows: Pictures, left: int, right: int) -> tuple[str, str]:
    """What two pictures show together: script and face of each."""
    return tuple(f"{SCRIPTS[rows.script[i]]} in {FACES[rows.face[i]]}" for i in (left, right))


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures of one split. novel: bool (m,). weight: kind -> (m,), with which the left one is drawn. cells: rows by
    what they have in common (see `_cells`)."""

    rows: Pictures
    letters: list[Letter]
    novel: np.ndarray
    weight: dict[str, np.ndarray]
    cells: dict[tuple, np.ndarray]


def _cells(a: Letter) -> list[tuple]:
    """What a letter is found by: its script; that and the case; its family (base letter); that and case or mark."""
    family = (a.script, a.base.lower())
    return [(a.script,), (a.script, a.case), ("of", *family), ("of", *family, a.case), ("of", *family, a.case, a.mark)]


@cache
def pool(split: str) -> Pool:
    """The pictures of one split; training leaves held-out combinations away."""
    rows = names.pictures(split)
    regular = np.array([_regular(names.letters()[i]) for i in rows.name.tolist()])
    rows = rows.take(names.clear(rows) & (rows.mark >= 0) & regular)
    novel = letters_held_out(rows)
    if split == "train":
        rows, novel = rows.take(~novel), novel[~novel]
    known = [names.letters()[i] for i in rows.name.tolist()]
    cells = defaultdict(list)
    for row, a in enumerate(known):
        for key in _cells(a):
            cells[key].append(row)
    even = balanced([rows.script, rows.case, rows.face])
    marked = np.flatnonzero(rows.script < MARKED_SCRIPTS)
    with_marks = np.zeros(len(rows))
    with_marks[marked] = balanced([column[marked] for column in (rows.script, rows.case, rows.mark, rows.face)])
    weight = {"script": even, "capital": even, "diacritic": with_marks}
    return Pool(rows, known, novel, weight, {key: np.array(found) for key, found in cells.items()})


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    """``n`` statements in random order; whole rounds of 12 are exactly balanced."""
    out, p = Drawn(), pool(split)
    for _ in range(-(-n // ROUND_SIZE)):
        for kind, both in STATEMENTS.items():
            for wanted in (True, False):
                pair = list(_draw_pair(p, kind, wanted, split, rng))
                novel = p.novel[pair].any() or held_out(*combination(p.rows, *pair))
                for complement, text in enumerate(both):
                    answer = ANSWERS[int(wanted == bool(complement))]
                    out.add(p.rows.image[pair], p.rows.name[pair], text, answer, kind, novel)
    return out.take(rng.permutation(len(out.text))[:n])


def _draw_pair(p: Pool, kind: str, wanted: bool, split: str, rng: np.random.Generator) -> tuple[int, int]:
    """Rows of two pictures of which the statement is ``wanted`` (True or False): drawn until a pair fits."""
    weight = p.weight[kind]
    while True:
        left = _pick(np.arange(len(weight)), weight, rng)
        among = p.cells.get(_partner(kind, wanted, p.letters[left], rng))
        if among is None or not weight[among].any():
            continue
        right = _pick(among, weight, rng)
        a, b = p.letters[left], p.letters[right]
        kept = split == "train" and held_out(*combination(p.rows, left, right))
        if a != b and truth(kind, a, b) == wanted and not kept:
            return left, right


def _pick(among: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> int:
    mass = np.cumsum(weight[among])
    return int(among[min(np.searchsorted(mass, rng.random() * mass[-1], side="right"), len(among) - 1)])


def _partner(kind: str, wanted: bool, a: Letter, rng: np.random.Generator) -> tuple:
    """The cell to draw the right one from. Half of the false pairs are near misses: the same two letters the other way
    round, or one letter in two cases; in the other half letters differ, or the case or the mark would tell."""
    family, other = ("of", a.script, a.base.lower()), CASES[1 - CASES.index(a.case)]
    near = rng.random() < 0.5
    if kind == "script":
        return (a.script,) if wanted else (str(rng.choice([s for s in SCRIPTS if s != a.script])),)
    if kind == "capital":
        return (*family, other, a.mark) if wanted or near else (a.script, other)
    return (*family, a.case) if wanted else family if near else (a.script, a.case)
