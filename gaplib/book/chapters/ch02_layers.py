"""Chapter 02, the cone effect: stacks of random layers, one random ReLU layer, what the initialisation decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gaplib._devices import check_device, note_device
from gaplib._validate import as_float64, check_choice, check_integer, check_matrix, check_number
from gaplib.book.chapters.ch02_theory import ACTIVATIONS, LEAK, condition_edge, with_bias
from gaplib.geometry import mean_cosine

_APPLY: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, LEAK),
}


# --- stacks of random layers -----------------------------------------------------------------------------------------


def random_layers(width: int, depth: int, seed: int, *, bias: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """``depth`` pairs of weights (width, width) and biases (width,): all N(0, 1/width), or zero biases."""
    width, depth = check_integer(width, "width", low=1), check_integer(depth, "depth", low=0)
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", low=0))
    for _ in range(depth):
        weight = torch.randn(width, width, generator=generator) / width**0.5
        shift = (
            torch.randn(width, generator=generator) / width**0.5
        )  # drawn in any case: with and without share weights
        yield weight, shift if bias else torch.zeros(width)


def gaussian_inputs(n: int, dim: int, seed: int) -> Tensor:
    """(n, dim) standard Gaussian vectors: directions spread evenly over the sphere."""
    n, dim = check_integer(n, "n", low=1), check_integer(dim, "dim", low=1)
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(check_integer(seed, "seed", low=0)))


def _on(device: str, inputs: Tensor) -> Tensor:
    """``inputs`` on a device that is there, where everything behind them is then computed."""
    check_device(device)
    note_device(device)
    return inputs.to(device)


def cosines_by_depth(
    seed: int, *, width: int = 512, depth: int = 25, n: int = 1024, bias: bool = True, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Mean cosine of ``n`` Gaussian inputs after 0 to ``depth`` random layers: activation -> (depth + 1,).

    The experiment of Liang et al. (2022), section 3. Every activation gets the same weights and the same inputs.
    """
    inputs = _on(device, gaussian_inputs(check_integer(n, "n", low=2), width, seed))
    states = dict.fromkeys(ACTIVATIONS, inputs)
    paths = {name: [float(mean_cosine(inputs))] for name in ACTIVATIONS}
    for weight, shift in random_layers(width, depth, seed + 1_000_000, bias=bias):
        for name in ACTIVATIONS:
            states[name] = _APPLY[name](functional.linear(states[name], weight.to(device), shift.to(device)))
            paths[name].append(float(mean_cosine(states[name])))
    return {name: np.array(path) for name, path in paths.items()}


# --- Theorem 1: one layer --------------------------------------------------------------------------------------------


