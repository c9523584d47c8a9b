"""Chapter 08 on points that can be followed: descents on one regulariser alone, and what consistency asks of a gap.

Under the parallel model, x_i = (sqrt(1 - gamma²) u_i, gamma) and y_i = (sqrt(1 - gamma²) v_i, -gamma), every term of
geometric consistency is a square of differences of inner products of the same kind. Constants drop out of the
differences, which leaves the factor 1 - gamma², and (1 - gamma²)² of the squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from gaplib import geometry, losses
from gaplib._validate import check_integer, check_number
from gaplib.pairs import PairedEmbeddings
from gaplib.theory.dynamics import Matching
from gaplib.theory.parallel import flattened, lifted

# --- descents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Descent:
    """Points and loss along a descent: points[name] (steps + 1, n, d) unit rows, loss (steps + 1,)."""

    points: Mapping[str, np.ndarray]
    loss: np.ndarray


def descend(
    loss: Callable[..., torch.Tensor], points: Mapping[str, Any], steps: int = 200, rate: float = 0.05
) -> Descent:
    """Gradient descent of ``loss(**points)`` over unit vectors; each step moves along the sphere and back onto it.

    Args:
        loss: takes the matrices of ``points`` by name, float64 (n, d) with unit rows, returns a 0-d tensor.
        points: name -> (n, d); normalised at the start.
        steps, rate: how many steps, and their size (of the loss's gradient as it is).
    """
    check_integer(steps, "steps", low=1)
    check_number(rate, "rate", low=0, low_open=True)
    now = {name: geometry.normalize(torch.as_tensor(z, dtype=torch.float64)) for name, z in points.items()}
    path, values = [], []
    for _ in range(steps + 1):
        for z in now.values():
            z.requires_grad_(True)
        value = loss(**now)
        gradients = torch.autograd.grad(value, list(now.values()), allow_unused=True)
        path.append({name: z.detach().numpy().copy() for name, z in now.items()})
        values.append(float(value.detach()))
        with torch.no_grad():
            now = {
                name: geometry.normalize(z - rate * (g - (g * z).sum(dim=1, keepdim=True) * z)) if g is not None else z
                for (name, z), g in zip(now.items(), gradients, strict=True)
            }
    return Descent({name: np.stack([one[name] for one in path]) for name in points}, np.array(values))


def sphere(n: int, d: int, seed: int) -> torch.Tensor:
    """n points uniform on the unit sphere of d dimensions, float64."""
    return geometry.normalize(
        torch.from_numpy(np.random.default_rng(check_integer(seed, "seed", low=0)).standard_normal((n, d)))
    )


def separation_descent(seed: int = 0, n: int = 5, steps: int = 400) -> Descent:
    """Private features move under L_Sep, shared ones stay: image, text (both fixed), image_private, text_private and
    their views, in 3 dimensions."""
    image, text = (sphere(n, 3, 10 * seed + i) for i in (0, 1))
    start = {name: sphere(n, 3, 10 * seed + 2 + i) for i, name in enumerate(("image_private", "text_private"))}
    start |= {f"{name}_view": z + 1.2 * sphere(n, 3, 10 * seed + 4 + i) for i, (name, z) in enumerate(start.items())}

    def loss(**private: torch.Tensor) -> torch.Tensor:
        pairs = PairedEmbeddings(image, text, image, text, **private, check=False)
        return losses.deep_feature_separation_loss(pairs, 1 / 0.2)

    found = descend(loss, start, steps)
    return Descent({"image": image.numpy(), "text": text.numpy(), **found.points}, found.loss)


def consistency_descent(
    pull: bool, seed: int = 0, n: int = 8, d: int = 8, gamma: float = 0.5, steps: int = 400
) -> tuple[np.ndarray, Descent]:
    """Pairs that start parallel with a gap, v unlike u, under the cyclic terms alone (``pull`` false) or under the
    alignment loss (``pull`` true): centroid distance (steps + 1,) and the descent."""
    u = sphere(n, d, 10 * seed)
    v = geometry.normalize(u + 0.8 * sphere(n, d, 10 * seed + 1))
    x, y = lifted(u, v, gamma)
    term = losses.alignment_loss if pull else losses.cyclic_loss
    found = descend(
        lambda image, text: term(PairedEmbeddings(image, text, check=False)), {"image": x, "text": y}, steps
    )
    distance = [
        float(geometry.centroid_distance(a, b))
        for a, b in zip(found.points["image"], found.points["text"], strict=True)
    ]
    return np.array(distance), found


def along_and_across(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both modalities seen from the side, (n, 2) each, from the middle between the centroids: the place along the gap,
    and along the direction orthogonal to it in which the pooled points vary most."""
    g = geometry.gap_direction(x, y)
    from_middle = torch.cat([x, y]) - (x.mean(0) + y.mean(0)) / 2
    flat = from_middle - torch.outer(from_middle @ g, g)
    across = torch.linalg.svd(flat, full_matrices=False).Vh[0]
    seen = torch.stack([from_middle @ g, from_middle @ across], dim=1).numpy()
    return seen[: len(x)], seen[len(x) :]


# --- the Brownian bridge ---------------------------------------------------------------------------------------------


def bridge_mean(x: Any, y: Any, t: float = 0.25) -> torch.Tensor:
    """mu = (t x + (1 - t) y) / |t x + (1 - t) y|, (n, d) float64."""
    x, y = (torch.as_tensor(z, dtype=torch.float64) for z in (x, y))
    return geometry.normalize(t * x + (1 - t) * y)


def bridge_three_ways(pairs: PairedEmbeddings, t: float = 0.25) -> dict[str, float]:
    """The bridge's loss: "first" line as defined, "worked_out" from inner products, and the "printed" second line.

    worked_out = 2 - 2 mean(a / b) and printed = mean(a / b²), with a = t <x, x'> + (1 - t) <y, x'> and
    b² = t² + (1 - t)² + 2 t (1 - t) <x, y>.
    """
    x, y, view = (z.double() for z in (pairs.image, pairs.text, pairs.image_view))
    a = t * (x * view).sum(dim=1) + (1 - t) * (y * view).sum(dim=1)
    b2 = t**2 + (1 - t) ** 2 + 2 * t * (1 - t) * (x * y).sum(dim=1)
    return {
        "first": float(losses.brownian_bridge_loss(pairs, t)),
        "worked_out": float(2 - 2 * (a / b2.sqrt()).mean()),
        "printed": float((a / b2).mean()),
    }


# --- what consistency asks of a gap ----------------------------------------------------------------------------------


def consistency_by_gap(views: Mapping[str, Any], gammas: Sequence[float]) -> dict[str, np.ndarray]:
    """The cyclic loss and the whole of geometric consistency on points lifted to +-gamma, one value a gamma.

    views: ``u``, ``v`` and their second views ``u_view``, ``v_view``, (n, d) unit rows.
    """
    cyclic, whole = [], []
    for gamma in gammas:
        x, y = lifted(views["u"], views["v"], gamma)
        x_view, y_view = lifted(views["u_view"], views["v_view"], gamma)
        pairs = PairedEmbeddings(x, y, x_view, y_view)
        cyclic.append(float(losses.cyclic_loss(pairs)))
        whole.append(float(losses.geometric_consistency_loss(pairs)))
    return {"cyclic": np.array(cyclic), "whole": np.array(whole)}


def mixed_products(x: Any, y: Any) -> float:
    """(1/n) sum over all j, k of <x_j - y_j, x_k + y_k>², written out: what both cyclic terms sum to."""
    x, y = (torch.as_tensor(z, dtype=torch.float64) for z in (x, y))
    return float(((x - y) @ (x + y).T).square().sum() / len(x))


def rewarded_gap(u: Any, v: Any, logit_scale: float, weight: float) -> float:
    """The gap 2 gamma at which contrastive loss + weight * cyclic terms are least, under the parallel model.

    With q = 1 - gamma² the sum is l(beta q) + weight C q², C the cyclic loss without a gap: convex in q in (0, 1]. Zero
    where the contrastive loss pulls harder at q = 1 than the cyclic terms push.
    """
    beta = float(check_number(logit_scale, "logit_scale", low=0, low_open=True))
    weight = float(check_number(weight, "weight", low=0))
    matching = Matching.from_embeddings(u, v)
    pairs = PairedEmbeddings(torch.as_tensor(u).double(), torch.as_tensor(v).double(), check=False)
    cyclic = float(losses.cyclic_loss(pairs))

    def slope(q: float) -> float:
        return beta * matching.slope(beta * q) + 2 * weight * cyclic * q

    if slope(1.0) <= 0:
        return 0.0
    if slope(0.0) >= 0:
        raise ValueError("u, v: expected true pairs closer than strangers on average, got the contrary")
    return float(2 * np.sqrt(1 - brentq(slope, 0.0, 1.0)))


def reward_table(
    pairs: Sequence[tuple[Any, Any]], scales: Sequence[float], weights: Sequence[float], batch: int = 256, seed: int = 0
) -> dict[float, list[float]]:
    """``rewarded_gap`` of trained pairs, by weight, one value a run: the first ``batch`` of its pairs in random order,
    the gap's direction taken out, at the run's own logit scale."""
    out: dict[float, list[float]] = {float(weight): [] for weight in weights}
    for (x, y), scale in zip(pairs, scales, strict=True):
        rows = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[:batch])
        u, v = flattened(x[rows], y[rows])
        for weight in out:
            out[weight].append(rewarded_gap(u, v, scale, weight))
    return out
