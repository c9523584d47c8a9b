"""The measurements of chapter 01: what the claims L1, L2, S2, C3 and E1 ask of paired embeddings.

Embeddings are (n, d) with unit rows, NumPy or torch; row i of ``x`` and of ``y`` is a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from gaplib import geometry
from gaplib._validate import check_integer, check_matrix, check_number, check_pair
from gaplib.geometry.inputs import read_directions, read_two
from gaplib.geometry.metrics import METRICS as GEOMETRY
from gaplib.geometry.metrics import Metric
from gaplib.stats import Estimate, Floor, permutation_floor, proportion, subsample

TOP = 5  # coordinates that claim S2 calls a few
GROUP = 100  # pairs a group, as Zhang et al. 2024 take them


# --- L1 and L2: is there a gap? --------------------------------------------------------------------------------------


def shared_rows(x: Any, y: Any) -> np.ndarray:
    """Group id of each pair, int64 (n,): pairs that share an identical row of ``x`` or of ``y`` are one group.

    A copy on the other side of a split would be scored on what was fitted (ConVIRT's reports repeat).
    """
    x, y = check_matrix(x, "x"), check_matrix(y, "y")
    check_pair(x, y)
    n = len(x)
    ids = [np.unique(z.detach().cpu().numpy(), axis=0, return_inverse=True)[1].ravel() for z in (x, y)]
    first = coo_array((np.ones(n), (ids[0], ids[1] + ids[0].max() + 1)), shape=(ids[0].max() + ids[1].max() + 2,) * 2)
    return connected_components(first, directed=False)[1][ids[0]].astype(np.int64)


def shifted(estimate: Estimate, by: float) -> Estimate:
    """The estimate less a constant that is known far better than it, such as a floor's mean."""
    samples = tuple(s - by for s in estimate.samples)
    return replace(estimate, value=estimate.value - by, low=estimate.low - by, high=estimate.high - by, samples=samples)


def distance_above_floor(x: Any, y: Any, repeats: int = 200, seed: int = 0) -> tuple[Estimate, Floor, Estimate]:
    """Centroid distance with its subsampling interval, its permutation floor, and the distance less that floor."""
    distance = subsample(geometry.centroid_distance, x, y, repeats=repeats, seed=seed)
    floor = permutation_floor(geometry.centroid_distance, x, y, repeats=repeats, seed=seed)
    return distance, floor, shifted(distance, floor.mean)


def fold_separability(x: Any, y: Any, groups: Any = None, folds: int = 5, seed: int = 0) -> Estimate:
    """Accuracy of a logistic regression (C = 1) for the modality, every pair scored once by a fit that never saw it.

    One 80/20 split (``geometry.linear_separability``) scores a fifth of the pairs; five folds score all of them, which
    a sample of 100 pairs needs. The interval is the binomial one (Clopper-Pearson) with *pairs* as trials, because the
    two embeddings of a pair are not independent; errors are rounded up to whole pairs. groups: as from ``shared_rows``.

    Raises ``ValueError`` for matrices that do not fit or fewer groups than ``folds``.
    """
    x, y = check_matrix(x, "x", min_rows=2).numpy(), check_matrix(y, "y", min_rows=2).numpy()
    groups = shared_rows(x, y) if groups is None else np.asarray(groups)
    folds = check_integer(folds, "folds", low=2)
    if groups.shape != (len(x),) or len(np.unique(groups)) < folds:
        raise ValueError(
            f"groups: expected {len(x)} ids in at least {folds} groups, got {len(np.unique(groups))} groups"
        )
    split = GroupKFold(folds, shuffle=True, random_state=seed)
    model, label = LogisticRegression(max_iter=1000), np.repeat([0, 1], len(x))
    guess = cross_val_predict(model, np.concatenate([x, y]), label, groups=np.tile(groups, 2), cv=split)
    return proportion(int((guess == label).sum()) // 2, len(x))


def relative_gap(x: Any, y: Any, repeats: int = 200, seed: int = 0) -> tuple[Estimate, Floor]:
    """Relative modality gap with its subsampling interval and its permutation floor."""
    statistic = geometry.relative_modality_gap
    return subsample(statistic, x, y, repeats=repeats, seed=seed), permutation_floor(statistic, x, y, repeats, seed)


def trained_less_untrained(
    trained: tuple[Any, Any], untrained: tuple[Any, Any], repeats: int = 200, seed: int = 0
) -> Estimate:
    """Centroid distance of a trained model less its untrained twin's, on the same subsampled pairs; each is (x, y)."""

    def difference(x, y, x0, y0):
        return geometry.centroid_distance(x, y) - geometry.centroid_distance(x0, y0)

    return subsample(difference, *trained, *untrained, repeats=repeats, seed=seed)


# --- S2: do a few coordinates carry it? ------------------------------------------------------------------------------


def rotation_floor(d: int, k: int = TOP, repeats: int = 4000, seed: int = 0) -> Floor:
    """Share of the squared length in the k largest coordinates of a random direction in d dimensions.

    This is the gap's share after a random rotation of the space, which turns the gap vector into a random direction.
    """
    check_integer(k, "k", low=1, high=check_integer(d, "d", low=1))
    squares = np.random.default_rng(seed).standard_normal((repeats, d)) ** 2
    shares = np.sort(squares, axis=1)[:, -k:].sum(axis=1) / squares.sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Floor(float(shares.mean()), float(low), float(high), repeats)


def coordinate_shares(gap: Any) -> np.ndarray:
    """Cumulated shares (d,) of the squared length of a vector, largest coordinate first; ends at 1."""
    squares = np.sort(np.asarray(gap, dtype=np.float64) ** 2)[::-1]
    return squares.cumsum() / check_number(float(squares.sum()), "squared length of gap", low=0, low_open=True)


# --- C3: is it one constant vector, at right angles to the rest? -----------------------------------------------------


def group_gaps(x: torch.Tensor, y: torch.Tensor, labels: Any) -> np.ndarray:
    """Gap vectors (groups, d) of the pairs of each label; negative labels are left out."""
    difference, labels = (x - y).numpy(), np.asarray(labels)
    return np.stack([difference[labels == g].mean(axis=0) for g in np.unique(labels[labels >= 0])])


def direction_cosines(gaps: np.ndarray) -> np.ndarray:
    """Cosines between the gap vectors (groups, d) of any two groups, (groups * (groups - 1) / 2,), in [-1, 1]."""
    if len(gaps) < 2:
        raise ValueError(f"gaps: expected at least two groups to compare, got {len(gaps)}")
    unit = gaps / np.linalg.norm(gaps, axis=1)[:, None]
    return (unit @ unit.T)[np.triu_indices(len(gaps), 1)]


def agreement(gaps: np.ndarray) -> tuple[float, float]:
    """Of gap vectors (groups, d): mean cosine over pairs of groups, and standard deviation over mean of the lengths."""
    cosines, lengths = direction_cosines(gaps), np.linalg.norm(gaps, axis=1)
    return float(cosines.mean()), float(lengths.std(ddof=1) / lengths.mean())


def random_groups(x: Any, y: Any, size: int = GROUP, partitions: int = 40, seed: int = 0) -> tuple[float, float]:
    """``agreement`` of disjoint random groups of ``size`` pairs, mean over random partitions of the pairs."""
    x, y = read_two(x, y)
    groups = len(x) // check_integer(size, "size", low=2)
    if groups < 2:
        raise ValueError(f"size: expected at most half of the {len(x)} pairs, got {size}")
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), size)
    found = [agreement(group_gaps(x[o], y[o], labels)) for o in _orders(rng, len(x), partitions, len(labels))]
    return tuple(np.mean(found, axis=0).tolist())