def admissible_pairs(
    n: int, seed: int, largest: float = 4.0, norms: tuple[float, float] = (0.25, 4.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines, norm ratios and norms of ``n`` pairs that meet the condition of Theorem 1, each of shape (n,).

    The norm |v| is log-uniform on ``norms`` (the bias counts as a coordinate of size 1), the ratio r = |u| / |v| on
    [1/``largest``, ``largest``]; the cosine is uniform between -1 and the condition's edge for that r.
    """
    rng, n = np.random.default_rng(check_integer(seed, "seed", low=0)), check_integer(n, "n", low=1)
    check_number(largest, "largest", low=1.0)
    check_number(norms[1], "norms[1]", low=check_number(norms[0], "norms[0]", low=0.0, low_open=True))
    ratio = largest ** rng.uniform(-1, 1, n)
    norm = np.exp(rng.uniform(np.log(norms[0]), np.log(norms[1]), n))
    edge = condition_edge(ratio)
    return -1 + (edge + 1) * rng.uniform(size=n), ratio, norm


def layer_raises(cosine, ratio, norm, width: int, seed: int) -> np.ndarray:
    """Whether one random ReLU layer raises the cosine, for each pair an own layer; booleans of the pairs' shape.

    Given u and v each row of (W u + b, W v + b) is bivariate Gaussian, so two normal numbers a row stand for the whole
    matrix: exact in law. An output that is all zeros has no direction and counts as not raised.
    """
    width = check_integer(width, "width", low=1)
    cosine, ratio, norm = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (cosine, ratio, norm)))
    inner = with_bias(cosine, ratio, norm).ravel()
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    after = np.empty(inner.size)
    for start in range(0, inner.size, step := max(1, 2**20 // width)):
        c = inner[start : start + step, None]
        a, rest = rng.standard_normal((2, len(c), width))
        b = c * a + np.sqrt(np.maximum(1 - c**2, 0)) * rest
        a, b = np.maximum(a, 0), np.maximum(b, 0)
        length = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        after[start : start + step] = np.divide((a * b).sum(1), length, out=np.full(len(c), -np.inf), where=length > 0)
    return (after > cosine.ravel()).reshape(cosine.shape)


def failures_by_width(seed: int, widths: tuple[int, ...], draws: int = 40_000, **pairs: Any) -> np.ndarray:
    """Share of admissible pairs whose cosine a random ReLU layer does not raise, for each width.

    ``pairs`` are the keywords of ``admissible_pairs``: another ``largest`` ratio, other ``norms``.
    """
    cosine, ratio, norm = admissible_pairs(draws, seed, **pairs)
    return np.array([1 - layer_raises(cosine, ratio, norm, w, seed + 7919 * w).mean() for w in widths])


def decay_exponent(widths, failures) -> float:
    """Minus the slope of log failure over log width (least squares): 1 where failures fall as 1/width.

    ``ValueError`` for a failure share of zero: then there were too few draws to see the rate.
    """
    failures = np.asarray(failures, dtype=np.float64)
    if not (failures > 0).all() or failures.size < 2:
        raise ValueError(f"failures: expected at least two positive shares (more draws?), got {failures.tolist()}")
    return float(-np.polyfit(np.log(np.asarray(widths, dtype=np.float64)), np.log(failures), 1)[0])


# --- Theorem 2: how much of the variance is due to the initialisation ------------------------------------------------


def initialisation_share(states: Tensor) -> float:
    """Share of the variance of random networks' outputs that lies between initialisations, in about [0, 1].

    states: (K, n, d), the outputs of K initialisations on the same n inputs, K, n >= 2. Law of total variance, summed
    over coordinates: Var E[h | init] / Var h, both parts estimated without bias by one-way analysis of variance (the
    means over n inputs vary by chance too), so the estimate may fall slightly below 0. ``ValueError`` for another shape
    or outputs that do not vary at all.
    """
    if not isinstance(states, Tensor) or states.ndim != 3 or min(states.shape[:2]) < 2:
        raise ValueError(
            f"states: expected a tensor (K, n, d) with K, n >= 2, got {tuple(getattr(states, 'shape', ()))}"
        )
    h = as_float64(check_matrix(states.flatten(0, 1), "states")).view(states.shape)
    inputs = h.shape[1]
    within = h.var(dim=1).sum(-1).mean()
    between = h.mean(dim=1).var(dim=0).sum() - within / inputs
    total = float(within + between)
    if total <= 0:
        raise ValueError("states: expected outputs that vary, got constant ones")
    return float(between) / total


def weighted_cosine(x: Tensor) -> float:
    """Mean product of distinct rows over the mean squared norm: the mean cosine with rows weighted by their norms."""
    x = as_float64(check_matrix(x, "x", min_rows=2))
    n, squares = len(x), float((x**2).sum())
    if squares == 0:
        raise ValueError("x: expected a row that is not zero, got zeros only")
    return float((x.sum(0) ** 2).sum() - squares) / (n - 1) / squares


def centre_cosine(states: Tensor) -> float:
    """Mean cosine between the mean directions of different initialisations: about 0 where cones point anywhere."""
    return float(mean_cosine(functional.normalize(as_float64(states), dim=-1).mean(dim=1)))


def mlp_initialisations(
    activation: str, seed: int, *, inits: int = 12, width: int = 512, depth: int = 25, n: int = 64, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Random networks on the same Gaussian inputs: for each layer's pre-activation h = W x + b, arrays (depth,) of

    ``share``: the variance share due to the initialisation; ``cosine``: the mean cosine of the previous layer's outputs
    x, averaged over initialisations; ``exact``: the share that the algebra gives from x alone, (|mean x|² + 1) over
    (mean |x|² + 1), averages in numerator and denominator; ``centre``: the mean cosine between the cones' centres.
    """
    check_choice(activation, "activation", ACTIVATIONS)
    inits = check_integer(inits, "inits", low=2)
    inputs = _on(device, gaussian_inputs(check_integer(n, "n", low=2), width, seed))
    networks = [random_layers(width, depth, (seed + 1) * 1_000_003 + k) for k in range(inits)]
    x = inputs.expand(inits, n, width)
    out: dict[str, list[float]] = {"share": [], "cosine": [], "exact": [], "centre": []}
    for layers in zip(*networks, strict=True):
        weight, shift = (torch.stack(part).to(device) for part in zip(*layers, strict=True))
        norm = float((as_float64(x) ** 2).sum(-1).mean())
        product = float(np.mean([weighted_cosine(network) for network in x])) * norm
        out["cosine"].append(float(np.mean([float(mean_cosine(network)) for network in x])))
        out["exact"].append((product + 1) / (norm + 1))
        h = x @ weight.transpose(1, 2) + shift[:, None]
        out["share"].append(initialisation_share(h))
        out["centre"].append(centre_cosine(h))
        x = _APPLY[activation](h)
    return {key: np.array(values) for key, values in out.items()}
