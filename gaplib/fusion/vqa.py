"""Questions about one picture, with open answers. Every picture is asked all questions of its group equally often.

Given the question, the fitted weights make the answers equally frequent; given the picture alone, a model can know all
the answers and still not which one is asked for: at most one right in four (Latin, Greek, Cyrillic letters) or in three
(all other pictures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from gaplib.fusion import letters
from gaplib.fusion.held_out import TILES, letters_held_out
from gaplib.fusion.letters import CASES, FACES, MARKED_SCRIPTS, MARKS, NUMBERS, SCRIPTS
from gaplib.fusion.sampling import Drawn, balanced, spread

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
# Pictures of each group in a round: 3 * 4 + 2 * 3 + 2 * 3 + 2 * 3 questions. Letters that bear no marks are a group of
# their own, or the marks could not be equally frequent; 3 to 2 makes the five scripts so.
ROUND = {"letters": 3, "unmarked letters": 2, "braille": 2, "dominoes": 2}
ROUND_SIZE = 30


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
    rows = letters.pictures(split)
    rows = rows.take(letters.clear(rows) & (rows.mark >= 0))
    marked = rows.script < MARKED_SCRIPTS
    return {
        "letters": _letters(rows.take(marked), ("script", "case", "diacritic", "style"), split),
        "unmarked letters": _letters(rows.take(~marked), ("script", "case", "style"), split),
        "braille": _braille(split),
        "dominoes": _dominoes(split),
    }


def _letters(rows: letters.Pictures, kinds: tuple[str, ...], split: str) -> Pool:
    words = {"script": (SCRIPTS, rows.script), "case": (CASES, rows.case)}
    words |= {"diacritic": (MARKS, rows.mark), "style": (FACES, rows.face)}
    answers = {kind: np.array(words[kind][0])[words[kind][1]] for kind in kinds}
    return _pool(rows.image, rows.name, answers, letters_held_out(rows), split)


def _counted(split: str, count: Callable[[str], tuple[int, int] | None]) -> tuple[np.ndarray, ...]:
    """Pictures, names and the two different counts (a, b) of the characters of a split that ``count`` knows."""
    g = letters.alphabet()
    counts = {int(i): count(chr(g.codepoints[i])) for i in g.index(split)}
    counts = {i: found for i, found in counts.items() if found and found[0] != found[1]}
    image = np.flatnonzero(np.isin(g.name_of_image, list(counts)))
    name = g.name_of_image[image]
    return image, name, *np.array([counts[i] for i in name.tolist()]).T


def _braille(split: str) -> Pool:
    image, name, left, right = _counted(split, letters.braille)
    # Total and columns are three different numbers, each of which can be equally frequent.
    kept = (np.minimum(left, right) > 0) & (left + right <= 7)
    image, name, left, right = (column[kept] for column in (image, name, left, right))
    number = np.array(NUMBERS)
    answers = {"dots": number[left + right], "dots left": number[left], "dots right": number[right]}
    # A pattern is itself the combination of its dots: held-out characters are held-out combinations.
    return _pool(image, name, answers, np.full(len(image), split != "train"), split)


def _dominoes(split: str) -> Pool:
    image, name, first, second = _counted(split, letters.domino)
    answers = {"pips first": np.array(NUMBERS)[first], "pips second": np.array(NUMBERS)[second]}
    answers["pips more"] = np.where(first > second, "first", "second")
    novel = np.array([frozenset(pair) in TILES for pair in zip(first.tolist(), second.tolist(), strict=True)])
    return _pool(image, name, answers, novel, split)


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    """``n`` questions. Their order is random; whole rounds of 30 ask every picture all questions of its group."""
    out, rounds = Drawn(), -(-n // ROUND_SIZE)
    for group, pool in pools(split).items():
        for row in spread(pool.weight, rounds * ROUND[group], rng):
            for kind, column in pool.answers.items():
                text = QUESTIONS[kind][rng.integers(len(QUESTIONS[kind]))]
                out.add([pool.image[row]], [pool.name[row]], text, str(column[row]), kind, pool.novel[row])
    return out.take(rng.permutation(len(out.text))[:n])
