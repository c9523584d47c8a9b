"""Distances of the true pairs: alignment, and its inverse-square form."""

from __future__ import annotations

from torch import Tensor

from gaplib._validate import values_are_read
from gaplib.pairs import PairedEmbeddings, working


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
    if values_are_read() and bool(loss.isinf()):
        worst = int(cosine.detach().abs().argmin())
        raise ValueError(
            f"pairs: expected true pairs that are not orthogonal, got a cosine of {float(cosine[worst]):.3g} in pair "
            f"{worst} (1/cos² is infinite)"
        )
    return loss
