"""Chapter 07: the runs of temperature control and modality swapping, and the theory of a swap on a handful of pairs.

Every run is one of ``gaplib.training.presets``, "paper" setting, so that chapter 09 finds it in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gaplib import geometry
from gaplib._validate import check_choice, check_integer, check_number, check_pair, check_unit_rows
from gaplib.losses import clip_loss
from gaplib.methods import method
from gaplib.pairs import PairedEmbeddings
from gaplib.stats import Estimate, holm, over_seeds, p_above, p_below, paired_difference, relative_cut
from gaplib.swapping import Swapping
from gaplib.temperature import policy
from gaplib.theory import parallel
from gaplib.training import Run, presets

TAUS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.4)
SWAPPED_STEPS = 12  # the paper's p = .001 of 11,000 to 12,000 steps
#: the paper's p of a soft swap; by the number of steps, some 600, it would be every step here and more
SOFT_SHARE = 0.05
#: where a learned temperature leaves little gap to close, this fixed one leaves much
SHARP = {"tau": 0.02, "learn_tau": False}
#: side runs, which no claim rests on, take at most so many seeds
SIDE_SEEDS = 2


@dataclass(frozen=True)
class Variant:
    """A trained setting: what the page calls it, its row of the table of methods and changes, and its family."""

    words: str
    method: str
    family: str
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    side: bool = False

    @property
    def label(self) -> str:
        """``words``, with the temperature where it is not the method's own."""
        return self.words + (" (tau = .02)" if self.family == "sharp" else "")


def _swap(name: str, words: str, sharp: bool = False, side: bool = False, **swapping: Any) -> Variant:
    kind = method(name).swapping.kind
    # changes of the run that all chapters share: it already swaps the paper's number of steps
    own = {**presets.AS_PUBLISHED.get(name, {}).get("swapping", {}), **swapping}
    changes = ({"swapping": own} if own else {}) | (SHARP if sharp else {})
    return Variant(f"{kind} swap, {words}", name, "sharp" if sharp else kind, changes, side)


def key_of(tau: float) -> str:
    """Key in ``SETTINGS`` of the fixed temperature ``tau``."""
    return f"tau{check_choice(tau, 'tau', TAUS):g}".replace(".", "")


SETTINGS: dict[str, Variant] = {
    "clip": Variant("learned", "clip", "learned"),
    **{f"s{i}": Variant(f"schedule S{i}", f"ts-s{i}", "schedule", side=i in (1, 2)) for i in range(4)},
    "softplus": Variant("softplus", "tr-softplus", "learned"),
    "exp": Variant("exp(nu/2)", "tr-exp", "learned"),
    "slrt": Variant("rate x 0.1", "slrt", "learned"),
    **{key_of(tau): Variant(f"fixed {tau:g}", "flt", "fixed", {} if tau == 0.04 else {"tau": tau}) for tau in TAUS},
    "hs12": _swap("hs", "12 steps"),
    "hs30": _swap("hs", "90 steps", side=True, p=0.3),
    "hs100": _swap("hs", "every step", p=1.0),
    "hs100raw": _swap("hs", "every step, raw", side=True, p=1.0, renormalize=False),
    "ss5": _swap("ss", "15 steps"),
    "ss5raw": _swap("ss", "15 steps, raw", renormalize=False),
    "ss100": _swap("ss", "every step", side=True, p=1.0),
    "hs12sharp": _swap("hs", "12 steps", sharp=True),
    "hs12phase": _swap("hs", "the first 12 steps", sharp=True, side=True, trigger="phase"),
    "hs100sharp": _swap("hs", "every step", sharp=True, p=1.0),
    "ss5sharp": _swap("ss", "15 steps", sharp=True),
    "ss5rawsharp": _swap("ss", "15 steps, raw", sharp=True, renormalize=False),
}


#: family of settings -> what the figures call it, in the order of their legends
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "fixed": "fixed temperature",
        "learned": "learned temperature",
        "schedule": "schedules",
        "hard": "hard swap, learned",
        "soft": "soft swap, learned",
        "sharp": "swaps at fixed 0.02",
    }
)


def of_family(family: str) -> tuple[str, ...]:
    """Keys of ``SETTINGS`` in one of ``FAMILIES``."""
    check_choice(family, "family", FAMILIES)
    return tuple(key for key, one in SETTINGS.items() if one.family == family)


def train(key: str, seeds: Sequence[int], device: str = "cpu", **changes: Any) -> list[Run]:
    """One run a seed of the setting ``key``, from the cache where it is there; a side run has two seeds at most."""
    one = SETTINGS[check_choice(key, "key", SETTINGS)]
    seeds = seeds[:SIDE_SEEDS] if one.side else seeds
    return presets.runs(one.method, seeds, "paper", device, **{**one.changes, **changes})


