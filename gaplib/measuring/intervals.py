"""Intervals of the card's numbers: how far other items of the same kind would move them.

Metrics made of sums over the rows have a delete-a-block jackknife (:func:`gaplib.stats.jackknife`), of which all blocks
come out of one pass. Shares of right answers have Wilson's interval, with as many trials as there are independent
items. The rest (kernel means, ranks, neighbours) has none: a block left out moves them by its size as by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats
import torch

from gaplib.geometry import GapReport, distance
from gaplib.geometry.inputs import ROWS_AT_A_TIME, Embeddings
from gaplib.geometry.report import SEPARABILITY_PAIRS, queries_of
from gaplib.geometry.separability import HELD_OUT
from gaplib.stats import Estimate

BLOCKS = 20
_LEVEL = 0.95


def without_blocks(data: Embeddings, seed: int) -> dict[str, np.ndarray]:
    """What the metrics that are made of sums read without each of ``BLOCKS`` random blocks of groups: (blocks,) by key.

    Empty where there are fewer groups than twice as many as blocks.
    """
    codes = (data.codes, data.codes if data.paired else np.arange(len(data.y)))
    if min(int(code.max()) + 1 for code in codes) < 2 * BLOCKS:
        return {}
    block_x, block_y = (_blocks_of(code, seed) for code in codes)
    sums_x, sums_y = _sums(data.x, block_x), _sums(data.y, block_y)
    left_x, left_y = sums_x.sum(dim=0) - sums_x, sums_y.sum(dim=0) - sums_y
    n_x, n_y = (torch.from_numpy(len(block) - np.bincount(block)).double() for block in (block_x, block_y))
    gap = left_x / n_x[:, None] - left_y / n_y[:, None]
    # Of unit rows, the mean (1 - cos) / 2 over distinct ones.
    within_x, within_y = (
        (n - left.square().sum(dim=1) / n) / (2 * (n - 1)) for n, left in ((n_x, left_x), (n_y, left_y))
    )
    squares, k = gap.square(), min(distance.TOP, gap.shape[1])
    found = {
        "centroid_distance": gap.norm(dim=1),
        "top5_coordinate_share": squares.topk(k, dim=1).values.sum(dim=1) / squares.sum(dim=1),
        "mean_cosine_image": 1 - 2 * within_x,
        "mean_cosine_text": 1 - 2 * within_y,
    }
    if data.paired:
        total = torch.from_numpy(np.bincount(block_x, data.squared_distances.cpu().numpy()))
        alignment = (total.sum() - total) / n_x
        found |= {
            "alignment": alignment,
            "true_pair_cosine": 1 - alignment / 2,
            "relative_modality_gap": distance.ratio(alignment / 4, (within_x + within_y) / 2),
        }
    return {key: values.numpy() for key, values in found.items()}


def _blocks_of(codes: np.ndarray, seed: int) -> np.ndarray:
    """The block of every row: those of one group share one, and the groups are cut as :func:`gaplib.stats.jackknife`
    cuts rows."""
    number = np.empty(int(codes.max()) + 1, dtype=np.int64)
    for block, groups in enumerate(np.array_split(np.random.default_rng(seed).permutation(len(number)), BLOCKS)):
        number[groups] = block
    return number[codes]


def _sums(z: Any, block: np.ndarray) -> torch.Tensor:
    sums, start = torch.zeros(BLOCKS, z.shape[1], dtype=torch.float64), 0
    for rows in z.split(ROWS_AT_A_TIME):
        sums.index_add_(0, torch.from_numpy(block[start : start + len(rows)]), rows.cpu())
        start += len(rows)
    return sums


def from_blocks(value: float, left_out: np.ndarray, n: int) -> Estimate:
    """``value`` with the jackknife's t interval."""
    g = len(left_out)
    se = float(np.sqrt((g - 1) / g * ((left_out - left_out.mean()) ** 2).sum()))
    half = float(scipy.stats.t.ppf(0.5 + _LEVEL / 2, g - 1)) * se
    method = f"jackknife ({g} blocks of {n} items)"
    return Estimate(value, value - half, value + half, n, method, se, g - 1, tuple(left_out.tolist()))


def _share(value: float, trials: int) -> Estimate:
    low, high = scipy.stats.binomtest(round(value * trials), trials).proportion_ci(_LEVEL, "wilson")
    low, high = min(low, value), max(high, value)
    return Estimate(value, low, high, trials, f"Wilson ({trials} items)", (high - low) / 3.92)


def intervals(report: GapReport, left_out: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    """By key, the values of ``report`` that have an interval."""
    items = report.n_groups or min(report.n, report.n_text)
    found = {
        key: from_blocks(value, left_out[key], items)
        for key, value in report.values.items()
        if key in left_out and value is not None
    }
    tested = round(HELD_OUT * min(items, SEPARABILITY_PAIRS))
    asked = min(items, queries_of((range(report.n), range(report.n_text))))
    for key, trials in (("linear_separability", tested), ("image_to_text_at_1", asked), ("text_to_image_at_1", asked)):
        value = report.values.get(key)
        if value is not None and trials:
            found[key] = _share(value, trials)
    return found


def difference(one: Estimate, other: Estimate, same_items: bool) -> Estimate:
    """``other`` minus ``one`` with an interval: of the same items, left out together, where both have them."""
    value = other.value - one.value
    if same_items and one.samples and len(one.samples) == len(other.samples):
        return from_blocks(value, np.subtract(other.samples, one.samples), other.n)
    se = float(np.hypot(one.se, other.se))
    half = float(scipy.stats.norm.ppf(0.5 + _LEVEL / 2)) * se
    return Estimate(value, value - half, value + half, min(one.n, other.n), "independent samples", se)
