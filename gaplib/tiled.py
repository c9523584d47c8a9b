"""One primitive for every pairwise loss: log-sum-exps over tiles of rows, recomputed in the backward pass.

InfoNCE, the uniformities and intra-modality separation all are log-sum-exps of an n x m matrix of inner products, by
rows, by rows and columns, or of everything. Kept whole, that matrix and its softmax are the peak of a training step
with small towers; in tiles of ``chunk_size`` rows the extra memory is O(chunk_size * m + (n + m) * d), and the backward
pass computes each tile again instead of storing it. A gradient that is to be differentiated itself (``create_graph``)
is that of the dense form, and takes its memory.

With a_ij = scale <x_i, y_j> (1 - discount_ij) + row_bias_i + column_bias_j,

    row_lse        log sum_j exp(a_ij) for every i
    two_way_lse    that, and log sum_i exp(a_ij) for every j, of the same tiles
    gaussian_lse   log sum_ij exp(-t |x_i - y_j|²): the norms are the biases; for y = x, half of the tiles will do
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gaplib._autograd import apply, differentiable_gradients
from gaplib._validate import check_integer, check_number

# Up to so many entries the dense form is fastest. Of a matrix of distances within one set, tiles compute only half.
DENSE_ENTRIES = 4096 * 4096
DENSE_ENTRIES_SYMMETRIC = 2048 * 2048
# One tile; some three exist at a time. On a CPU they should stay in its cache; a GPU idles over thin products.
TILE_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
TILE_ROWS = {"cpu": 256, "cuda": 4096}


def tile_rows(n: int, m: int, like: Tensor, chunk_size: int | None, *, symmetric: bool = False) -> int | None:
    """Rows a tile for an n x m matrix, or None where the dense form is to be taken: a small matrix and no
    ``chunk_size``. Raises ``ValueError`` for a ``chunk_size`` that is not a whole number above 0."""
    if chunk_size is not None:
        return check_integer(chunk_size, "chunk_size", low=1)
    if n * m <= (DENSE_ENTRIES_SYMMETRIC if symmetric else DENSE_ENTRIES):
        return None
    device = "cuda" if like.device.type == "cuda" else "cpu"
    return max(1, min(TILE_ROWS[device], TILE_BYTES[device] // (m * max(4, like.element_size()))))


@dataclass(frozen=True)
class _Plan:
    """How the entries are made and what is summed up."""

    reduce: str  # "rows", "both" or "all"
    chunk: int
    exclude_diagonal: bool = False
    symmetric: bool = False  # y is x and "all": entries j > i alone, twice; gradients go to x and row_bias

    def tiles(self, n: int) -> Iterator[tuple[slice, slice]]:
        """Rows of each tile, and the columns it has."""
        for start in range(0, n, self.chunk):
            yield slice(start, min(start + self.chunk, n)), slice(start if self.symmetric else 0, None)


def _entries(
    plan: _Plan,
    rows: slice,
    columns: slice,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    discount: Tensor | None,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
) -> Tensor:
    """One tile of a_ij, what does not count at minus infinity."""
    tile = x[rows] @ y[columns].T
    tile *= scale
    if discount is not None:
        tile *= 1 - discount[rows, columns]
    if row_bias is not None:
        tile += row_bias[rows, None]
    if column_bias is not None:
        tile += column_bias[columns]
    if plan.symmetric:
        block = tile[:, : len(tile)]
        block.masked_fill_(torch.ones_like(block, dtype=torch.bool).tril_(), -torch.inf)
    elif plan.exclude_diagonal:
        tile[:, rows.start :].fill_diagonal_(-torch.inf)
    return tile


class _TiledLogSumExp(torch.autograd.Function):
    """Two outputs: by rows (or of everything, 0-d), and by columns (empty unless asked for)."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: _Plan,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        discount: Tensor | None,
        row_bias: Tensor | None,
        column_bias: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        inputs = (x, y, scale, discount, row_bias, column_bias)
        first = x.new_full(() if plan.reduce == "all" else (len(x),), -torch.inf)
        second = x.new_full((len(y) if plan.reduce == "both" else 0,), -torch.inf)
        with torch.autocast(x.device.type, enabled=False):
            for rows, columns in plan.tiles(len(x)):
                tile = _entries(plan, rows, columns, *inputs)
                if plan.reduce == "all":
                    first = torch.logaddexp(first, tile.flatten().logsumexp(dim=0))
                    continue
                first[rows] = tile.logsumexp(dim=1)
                if plan.reduce == "both":
                    second = torch.logaddexp(second, tile.logsumexp(dim=0))
        if plan.symmetric:
            first = first + x.new_tensor(2.0).log()
        ctx.plan = plan
        ctx.save_for_backward(*inputs, first, second)
        return first, second

    @staticmethod
    def backward(ctx: Any, grad_first: Tensor, grad_second: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        *inputs, first, second = ctx.saved_tensors
        x, y, scale, discount = inputs[:4]
        # (x, y, scale, discount, row_bias, column_bias); the discount is a constant.
        needed = [need and i != 3 for i, need in enumerate(ctx.needs_input_grad[1:])]
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated
            given = [grad_first, grad_second][: 1 + (plan.reduce == "both")]
            return None, *differentiable_gradients(partial(_plain, plan), inputs, needed, given)
        grads = [torch.zeros_like(z) if need else None for z, need in zip(inputs, needed, strict=True)]
        grad_x, grad_y, grad_scale, _, grad_row, grad_column = grads
        with torch.autocast(x.device.type, enabled=False):
            for rows, columns in plan.tiles(len(x)):
                tile = _entries(plan, rows, columns, *inputs)
                by_column = None
                if plan.reduce == "both":
                    by_column = tile.sub(second[columns]).exp_().mul_(grad_second[columns])
                if plan.reduce == "all":
                    weights = tile.sub_(first).exp_().mul_(2 * grad_first if plan.symmetric else grad_first)
                else:
                    weights = tile.sub_(first[rows, None]).exp_().mul_(grad_first[rows, None])
                if by_column is not None:
                    weights += by_column
                    del by_column
                if grad_row is not None:
                    grad_row[rows] += weights.sum(dim=1)
                target = grad_row if plan.symmetric else grad_column
                if target is not None:
                    target[columns] += weights.sum(dim=0)
                if discount is not None:
                    weights *= 1 - discount[rows, columns]
                if grad_scale is not None or grad_x is not None:
                    by_row = weights @ y[columns]
                    if grad_scale is not None:
                        # sum_ij w_ij <x_i, y_j>; the products themselves are overwritten.
                        grad_scale += (by_row * x[rows]).sum()
                    if grad_x is not None:
                        grad_x[rows] += by_row
                target = grad_x if plan.symmetric else grad_y
                if target is not None:
                    target[columns].addmm_(weights.T, x[rows])
                del tile, weights
            for grad in (grad_x, grad_y):
                if grad is not None:
                    grad *= scale
        return None, *grads


def row_lse(
    x: Tensor,
    y: Tensor,
    scale: Tensor | float = 1.0,
    *,
    discount: Tensor | None = None,
    exclude_diagonal: bool = False,
    chunk_size: int | None = None,
) -> Tensor:
    """``log sum_j exp(scale <x_i, y_j> (1 - discount_ij))`` for every row i: shape (n,), differentiable in x, y, scale.

    Args:
        x: float tensor of shape (n, d).
        y: float tensor of shape (m, d), of the same type and device.
        scale: a number or a 0-d tensor.
        discount: (n, m), a constant; None for none.
        exclude_diagonal: leave out j = i; then m must be above 1.
        chunk_size: rows a tile. ``None`` takes the dense form (plain autograd) for small matrices, tiles for large
            ones; a number forces tiles of that many rows. Values and gradients are the same.

    Raises:
        ValueError: on shapes that do not fit, mixed types, a chunk below 1, or nothing left to sum.
    """
    scale = _checked(x, y, scale, exclude_diagonal)
    if discount is not None and discount.shape != (len(x), len(y)):
        raise ValueError(f"discount: expected shape {(len(x), len(y))}, got {tuple(discount.shape)}")
    chunk = tile_rows(len(x), len(y), x, chunk_size)
    if chunk is None:
        return _dense(x, y, scale, discount, exclude_diagonal).logsumexp(dim=1)
    plan = _Plan("rows", chunk, exclude_diagonal)
    return apply(_TiledLogSumExp, plan, x, y, scale, discount, None, None)[0]


def two_way_lse(
    x: Tensor,
    y: Tensor,
    scale: Tensor | float = 1.0,
    *,
    exclude_diagonal: bool = False,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``row_lse`` of both directions from one pass: log sum_j exp(a_ij), shape (n,), and log sum_i exp(a_ij), shape
    (m,). Arguments and errors as for :func:`row_lse`; without the diagonal, n must be above 1 too."""
    scale = _checked(x, y, scale, exclude_diagonal)
    if len(x) < 1 + exclude_diagonal:
        raise ValueError(f"x: expected at least {1 + exclude_diagonal} rows to sum over, got {len(x)}")
    chunk = tile_rows(len(x), len(y), x, chunk_size)
    if chunk is None:
        logits = _dense(x, y, scale, None, exclude_diagonal)
        return logits.logsumexp(dim=1), logits.logsumexp(dim=0)
    return apply(_TiledLogSumExp, _Plan("both", chunk, exclude_diagonal), x, y, scale, None, None, None)


def gaussian_lse(
    x: Tensor, y: Tensor | None, t: float, *, exclude_diagonal: bool = False, chunk_size: int | None = None
) -> Tensor:
    """``log sum_ij exp(-t |x_i - y_j|²)``, 0-d: the sum inside the uniformity losses, always in tiles.

    Rows need not be unit vectors, and the gradient keeps its radial part. ``y`` None stands for ``x``: then only the
    entries above the diagonal are computed.

    Raises:
        ValueError: as :func:`row_lse`, or ``t`` not positive and finite.
    """
    check_number(t, "t", low=0, low_open=True)
    same, y = y is None, x if y is None else y
    scale = _checked(x, y, 2 * t, exclude_diagonal)
    symmetric = same and len(x) > 1
    row_bias = -t * x.square().sum(dim=1)
    other, column_bias = (x.detach(), row_bias.detach()) if symmetric else (y, -t * y.square().sum(dim=1))
    chunk = tile_rows(len(x), len(other), x, chunk_size, symmetric=symmetric) or len(x)
    plan = _Plan("all", chunk, exclude_diagonal, symmetric)
    total = apply(_TiledLogSumExp, plan, x, other, scale, None, row_bias, column_bias)[0]
    if symmetric and not exclude_diagonal:
        # Distance zero: n times exp(0).
        return total.logaddexp(total.new_tensor(float(len(x))).log())
    return total


def _checked(x: Tensor, y: Tensor, scale: Tensor | float, exclude_diagonal: bool) -> Tensor:
    """The scale as a 0-d tensor, after the tests that all forms share."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, torch.Tensor) or value.ndim != 2 or not value.is_floating_point():
            raise ValueError(f"{name}: expected a float tensor of shape (n, d), got {type(value).__name__}")
    if x.shape[1] != y.shape[1] or x.dtype != y.dtype:
        raise ValueError(f"y: expected d = {x.shape[1]} and {x.dtype}, got d = {y.shape[1]} and {y.dtype}")
    if len(x) == 0 or len(y) < 1 + exclude_diagonal:
        raise ValueError(f"y: expected at least {1 + exclude_diagonal} rows to sum over, got {len(y)} (x has {len(x)})")
    return torch.as_tensor(scale, dtype=x.dtype, device=x.device)


def _dense(x: Tensor, y: Tensor, scale: Tensor, discount: Tensor | None, exclude_diagonal: bool) -> Tensor:
    """All entries at once, by plain autograd."""
    logits = x @ y.T * scale
    if discount is not None:
        logits = logits * (1 - discount)
    if exclude_diagonal:
        logits = logits.masked_fill(torch.eye(*logits.shape, dtype=torch.bool, device=x.device), -torch.inf)
    return logits


def _plain(
    plan: _Plan,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    discount: Tensor | None,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
) -> Tensor | tuple[Tensor, Tensor]:
    """What ``_TiledLogSumExp`` is, by plain autograd."""
    if plan.symmetric:
        y, column_bias = x, row_bias
    logits = _dense(x, y, scale, discount, plan.exclude_diagonal or plan.symmetric)
    if row_bias is not None and column_bias is not None:
        logits = logits + row_bias[:, None] + column_bias
    if plan.reduce == "all":
        return logits.flatten().logsumexp(dim=0)
    rows = logits.logsumexp(dim=1)
    return (rows, logits.logsumexp(dim=0)) if plan.reduce == "both" else rows
