"""One primitive for every pairwise loss: a row-wise log-sum-exp over tiles, recomputed in the backward pass.

InfoNCE, uniformity and cross-uniformity all are log-sum-exps of an n x m matrix of inner products. Kept whole, that
matrix and its softmax are the peak of a training step with small towers; in tiles of ``chunk_size`` rows the extra
memory is O(chunk_size * m), and the backward pass computes each tile again instead of storing it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from gaplib._validate import check_integer

# Below this many entries the whole matrix is small beside everything else, and one product is fastest.
DENSE_ENTRIES = 2048 * 2048
DEFAULT_CHUNK = 512


def _logits(x, y, scale, start: int, exclude_diagonal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of one tile, and the same times the scale with the excluded diagonal at minus infinity."""
    products = x @ y.T
    logits = products * scale
    if exclude_diagonal:
        rows = torch.arange(min(len(x), max(0, len(y) - start)), device=x.device)
        logits[rows, rows + start] = -torch.inf
    return products, logits


class _RowLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, y, scale, exclude_diagonal: bool, chunk: int) -> torch.Tensor:
        out = torch.empty(len(x), dtype=x.dtype, device=x.device)
        for start in range(0, len(x), chunk):
            tile = slice(start, start + chunk)
            out[tile] = _logits(x[tile], y, scale, start, exclude_diagonal)[1].logsumexp(dim=1)
        ctx.save_for_backward(x, y, scale, out)
        ctx.exclude_diagonal, ctx.chunk = exclude_diagonal, chunk
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor):
        x, y, scale, out = ctx.saved_tensors
        need_x, need_y, need_scale = ctx.needs_input_grad[:3]
        grad_x = torch.empty_like(x) if need_x else None
        grad_y = torch.zeros_like(y) if need_y else None
        grad_scale = torch.zeros_like(scale) if need_scale else None
        for start in range(0, len(x), ctx.chunk):
            tile = slice(start, start + ctx.chunk)
            products, logits = _logits(x[tile], y, scale, start, ctx.exclude_diagonal)
            weights = logits.sub_(out[tile, None]).exp_().mul_(grad[tile, None])
            if need_scale:
                grad_scale += torch.einsum("ij,ij->", weights, products)
            del products
            if need_x:
                grad_x[tile] = scale * (weights @ y)
            if need_y:
                grad_y.addmm_(weights.T, x[tile] * scale)
        return grad_x, grad_y, grad_scale, None, None


def row_lse(x, y, scale=1.0, *, exclude_diagonal: bool = False, chunk_size: int | None = None) -> torch.Tensor:
    """``log sum_j exp(scale <x_i, y_j>)`` for every row i: shape (n,), with gradients for all three arguments.

    Args:
        x: float tensor of shape (n, d).
        y: float tensor of shape (m, d), of the same type and device.
        scale: a number or a 0-d tensor.
        exclude_diagonal: leave out j = i; then m must be above 1.
        chunk_size: rows a tile. ``None`` takes the dense form (plain autograd) for small matrices, tiles for large
            ones; a number forces tiles of that many rows. Values and gradients are the same.

    Raises:
        ValueError: on shapes that do not fit, mixed types, a chunk below 1, or nothing left to sum.
    """
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, torch.Tensor) or value.ndim != 2 or not value.is_floating_point():
            raise ValueError(f"{name}: expected a float tensor of shape (n, d), got {type(value).__name__}")
    if x.shape[1] != y.shape[1] or x.dtype != y.dtype:
        raise ValueError(f"y: expected d = {x.shape[1]} and {x.dtype}, got d = {y.shape[1]} and {y.dtype}")
    if len(x) == 0 or len(y) < 1 + exclude_diagonal:
        raise ValueError(f"y: expected at least {1 + exclude_diagonal} rows to sum over, got {len(y)} (x has {len(x)})")
    if chunk_size is not None:
        chunk_size = check_integer(chunk_size, "chunk_size", low=1)
    scale = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    if chunk_size is None and len(x) * len(y) <= DENSE_ENTRIES:
        return _logits(x, y, scale, 0, exclude_diagonal)[1].logsumexp(dim=1)
    return _RowLogSumExp.apply(x, y, scale, exclude_diagonal, chunk_size or DEFAULT_CHUNK)


def gaussian_potential_lse(x, y, t: float, *, exclude_diagonal: bool, chunk_size: int | None = None) -> torch.Tensor:
    """``log sum_j exp(-t |x_i - y_j|^2)`` for every row i: the kernel of the uniformity losses, as one :func:`row_lse`.

    Two more coordinates turn the squared distance into an inner product, so that rows need not be unit vectors and the
    gradient keeps its radial part.
    """
    if t <= 0:
        raise ValueError(f"t: expected a number in (0, inf), got {t}")

    def augment(z, first: bool):
        norm, one = -t * z.square().sum(dim=1, keepdim=True), torch.ones_like(z[:, :1])
        return torch.cat([z * (2 * t) ** 0.5, *((norm, one) if first else (one, norm))], dim=1)

    return row_lse(augment(x, True), augment(y, False), exclude_diagonal=exclude_diagonal, chunk_size=chunk_size)