def _orders(rng: np.random.Generator, n: int, repeats: int, length: int) -> list[torch.Tensor]:
    return [torch.from_numpy(rng.permutation(n)[:length]) for _ in range(repeats)]


def lean(x: Any, y: Any, splits: int = 20, seed: int = 0) -> tuple[float, float]:
    """How much each modality varies along the gap, (image, text): sqrt(g' S g / trace S), in [0, 1].

    S is the modality's covariance, so the square is the share of its variance along the gap direction g: the mean
    squared cosine of differences x_i - x_j with g, weighted by their squared length. 0 is a gap at right angles to all
    that varies, a random direction gives 1/sqrt(d) on average over directions. (The mean *signed* cosine over ordered
    pairs says nothing: i, j and j, i cancel.) g comes from one half of the pairs, S from the other, mean over random
    halvings, so that a modality's own sampling noise is not in both. Needs four pairs; ``ValueError`` otherwise.
    """
    x, y = read_two(x, y, min_rows=4)
    half, rng, shares = len(x) // 2, np.random.default_rng(seed), []
    for order in _orders(rng, len(x), splits, len(x)):
        g = geometry.gap_direction(x[order[:half]], y[order[:half]])
        parts = []
        for z in (x, y):
            centred = z[order[half:]] - z[order[half:]].mean(dim=0)
            parts.append(float((centred @ g).square().sum() / centred.square().sum()))
        shares.append(parts)
    image, text = np.sqrt(np.mean(shares, axis=0))
    return float(image), float(text)


def lean_ratios(x: Any, y: Any, splits: int = 20, seed: int = 0) -> tuple[float, float]:
    """``lean`` in units of what a random direction gives, 1/sqrt(d): below 1 the data avoid the gap direction."""
    scale = np.sqrt(x.shape[1])
    image, text = lean(x, y, splits, seed)
    return float(image * scale), float(text * scale)


def content_labels(x: Any, y: Any, clusters: int = 5, seed: int = 0) -> np.ndarray:
    """Cluster (n,) of each pair by what its two embeddings share: k-means on the sum of both, centred and scaled."""
    x, y = read_two(x, y, min_rows=2)
    shared = sum((z - z.mean(dim=0)) / (z - z.mean(dim=0)).norm() for z in (x, y))
    return KMeans(clusters, n_init=5, random_state=seed).fit_predict(shared.numpy())


