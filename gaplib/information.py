r"""Exact informations of small discrete worlds, and what exact alignment costs (Jiang et al. 2023, Sec. 3).

A world is a joint distribution of a text :math:`X_T`, an image :math:`X_V` and a label :math:`Y`: an array ``joint``
with axes (text, image, label). All informations are in nats.

Exact alignment asks for :math:`Z_T = Z_V` almost surely, :math:`Z_T` a function of the text and :math:`Z_V` of the
image. Then texts and images that occur together share one value, and so does everything connected to them: the
representation is a function of the connected component of the support, the Gács-Körner common part :math:`C^*`. The
best aligned encoder keeps :math:`C^*` itself, and its excess cross-entropy over the best predictor from both inputs is
:math:`I(X_T, X_V; Y) - I(C^*; Y)`, at least the information gap :math:`|I(X_T;Y) - I(X_V;Y)|` (Theorem 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import rel_entr

from gaplib._validate import check_integer, check_number

_TOLERANCE = 1e-9


def check_joint(joint: Any, name: str = "joint", ndim: int | None = 3) -> np.ndarray:
    """Return ``joint`` as a float64 array that sums to one, of ``ndim`` axes (``None``: at least two).

    Raises:
        ValueError: on another number of axes, an empty axis, a negative or non-finite cell, or a sum that is not one.
    """
    p = np.asarray(joint)
    wanted = "at least 2 axes" if ndim is None else f"{ndim} axes"
    if p.dtype.kind not in "fiu" or p.size == 0 or (p.ndim < 2 if ndim is None else p.ndim != ndim):
        raise ValueError(f"{name}: expected an array of probabilities with {wanted}, got shape {p.shape}, {p.dtype}")
    p = p.astype(np.float64)
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(f"{name}: expected finite, non-negative cells, got a smallest cell of {p.min():.3g}")
    if abs(p.sum() - 1) > _TOLERANCE * max(1, p.size) ** 0.5:
        raise ValueError(f"{name}: expected cells that sum to one, got {p.sum():.9g}")
    return p / p.sum()


def mutual_information(joint: Any) -> float:
    """Mutual information of the last variable with all the others together, in nats, in [0, min of the entropies].

    ``joint`` has two axes or more: I(A; B) for shape (a, b), I(X_T, X_V; Y) for shape (text, image, label).

    Raises:
        ValueError: if ``joint`` is not a joint distribution (see :func:`check_joint`).
    """
    p = check_joint(joint, ndim=None)
    p = p.reshape(-1, p.shape[-1])
    # rel_entr is p log(p/q) with 0 log 0 = 0; the sum is never below zero but for round-off.
    return float(max(0.0, rel_entr(p, p.sum(1, keepdims=True) * p.sum(0, keepdims=True)).sum()))


def information_gap(joint: Any) -> float:
    r"""``|I(X_T; Y) - I(X_V; Y)|`` in nats for ``joint`` with axes (text, image, label) (Jiang et al. 2023, Sec. 3).

    Raises:
        ValueError: if ``joint`` is not a joint distribution with three axes.
    """
    p = check_joint(joint)
    return abs(mutual_information(p.sum(1)) - mutual_information(p.sum(0)))


def common_part(joint: Any) -> tuple[np.ndarray, np.ndarray]:
    """The Gács-Körner common part: the component number of every text and of every image, -1 where it never occurs.

    Components are those of the bipartite graph that joins a text and an image when they occur together.

    Raises:
        ValueError: if ``joint`` is not a joint distribution with three axes.
    """
    p = check_joint(joint).sum(2)
    text, image = p.shape
    rows, columns = np.nonzero(p)
    graph = coo_array((np.ones(len(rows)), (rows, columns + text)), shape=(text + image,) * 2)
    labels = connected_components(graph, directed=False)[1]
    labels = np.where(np.concatenate([p.sum(1), p.sum(0)]) > 0, labels, -1)
    used = np.unique(labels[labels >= 0])
    labels = np.where(labels >= 0, np.searchsorted(used, labels), -1)
    return labels[:text], labels[text:]


def coarsen(joint: Any, text_map: Any, image_map: Any) -> np.ndarray:
    """The joint of (f(X_T), g(X_V), Y) for label maps given as integer arrays; symbols mapped to -1 must not occur."""
    p = check_joint(joint)
    f, g = np.asarray(text_map), np.asarray(image_map)
    for name, m, size in (("text_map", f, p.shape[0]), ("image_map", g, p.shape[1])):
        if m.shape != (size,) or m.dtype.kind not in "iu":
            raise ValueError(f"{name}: expected {size} whole numbers, got shape {m.shape}, {m.dtype}")
    t, v, y = np.nonzero(p)
    if (f[t] < 0).any() or (g[v] < 0).any():
        raise ValueError(
            "text_map: expected a value for every symbol that occurs, got a negative one (or in image_map)"
        )
    out = np.zeros((f.max() + 1, g.max() + 1, p.shape[2]))
    np.add.at(out, (f[t], g[v], y), p[t, v, y])
    return out


def aligned_excess_cross_entropy(joint: Any) -> float:
    r"""Least excess cross-entropy under exact alignment, ``I(X_T, X_V; Y) - I(C*; Y)``, in nats (module docstring).

    It is at least :func:`information_gap`; with a connected support :math:`C^*` is constant and all is lost.

    Raises:
        ValueError: if ``joint`` is not a joint distribution with three axes.
    """
    p = check_joint(joint)
    text_part, _ = common_part(p)
    common = np.zeros((text_part.max() + 1, p.shape[2]))
    np.add.at(common, text_part[text_part >= 0], p.sum(1)[text_part >= 0])
    return max(0.0, mutual_information(p) - mutual_information(common))


def approximately_aligned_excess(joint: Any, mismatch: float, symbols: int | None = None) -> float:
    r"""Least excess cross-entropy over all label maps with ``P(f(X_T) != g(X_V)) <= mismatch``, by brute force.

    In nats, for worlds small enough to try every pair of maps; ``symbols`` is the number of values of a representation
    (default: the larger alphabet). ``mismatch`` 0 is exact alignment, 1 is no alignment at all.

    Raises:
        ValueError: on a bad joint, ``mismatch`` outside [0, 1], ``symbols`` below 1, or over ten million pairs of maps.
    """
    p = check_joint(joint)
    mismatch = float(check_number(mismatch, "mismatch", low=0, high=1))
    symbols = check_integer(max(p.shape[:2]) if symbols is None else symbols, "symbols", low=1)
    if symbols ** (p.shape[0] + p.shape[1]) > 10_000_000:
        raise ValueError(
            f"joint: expected a world with at most ten million pairs of label maps, got {symbols}^{sum(p.shape[:2])}"
        )
    pair = p.sum(2)
    image_maps = np.array(list(product(range(symbols), repeat=p.shape[1])))
    best = -np.inf
    for text_map in _canonical_maps(p.shape[0], symbols):
        # Share of mass where the two maps disagree, for every image map at once.
        agree = (np.asarray(text_map)[None, :, None] == image_maps[:, None, :]) * pair
        for image_map in image_maps[1 - agree.sum((1, 2)) <= mismatch + _TOLERANCE]:
            best = max(best, mutual_information(coarsen(p, np.asarray(text_map), image_map)))
    return max(0.0, mutual_information(p) - best)


def _canonical_maps(size: int, symbols: int) -> Iterator[tuple[int, ...]]:
    """Label maps up to renaming: a new symbol is always the smallest one not used yet (renaming both maps is free)."""

    def grow(prefix: list[int], used: int) -> Iterator[tuple[int, ...]]:
        if len(prefix) == size:
            yield tuple(prefix)
            return
        for symbol in range(min(used + 1, symbols)):
            yield from grow([*prefix, symbol], max(used, symbol + 1))

    yield from grow([], 0)


def gaussian_mutual_information(correlation: float) -> float:
    r"""Mutual information of two jointly Gaussian scalars, :math:`-\frac12\log(1-\rho^2)`, in nats.

    Raises:
        ValueError: unless ``correlation`` is in (-1, 1).
    """
    rho = float(check_number(correlation, "correlation", low=-1, high=1, low_open=True, high_open=True))
    return float(-0.5 * np.log1p(-(rho**2)))
