r"""Chapter 04 on paper: landscapes, the gradient flow and its bound, the first moment of training, a sigmoid at zero.

Everything here is either exact or drawn from small synthetic worlds; what is trained on glyphs is in
:mod:`gaplib.book.chapters.ch04_runs`. Symbols as in :mod:`gaplib.theory.dynamics`: modality heights +gamma and -gamma
over the unit vectors u_i and v_i, inverse temperature beta, effective inverse temperature s = beta (1 - gamma²).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from gaplib import geometry, losses
from gaplib._validate import check_number
from gaplib.pairs import PairedEmbeddings
from gaplib.theory.dynamics import Flow, InverseTemperature, Matching, exponential, fixed, gradient_flow, softplus
from gaplib.theory.landscape import batched_loss, nine_pairs, shifted
from gaplib.theory.parallel import lifted, world

SCALES = (100, 50, 30, 20, 10, 1)  # logit scales of the published shift experiment
BATCH = 50  # and its batch size
#: Results of the published embeddings that the prose names; without those embeddings they read "not measured here".
PUBLISHED_NUMBERS = (
    *(f"L7.scale100.{name}" for name in ("rise", "best_shift", "best_gap", "parallel_gap")),
    *("L7.scale1.rise", "L7.scale30.best_gap", "L7.parallel.constant", "L7.parallel.s_star"),
)
START = {"gamma": 0.5, "beta": 1 / 0.07}  # where the flows begin: a gap of at least one, CLIP's first temperature


# --- the landscape ---------------------------------------------------------------------------------------------------


def valley(logit_scales: Any, heights: Any, swap: bool = True) -> np.ndarray:
    """Loss of the nine pairs at each height and logit scale less the least at that scale, (scales, heights), nats."""
    matching = Matching.from_embeddings(*nine_pairs(swap))
    s = np.outer(logit_scales, 1 - np.asarray(heights, dtype=float) ** 2)
    loss = np.vectorize(matching.loss)(s)
    return loss - loss.min(axis=1, keepdims=True)


# --- shifting real embeddings ----------------------------------------------------------------------------------------


def shift_curves(x: Any, y: Any, shifts: Any, scales: Sequence[float] = SCALES) -> tuple[np.ndarray, np.ndarray]:
    """Centroid distance (shifts,) after each shift, signed by whether the modalities have passed each other, and the
    loss (scales, shifts) less that of no shift, nats."""
    moved = [shifted(x, y, float(delta)) for delta in shifts]
    direction = geometry.gap_direction(x, y)
    distance = [float(geometry.gap_vector(a, b) @ direction) for a, b in moved]
    loss = np.array([[batched_loss(a, b, scale, BATCH) for a, b in moved] for scale in scales])
    still = np.array([batched_loss(x, y, scale, BATCH) for scale in scales])
    return np.array(distance), loss - still[:, None]


def halving_rise(x: Any, y: Any, logit_scale: float, shifts: Any) -> float:
    """Least rise of the loss, nats, over those ``shifts`` that bring the gap to half its length or less."""
    whole = float(geometry.centroid_distance(x, y))
    moved = [shifted(x, y, float(delta)) for delta in shifts]
    half = [pair for pair in moved if float(geometry.centroid_distance(*pair)) <= whole / 2]
    if not half:
        raise ValueError("shifts: expected at least one that halves the gap, got none")
    least = min(batched_loss(a, b, logit_scale, BATCH) for a, b in half)
    return least - batched_loss(x, y, logit_scale, BATCH)


def best_shift(x: Any, y: Any, logit_scale: float, low: float = -1.0, high: float = 0.85) -> tuple[float, float]:
    """The shift in [low, high] of least loss, and the centroid distance that it leaves."""
    found = minimize_scalar(
        lambda delta: batched_loss(*shifted(x, y, delta), logit_scale, BATCH),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 2e-3},
    )
    return float(found.x), float(geometry.centroid_distance(*shifted(x, y, float(found.x))))


def batch_matchings(u: torch.Tensor, v: torch.Tensor, size: int = BATCH, seed: int = 0) -> list[Matching]:
    """Matchings of disjoint random batches: the loss of the shift experiment as a function of s."""
    order = torch.randperm(len(u), generator=torch.Generator().manual_seed(seed))
    order = order[: len(u) // size * size].reshape(-1, size)
    return [Matching.from_embeddings(u[rows].numpy(), v[rows].numpy()) for rows in order]


# --- the flow --------------------------------------------------------------------------------------------------------


def laws() -> dict[str, InverseTemperature]:
    """The four inverse temperatures of the chapter, by short name."""
    return {"learned": exponential(), "exp_half": exponential(2.0), "softplus": softplus(), "fixed": fixed()}


def bound(matching: Matching, flow: Flow) -> np.ndarray:
    r"""The chapter's lower bound on gamma(t) under a learnable exp(nu), constants included.

    With positive margin alpha and kappa = 1 - gamma(0)²: the invariant gives gamma >= C / beta², and the softmax gives
    d beta / dt <= 2 (n - 1) beta² exp(-alpha kappa beta), hence beta <= log(A + B t) / c with c = alpha kappa / 2.

    Raises ``ValueError`` without a positive margin: the theorem does not speak then.
    """
    if matching.margin <= 0:
        raise ValueError(f"matching: expected a positive margin, got {matching.margin:.3g}")
    n = matching.margins.shape[1]
    gamma, beta = float(flow.gamma[0]), float(flow.beta[0])
    c = matching.margin * (1 - gamma**2) / 2
    ceiling = np.log(np.exp(c * beta) + 2 * c * (n - 1) * (2 / (c * np.e)) ** 2 * flow.time) / c
    return gamma * np.exp(-(gamma**2) / 2) * beta**2 / ceiling**2


def at(flow: Flow, time: float) -> float:
    """log gamma at ``time``, interpolated in log time."""
    time = check_number(time, "time", low=flow.time[0], high=flow.time[-1])
    return float(np.interp(np.log(time), np.log(flow.time), flow.log_gamma))


def fitted_slope(flow: Flow, low: float, high: float) -> float:
    """Slope of log gamma against log log t, fitted between the times ``low`` > 1 and ``high``; -2 in the long run."""
    seen = (flow.time >= low) & (flow.time <= high)
    return float(np.polyfit(np.log(np.log(flow.time[seen])), flow.log_gamma[seen], 1)[0])


def rate_ratio(flow: Flow) -> float:
    """How fast log gamma falls in the last quarter of the time, over the quarter before; 1 for an exponential.

    R² of a straight line would not tell: 1 / log(t)² is nearly straight over so short a stretch.
    """
    end = flow.time[-1]
    half, later, last = (at(flow, share * end) for share in (0.5, 0.75, 1.0))
    return (last - later) / (later - half)


def drift(flow: Flow) -> float:
    """Largest relative change of the conserved quantity itself (of its logarithm: ``Flow.drift``)."""
    invariant = flow.temperature.invariant(flow.log_gamma, flow.beta)
    return float(np.expm1(np.abs(invariant - invariant[0]).max()))


def mismatch_world(share: float, seed: int) -> Matching:
    """A world of 256 noisy pairs in 64 dimensions, ``share`` (0 to 1) of them with a wrong partner."""
    return Matching.from_embeddings(*world(256, 64, seed, noise=0.5, mismatch=share))


def mismatch_flow(share: float, seed: int, law: InverseTemperature, beta: float, t_max: float = 1e4) -> Flow:
    """The flow of :func:`mismatch_world`."""
    matching = mismatch_world(share, seed)
    return gradient_flow(matching, law, gamma=START["gamma"], beta=beta, t_max=t_max, points=120)


# --- the first moment: Theorem 3.3 -----------------------------------------------------------------------------------


def grows_first(n: int, d: int, s: float, seed: int) -> bool:
    """Whether the parallel flow widens the gap at time 0 from uniform, independent u and v: d loss / d s > 0."""
    return Matching.from_embeddings(*world(n, d, seed, noise=float("inf"))).slope(s) > 0


def growth_chance(n: Any, d: Any, s: Any) -> Any:
    """The normal approximation to the share of inits in which :func:`grows_first` holds: Phi(s sqrt(n / d))."""
    return norm.cdf(np.asarray(s) * np.sqrt(np.asarray(n) / np.asarray(d)))


def free_velocity(x: torch.Tensor, y: torch.Tensor, logit_scale: float) -> float:
    """d Delta / dt when every embedding follows the loss's gradient on the sphere by itself, not only gamma."""
    x, y = (z.clone().requires_grad_() for z in (x, y))
    pull = torch.autograd.grad(losses.clip_loss(PairedEmbeddings(x, y), logit_scale), (x, y))
    gap = torch.autograd.grad((x.mean(dim=0) - y.mean(dim=0)).norm(), (x, y))
    rate = 0.0
    for z, down, up in zip((x, y), pull, gap, strict=True):
        tangent = down - (down * z).sum(dim=1, keepdim=True) * z
        rate -= float((tangent * up).sum().detach())
    return rate


# --- the sigmoid loss at zero ----------------------------------------------------------------------------------------


def constellation(n: int, d: int, gamma: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """n pairs at heights +gamma and -gamma over the same n random directions; their margin m and threshold b.

    Every true pair has <x_i, y_i> >= b + m and every wrong one <x_i, y_j> <= b - m with m > 0: an (m, b)-constellation
    (Bangachev et al. 2025), whatever gamma < 1.
    """
    u, _ = world(n, d, seed)
    x, y = lifted(u, u, gamma)
    similarity = x @ y.T
    wrong = float(similarity[~torch.eye(n, dtype=torch.bool)].max())
    true = float(similarity.diagonal().min())
    return x, y, (true - wrong) / 2, (true + wrong) / 2


def constellation_loss(x: torch.Tensor, y: torch.Tensor, logit_scale: float, threshold: float) -> float:
    """Sigmoid loss with the bias at -logit_scale * threshold, where the constellation wants it."""
    return float(losses.siglip_loss(PairedEmbeddings(x, y), logit_scale, -logit_scale * threshold))
