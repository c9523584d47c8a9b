"""Intervals and tests: estimates over seeds, over subsamples of one sample, and the corrections for many tests.

Three kinds of uncertainty, three tools:

* over training runs: :func:`over_seeds` and :func:`paired_difference` (Student's t);
* of a metric of one sample of embeddings: :func:`subsample` and :func:`jackknife`. Never a bootstrap with replacement:
  it puts copies of one pair on both sides of a train/test split, so that a linear probe "separates" modalities that do
  not differ at all, and it pulls distances towards those of the copies;
* of a frequency: :func:`proportion` (Clopper-Pearson).

:func:`exact` marks a value without sampling error. Every estimate knows its standard error and degrees of freedom, from
which :func:`p_above`, :func:`p_below` and :func:`p_within` (two one-sided tests) follow; :func:`holm` corrects
families.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats as _scipy

from gaplib._validate import check_integer, check_labels, check_number

__all__ = [
    "FIRST_SEED",
    "Estimate",
    "Floor",
    "exact",
    "holm",
    "jackknife",
    "over_seeds",
    "p_above",
    "p_below",
    "p_within",
    "paired_difference",
    "permutation_floor",
    "proportion",
    "relative_cut",
    "subsample",
]

#: Seeds below it are for tuning. Quick runs repeat the first of the confirming seeds, so the two must agree.
FIRST_SEED = 100

EXACT = "exact"
PROPORTION = "proportion"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. ``float(estimate)`` is the value.

    value, low, high: finite, ``low <= value <= high``. n: how many seeds, pairs or trials it rests on. method: how the
    interval was made. se: standard error (0 for an exact value). df: degrees of freedom of the t distribution, ``inf``
    for the normal one. samples: the values behind it, one a seed or a subsample.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    se: float
    df: float = math.inf
    samples: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for field in ("value", "low", "high"):
            check_number(getattr(self, field), field)
        check_number(self.se, "se", low=0)
        check_integer(self.n, "n", low=1)
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low, high: expected low <= value <= high, got {self.low} <= {self.value} <= {self.high}")
        if not self.df > 0:
            raise ValueError(f"df: expected a positive number, got {self.df}")
        # Plain numbers, whatever NumPy type came: they go to JSON files and into prose.
        for field in ("value", "low", "high", "se", "df"):
            object.__setattr__(self, field, float(getattr(self, field)))
        object.__setattr__(self, "n", int(self.n))
        object.__setattr__(self, "samples", tuple(float(s) for s in self.samples))

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, spec: str) -> str:
        """``f"{estimate:.2f}"`` -> ``0.85 [0.83, 0.87]``; an exact value prints without brackets.

        Without a format the decimals follow from the interval: the first digit of its half width is shown.
        """
        spec = spec or f".{self._decimals()}f"
        if self.method == EXACT:
            return format(self.value, spec)
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def _decimals(self) -> int:
        half = (self.high - self.low) / 2 or abs(self.value) / 100 or 1.0  # an exact value: three significant digits
        return max(0, 1 - math.floor(math.log10(half))) if half >= 1 else min(8, max(2, math.ceil(-math.log10(half))))


@dataclass(frozen=True)
class Floor:
    """What a gap metric reads where there is no gap: mean and central 95 % over random exchanges of the modalities."""

    mean: float
    low: float
    high: float
    repeats: int
    samples: tuple[float, ...] = ()

    def __float__(self) -> float:
        return self.mean


def _numbers(samples: Any, name: str, least: int) -> np.ndarray:
    """``samples`` as a 1-d float64 array of finite numbers, at least ``least`` of them."""
    try:
        array = np.asarray([float(s) for s in samples], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a sequence of numbers, got {samples!r:.80}") from error
    if len(array) < least:
        raise ValueError(f"{name}: expected at least {least} values for an interval, got {len(array)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got {array[~np.isfinite(array)][0]} in {name}")
    return array


def exact(value: Any, n: int = 1) -> Estimate:
    """A value that has no sampling error: low = high = value, standard error 0."""
    number = float(check_number(value, "value"))
    return Estimate(number, number, number, n, EXACT, 0.0)


def over_seeds(samples: Sequence[Any], level: float = 0.95) -> Estimate:
    """Mean over seeds with Student's t interval, ``mean +- t(df = n - 1) s / sqrt(n)``.

    Where all samples are equal the interval has no width (standard error 0). One seed has no interval: ``ValueError``.
    """
    x = _numbers(samples, "samples", 2)
    check_number(level, "level", low=0, high=1, low_open=True, high_open=True)
    if np.ptp(x) == 0:  # the mean of equal floats can differ from them in the last bit
        mean, se = float(x[0]), 0.0
    else:
        mean, se = float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))
    half = float(_scipy.t.ppf(0.5 + level / 2, len(x) - 1)) * se
    return Estimate(mean, mean - half, mean + half, len(x), "t over seeds", se, len(x) - 1, tuple(map(float, x)))


def paired_difference(a: Sequence[Any], b: Sequence[Any], level: float = 0.95) -> Estimate:
    """Mean of ``a - b`` seed by seed with Student's t interval; both hold the values of the same seeds in one order."""
    x, y = _numbers(a, "a", 2), _numbers(b, "b", 2)
    if len(x) != len(y):
        raise ValueError(f"b: expected as many values as a ({len(x)} seeds), got {len(y)}")
    e = over_seeds(list(x - y), level)
    return Estimate(e.value, e.low, e.high, e.n, "paired t over seeds", e.se, e.df, e.samples)


