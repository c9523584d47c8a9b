"""What the gap metrics read without a gap: the report card's floors, from rows that are read already."""

from __future__ import annotations

import numpy as np
import torch

from gaplib.geometry import distance
from gaplib.geometry.inputs import Embeddings
from gaplib.geometry.separability import separability_of
from gaplib.stats import Floor, permutation_floor

REPEATS = 200


class Exchanges:
    """Which pairs are exchanged in which repeat, as :func:`gaplib.stats.permutation_floor` draws it.

    The pairs of a group are exchanged together. A bit a repeat and group is kept: 25 bytes a pair at most.
    """

    def __init__(self, data: Embeddings, seed: int) -> None:
        rng, self.codes = np.random.default_rng(seed), data.codes
        drawn = np.empty(int(self.codes.max()) + 1)
        self.bits = np.empty((REPEATS, -(-len(drawn) // 8)), dtype=np.uint8)
        for bits in self.bits:
            bits[:] = np.packbits(rng.random(out=drawn) < 0.5)

    def signs(self, rows: slice) -> torch.Tensor:
        """(REPEATS, rows) of -1 where a pair is exchanged and 1 elsewhere, float64."""
        byte, bit = np.divmod(self.codes[rows], 8)
        exchanged = (self.bits[:, byte] >> (7 - bit).astype(np.uint8)) & 1
        return torch.from_numpy(1 - 2.0 * exchanged)


def exchanged_gaps(data: Embeddings, exchanges: Exchanges) -> torch.Tensor:
    """(REPEATS,) lengths of the gap: an exchange turns the sign of a pair's difference, and the gap is their mean."""
    sums = torch.zeros((), dtype=torch.float64, device=data.x.device)
    for rows, difference in data.differences():
        sums = sums + exchanges.signs(rows).to(difference.device) @ difference
    return (sums / len(data.x)).norm(dim=1)


def centroid_floor(data: Embeddings, exchanges: Exchanges) -> Floor:
    return summary(exchanged_gaps(data, exchanges))


def relative_floor(directions: Embeddings, exchanges: Exchanges) -> Floor:
    """Floor of the relative gap, all repeats in one product.

    An exchange keeps the true pairs and the pooled cloud, so that what the gap loses goes to the spread inside the
    modalities: (1/n) sum |x_i - mean x|² + (1/n) sum |y_i - mean y|² + |gap|² / 2 stays.
    """
    n = len(directions.x)
    between, within_x, within_y = distance.dissimilarities_of(directions)
    lost = distance.centroid_distance_of(directions).square() - exchanged_gaps(directions, exchanges).square()
    within = (within_x + within_y) / 2 + lost * n / (8 * (n - 1))
    return summary(distance.ratio(between, within.clamp(min=0)))


def separability_floor(data: Embeddings, seed: int) -> Floor:
    """Each repeat is a fit of its own; more rows make it slower and its floor narrower."""
    repeats = int(np.clip(20_000 // len(data.x), 5, 20))

    def statistic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return separability_of(Embeddings(x, y, groups=data.groups), seed)

    return permutation_floor(statistic, data.x, data.y, repeats, seed, data.groups)


def summary(samples: torch.Tensor) -> Floor:
    values = samples.cpu().numpy()
    low, high = np.quantile(values, [0.025, 0.975])
    return Floor(float(values.mean()), float(low), float(high), len(values), tuple(values.tolist()))
