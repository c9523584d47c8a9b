r"""Discrete worlds for the theorem of exact alignment: what it costs, what it must cost at least, and the difference.

With :math:`I_T, I_V, I_{TV}, I_*` the informations about the label in the text, the image, both, and their common part,

.. math:: \underbrace{I_{TV} - I_*}_{cost} - \underbrace{|I_T - I_V|}_{gap}
          = \underbrace{I_{TV} - \max(I_T, I_V)}_{complement} + \underbrace{\min(I_T, I_V) - I_*}_{private} ,

so the bound is tight exactly where the poorer modality adds nothing to the richer one (no complement) and shares all
that it knows (nothing private).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gaplib._validate import check_integer, check_number
from gaplib.data.glyphs import Glyphs
from gaplib.data.worlds import block_world
from gaplib.information import (
    aligned_excess_cross_entropy,
    approximately_aligned_excess,
    common_part,
    information_gap,
    mutual_information,
)


@dataclass(frozen=True)
class Ledger:
    """Informations about the label in nats: in the text, the image, both together, and their common part."""

    text: float
    image: float
    both: float
    common: float

    @property
    def gap(self) -> float:
        """The information gap, the theorem's lower bound."""
        return abs(self.text - self.image)

    @property
    def cost(self) -> float:
        """Excess cross-entropy of the best exactly aligned features."""
        return self.both - self.common

    @property
    def slack(self) -> float:
        """Cost less bound."""
        return self.cost - self.gap

    @property
    def complement(self) -> float:
        """What the poorer modality adds to the richer one."""
        return self.both - max(self.text, self.image)

    @property
    def private(self) -> float:
        """What the poorer modality knows beyond the common part."""
        return min(self.text, self.image) - self.common


def ledger(joint) -> Ledger:
    """The ledger of a world with axes (text, image, label); ``ValueError`` as ``gaplib.information.check_joint``."""
    joint = np.asarray(joint)
    both = mutual_information(joint)
    text, image = mutual_information(joint.sum(1)), mutual_information(joint.sum(0))
    return Ledger(text, image, both, both - aligned_excess_cross_entropy(joint))


def nats(value: float) -> float:
    """``value`` to nine decimals: the round-off behind them is of no interest, and differs between machines.

    >>> nats(-1e-16)
    0.0
    """
    return round(float(value), 9) + 0.0


# --- worlds to read --------------------------------------------------------------------------------------------------

#: what the label is -> a function of the common part c, the text's own a, the image's own b, each 0 or 1
TEXTBOOK: dict[str, Callable[[int, int, int], int]] = {
    "c": lambda c, a, b: c,
    "(c, a)": lambda c, a, b: 2 * c + a,
    "(c, a, b)": lambda c, a, b: 4 * c + 2 * a + b,
    "(a, b)": lambda c, a, b: 2 * a + b,
    "whether a = b": lambda c, a, b: int(a == b),
}


def textbook_worlds() -> dict[str, np.ndarray]:
    """Text (C, A), image (C, B), three fair coins, and five labels: name -> joint."""
    return {name: block_world(2, 2, 2, label) for name, label in TEXTBOOK.items()}


def random_block_world(seed: int) -> np.ndarray:
    """A random world with a common part: two to five blocks of one to three texts by one to three images.

    Weights from nearly even to one-sided; the label a mixture of noise and of functions of the cell, its text, its
    image and its block, in random shares: so that worlds fall near the bound and far from it, at small gaps and large.
    """
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    labels = int(rng.integers(2, 9))
    blocks = rng.integers(1, 4, size=(rng.integers(2, 6), 2))
    joint = np.zeros((*blocks.sum(0), labels))
    power, share = rng.choice([0.0, 0.5, 1.5]), rng.dirichlet(np.full(5, 0.2))
    starts, sure = np.vstack([[0, 0], blocks.cumsum(0)]), np.eye(labels)
    for (t, v), (rows, columns) in zip(starts[:-1], blocks, strict=True):
        weight = rng.exponential(size=(rows, columns)) ** power
        functions = (sure[rng.integers(labels, size=size)] for size in ((rows, columns), (rows, 1), columns, 1))
        noise = rng.dirichlet(np.ones(labels), size=(rows, columns))
        given = sum(s * one for s, one in zip(share, (noise, *functions), strict=True))
        joint[t : t + rows, v : v + columns] = weight[..., None] * given
    return joint / joint.sum()


def survey(seeds) -> list[Ledger]:
    """Ledgers of ``random_block_world`` for every seed."""
    return [ledger(random_block_world(seed)) for seed in seeds]


# --- the adversary ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """An adversary's way: (gap, cost) of the worlds that it accepted, and the smallest slack of *all* that it tried."""

    path: np.ndarray
    smallest_slack: float
    tried: int


