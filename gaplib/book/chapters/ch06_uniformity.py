r"""Chapter 06: what each term does to a few points and to parallel modalities, and the runs that are trained with it.

Symbols as in :mod:`gaplib.theory.dynamics`: :math:`x_i = (\sqrt{1-\gamma^2}\,u_i, \gamma)`, :math:`y_i =
(\sqrt{1-\gamma^2}\,v_i, -\gamma)`. A gap is 2 gamma where the u and the v have equal means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from gaplib import geometry, losses
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.book.measured import estimate, gain
from gaplib.evaluation.retrieval import mean_recall
from gaplib.pairs import PairedEmbeddings
from gaplib.stats import Estimate
from gaplib.theory.parallel import flattened, lifted
from gaplib.training import Run, RunConfig, presets
from gaplib.training.tuned import TUNED
from gaplib.training.untrained import untrained_pairs

TAU = 0.01  # the paper's temperature, fixed
SHARP = MappingProxyType({"tau": TAU, "learn_tau": False})
#: Steps of fine-tuning, at the learning rate before it: of 3e-4 (seed 0), 1e-3 and 3e-3 (seeds 0 and 1) the best
#: by recall at 1 on dev, mean of the three methods.
FINE_TUNING = 120
METHODS = ("clip", "cua", "cuaxu")
TEMPERATURES = (0.01, 0.03, 0.1)
SHARED = ("clip", "shared", "alignclip")

#: The terms of the chapter, as they are drawn; the last three are sums with weights 1.
TERMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alignment": ("alignment",),
        "uniformity": ("uniformity",),
        "cross-uniformity": ("cross_uniformity",),
        "centroid uniformity": ("centroid_uniformity",),
        "alignment + uniformity": ("alignment", "uniformity"),
        "all three of CUAXU": ("alignment", "uniformity", "cross_uniformity"),
    }
)
_LOSSES: Mapping[str, Callable[[PairedEmbeddings], Tensor]] = MappingProxyType(
    {
        "alignment": losses.alignment_loss,
        "uniformity": losses.uniformity_loss,
        "cross_uniformity": losses.cross_uniformity_loss,
        "centroid_uniformity": losses.centroid_uniformity_loss,
    }
)


# --- a handful of points ---------------------------------------------------------------------------------------------


def circle(n: int = 8, spread: float = 0.9, apart: float = 1.9, seed: int = 3) -> Tensor:
    """Angles (2, n) of n images and n texts on a circle, radians: two arcs of half-width ``spread``, ``apart`` from
    each other, partners in the same order, shaken a little so that no term starts at a point of symmetry."""
    check_integer(n, "n", low=2)
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", low=0))
    arc = torch.linspace(-spread, spread, n, dtype=torch.float64)
    wobble = 0.3 * spread / n * torch.randn(2, n, dtype=torch.float64, generator=generator)
    return arc + wobble + torch.tensor([[apart / 2], [-apart / 2]], dtype=torch.float64)


def points(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (n, 2) of images and of texts at the given angles (2, n)."""
    return tuple(torch.stack([row.cos(), row.sin()], dim=1) for row in angles)


def descend(term: str, angles: Tensor, steps: int = 400, rate: float = 0.05) -> Tensor:
    """Path (steps + 1, 2, n) of the angles under gradient descent on one of ``TERMS`` alone.

    The step is ``rate`` times n times the gradient, so that a point's speed does not depend on how many there are.
    """
    terms = TERMS[check_choice(term, "term", TERMS)]
    check_integer(steps, "steps", low=1)
    check_number(rate, "rate", low=0, low_open=True)
    path = [angles.detach().clone()]
    for _ in range(steps):
        now = path[-1].clone().requires_grad_()
        pairs = PairedEmbeddings(*points(now), check=False)
        loss = sum(_LOSSES[name](pairs) for name in terms)
        (slope,) = torch.autograd.grad(loss, now)
        path.append((now - rate * now.shape[1] * slope).detach())
    return torch.stack(path)


# --- parallel modalities ---------------------------------------------------------------------------------------------


def pull(u: Any, v: Any, gamma: float, tau: float = TAU) -> dict[str, float]:
    """Derivative of every term by gamma² in the parallel construction at ``gamma`` in [0, 1); positive closes the gap.

    Keys: alignment, uniformity, cross_uniformity, centroid_uniformity, contrastive (CLIP's loss at ``tau``), and the
    sums cua and cuaxu. Differentiated automatically from the losses themselves, not from the formulas of the page.
    """
    check_number(gamma, "gamma", low=0, high=1, high_open=True)
    check_number(tau, "tau", low=0, low_open=True)
    u, v = (torch.as_tensor(z, dtype=torch.float64) for z in (u, v))
    square = torch.tensor(float(gamma) ** 2, dtype=torch.float64, requires_grad=True)
    height = (square + 1e-300).sqrt().expand(len(u), 1)  # the heights enter squared or as a product: safe at 0
    width = (1 - square).sqrt()
    pairs = PairedEmbeddings(torch.cat([width * u, height], dim=1), torch.cat([width * v, -height], dim=1), check=False)
    values = {name: loss(pairs) for name, loss in _LOSSES.items()}
    values["contrastive"] = losses.clip_loss(pairs, 1 / tau)
    slopes = {name: float(torch.autograd.grad(value, square, retain_graph=True)[0]) for name, value in values.items()}
    slopes["cua"] = slopes["contrastive"] + slopes["alignment"] + slopes["uniformity"]
    slopes["cuaxu"] = slopes["cua"] + slopes["cross_uniformity"]
    return slopes


