"""Questions about one picture, with open answers. Every picture is asked all questions of its group equally often.

Given the question, the fitted weights make the answers equally frequent; given the picture alone, a model can know all
the answers and still not which one is asked for: at most one right in four (letters) or in three (braille, dominoes).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..data import glyphs
from . import names
from .combinations import TILES, letters_held_out
from .names import CASES, FACES, MARKS, NUMBERS, SCRIPTS
from .sampling import Drawn, balanced, spread

QUESTIONS = {
    "script": ("which script is this letter", "this letter is of which script"),
    "case": ("is this letter capital or small", "which case is this letter"),
    "diacritic": ("which mark does this letter bear", "what is the mark of this letter"),
    "style": ("which face is this drawn in", "what is the face of this letter"),
    "dots": ("how many dots does this pattern have", "what is the number of dots in this pattern"),
    "dots left": ("how many dots are in the left column", "what is the number of dots on the left"),
    "dots right": ("how many dots are in the right column", "what is the number of dots on the right"),
    "pips first": ("how many pips are on the first half", "what is the number of pips on the first half"),
    "pips second": ("how many pips are on the second half", "what is the number of pips on the second half"),
    "pips more": ("which half has more pips", "more pips are on which half"),
}
KINDS = tuple(QUESTIONS)
ANSWERS = (*SCRIPTS, *CASES, *MARKS, *FACES, *NUMBERS, "first", "second")
SENTENCES = tuple(form for forms in QUESTIONS.values() for form in forms)
# Pictures of each group in a round, so that a round is 12 questions on letters, 6 on braille, 6 on dominoes.
ROUND = {"letters": 3, "braille": 2, "dominoes": 2}
ROUND_SIZE = 24


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures of one group and split with the answers to each of its questions, and their sampling weights.

    image, name: int64 (m,). answers: kind -> (m,) strings. novel: bool (m,). weight: float64 (m,), sum 1.
    """

    image: np.ndarray
    name: np.ndarray
    answers: dict[str, np.ndarray]
    novel: np.ndarray
    weight: np.ndarray


def _pool(image, name, answers, novel, split) -> Pool:
    kept = np.flatnonzero(~novel) if split == "train" else np.arange(len(image))
    # Sorted by their answers, so that systematic draws spread over every combination.
    order = kept[np.lexsort([answers[kind][kept] for kind in reversed(answers)])]
    answers = {kind: column[order] for kind, column in answers.items()}
    columns = [np.unique(column, return_inverse=True)[1] for column in answers.values()]
    return Pool(image[order], name[order], answers, novel[order], balanced(columns))


@cache
def pools(split: str) -> dict[str, Pool]:
    """The groups of one split; training leaves held-out combinations away."""
    g = glyphs.load()
    rows = names.pictures(split)
    rows = rows.take(names.clear(rows) & (rows.mark >= 0))
    texts = {"script": (SCRIPTS, rows.script), "case": (CASES, rows.case)}
    texts |= {"diacritic": (MARKS, rows.mark), "style": (FACES, rows.face)}
    answers = {kind: np.array(words)[column] for kind, (words, column) in texts.items()}
    out = {"letters": _pool(rows.image, rows.name, answers, letters_held_out(rows), split)}

    index = g.index(split)
    cells = {int(i): names.braille(chr(g.codepoints[i])) for i in index}
    cells = {i: c for i, c in cells.items() if c and c[0] != c[1] and min(c) > 0 and 3 <= sum(c) <= 7}
    image = np.array([j for j, i in enumerate(g.name_of_image.tolist()) if i in cells], dtype=np.int64)
    name = g.name_of_image[image]
    left, right = np.array([cells[int(i)] for i in name]).T
    number = np.array(NUMBERS)
    answers = {"dots": number[left + right], "dots left": number[left], "dots right": number[right]}
    # A pattern is itself the combination of its dots: held-out characters are held-out combinations.
    out["braille"] = _pool(image, name, answers, np.full(len(image), split != "train"), split)

    cells = {int(i): names.domino(chr(g.codepoints[i])) for i in index}
    cells = {i: c for i, c in cells.items() if c and c[0] != c[1]}
    image = np.array([j for j, i in enumerate(g.name_of_image.tolist()) if i in cells], dtype=np.int64)
    name = g.name_of_image[image]
    first, second = np.array([cells[int(i)] for i in name]).T
    answers = {"pips first": number[first], "pips second": number[second]}
    answers["pips more"] = np.where(first > second, "first", "second")
    novel = np.array([frozenset(cells[int(i)]) in TILES for i in name])
    out["dominoes"] = _pool(image, name, answers, novel, split)
    return out


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    """``n`` questions. Their order is random; whole rounds of 24 ask every picture all questions of its group."""
    out, rounds = Drawn(), -(-n // ROUND_SIZE)
    for group, pool in pools(split).items():
        for row in spread(pool.weight, rounds * ROUND[group], rng):
            for kind, column in pool.answers.items():
                text = QUESTIONS[kind][rng.integers(len(QUESTIONS[kind]))]
                out.add([pool.image[row]], [pool.name[row]], text, str(column[row]), kind, pool.novel[row])
    return out.take(rng.permutation(len(out.text))[:n])