def adversary(seed: int, least_gap: float, steps: int = 600) -> Search:
    """Hill-climb from a random block world to a world that breaks the bound: cost below the gap.

    A move shakes all weights, empties cells of the support, or fills one. A move is kept when it lowers the cost less
    the gap; worlds whose gap is below ``least_gap`` (nats) pay for it, since a label that nobody knows has slack 0.
    """
    rng = np.random.default_rng([check_integer(seed, "seed", low=0), 1])
    least_gap = float(check_number(least_gap, "least_gap", low=0))
    joint = random_block_world(seed)

    def score(found: Ledger) -> float:
        return found.slack + 2 * max(0.0, least_gap - found.gap)

    here = ledger(joint)
    path, smallest = [(here.gap, here.cost)], here.slack
    for step in range(check_integer(steps, "steps", low=1)):
        size = 0.8 * 0.995**step + 0.02
        trial = joint * np.exp(rng.normal(scale=size, size=joint.shape))
        move = rng.integers(3)
        if move == 1:  # a fifth of the labels of the cells that occur, or whole cells, drop out
            trial = trial * (rng.random(joint.shape if rng.random() < 0.5 else (*joint.shape[:2], 1)) > 0.2)
        elif move == 2:
            t, v = (rng.integers(n) for n in joint.shape[:2])
            trial[t, v, rng.integers(joint.shape[2])] += rng.exponential() / joint.size
        if trial.sum() <= 0:
            continue
        trial /= trial.sum()
        trial[trial < 1e-12] = 0  # a support is a matter of zeros: weights that no one could see are none
        there = ledger(trial / trial.sum())
        smallest = min(smallest, there.slack)
        if score(there) < score(here):
            joint, here = trial / trial.sum(), there
            path.append((here.gap, here.cost))
    return Search(np.array(path), smallest, steps)


# --- nearly aligned --------------------------------------------------------------------------------------------------


def leaky_world(leakage: float) -> np.ndarray:
    """Text (C, A), image C, label (C, A), all fair coins; with probability ``leakage`` the image's C is drawn anew."""
    return block_world(2, 2, 1, lambda c, a, b: 2 * c + a, leakage)


def fano(mismatch, symbols: int):
    r"""Fano's bound on :math:`H(Z_V | Z_T)` where ``P(Z_T != Z_V) <= mismatch`` and there are ``symbols`` values.

    :math:`h(\varepsilon) + \varepsilon \log(k - 1)` nats, growing up to :math:`\log k` at :math:`1 - 1/k` and flat from
    there on. ``mismatch``: a number or array in [0, 1].
    """
    k = check_integer(symbols, "symbols", low=2)
    m = np.asarray(mismatch, dtype=np.float64)
    if not ((m >= 0) & (m <= 1)).all():
        raise ValueError(f"mismatch: expected numbers in [0, 1], got {m!r:.80}")
    m = np.minimum(m, 1 - 1 / k)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(m > 0, m * np.log(m), 0.0) - np.where(m < 1, (1 - m) * np.log1p(-m), 0.0)
    return entropy + m * np.log(k - 1)


@dataclass(frozen=True)
class NearlyAligned:
    """Costs (worlds, mismatches) of the best ``symbols``-valued features, and gap (worlds,), in nats."""

    mismatch: np.ndarray
    cost: np.ndarray
    gap: np.ndarray
    symbols: int

    @property
    def slack(self) -> np.ndarray:
        """Cost less the weakened bound: gap less Fano's term."""
        return self.cost - (self.gap[:, None] - fano(self.mismatch, self.symbols))


def nearly_aligned(worlds, mismatch, symbols: int = 3) -> NearlyAligned:
    """The exact cost of nearly aligned features by brute force over label maps, for small worlds."""
    mismatch = np.asarray(mismatch, dtype=np.float64)
    cost = np.array([[approximately_aligned_excess(w, m, symbols) for m in mismatch] for w in worlds])
    return NearlyAligned(mismatch, cost, np.array([information_gap(w) for w in worlds]), symbols)


def parts(joint) -> int:
    """Number of values of the common part."""
    return int(common_part(joint)[0].max()) + 1


# --- the alphabet as a world -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlphabetWorld:
    """The glyphs as a world: names uniform, faces uniform among those that draw the name, X_V the pixels. Nats.

    parts: number of values of the common part. name: the ledger for the label "which name". part_of_name: (n,) the
    component of every name.
    """

    names: int
    images: int
    parts: int
    name: Ledger
    part_of_name: np.ndarray


def alphabet_world(data: Glyphs) -> AlphabetWorld:
    """Exact informations of the whole alphabet, by counting: names that share an identical picture are one part."""
    pixels = np.ascontiguousarray(data.images.reshape(len(data.images), -1))
    picture = np.unique(pixels.view([("", f"V{pixels.shape[1]}")]).ravel(), return_inverse=True)[1].ravel()
    n, size = len(data.names), int(picture.max()) + 1
    faces = np.bincount(data.name_of_image, minlength=n)
    weight = coo_array((1 / (n * faces[data.name_of_image]), (data.name_of_image, picture)), shape=(n, size)).tocsr()
    graph = coo_array((np.ones(len(picture)), (data.name_of_image, n + picture)), shape=(n + size,) * 2)
    part = np.unique(connected_components(graph, directed=False)[1][:n], return_inverse=True)[1]
    of_name, of_both = np.log(n), _entropy(weight.data)
    of_picture = _entropy(np.asarray(weight.sum(axis=0)).ravel())
    found = Ledger(of_name, of_name + of_picture - of_both, of_name, _entropy(np.bincount(part) / n))
    return AlphabetWorld(n, size, int(part.max()) + 1, found, part)


def _entropy(p) -> float:
    p = np.asarray(p, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
