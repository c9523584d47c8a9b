"""Statements about one picture, in the manner of SNLI-VE: entailed, neutral or contradicted.

A picture says of its letter only what all letters with this very picture share: a picture of A is of a capital, and may
be Latin, Greek, Cyrillic or mathematical. So a statement is entailed if it holds of every reading of the picture,
contradicted if of none, neutral otherwise. All pictures are homoglyphs: of other pictures nothing is neutral, and the
picture alone would tell the neutral class. A small linear programme finds how often to make which statement of which
kind of picture, such that the three answers are equally frequent given the statement and given the picture.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from scipy.optimize import linprog

from gaplib.fusion.held_out import held_out
from gaplib.fusion.letters import CASES, FACES, alphabet
from gaplib.fusion.sampling import Drawn, spread

ALPHABETS = ("latin", "greek", "cyrillic", "mathematical")
ANSWERS = ("entailed", "neutral", "contradicted")
KINDS = ("two alphabets", "three alphabets")
# (case or "", alphabets): true of a letter of this case and of one of these alphabets. One alphabet alone is never
# entailed by a picture with two readings, so the answers to it could not be balanced.
STATEMENTS = tuple((case, among) for size in (2, 3) for among in combinations(ALPHABETS, size) for case in (*CASES, ""))
# A statement may hold this many times the share of one picture, or a rare picture would decide how varied the text is.
_STATEMENT_SHARE = 10


def sentence(statement: tuple[str, tuple[str, ...]]) -> str:
    """The words of a statement, such as "this is a capital letter which is latin or greek"."""
    case, among = statement
    return f"this is a {case + ' ' if case else ''}letter which is {' or '.join(among)}"


SENTENCES = tuple(map(sentence, STATEMENTS))


def reading(character: str) -> tuple[str, str] | None:
    """Alphabet (the first word of its name) and case (its general category) of a letter; None for other characters."""
    alphabet = unicodedata.name(character, "").partition(" ")[0].lower()
    case = {"Lu": "capital", "Ll": "small"}.get(unicodedata.category(character))
    return (alphabet, case) if alphabet in ALPHABETS and case else None


def label(readings: frozenset[tuple[str, str]], statement: tuple[str, tuple[str, ...]]) -> str:
    """Answer to a statement on a picture with these readings, a non-empty set of (alphabet, case)."""
    case, among = statement
    holds = {alphabet in among and case in ("", its_case) for alphabet, its_case in readings}
    return "neutral" if len(holds) == 2 else "entailed" if True in holds else "contradicted"


@dataclass(frozen=True, eq=False)
class Plan:
    """Kinds of pictures (the same readings and face) with their weights, and those of statements for each answer.

    images: for each kind, places in Glyphs.images. weight: (kinds,), sum 1. statements: for each kind and answer,
    places in `STATEMENTS`; shares: their weights. novel: for each kind and statement, whether it is held out.
    """

    images: list[np.ndarray]
    weight: np.ndarray
    statements: list[list[np.ndarray]]
    shares: list[list[np.ndarray]]
    novel: np.ndarray


@cache
def _readings() -> dict[int, frozenset[tuple[str, str]]]:
    """Readings of every picture that has two of another alphabet or case, by its place in Glyphs.images."""
    g = alphabet()
    known = {i: reading(chr(c)) for i, c in enumerate(g.codepoints.tolist())}
    found, pixels = defaultdict(set), {}
    for j, i in enumerate(g.name_of_image.tolist()):
        if known[i]:
            pixels[j] = g.images[j].tobytes()
            found[pixels[j]].add(known[i])
    return {j: frozenset(found[key]) for j, key in pixels.items() if len(found[key]) > 1}


@cache
def plan(split: str) -> Plan:
    """How the statements of one split are drawn. Raises ``ValueError`` if its pictures allow no balance."""
    g = alphabet()
    kinds: dict = defaultdict(list)
    for j, readings in _readings().items():
        if g.split[g.name_of_image[j]] == split:
            kinds[tuple(sorted(readings)), int(g.face_of_image[j])].append(j)
    keys = sorted(kinds)
    answers = np.array([[ANSWERS.index(label(frozenset(r), s)) for s in STATEMENTS] for r, _ in keys])
    novel = np.array([[held_out(" ".join(among), FACES[face]) for _, among in STATEMENTS] for _, face in keys])
    allowed = ~novel if split == "train" else np.ones_like(novel)
    mass = _balance(answers, allowed, np.array([len(kinds[key]) for key in keys]))
    used = np.flatnonzero(mass.sum(axis=1) > 1e-6)
    statements, shares = [], []
    for kind in used:
        chosen = [np.flatnonzero((answers[kind] == a) & (mass[kind] > 1e-9)) for a in range(len(ANSWERS))]
        statements.append(chosen)
        shares.append([mass[kind][among] / mass[kind][among].sum() for among in chosen])
    images = [np.array(kinds[keys[kind]]) for kind in used]
    return Plan(images, mass[used].sum(axis=1), statements, shares, novel[used])


def _balance(answers: np.ndarray, allowed: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Weights (kinds, statements), sum 1, with equally frequent answers in every row and in every column.

    Among those, the ones whose most frequent picture is as rare as can be.
    """
    row, column = np.nonzero(allowed)
    answer, n = answers[row, column], len(row)
    # Which unknowns make up each row and each column, (rows + columns, n).
    margins = np.vstack([row == np.arange(answers.shape[0])[:, None], column == np.arange(answers.shape[1])[:, None]])
    equal = [margins * ((answer == a).astype(float) - (answer == 0)) for a in (1, 2)]  # each as often as answer 0
    equal = np.vstack([*equal, np.ones(n)])
    share = np.concatenate([pictures, np.full(answers.shape[1], _STATEMENT_SHARE)])
    found = linprog(
        np.r_[np.zeros(n), 1],  # the last unknown is the share of the most frequent picture
        A_ub=np.column_stack([margins, -share]),
        b_ub=np.zeros(len(margins)),
        A_eq=np.column_stack([equal, np.zeros(len(equal))]),
        b_eq=np.r_[np.zeros(len(equal) - 1), 1],
    )
    if not found.success:
        raise ValueError(f"answers: expected pictures on which statements can be balanced: {found.message}")
    out = np.zeros(answers.shape)
    out[row, column] = np.maximum(found.x[:-1], 0)
    return out / out.sum()


def draw(split: str, n: int, rng: np.random.Generator) -> Drawn:
    """``n`` statements in random order; every picture drawn is asked one of each answer (but for a rest of n / 3)."""
    g, chosen, out = alphabet(), plan(split), Drawn()
    drawn = spread(chosen.weight, -(-n // len(ANSWERS)), rng)
    for kind, count in zip(*np.unique(drawn, return_counts=True), strict=True):
        images = chosen.images[kind]
        # Every picture of the kind in turn, in an order drawn anew.
        order = rng.permutation(images)[np.arange(count) % len(images)]
        for a, answer in enumerate(ANSWERS):
            which = chosen.statements[kind][a][spread(chosen.shares[kind][a], count, rng)]
            for j, s in zip(order, which, strict=True):
                text = sentence(STATEMENTS[s])
                words = KINDS[len(STATEMENTS[s][1]) - 2]
                out.add([j], [g.name_of_image[j]], text, answer, words, chosen.novel[kind, s])
    return out.take(rng.permutation(len(out.text))[:n])
