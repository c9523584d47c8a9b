"""Weights that make every answer to every question equally frequent, and draws that follow weights closely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Drawn:
    """Questions before they become tensors; lists of the same length.

    image: places in Glyphs.images (one or two). name: those of the characters in Glyphs.names. text, answer, kind:
    strings. novel: whether it shows a combination that is kept from training.
    """

    image: list[tuple[int, ...]] = field(default_factory=list)
    name: list[tuple[int, ...]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    novel: list[bool] = field(default_factory=list)

    def add(self, image, name, text, answer, kind, novel) -> None:
        """One more question."""
        self.image.append(tuple(int(i) for i in image))
        self.name.append(tuple(int(i) for i in name))
        self.text.append(text)
        self.answer.append(answer)
        self.kind.append(kind)
        self.novel.append(bool(novel))

    def take(self, rows: Sequence[int]) -> Drawn:
        """Some of the questions, in the order given."""
        return Drawn(**{name: [column[i] for i in rows] for name, column in vars(self).items()})


def balanced(attributes: Sequence[np.ndarray], rounds: int = 200) -> np.ndarray:
    """Weights (m,), sum 1, under which every attribute's values are equally frequent, as far as the rows allow.

    Iterative proportional fitting (Deming and Stephan 1940) from equal weights: among all weights with these margins
    it finds those nearest to equal ones. attributes: int64 (m,) each. Where no weights have all margins, what is left
    is a compromise; the caller measures it.
    """
    weight = np.full(len(attributes[0]), 1 / len(attributes[0]))
    places = [np.unique(values, return_inverse=True)[1] for values in attributes]
    for _ in range(rounds):
        for place in places:
            share = np.bincount(place, weight)
            weight = weight / (share * len(share))[place]
    return weight


def spread(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` rows drawn by systematic sampling: counts differ from n * weight by less than one, order is random."""
    edges = np.cumsum(weight)
    points = (np.arange(n) + rng.random()) / n * edges[-1]
    return rng.permutation(np.minimum(np.searchsorted(edges, points, side="right"), len(weight) - 1))