def sign_flip_floor(x: torch.Tensor, y: torch.Tensor, labels: Any, repeats: int = 200, seed: int = 0) -> Floor:
    """Mean direction cosine of the labels' gaps if the gap were one constant vector plus noise without content.

    Pair differences are x_i - y_i = g + e_i; the null turns the sign of each e_i at random, which keeps their sizes and
    the labels and unties what e_i says from what the pair is about.
    """
    difference, labels = (x - y).numpy(), np.asarray(labels)
    mean = difference.mean(axis=0)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        signs = rng.choice([-1.0, 1.0], size=(len(difference), 1))
        flipped = torch.from_numpy(mean + signs * (difference - mean))
        found.append(agreement(group_gaps(flipped, torch.zeros_like(flipped), labels))[0])
    low, high = np.quantile(found, [0.025, 0.975])
    return Floor(float(np.mean(found)), float(low), float(high), repeats, tuple(found))


# --- E1: conformity --------------------------------------------------------------------------------------------------


def conformity(x: Any) -> torch.Tensor:
    """Mean cosine (n,) of each row with the other rows: (<v, sum of all> - 1) / (n - 1) for unit rows, O(n d)."""
    x = read_directions(x, "x", min_rows=2)
    return (x @ x.sum(dim=0) - 1) / (len(x) - 1)


def conformity_correlation(x: Any) -> float:
    """Pearson's r of conformity with the cosine to the mean of the *same* rows: 1 by algebra, for any data at all."""
    x = read_directions(x, "x", min_rows=3)
    return _pearson(conformity(x), x @ x.mean(dim=0) / x.mean(dim=0).norm())


def random_halves(n: int, splits: int = 20, seed: int = 0) -> torch.Tensor:
    """Random halvings of n rows, bool (n, splits): which rows are in the first half."""
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    first = np.arange(check_integer(n, "n", low=2)) < n // 2
    return torch.from_numpy(np.stack([rng.permutation(first) for _ in range(splits)], axis=1))


def split_conformity_correlation(x: Any, halves: torch.Tensor | None = None) -> float:
    """The same with a mean of rows that the conformity never saw: conformity in one half, mean of the other half.

    Mean over halvings (``random_halves``, bool (n, splits); rows and halves can be subsampled together). Near 0 where
    rows do not differ in how typical they are (uniform on the sphere).
    """
    x = read_directions(x, "x", min_rows=6)
    halves = random_halves(len(x)) if halves is None else halves
    found = []
    for first in halves.T:
        one, mean = x[first], x[~first].mean(dim=0)
        found.append(_pearson(conformity(one), one @ mean / mean.norm()))
    return float(np.mean(found))


def _pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / (a.norm() * b.norm()))


# --- the metrics that the toy turns ----------------------------------------------------------------------------------


def _panel(metric: Metric) -> tuple[str, Callable[[Any, Any], Any]]:
    if metric.one_modality:
        return f"{metric.label} (images)", lambda x, y: metric.function(x)
    return metric.label, metric.function


#: The panels of the figure, in its order.
DRAWN = (
    *("centroid_distance", "linear_separability", "relative_modality_gap", "true_pair_cosine", "alignment"),
    *("uniformity", "cross_uniformity", "wasserstein_uniformity", "mean_cosine", "effective_rank"),
)
METRICS: Mapping[str, Callable[[Any, Any], Any]] = dict(_panel(GEOMETRY[name]) for name in DRAWN)


# --- pictures --------------------------------------------------------------------------------------------------------


def plane(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Both modalities on the first two principal components of the pooled cloud: (n, 2), (n, 2), share of the variance.

    The signs are set so that the centroid of ``x`` lies left and the largest entry of each component is positive.
    """
    x, y = read_two(x, y, min_rows=2)
    pooled = torch.cat([x, y])
    _, sizes, axes = torch.linalg.svd(pooled - pooled.mean(dim=0), full_matrices=False)
    axes = axes[:2] * torch.sign(axes[:2].gather(1, axes[:2].abs().argmax(dim=1, keepdim=True)))
    one, other = ((z - pooled.mean(dim=0)) @ axes.T for z in (x, y))
    if one[:, 0].mean() > other[:, 0].mean():
        one[:, 0], other[:, 0] = -one[:, 0], -other[:, 0]
    return one.numpy(), other.numpy(), float(sizes[:2].square().sum() / sizes.square().sum())


def stranger_share(x: Any, y: Any) -> float:
    """How often a stranger is more similar than the partner, over all (i, j != i), both directions; 1/2 is chance.

    Ties count half. It sees pairs that match weakly, where recall at 1 is too strict to tell them from chance.
    """
    x, y = read_two(x, y, min_rows=2)
    cosine = x @ y.T
    own, n = cosine.diagonal(), len(x)
    above = [(cosine > side).sum() + ((cosine == side).sum() - n) / 2 for side in (own[:, None], own[None, :])]
    return float(sum(above)) / (2 * n * (n - 1))
