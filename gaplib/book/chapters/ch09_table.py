"""Chapter 09, what the table says: paired tests against CLIP, what scores follow, which method for which need.

Everything here is a function of the leaderboard's table (``gaplib.book.chapters.ch09_rows.rows``): a row a method
and seed, a column a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from gaplib._validate import check_choice
from gaplib.book.chapters.ch09_rows import FIXED, METHODS
from gaplib.glyph_tasks.controls import CONTROLS
from gaplib.stats import Estimate, holm, jackknife, over_seeds, p_above, p_below, paired_difference

#: metric of the suite -> what a figure calls it; in all of them more is better
TASKS: dict[str, str] = {
    "recall.mean@1": "retrieval",
    "zero_shot.mean": "zero-shot",
    "probe.mean": "linear probe",
    "few_shot.mean": "few-shot",
    "arithmetic.exact": "arithmetic",
    "clustering.v_measure": "clustering",
    "mixed.mean": "mixed search",
    "fine_grained.both": "fine-grained",
    "noise.mean": "under noise",
}
GAP, UNIFORMITY, LEFT = "gap.centroid_distance", "uniformity.mean", "gap.distribution"
#: metric -> its part of a result's name
KEYS: dict[str, str] = {metric: label.replace(" ", "_") for metric, label in TASKS.items()}
#: rows that correlations are taken over: what is trained, each with its own objective or temperature
POINTS = (*METHODS, *FIXED)


def values(table: pd.DataFrame, name: str, metric: str) -> np.ndarray:
    """One metric of one row's name, a value a seed, in the order of the seeds. ``ValueError`` for what is not there."""
    check_choice(metric, "metric", table.columns)
    found = table[table.method == name].sort_values("seed")[metric].to_numpy(dtype=float)
    if not len(found) or not np.isfinite(found).all():
        raise ValueError(f"name: expected a row that has {metric}, got {name!r}")
    return found


def estimate(table: pd.DataFrame, name: str, metric: str) -> Estimate:
    """Mean over the seeds with its interval."""
    return over_seeds(values(table, name, metric))


def gain(table: pd.DataFrame, name: str, metric: str, over: str = "clip") -> Estimate:
    """One row's metric less another's, paired by seed."""
    return paired_difference(values(table, name, metric), values(table, over, metric))


def board(table: pd.DataFrame, groups: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """The leaderboard as a reader sees it, a row a name of ``groups`` (group -> names), all entries text.

    Columns: "" (the group), method, tau (mean over seeds; none for controls), gap and the nine ``TASKS``, in points of
    a hundred with the half width of the interval; empty where a row has no such score.
    """

    def points(name: str, metric: str) -> str:
        try:
            e = estimate(table, name, metric)
        except ValueError:
            return ""
        return f"{100 * e.value:.1f} ± {100 * (e.high - e.value):.1f}"

    rows = []
    for group, names in groups.items():
        for name in names:
            tau = "" if name in CONTROLS else f"{table[table.method == name].tau.mean():.3f}"
            scores = {label: points(name, metric) for metric, label in {GAP: "gap", **TASKS}.items()}
            rows.append({"": group, "method": name, "tau": tau, **scores})
    return pd.DataFrame(rows)


def mean_score(table: pd.DataFrame) -> pd.Series:
    """Mean of the nine ``TASKS``, a value a row of the table."""
    return table[list(TASKS)].mean(axis=1, skipna=False)


def against_clip(
    table: pd.DataFrame, names: Sequence[str], metrics: Sequence[str] = tuple(TASKS), over: str = "clip"
) -> pd.DataFrame:
    """Paired differences against ``over`` on every task, with p values corrected (Holm) over all of them at once.

    Columns: method, metric, gain (an ``Estimate``), value, low, high, p (two-sided t test), adjusted, and sign: 1 or -1
    where the adjusted p value is below 0.05, else 0.
    """
    rows = []
    for name in names:
        for metric in metrics:
            e = gain(table, name, metric, over)
            p = min(1.0, 2 * min(p_above(e, 0.0), p_below(e, 0.0)))
            rows.append(
                {"method": name, "metric": metric, "gain": e, "value": e.value, "low": e.low, "high": e.high, "p": p}
            )
    found = pd.DataFrame(rows)
    found["adjusted"] = holm(found.p.tolist())
    found["sign"] = np.where(found.adjusted < 0.05, np.sign(found.value), 0.0).astype(int)
    return found


# --- what scores follow ----------------------------------------------------------------------------------------------


def partial_rank_correlation(a: Any, b: Any, given: Any = None) -> float:
    """Spearman's correlation of ``a`` and ``b``; with ``given``, of what its ranks leave unexplained of theirs.

    0 where nothing is left to correlate. ``ValueError`` for unequal lengths or fewer than 4 values.
    """
    ranks = [rankdata(np.asarray(z, dtype=float)) for z in ([a, b] if given is None else [a, b, given])]
    if len({len(z) for z in ranks}) > 1 or len(ranks[0]) < 4:
        raise ValueError(f"a, b: expected equal lengths of at least 4, got {[len(z) for z in ranks]}")
    a, b = (z - z.mean() for z in ranks[:2])
    if given is not None:
        c = ranks[2] - ranks[2].mean()
        a, b = (z - c * (z @ c) / (c @ c) if c @ c else z for z in (a, b))
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / scale) if scale > 1e-9 * len(a) else 0.0


