"""The pairwise sigmoid loss, dense and in tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaplib._autograd import apply, differentiable_gradients
from gaplib._validate import check_number
from gaplib.pairs import PairedEmbeddings, working


def siglip_loss(
    pairs: PairedEmbeddings, logit_scale: Tensor | float, bias: Tensor | float, *, chunk_size: int | None = None
) -> Tensor:
    """Pairwise sigmoid loss: -(1/n) sum over all i, j of log sigmoid(z_ij (logit_scale <x_i, y_j> + bias)), z = +1 on
    the diagonal and -1 off it (Zhai et al. 2023; the sum over n² pairs divided by n, as in open_clip's ``SigLipLoss``).

    Args:
        pairs: n >= 1 pairs.
        logit_scale: 1 / tau > 0, a number or a 0-d tensor.
        bias: any finite number or 0-d tensor; the paper starts at -10.
        chunk_size: rows a tile; None chooses.

    Returns:
        0-d tensor in (0, inf).

    Raises:
        ValueError: ``logit_scale`` not positive and finite, ``bias`` not finite, pairs with ``groups``, or
            ``chunk_size`` below 1.
    """
    if pairs.groups is not None:
        raise ValueError("pairs: expected no groups, several right answers are an option of clip_loss alone")
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    check_number(bias, "bias")
    chunk = pairs.tile_rows(chunk_size)
    if chunk is not None:
        x, y = working(pairs.image), working(pairs.text)
        scale, bias = (torch.as_tensor(z, dtype=x.dtype, device=x.device) for z in (logit_scale, bias))
        return (apply(_TiledSigmoid, x, y, scale, bias, chunk) / pairs.n).to(pairs.dtype)
    return (_dense(logit_scale * pairs.image_text + bias) / pairs.n).to(pairs.dtype)


def _dense(logits: Tensor) -> Tensor:
    """The sum over all i, j, by plain autograd."""
    # The sign is turned on the diagonal only: cheaper than a matrix of labels.
    signed = -logits + torch.diag_embed(2 * logits.diagonal())
    return -F.logsigmoid(signed).sum()


def _plain(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """What ``_TiledSigmoid`` is, by plain autograd."""
    return _dense(scale * (x @ y.T) + bias)


class _TiledSigmoid(torch.autograd.Function):
    """Sum over all i, j of -log sigmoid(z_ij (scale <x_i, y_j> + bias)); tiles are made again in the backward pass.

    torch.utils.checkpoint would do, but loads torch's compiler on first use: seconds.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(x, y, scale, bias)
        ctx.chunk = chunk
        total = x.new_zeros(())
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), chunk):
                sign, logits = _tile(x[start : start + chunk], y, scale, bias, start)
                total -= F.logsigmoid(logits.mul_(sign)).sum()
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated
            return *differentiable_gradients(_plain, ctx.saved_tensors, ctx.needs_input_grad[:4], [grad]), None
        grad_x, grad_y, grad_scale, grad_bias = (torch.zeros_like(z) for z in (x, y, scale, bias))
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), ctx.chunk):
                rows = slice(start, start + ctx.chunk)
                sign, logits = _tile(x[rows], y, scale, bias, start)
                weights = logits.mul_(sign).neg_().sigmoid_().mul_(sign).mul_(-grad)
                by_row = weights @ y
                grad_bias += weights.sum()
                grad_scale += (by_row * x[rows]).sum()
                grad_x[rows] = by_row * scale
                grad_y.addmm_(weights.T, x[rows])
        return grad_x, grad_y.mul_(scale), grad_scale, grad_bias, None


def _tile(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Signs and logits of the rows from ``start`` on."""
    logits = (x @ y.T).mul_(scale).add_(bias)
    sign = torch.full_like(logits, -1)
    sign[:, start:].fill_diagonal_(1)
    return sign, logits
