"""Contrastive losses and the regularisers that act on the gap: functions of :class:`~gaplib.pairs.PairedEmbeddings`.

Notation: x_i and y_i are image and text of pair i, n the number of pairs. Every function returns a 0-d tensor in the
embeddings' type, with gradient; half types are computed in float32 and rounded once, at the end. Natural logarithms.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gaplib._validate import check_number
from gaplib.pairs import PairedEmbeddings, working

__all__ = [
    "alignment_loss",
    "clip_loss",
    "cross_uniformity_loss",
    "inverse_square_alignment_loss",
    "siglip_loss",
    "uniformity_loss",
]


def clip_loss(pairs: PairedEmbeddings, logit_scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: cross-entropy of finding the partner, mean of both directions (Radford et al. 2021, Fig. 3).

    Args:
        pairs: n >= 1 pairs; one pair alone has loss 0. With ``pairs.groups`` the target of an item is spread evenly
            over all partners of its group, whose loss then ends at the entropy of that spread and not at 0.
        logit_scale: 1 / tau > 0, a number or a 0-d tensor (its gradient is kept).

    Returns:
        0-d tensor in [0, inf).

    Raises:
        ValueError: ``logit_scale`` not positive and finite.
    """
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    logits = logit_scale * pairs.image_text
    partner = torch.arange(pairs.n, device=logits.device) if pairs.groups is None else _spread(pairs.groups, logits)
    loss = (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2
    return loss.to(pairs.dtype)


def _spread(groups: Tensor, like: Tensor) -> Tensor:
    """Target probabilities (n, n), symmetric: row i is even over the items of i's group."""
    same = (groups[:, None] == groups[None, :]).to(like.dtype)
    return same / same.sum(dim=1, keepdim=True)


def siglip_loss(pairs: PairedEmbeddings, logit_scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Pairwise sigmoid loss: -(1/n) sum over all i, j of log sigmoid(z_ij (logit_scale <x_i, y_j> + bias)), z = +1 on
    the diagonal and -1 off it (Zhai et al. 2023; the sum over n² pairs divided by n, as in open_clip's ``SigLipLoss``).

    Args:
        pairs: n >= 1 pairs.
        logit_scale: 1 / tau > 0, a number or a 0-d tensor.
        bias: any finite number or 0-d tensor; the paper starts at -10.

    Returns:
        0-d tensor in (0, inf).

    Raises:
        ValueError: ``logit_scale`` not positive and finite, ``bias`` not finite, or pairs with ``groups``.
    """
    if pairs.groups is not None:
        raise ValueError("pairs: expected no groups, several right answers are an option of clip_loss alone")
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    check_number(bias, "bias")
    logits = logit_scale * pairs.image_text + bias
    # The sign is turned on the diagonal only: cheaper than a matrix of labels.
    signed = -logits + torch.diag_embed(2 * logits.diagonal())
    return (-F.logsigmoid(signed).sum() / pairs.n).to(pairs.dtype)


def alignment_loss(pairs: PairedEmbeddings) -> Tensor:
    """Mean squared distance of the true pairs, (1/n) sum_i |x_i - y_i|², in [0, 4] (Wang & Isola 2020 with alpha = 2;
    L_Align of Fahim et al. 2024, Sec. 4)."""
    # From the differences, not from the Gram matrix: 2 - 2 cos loses all digits where the pairs nearly coincide.
    difference = working(pairs.image) - working(pairs.text)
    return difference.square().sum(dim=1).mean().to(pairs.dtype)


def inverse_square_alignment_loss(pairs: PairedEmbeddings) -> Tensor:
    """(1/n) sum_i 1 / <x_i, y_i>², in [1, inf), the alignment loss as printed by Jiang et al. 2023 (Sec. 3).

    Blind to the sign of the cosine: a pair that points apart is pushed to point exactly apart, where the loss is as low
    as at perfect alignment. Singular at a cosine of 0, with a gradient that grows as 1 / |cos|³; nothing caps it, so
    that what is trained is what was printed.

    Raises:
        ValueError: a pair that is orthogonal, or so nearly that the loss exceeds the range of its type.
    """
    cosine = (working(pairs.image) * working(pairs.text)).sum(dim=1)
    loss = cosine.pow(-2).mean().to(pairs.dtype)
    # NaN embeddings stay a NaN loss, as in every other loss: the training loop says where they came from.
    if bool(loss.isinf()):
        worst = int(cosine.detach().abs().argmin())
        raise ValueError(
            f"pairs: expected true pairs that are not orthogonal, got a cosine of {float(cosine[worst]):.3g} in pair "
            f"{worst} (1/cos² is infinite)"
        )
    return loss


def uniformity_loss(pairs: PairedEmbeddings, t: float = 2.0) -> Tensor:
    """Mean of the two modalities' uniformities, each log mean over i < j of exp(-t |x_i - x_j|²), in [-4t, 0].

    Wang & Isola 2020; L_Uniform of Fahim et al. 2024, Sec. 4, with the mean over pairs, as the authors' code has it
    (the printed sum over pairs differs by a constant, so the gradient is the same).

    Raises:
        ValueError: fewer than two pairs, or ``t`` not positive and finite.
    """
    _check_kernel(pairs, t)
    image, text = _squared_norms(pairs.image), _squared_norms(pairs.text)
    image = _log_mean_kernel(pairs.image_image, image, image, t)
    text = _log_mean_kernel(pairs.text_text, text, text, t)
    return ((image + text) / 2).to(pairs.dtype)


def cross_uniformity_loss(pairs: PairedEmbeddings, t: float = 2.0) -> Tensor:
    """log mean over all i != j of exp(-t |x_i - y_j|²), in [-4t, 0] (L_XUniform of Fahim et al. 2024, Sec. 4).

    Raises:
        ValueError: fewer than two pairs, or ``t`` not positive and finite.
    """
    _check_kernel(pairs, t)
    image, text = _squared_norms(pairs.image), _squared_norms(pairs.text)
    return _log_mean_kernel(pairs.image_text, image, text, t).to(pairs.dtype)


def _check_kernel(pairs: PairedEmbeddings, t: float) -> None:
    check_number(t, "t", low=0, low_open=True)
    if not isinstance(t, Real):
        raise ValueError(f"t: expected a plain number, got {type(t).__name__}")
    if pairs.n < 2:
        raise ValueError(f"pairs: expected at least 2 pairs (uniformity compares pairs), got {pairs.n}")


def _squared_norms(x: Tensor) -> Tensor:
    return working(x).square().sum(dim=1)


def _log_mean_kernel(gram: Tensor, norms_a: Tensor, norms_b: Tensor, t: float) -> Tensor:
    """log mean over i != j of exp(-t |a_i - b_j|²), from inner products and squared norms.

    The one place where the uniformities touch an n x n matrix. The norms are kept although rows are unit vectors, so
    that the gradient is that of the distance itself and not of its restriction to the sphere.
    """
    n = gram.shape[0]
    return _LogSumKernel.apply(gram, norms_a, norms_b, t) - math.log(n * (n - 1))


class _LogSumKernel(torch.autograd.Function):
    """log of the sum over i != j of exp(t (2 G_ij - a_i - b_j)).

    Written out because its gradient is the matrix of weights that the forward pass has made already: plain autograd
    would keep and make several more matrices of that size, which is most of the time of a small step.
    """

    @staticmethod
    def forward(ctx: Any, gram: Tensor, a: Tensor, b: Tensor, t: float) -> Tensor:
        weights = torch.add(-t * b[None, :], gram, alpha=2 * t).sub_(t * a[:, None]).fill_diagonal_(-torch.inf)
        top = weights.amax()
        total = weights.sub_(top).exp_().sum()
        ctx.save_for_backward(weights, total)
        ctx.t = t
        return total.log() + top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        weights, total = ctx.saved_tensors
        weights = weights * (2 * ctx.t * grad / total)
        return weights, weights.sum(dim=1) / -2, weights.sum(dim=0) / -2, None
