"""Deep feature separation: features that one modality keeps for itself."""

from __future__ import annotations

import math

from torch import Tensor

from gaplib._validate import check_number
from gaplib.losses.contrastive import in_modal_rows
from gaplib.losses.uniformity import check_sharpness, log_sum_kernel
from gaplib.pairs import PairedEmbeddings, working


def deep_feature_separation_loss(
    pairs: PairedEmbeddings,
    logit_scale: Tensor | float = 1 / 0.07,
    t: float = 2.0,
    *,
    denominator: str = "view",
    chunk_size: int | None = None,
) -> Tensor:
    """L_Ortho + L_Con^i + L_Uni^i of Jiang et al. 2023, Sec. 4.1, unit weights. With u_j and v_j the private features
    of image and text, u_j' and v_j' those of their second views:

    - L_Ortho = (1/n) sum_j <x_j, u_j>² + <y_j, v_j>²: private features orthogonal to the shared ones,
    - L_Con^i = the sum of both modalities' in-modal InfoNCE on private features, own second view as the positive,
    - L_Uni^i = log (1/n) sum over all j, k (j = k too) of exp(-t |u_j - u_k|²) + exp(-t |v_j - v_k|²).

    Open in the paper and chosen here: the positive (printed as the feature itself; it must be the view, or the term has
    no data in it), the temperature (that of its setting's towers at the start), the ``denominator`` (see
    :func:`~gaplib.losses.in_modal_loss`), and no stop-gradients.

    Args:
        pairs: n pairs with ``image_private``, ``text_private``, ``image_private_view``, ``text_private_view``, the
            private ones of the shared dimension.
        logit_scale: 1 / tau > 0 of L_Con^i, a number or a 0-d tensor.
        t: sharpness of L_Uni^i.
        denominator: ``"view"`` or ``"original"``.
        chunk_size: rows a tile; None chooses.

    Raises:
        ValueError: one of the four private matrices is missing or of another dimension than the shared space;
            ``logit_scale`` or ``t`` not positive and finite; an unknown ``denominator``; ``chunk_size`` below 1.
    """
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    check_sharpness(t)
    names = ("image_private", "text_private", "image_private_view", "text_private_view")
    image, text, _, _ = pairs.needed("deep_feature_separation_loss", *names)
    if image.shape[1] != pairs.dim:
        raise ValueError(
            f"image_private: expected the dimension of image ({pairs.dim}) for inner products between them, "
            f"got {image.shape[1]}"
        )
    ortho = sum(
        (working(shared) * working(private)).sum(dim=1).square().mean()
        for shared, private in ((pairs.image, image), (pairs.text, text))
    )
    contrast = sum(in_modal_rows(pairs, name, logit_scale, denominator, chunk_size) for name in names[:2])
    spread = [log_sum_kernel(pairs, name, name, t, diagonal=True, chunk_size=chunk_size) for name in names[:2]]
    uniform = spread[0].logaddexp(spread[1]) - math.log(pairs.n)
    return (ortho + contrast + uniform).to(pairs.dtype)
