"""Closed forms of the cone effect: what one wide random layer, and a stack of them, does to the cosine of two vectors.

A layer maps u to phi(W u + b), its weights and biases independent N(0, s²). Given u and v, every row of
(W u + b, W v + b) is a draw from one bivariate Gaussian, so by the law of large numbers the cosine after a wide layer
depends on the norms of u and v and their cosine only. The bias acts as a coordinate of size 1 that all inputs share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from gaplib._validate import check_choice, check_integer

ACTIVATIONS = ("linear", "tanh", "sigmoid", "relu", "leaky_relu")
LEAK = 0.01  # torch's default slope of the leaky ReLU

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _cosine(value: Any, name: str = "cosine") -> np.ndarray:
    value = np.asarray(value, dtype=np.float64)
    if not (np.abs(value) <= 1).all():
        raise ValueError(f"{name}: expected numbers in [-1, 1], got {value!r:.80}")
    return value


def _positive(value: Any, name: str) -> np.ndarray:
    value = np.asarray(value, dtype=np.float64)
    if not ((value > 0) & np.isfinite(value)).all():
        raise ValueError(f"{name}: expected positive finite numbers, got {value!r:.80}")
    return value


def relu_kernel(cosine: Any) -> np.ndarray:
    """Cosine after ReLU of a wide Gaussian layer without bias: the normalised arc-cosine kernel of degree 1.

    (sin a + (pi - a) cos a) / pi with a the angle between the inputs (Cho & Saul 2009). Never below ``cosine``; equal
    only at 1.
    """
    c = _cosine(cosine)
    angle = np.arccos(c)
    return (np.sin(angle) + (np.pi - angle) * c) / np.pi


def with_bias(cosine: Any, ratio: Any, norm: Any) -> np.ndarray:
    """Cosine of (u, 1) and (v, 1) where |v| = ``norm`` and |u| = ``ratio`` |v|: what the bias makes of the angle."""
    c, r, s = _cosine(cosine), _positive(ratio, "ratio"), _positive(norm, "norm")
    return np.clip((c * r * s**2 + 1) / np.sqrt((r**2 * s**2 + 1) * (s**2 + 1)), -1, 1)


def cosine_after_layer(cosine: Any, ratio: Any = 1.0, norm: Any = 1.0) -> np.ndarray:
    """Cosine after a ReLU layer of infinite width whose biases are as large as its weights."""
    return relu_kernel(with_bias(cosine, ratio, norm))


def condition_edge(ratio: Any) -> np.ndarray:
    """Theorem 1 of Liang et al. (2022) asks for cos(u, v) < 1 / ((r + 1/r) / 2); this is the right-hand side."""
    r = _positive(ratio, "ratio")
    return 2 / (r + 1 / r)


def relu_spread(cosine: Any) -> np.ndarray:
    """sqrt(width) times the standard deviation of the cosine after a wide ReLU layer (delta method).

    ``cosine`` is that of the layer's Gaussian pre-activations, bias included (see ``with_bias``). With a, c two unit
    Gaussians of that correlation, the cosine's first-order error is the mean over rows of
    2 [a]+ [c]+ - k ([a]+² + [c]+²), k the kernel; in polar coordinates its variance is an integral over one angle.
    """
    c = _cosine(cosine)[..., None]
    phi = np.linspace(-np.pi, np.pi, 4001)[:-1]  # a periodic, piecewise smooth integrand: the rectangle rule will do
    a, b = np.maximum(np.cos(phi), 0), np.maximum(np.cos(phi - np.arccos(c)), 0)
    variance = 8 * np.mean((2 * a * b - relu_kernel(c) * (a**2 + b**2)) ** 2, axis=-1)  # E R⁴ = 8 in two dimensions
    return np.sqrt(variance)


def predicted_frequency(cosine: Any, ratio: Any, norm: Any, width: int) -> np.ndarray:
    """Normal approximation of the probability that one ReLU layer of ``width`` raises the cosine of u and v."""
    check_integer(width, "width", low=1)
    inner = with_bias(cosine, ratio, norm)
    rise = relu_kernel(inner) - _cosine(cosine)
    spread = np.maximum(relu_spread(inner), 1e-12)
    return stats.norm.cdf(np.sqrt(width) * rise / spread)


def cosine_by_depth(activation: str, depth: int, width: int = 512, *, bias: bool = True) -> np.ndarray:
    """Mean cosine of independent standard Gaussian inputs after 0, 1, ..., ``depth`` wide layers, shape (depth + 1,).

    Weights N(0, 1/width), biases N(0, 1/width) or none, inputs of dimension ``width``. The recursion of the mean
    squared activation q and the mean product p of two inputs; exact as the width grows.
    """
    check_choice(activation, "activation", ACTIVATIONS)
    depth, width = check_integer(depth, "depth", low=0), check_integer(width, "width", low=1)
    extra = 1 / width if bias else 0.0
    q, p, path = 1.0, 0.0, [0.0]
    for _ in range(depth):
        q, p = _moments(activation, q + extra, p + extra)
        path.append(p / q)
    return np.array(path)


def _moments(activation: str, variance: float, covariance: float) -> tuple[float, float]:
    """E phi(a)² and E phi(a) phi(c) for centred Gaussians a, c of equal variance and the given covariance."""
    c = min(covariance / variance, 1.0)
    if activation in ("linear", "relu", "leaky_relu"):
        # phi(a) = slope a + (1 - slope) [a]+, and E [a]+ c = c / 2, E [a]+ [c]+ = kernel / 2 for unit Gaussians
        slope = {"linear": 1.0, "relu": 0.0, "leaky_relu": LEAK}[activation]
        mixed, kernel = slope * (1 - slope), (1 - slope) ** 2 / 2
        square, product = slope**2 + mixed + kernel, (slope**2 + mixed) * c + kernel * float(relu_kernel(c))
        return variance * square, variance * product
    phi = np.tanh if activation == "tanh" else lambda x: 1 / (1 + np.exp(-x))
    scale = np.sqrt(variance)
    a = phi(scale * _NODES)
    # the second Gaussian is c times the first plus an independent rest: a two-dimensional Gauss-Hermite sum
    b = phi(scale * (c * _NODES[:, None] + np.sqrt(max(1 - c**2, 0.0)) * _NODES[None, :])) @ _WEIGHTS
    return float(_WEIGHTS @ a**2), float(_WEIGHTS @ (a * b))