def measure(run: Run, split: str = "test") -> dict[str, float]:
    """Everything that the chapter shows of a run: temperature at the end, gap, spread, true pairs and retrieval.

    ``uniformity`` is the mean of the two modalities' log potentials (lower: more even); ``wasserstein`` that of the
    paper's Table 2 as we read it, of both modalities pooled (higher: more even; Fang et al. 2024).
    """
    values = run.metrics if check_choice(split, "split", ("test", "dev")) == "test" else run.history[-1]
    x, y = run.pairs(split)
    return {
        "tau": run.history[-1]["tau"],
        "gap": values["centroid_distance"],
        "separability": values["linear_separability"],
        "rmg": values["relative_modality_gap"],
        "cosine": values["true_pair_cosine"],
        "uniformity": (values["uniformity_image"] + values["uniformity_text"]) / 2,
        "wasserstein": float(geometry.wasserstein_uniformity(x, y)),
        # the paper names a recall by what is retrieved
        "image_recall": values["text_to_image@1"],
        "text_recall": values["image_to_text@1"],
        "recall": run.recall(split),
    }


#: measure -> heading of its column and label of its axis
HEADINGS: Mapping[str, str] = MappingProxyType(
    {
        "tau": "final tau",
        "gap": "gap",
        "separability": "separability",
        "rmg": "RMG",
        "cosine": "cosine of partners",
        "uniformity": "uniformity",
        "wasserstein": "Wasserstein uniformity",
        "image_recall": "image recall",
        "text_recall": "text recall",
    }
)


def at_temperature(tau: float, taus: Sequence[float], values: Sequence[float]) -> float:
    """What a fixed temperature would give at ``tau``: linear interpolation in log tau, inside the range of ``taus``."""
    check_number(tau, "tau", low=min(taus), high=max(taus))
    order = np.argsort(taus)
    return float(np.interp(math.log(tau), np.log(np.asarray(taus)[order]), np.asarray(values, dtype=float)[order]))


def share_of_way(run: Run, baseline: Run) -> float:
    """How far log tau went from its start, as a share of the way that the baseline's went."""
    ways = [math.log(one.history[-1]["tau"] / one.history[0]["tau"]) for one in (run, baseline)]
    return ways[0] / ways[1]


def planned(name: str, steps: int = presets.STEPS) -> np.ndarray:
    """tau at each of ``steps`` steps of a method whose temperature is not learned, "flt" or a schedule: (steps,)."""
    row = method(name)
    rule = policy(row.temperature, row.tau)
    if any(True for _ in rule.parameters()):
        raise ValueError(f"name: expected a method with a planned temperature, got {name!r}, which learns it")
    steps = check_integer(steps, "steps", low=1)
    return np.array([1 / float(rule.scale(step, steps)) for step in range(steps)])


@dataclass(frozen=True)
class Measured:
    """What all settings gave: ``values[key]`` holds one dictionary of :func:`measure` a seed."""

    values: Mapping[str, Sequence[Mapping[str, float]]]

    @classmethod
    def of(cls, runs: Mapping[str, Sequence[Run]]) -> Measured:
        """Measure every run on the test characters."""
        return cls({key: [measure(run) for run in group] for key, group in runs.items()})

    def samples(self, key: str, name: str) -> np.ndarray:
        """The measure ``name`` of the setting ``key``: (seeds,)."""
        return np.array([one[name] for one in self.values[check_choice(key, "key", self.values)]])

    def mean(self, key: str, name: str) -> float:
        """Its mean over seeds."""
        return float(self.samples(key, name).mean())

    def estimate(self, key: str, name: str) -> Estimate:
        """Its mean with its interval over seeds."""
        return over_seeds(self.samples(key, name))

    def estimates(self, key: str, names: Sequence[str]) -> dict[str, Estimate]:
        """:meth:`estimate` of several measures: name -> estimate, as ``Recorder.record_all`` takes them."""
        return {name: self.estimate(key, name) for name in names}

    def plane(self, x: str, y: str, skip: Sequence[str] = ("hs12phase",)) -> dict[str, tuple[list[float], list[float]]]:
        """Means of two measures, a point for each measured setting but ``skip``: name of the family -> (xs, ys)."""
        points = {}
        for family, words in FAMILIES.items():
            keys = [key for key in of_family(family) if key in self.values and key not in skip]
            points[words] = tuple([self.mean(key, name) for key in keys] for name in (x, y))
        return points

    def cut(self, key: str, baseline: str = "clip") -> Estimate:
        """``stats.relative_cut`` of the distance against ``baseline``, over the seeds that both have."""
        gaps = [self.samples(one, "gap") for one in (baseline, key)]
        seeds = min(map(len, gaps))
        return relative_cut(*(one[:seeds] for one in gaps))

    def change(self, key: str, name: str, baseline: str = "clip") -> Estimate:
        """``name`` of ``key`` less that of ``baseline``, paired by seed."""
        pair = [self.samples(one, name) for one in (key, baseline)]
        seeds = min(map(len, pair))
        return paired_difference(*(one[:seeds] for one in pair))

    def off_the_curve(self, key: str, name: str) -> Estimate:
        """``name`` less what a fixed temperature gives where ``key`` ended, :func:`at_temperature` seed by seed."""
        curve = np.array([self.samples(key_of(tau), name) for tau in TAUS])
        own = zip(self.samples(key, "tau"), self.samples(key, name), strict=True)
        return over_seeds([value - at_temperature(tau, TAUS, curve[:, i]) for i, (tau, value) in enumerate(own)])

    def frame(self, names: Mapping[str, str]) -> pd.DataFrame:
        """A row a setting, a column a measure (``names``: measure -> heading): "mean ± half of the t interval"."""
        rows = {}
        for key in self.values:
            cells = {}
            for name, heading in names.items():
                e = self.estimate(key, name)
                cells[heading] = f"{e.value:.3f}" if SETTINGS[key].side else f"{e.value:.3f} ± {e.high - e.value:.3f}"
            rows[SETTINGS[key].label + (" *" if SETTINGS[key].side else "")] = cells
        return pd.DataFrame.from_dict(rows, orient="index")

    def tests(self, keys: Sequence[str], baseline: str = "clip") -> pd.DataFrame:
        """Changes of gap and recall against ``baseline`` with two-sided paired p-values, Holm over the whole table."""
        rows, ps = [], []
        for key in keys:
            for name in ("gap", "recall"):
                e = self.change(key, name, baseline)
                ps.append(min(1.0, 2 * min(p_above(e, 0.0), p_below(e, 0.0))))
                rows.append({"setting": SETTINGS[key].words, "measure": name, "change": str(e)})
        return pd.DataFrame(rows).assign(p=[f"{p:.3f}" for p in holm(ps)])


