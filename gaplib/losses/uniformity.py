"""Uniformities: log mean Gaussian potentials inside a modality, across both, and of the pairs' centroids."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from gaplib._autograd import apply
from gaplib._validate import check_number, values_are_read
from gaplib.pairs import PairedEmbeddings, working
from gaplib.tiled import gaussian_lse


def uniformity_loss(pairs: PairedEmbeddings, t: float = 2.0, *, chunk_size: int | None = None) -> Tensor:
    """Mean of the two modalities' uniformities, each log mean over i < j of exp(-t |x_i - x_j|²), in [-4t, 0].

    Wang & Isola 2020; L_Uniform of Fahim et al. 2024, Sec. 4, with the mean over pairs, as the authors' code has it
    (the printed sum over pairs differs by a constant, so the gradient is the same).

    Raises:
        ValueError: fewer than two pairs, ``t`` not positive and finite, or ``chunk_size`` below 1.
    """
    _check_kernel(pairs, t)
    image, text = (
        log_sum_kernel(pairs, name, name, t, chunk_size=chunk_size) - _log_off_diagonal(pairs)
        for name in ("image", "text")
    )
    return ((image + text) / 2).to(pairs.dtype)


def cross_uniformity_loss(pairs: PairedEmbeddings, t: float = 2.0, *, chunk_size: int | None = None) -> Tensor:
    """log mean over all i != j of exp(-t |x_i - y_j|²), in [-4t, 0] (L_XUniform of Fahim et al. 2024, Sec. 4).

    Raises:
        ValueError: fewer than two pairs, ``t`` not positive and finite, or ``chunk_size`` below 1.
    """
    _check_kernel(pairs, t)
    total = log_sum_kernel(pairs, "image", "text", t, chunk_size=chunk_size)
    return (total - _log_off_diagonal(pairs)).to(pairs.dtype)


def centroid_uniformity_loss(pairs: PairedEmbeddings, t: float = 2.0, *, chunk_size: int | None = None) -> Tensor:
    """log mean over i < j of exp(-t |m_i - m_j|²), m_i = (x_i + y_i) / |x_i + y_i|, in [-4t, 0] (L_CU of Grassucci et
    al. 2026, in the form of the authors' code, which normalises the centroids).

    Raises:
        ValueError: fewer than two pairs, ``t`` not positive and finite, ``chunk_size`` below 1, or a pair that points
            exactly apart (its centroid has no direction).
    """
    _check_kernel(pairs, t)
    centroid = working(pairs.image) + working(pairs.text)
    norm = centroid.norm(dim=1, keepdim=True)
    if values_are_read() and bool((norm == 0).any()):
        raise ValueError(
            f"pairs: expected pairs whose mean has a direction, got opposite ones in pair {int(norm.argmin())}"
        )
    centroids = PairedEmbeddings(centroid / norm, centroid / norm, check=False)
    total = log_sum_kernel(centroids, "image", "image", t, chunk_size=chunk_size)
    return (total - _log_off_diagonal(pairs)).to(pairs.dtype)


def check_sharpness(t: float) -> None:
    """Raise ``ValueError`` unless ``t`` is a plain number above 0."""
    check_number(t, "t", low=0, low_open=True)
    if not isinstance(t, Real):
        raise ValueError(f"t: expected a plain number, got {type(t).__name__}")


def _check_kernel(pairs: PairedEmbeddings, t: float) -> None:
    check_sharpness(t)
    if pairs.n < 2:
        raise ValueError(f"pairs: expected at least 2 pairs (uniformity compares pairs), got {pairs.n}")


def _log_off_diagonal(pairs: PairedEmbeddings) -> float:
    return math.log(pairs.n * (pairs.n - 1))


def log_sum_kernel(
    pairs: PairedEmbeddings, a: str, b: str, t: float, *, diagonal: bool = False, chunk_size: int | None = None
) -> Tensor:
    """log of the sum over i != j (with ``diagonal``: over all i, j) of exp(-t |a_i - b_j|²), for two matrices by name.

    The one place where the uniformities touch an n x n matrix. The norms are kept although rows are unit vectors, so
    that the gradient is that of the distance itself and not of its restriction to the sphere.
    """
    chunk = pairs.tile_rows(chunk_size, symmetric=a == b)
    if chunk is not None:
        x, y = (working(getattr(pairs, name)) for name in (a, b))
        return gaussian_lse(x, None if a == b else y, t, exclude_diagonal=not diagonal, chunk_size=chunk)
    norms = {name: working(getattr(pairs, name)).square().sum(dim=1) for name in (a, b)}
    # A view, so that no tensor is passed twice where a is b: such a gradient is easily lost (:mod:`gaplib._autograd`).
    other = norms[b].view_as(norms[b])
    total, top, _ = apply(_SumKernel, pairs.gram(a, b), norms[a], other, t, diagonal)
    return total.log() + top


class _SumKernel(torch.autograd.Function):
    """Sum over i != j (or all i, j) of w_ij = exp(t (2 G_ij - a_i - b_j) - top), the constant ``top``, and the w_ij.

    Written out because its gradient is the matrix of weights that the forward pass has made already: plain autograd
    would keep and make several more matrices of that size, which is most of the time of a small step. The weights are
    an output so that the gradient, made of them, has a gradient itself.
    """

    @staticmethod
    def forward(ctx: Any, gram: Tensor, a: Tensor, b: Tensor, t: float, diagonal: bool) -> tuple[Tensor, ...]:
        weights = torch.add(-t * b[None, :], gram, alpha=2 * t).sub_(t * a[:, None])
        if not diagonal:
            weights.fill_diagonal_(-torch.inf)
        top = weights.amax()
        total = weights.sub_(top).exp_().sum()
        ctx.save_for_backward(weights)
        ctx.t = t
        ctx.mark_non_differentiable(top)
        ctx.set_materialize_grads(False)  # nothing but a gradient of this gradient asks for that of the weights
        return total, top, weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None, grad_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        weights = weights * sum(2 * ctx.t * z for z in (grad, grad_weights) if z is not None)
        return weights, weights.sum(dim=1) / -2, weights.sum(dim=0) / -2, None, None