def relative_cut(baseline: Sequence[Any], other: Sequence[Any], level: float = 0.95) -> Estimate:
    """Mean of ``(baseline - other) / baseline`` seed by seed with Student's t interval; 1 where ``other`` is 0.

    baseline, other: values of the same seeds in one order, those of ``baseline`` above 0. ``ValueError`` otherwise.

    >>> relative_cut([1.0, 2.0, 4.0], [0.5, 0.5, 3.0]).value
    0.5
    """
    base, new = _numbers(baseline, "baseline", 2), _numbers(other, "other", 2)
    if len(base) != len(new):
        raise ValueError(f"other: expected as many values as baseline ({len(base)} seeds), got {len(new)}")
    if not (base > 0).all():
        raise ValueError(f"baseline: expected values above 0, got {base.min()}")
    return replace(over_seeds((base - new) / base, level), method="paired t over seeds")


def proportion(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A frequency with its Clopper-Pearson interval (exact binomial, so 100 of 100 is [0.964, 1], not [1, 1])."""
    trials = check_integer(trials, "trials", low=1)
    successes = check_integer(successes, "successes", low=0, high=trials)
    check_number(level, "level", low=0, high=1, low_open=True, high_open=True)
    low, high = _scipy.binomtest(successes, trials).proportion_ci(level, method="exact")
    p = successes / trials
    se = math.sqrt(p * (1 - p) / trials)
    return Estimate(p, min(float(low), p), max(float(high), p), trials, PROPORTION, se)


def _rows(array: Any, name: str) -> int:
    shape = getattr(array, "shape", None)
    if not shape:
        raise ValueError(f"{name}: expected an array or tensor with rows, got {type(array).__name__}")
    return int(shape[0])


def _check_arrays(arrays: tuple, paired: bool) -> list[int]:
    if not arrays:
        raise ValueError("arrays: expected at least one array or tensor, got none")
    rows = [_rows(a, f"arrays[{i}]") for i, a in enumerate(arrays)]
    if paired and len(set(rows)) > 1:
        raise ValueError(
            f"arrays: expected equal numbers of rows (paired=True takes the same rows of each), got {rows}"
        )
    return rows


def _evaluate(statistic: Callable, *arrays: Any) -> float:
    value = float(statistic(*arrays))
    if not math.isfinite(value):
        raise ValueError(f"statistic: expected a finite value, got {value}")
    return value


def _take(array: Any, index: np.ndarray) -> Any:
    import torch

    return array[torch.from_numpy(index).to(array.device)] if isinstance(array, torch.Tensor) else array[index]


def subsample(
    statistic: Callable[..., Any],
    *arrays: Any,
    fraction: float = 0.5,
    repeats: int = 200,
    seed: int = 0,
    paired: bool = True,
    level: float = 0.95,
) -> Estimate:
    """``statistic(*arrays)`` with an interval from subsamples drawn without replacement.

    A subsample of m = round(fraction n) of n rows varies, given the data, by (sigma²/m)(1 - m/n); the full sample
    varies by sigma²/n. So the standard error is the subsamples' standard deviation times sqrt((m/n) / (1 - m/n)) (1 at
    a half), and the interval is the normal one around the full sample's value (Politis, Romano and Wolf 1999,
    finite-population correction). It holds for statistics whose spread falls as 1/sqrt(n).

    arrays: each with rows along its first axis, NumPy or torch. paired: the same row indices for every array (equal
    numbers of rows needed); otherwise each array draws its own. n of the estimate is the smallest number of rows.
    Raises ValueError for a fraction outside (0, 1), fewer than 2 rows a side, or a statistic that is not finite.
    """
    rows = _check_arrays(arrays, paired)
    check_number(fraction, "fraction", low=0, high=1, low_open=True, high_open=True)
    repeats = check_integer(repeats, "repeats", low=2)
    sizes = [round(fraction * n) for n in rows]
    if min(sizes) < 2 or any(n - m < 1 for n, m in zip(rows, sizes, strict=True)):
        raise ValueError(f"arrays: expected at least 2 rows in a subsample of {fraction:g}, got {rows} rows in all")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        index = [np.sort(rng.choice(n, size=m, replace=False)) for n, m in zip(rows, sizes, strict=True)]
        values.append(_evaluate(statistic, *(_take(a, index[0 if paired else i]) for i, a in enumerate(arrays))))
    share = sizes[0] / rows[0]
    se = float(np.std(values, ddof=1)) * math.sqrt(share / (1 - share))
    value = _evaluate(statistic, *arrays)
    half = float(_scipy.norm.ppf(0.5 + level / 2)) * se
    method = f"subsample ({fraction:g} of {min(rows)} rows, {repeats} times)"
    return Estimate(value, value - half, value + half, min(rows), method, se, math.inf, tuple(values))


def jackknife(
    statistic: Callable[..., Any], *arrays: Any, blocks: int = 20, seed: int = 0, level: float = 0.95
) -> Estimate:
    """``statistic(*arrays)`` with a delete-a-block jackknife interval, for smooth statistics of paired rows.

    The rows are cut at random into g blocks; with theta_i the statistic without block i, the squared standard error is
    ((g - 1)/g) sum_i (theta_i - mean theta)² (Efron and Tibshirani 1993, section 11.5, with blocks for points); t
    interval with g - 1 degrees of freedom around the full sample's value. Needs g + 1 calls where subsample needs
    hundreds.
    Every array gives up the same rows. Raises ValueError for unequal numbers of rows or more blocks than rows.
    """
    n = _check_arrays(arrays, paired=True)[0]
    blocks = check_integer(blocks, "blocks", low=2, high=n)
    order = np.random.default_rng(seed).permutation(n)
    values = []
    for block in np.array_split(order, blocks):
        keep = np.setdiff1d(order, block)  # sorted
        values.append(_evaluate(statistic, *(_take(a, keep) for a in arrays)))
    theta = np.asarray(values)
    se = float(math.sqrt((blocks - 1) / blocks * float(((theta - theta.mean()) ** 2).sum())))
    value = _evaluate(statistic, *arrays)
    half = float(_scipy.t.ppf(0.5 + level / 2, blocks - 1)) * se
    method = f"jackknife ({blocks} blocks of {n} rows)"
    return Estimate(value, value - half, value + half, n, method, se, blocks - 1, tuple(values))


def permutation_floor(
    statistic: Callable[..., Any], x: Any, y: Any, repeats: int = 200, seed: int = 0, groups: Any = None
) -> Floor:
    """What ``statistic(x, y)`` reads without a gap: the two modalities exchanged within randomly chosen pairs.

    x, y: (n, d), row i a pair. Each pair is exchanged with probability one half, which keeps the pairs, their true-pair
    similarities and the pooled cloud, and removes only the difference between the modalities.

    groups: (n,) integers or strings; pairs of one group (captions of one image) are exchanged together. Copies are no
    independent draws: exchanged one by one they would make the floor too low and too narrow.
    """
    n = _check_arrays((x, y), paired=True)[0]
    repeats = check_integer(repeats, "repeats", low=1)
    if tuple(x.shape) != tuple(y.shape):
        raise ValueError(f"y: expected the shape of x {tuple(x.shape)}, got {tuple(y.shape)}")
    codes = np.arange(n) if groups is None else np.unique(check_labels(groups, n, "groups"), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        swap = np.flatnonzero((rng.random(codes.max() + 1) < 0.5)[codes])
        values.append(_evaluate(statistic, _exchanged(x, y, swap), _exchanged(y, x, swap)))
    low, high = np.quantile(values, [0.025, 0.975])
    return Floor(float(np.mean(values)), float(low), float(high), repeats, tuple(values))


def _exchanged(x: Any, y: Any, rows: np.ndarray) -> Any:
    """A copy of ``x`` with the given rows taken from ``y``."""
    out = x.copy() if isinstance(x, np.ndarray) else x.clone()
    out[rows if isinstance(x, np.ndarray) else rows.tolist()] = _take(y, rows)
    return out


def p_above(estimate: Estimate, threshold: float) -> float:
    """One-sided p-value of "the true value is at most ``threshold``": small where the estimate lies well above.

    t test from the estimate's standard error and degrees of freedom (normal where df is infinite), exact binomial test
    for a proportion. With a standard error of 0 it is 0 above the threshold and 1 at it or below.
    """
    threshold = float(check_number(threshold, "threshold"))
    if estimate.method == PROPORTION and 0 <= threshold <= 1:
        successes = round(estimate.value * estimate.n)
        return float(_scipy.binomtest(successes, estimate.n, threshold, alternative="greater").pvalue)
    distance = estimate.value - threshold
    if estimate.se == 0:
        return 0.0 if distance > 0 else 1.0
    return float(_scipy.t.sf(distance / estimate.se, estimate.df))


def p_below(estimate: Estimate, threshold: float) -> float:
    """One-sided p-value of "the true value is at least ``threshold``": the mirror image of :func:`p_above`."""
    threshold = float(check_number(threshold, "threshold"))
    if estimate.method == PROPORTION and 0 <= threshold <= 1:
        successes = round(estimate.value * estimate.n)
        return float(_scipy.binomtest(successes, estimate.n, threshold, alternative="less").pvalue)
    distance = threshold - estimate.value
    if estimate.se == 0:
        return 0.0 if distance > 0 else 1.0
    return float(_scipy.t.sf(distance / estimate.se, estimate.df))


def p_within(estimate: Estimate, low: float, high: float) -> float:
    """Two one-sided tests (Schuirmann 1987): small where the estimate lies well inside the margin (low, high)."""
    check_number(high, "high", low=float(check_number(low, "low")), low_open=True)
    return max(p_above(estimate, low), p_below(estimate, high))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given; an empty family stays empty."""
    p = _numbers(pvalues, "pvalues", 0)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"pvalues: expected numbers in [0, 1], got {p[(p < 0) | (p > 1)][0]}")
    # Not statsmodels': it collects garbage on every call, which takes 70 ms and more once torch is loaded.
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return adjusted.tolist()