# --- a swap on a handful of pairs ------------------------------------------------------------------------------------

#: soft mixing: E[lam (1 - lam)] = 1/6, E[(2 lam - 1)²] = 1/3; a hard swap has lam in {0, 1}
_PARTNER_GAIN = {"hard": 0.0, "soft": 1 / 6}
_RESIDUE = {"hard": 1.0, "soft": 1 / 3}


def handful(n: int = 5, gap: float = 1.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` pairs on the circle, (n, 2) each: images around one point, texts around another, ``gap`` radians away."""
    check_integer(n, "n", low=2)
    generator = np.random.default_rng(seed)
    middle = np.linspace(0.55, 1.05, n)
    angles = np.stack([middle + gap / 2, middle - gap / 2]) + generator.normal(scale=0.05, size=(2, n))
    x, y = (torch.from_numpy(np.stack([np.cos(a), np.sin(a)], axis=1)) for a in angles)
    return x, y


def expected_similarities(x: Tensor, y: Tensor, kind: str) -> Tensor:
    r"""Mean logits (n, n) of a fair swap without normalisation, of unit rows ``x`` and ``y`` at logit scale 1.

    With midpoints :math:`m_i = (x_i + y_i)/2`: strangers have :math:`\langle m_i, m_j\rangle`, which no longer knows
    the gap; partners keep :math:`\langle x_i, y_i\rangle` (hard) or gain :math:`\lVert x_i - y_i\rVert^2/6` (soft).
    """
    gain = _PARTNER_GAIN[check_choice(kind, "kind", _PARTNER_GAIN)]
    check_pair(check_unit_rows(x, "x"), check_unit_rows(y, "y"))
    middle = (x + y) / 2
    partners = (x * y).sum(dim=1) + gain * (x - y).square().sum(dim=1)
    return (middle @ middle.T).diagonal_scatter(partners)


def expected_squared_gap(x: Tensor, y: Tensor, kind: str) -> float:
    r"""Mean of :math:`\Delta^2` after a fair swap without normalisation: :math:`\tfrac1{n^2}\sum_i\|x_i - y_i\|^2`,
    a third of it for a soft one. The gap *vector* is zero in the mean; this is what a finite batch leaves of it."""
    check_pair(x, y)
    residue = _RESIDUE[check_choice(kind, "kind", _RESIDUE)]
    return residue * float((x - y).square().sum()) / len(x) ** 2


def lifted(u: Tensor, v: Tensor, height: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The parallel model at ``height`` gamma, turned at random so that the gap lies along no coordinate: (n, d + 1).

    x = (sqrt(1 - gamma²) u, gamma), y = (sqrt(1 - gamma²) v, -gamma) for (n, d) unit rows u, v.
    """
    check_number(height, "height", low=-1, high=1)
    check_pair(u, v)
    size, generator = u.shape[1] + 1, torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return tuple((z @ turn).to(u.dtype) for z in parallel.lifted(u, v, height))


def height_curve(
    u: Tensor, v: Tensor, heights: Sequence[float], scale: float, swap: Swapping | None, repeats: int = 20
) -> np.ndarray:
    """CLIP loss of the parallel model at each height, mean over ``repeats`` swaps (one without a swap): (heights,)."""
    check_integer(repeats, "repeats", low=1)
    curve = []
    for height in heights:
        x, y = lifted(u, v, float(height))
        draws = [(x, y)]
        if swap is not None:  # the same masks at every height: differences between heights are not noise
            draws = [swap(x, y, generator=torch.Generator().manual_seed(i)) for i in range(repeats)]
        curve.append(np.mean([float(clip_loss(PairedEmbeddings(*one, check=False), scale)) for one in draws]))
    return np.array(curve)