def pulls(u: Any, v: Any, gammas: Sequence[float], tau: float = TAU) -> dict[str, np.ndarray]:
    """:func:`pull` at every one of ``gammas``: name -> (gammas,)."""
    rows = [pull(u, v, gamma, tau) for gamma in gammas]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def resting_gap_of_terms(u: Any, v: Any, name: str, tau: float = TAU) -> float:
    """The widest gap at which the slope ``name`` of :func:`pull` turns from pushing to pulling, u and v held still.

    0 where it pulls at any gap, 2 where it pushes up to the widest.
    """

    def slope(gamma: float) -> float:
        return pull(u, v, gamma, tau)[name]

    gammas = np.linspace(0.01, 0.999, 34)
    pushes = np.array([slope(gamma) < 0 for gamma in gammas])
    if not pushes.any():
        return 0.0
    last = int(np.flatnonzero(pushes)[-1])
    return 2.0 if last == len(gammas) - 1 else 2 * float(brentq(slope, gammas[last], gammas[last + 1]))


def values(u: Any, v: Any, gammas: Sequence[float]) -> dict[str, np.ndarray]:
    """The four terms themselves at every one of ``gammas``: name -> (gammas,)."""
    pairs = [PairedEmbeddings(*lifted(u, v, gamma)) for gamma in gammas]
    return {name: np.array([float(loss(one)) for one in pairs]) for name, loss in _LOSSES.items()}


def untrained(seed: int, n: int = 256) -> tuple[Tensor, Tensor, float]:
    """u, v of the parallel model that is closest to n test pairs through untrained towers, and its gamma."""
    x, y = (z[:n] for z in untrained_pairs(presets.config("clip", seed, "paper", **SHARP)))
    return (*flattened(x, y), float(geometry.centroid_distance(x, y)) / 2)


def trained(run: Run, n: int = 256) -> tuple[Tensor, Tensor, float]:
    """u, v of the parallel model that is closest to the first n test pairs of a run, and half of the run's gap."""
    x, y = (z[:n] for z in run.pairs())
    return (*flattened(x, y), run.gap() / 2)


# --- the runs --------------------------------------------------------------------------------------------------------


def scratch(name: str, seed: int, tau: float = TAU) -> RunConfig:
    """300 steps from the start at a fixed temperature, the method's own weights."""
    return presets.config(name, seed, "paper", tau=tau, learn_tau=False)


def finetuned(name: str, seed: int) -> RunConfig:
    """``FINE_TUNING`` steps that go on from a finished run of plain CLIP, all at the paper's temperature."""
    return presets.config(name, seed, "paper", **SHARP, start=scratch("clip", seed), steps=FINE_TUNING)


def trunk(name: str, seed: int) -> RunConfig:
    """A transformer with two trunks ("clip"), one ("shared"), or one and the separation term ("alignclip").

    All three at the temperature and the learning rate that were tuned for the shared trunk.
    """
    check_choice(name, "name", SHARED)
    tuned = TUNED.get("shared", {"tau": 0.07, "lr": 3e-3})
    return presets.config(name, seed, "paper", architecture="transformer", **tuned)


MEASURES = (
    "centroid_distance", "linear_separability", "relative_modality_gap", "true_pair_cosine", "uniformity",
    "cross_uniformity", "recall", "recall_at_5",
)  # fmt: skip


def measure(run: Run) -> dict[str, float]:
    """``MEASURES`` on the test characters; uniformity is the mean of the modalities', recall that of the directions."""
    x, y = run.pairs()
    own = {
        "uniformity": (run.metrics["uniformity_image"] + run.metrics["uniformity_text"]) / 2,
        "recall": run.recall(),
        "recall_at_5": mean_recall(x, y, 5, run.embeddings["test_answer"]),
    }
    return {name: own[name] if name in own else float(run.metrics[name]) for name in MEASURES}


def measured(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[dict[str, float]]]:
    """:func:`measure` of several runs of each method: name -> one dictionary for each seed."""
    return {name: [measure(one) for one in group] for name, group in runs.items()}


def compared(
    rows: Sequence[Mapping[str, float]], control: Sequence[Mapping[str, float]], names: Sequence[str] = MEASURES
) -> dict[str, Estimate]:
    """Each measure over seeds and, where ``rows`` is not ``control`` itself, its paired difference ("..._change").

    >>> found = compared([{"gap": 0.4}, {"gap": 0.6}], [{"gap": 0.1}, {"gap": 0.2}], names=["gap"])
    >>> {name: round(one.value, 2) for name, one in found.items()}
    {'gap': 0.5, 'gap_change': 0.35}
    """
    found = {}
    for name in names:
        found[name] = estimate(rows, name)
        if rows is not control:
            found[f"{name}_change"] = gain(rows, control, name)
    return found


def table(
    estimates: Mapping[str, Estimate], prefixes: Mapping[str, str], names: Sequence[str] = MEASURES
) -> pd.DataFrame:
    """Recorded means with intervals, a row for each label of ``prefixes`` (label -> prefix of the results' names)."""
    rows = {
        label: {name.replace("_", " "): str(estimates[f"{prefix}.{name}"]) for name in names}
        for label, prefix in prefixes.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