def method_means(table: pd.DataFrame, names: Sequence[str] = POINTS) -> pd.DataFrame:
    """Means over seeds of every metric and of log tau, a row a name, in the order asked, and the mean of the tasks."""
    chosen = table[table.method.isin(names)]
    chosen = chosen.assign(log_tau=np.log(chosen.tau), score=mean_score(chosen))
    return chosen.groupby("method").mean(numeric_only=True).loc[list(names)]


def correlation(means: pd.DataFrame, task: str, driver: str, given: str | None = "log_tau") -> Estimate:
    """Rank correlation of a task with the gap or the uniformity over methods, with its interval by leaving out methods.

    Uniformity is a loss: what is spread more evenly has less of it.
    """
    columns = [means[name].to_numpy() for name in ([task, driver] + ([given] if given else []))]
    return _over_methods(partial_rank_correlation, *columns)


def strength_difference(means: pd.DataFrame, task: str, named: str, other: str) -> Estimate:
    """Size of the task's correlation with ``named`` less that with ``other``, the temperature partialled out."""

    def statistic(task: np.ndarray, a: np.ndarray, b: np.ndarray, tau: np.ndarray) -> float:
        return abs(partial_rank_correlation(task, a, tau)) - abs(partial_rank_correlation(task, b, tau))

    return _over_methods(statistic, *(means[name].to_numpy() for name in (task, named, other, "log_tau")))


def r2(x: Any, y: Any) -> float:
    """Share of the variance of ``y`` that a straight line in ``x`` explains, over all entries."""
    return float(np.corrcoef(np.ravel(x), np.ravel(y))[0, 1] ** 2)


def r2_difference(table: pd.DataFrame, names: Sequence[str] = POINTS) -> dict[str, Estimate]:
    """R² of the mean score over all runs on the distribution gap and on the centroid gap, and the difference.

    Intervals by leaving out methods, each with all its seeds.
    """
    score = table.assign(score=mean_score(table))
    left, gap, y = (np.stack([values(score, name, metric) for name in names]) for metric in (LEFT, GAP, "score"))
    return {
        "distribution": _over_methods(r2, left, y),
        "centroid": _over_methods(r2, gap, y),
        "difference": _over_methods(lambda a, b, y: r2(a, y) - r2(b, y), left, gap, y),
    }


def _over_methods(statistic: Callable[..., float], *arrays: np.ndarray) -> Estimate:
    return jackknife(statistic, *arrays, blocks=len(arrays[0]))


# --- which method for which need -------------------------------------------------------------------------------------


def winners(
    table: pd.DataFrame, names: Sequence[str], metrics: Sequence[str] = tuple(TASKS), over: str = "clip"
) -> pd.DataFrame:
    """For every task the best row by its mean, its honest gain on CLIP, and how many rows cannot be told from it.

    The best of many looks better than it is. The gain is therefore cross-fitted: for each seed the best is chosen on
    the other seeds, and its gain on CLIP (on ``over``) is read on the seed left out. Columns: metric, best, gain (an
    ``Estimate``), chosen (how often the best was the one chosen), tied (names whose paired difference from the best has
    an adjusted p value of 0.05 or more).
    """
    names = list(names)
    rows = []
    for metric in metrics:
        scores = np.stack([values(table, name, metric) for name in names])
        base = values(table, over, metric)
        best = int(scores.mean(axis=1).argmax())
        gains, picked = [], []
        for seed in range(scores.shape[1]):
            others = np.delete(scores, seed, axis=1).mean(axis=1)
            picked.append(int(others.argmax()))
            gains.append(scores[picked[-1], seed] - base[seed])
        rest = [name for i, name in enumerate(names) if i != best]
        apart = [paired_difference(scores[best], scores[names.index(name)]) for name in rest]
        adjusted = holm([p_above(e, 0.0) for e in apart])
        rows.append(
            {
                "metric": metric,
                "best": names[best],
                "gain": over_seeds(gains),
                "chosen": float(np.mean([one == best for one in picked])),
                "tied": [name for name, p in zip(rest, adjusted, strict=True) if p >= 0.05],
            }
        )
    return pd.DataFrame(rows)
