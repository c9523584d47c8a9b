"""Chapter 04 on glyphs: towers trained under one cause of the gap at a time, and how parallel their modalities are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gaplib import geometry
from gaplib.stats import Estimate, over_seeds, paired_difference, permutation_floor
from gaplib.theory.parallel import parallel_fit
from gaplib.training import Run, RunConfig, cached_run

STEPS = 400
SHARP = {"tau": 0.02, "learn_tau": False}  # logit scale 50: the gap has room to move in either direction
LEARNED: dict[str, Any] = {}  # gaplib's default: CLIP's own start, .07, learned

TEMPERATURES = (100, 50, 20, 10)  # logit scales of claim L9
MISMATCH = (0.0, 0.1, 0.3, 0.5)
STYLE_WORDS = (0, 1, 2, 4)
OPTIMIZERS: Mapping[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "lr": 3e-3},
    # Of .001, .01, .03 and .1 the best by retrieval on dev after 250 steps, seed 0; from .03 on the temperature runs
    # off to infinity.
    "sgd": {"optimizer": "sgd", "lr": 1e-2},
}
FIRST_STEPS = 10
STARTS = 12  # initialisations a seed for claim Y1


def config(seed: int, **changes: Any) -> RunConfig:
    """A run of this chapter: 400 steps, measured seven times."""
    return RunConfig(**{"steps": STEPS, "history_points": 8, "seed": seed, **changes})


def at_scale(scale: float, seed: int, **changes: Any) -> RunConfig:
    """A run at a fixed logit scale."""
    return config(seed, tau=1 / scale, learn_tau=False, **changes)


def train_all(configs: Sequence[RunConfig], device: str = "cpu") -> list[Run]:
    """The runs of ``configs``, from the cache where they are there."""
    return [cached_run(one, device=device) for one in configs]


def distances(runs: Sequence[Run]) -> list[float]:
    """Centroid distance on the test characters, one a run."""
    return [run.metrics["centroid_distance"] for run in runs]


def recalls(runs: Sequence[Run]) -> list[float]:
    """Recall at 1 on the test characters, one a run."""
    return [run.recall() for run in runs]


def paths(runs: Sequence[Run], quantity: str = "centroid_distance") -> np.ndarray:
    """A quantity of the runs' histories (of their dev pairs, or of the step), (runs, measured steps)."""
    return np.array([[row[quantity] for row in run.history] for run in runs])


def slope_over(doses: Sequence[float], samples: Any) -> Estimate:
    """Least-squares slope of the samples (doses, seeds) against the doses, seed by seed, and its interval."""
    return over_seeds(np.polyfit(np.asarray(doses, dtype=float), np.asarray(samples, dtype=float), 1)[0])


def first_less_last(samples: Any) -> Estimate:
    """Distance at the first dose less that at the last, paired by seed; samples (doses, seeds)."""
    samples = np.asarray(samples, dtype=float)
    return paired_difference(samples[0], samples[-1])


def excess_distance(run: Run) -> float:
    """Centroid distance on the test characters less its permutation floor."""
    x, y = run.pairs()
    floor = permutation_floor(geometry.centroid_distance, x, y, repeats=50)
    return float(geometry.centroid_distance(x, y)) - floor.mean


# --- the first ten steps ---------------------------------------------------------------------------------------------


def first_steps(optimizer: str, seed: int, device: str = "cpu") -> list[Run]:
    """Ten steps from each of the ``STARTS`` initialisations that belong to ``seed``: 100 seed, 100 seed + 1, ..."""
    changes = {**OPTIMIZERS[optimizer], "steps": FIRST_STEPS, "history_points": 2}
    return train_all([config(100 * seed + i, **changes) for i in range(STARTS)], device)


def change(run: Run) -> float:
    """Centroid distance of the dev pairs at the last measured step less that at the first."""
    return run.history[-1]["centroid_distance"] - run.history[0]["centroid_distance"]


# --- how parallel are real modalities? -------------------------------------------------------------------------------


def mean_fit(pairs: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    """``parallel_fit``, averaged over several runs."""
    fits = [parallel_fit(*one) for one in pairs]
    return {name: float(np.mean([fit[name] for fit in fits])) for name in fits[0]}
