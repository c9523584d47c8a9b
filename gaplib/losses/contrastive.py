"""Contrastive losses: InfoNCE across and inside modalities, intra-modality separation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gaplib._validate import check_choice, check_number
from gaplib.pairs import PairedEmbeddings, working
from gaplib.tiled import row_lse, two_way_lse


def clip_loss(pairs: PairedEmbeddings, logit_scale: Tensor | float, *, chunk_size: int | None = None) -> Tensor:
    """Symmetric InfoNCE: cross-entropy of finding the partner, mean of both directions (Radford et al. 2021, Fig. 3).

    Args:
        pairs: n >= 1 pairs; one pair alone has loss 0. With ``pairs.groups`` the target of an item is spread evenly
            over all partners of its group, whose loss then ends at the entropy of that spread and not at 0.
        logit_scale: 1 / tau > 0, a number or a 0-d tensor (its gradient is kept).
        chunk_size: rows a tile; None chooses.

    Returns:
        0-d tensor in [0, inf).

    Raises:
        ValueError: ``logit_scale`` not positive and finite, ``chunk_size`` below 1.
    """
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    chunk = pairs.tile_rows(chunk_size)
    if chunk is not None and pairs.n > 1:
        return _tiled_clip(pairs, logit_scale, chunk).to(pairs.dtype)
    logits = logit_scale * pairs.image_text
    partner = torch.arange(pairs.n, device=logits.device) if pairs.groups is None else _spread(pairs.groups, logits)
    loss = (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2
    return loss.to(pairs.dtype)


def _tiled_clip(pairs: PairedEmbeddings, logit_scale: Tensor | float, chunk: int) -> Tensor:
    x, y = working(pairs.image), working(pairs.text)
    if pairs.groups is None:
        rows, columns = two_way_lse(x, y, logit_scale, exclude_diagonal=True, chunk_size=chunk)
        own = logit_scale * own_products(pairs, "image", "text")
        return (_surprise(rows, own) + _surprise(columns, own)) / 2
    rows, columns = two_way_lse(x, y, logit_scale, chunk_size=chunk)
    # The mean logit over the partners of a group is the product of the group's sums, by its size.
    _, group, size = pairs.groups.unique(return_inverse=True, return_counts=True)
    sums = [z.new_zeros(len(size), z.shape[1]).index_add(0, group, z) for z in (x, y)]
    partners = ((sums[0] * sums[1]).sum(dim=1) / size).sum() / pairs.n
    return (rows.mean() + columns.mean()) / 2 - logit_scale * partners


def _surprise(others: Tensor, own: Tensor) -> Tensor:
    """Mean cross-entropy, from the log-sum-exp of the wrong answers' logits and the logit of the right one.

    log(1 + exp(others - own)): as exact for pairs that are all but certain, where log-sum-exp minus logit is rounding.
    """
    # Beyond its threshold torch takes the function for the identity: 80 is past every digit, and exp(80) is finite.
    return F.softplus(others - own, threshold=80).mean()


def _spread(groups: Tensor, like: Tensor) -> Tensor:
    """Target probabilities (n, n), symmetric: row i is even over the items of i's group."""
    same = (groups[:, None] == groups[None, :]).to(like.dtype)
    return same / same.sum(dim=1, keepdim=True)


def in_modal_loss(
    pairs: PairedEmbeddings,
    logit_scale: Tensor | float,
    *,
    denominator: str = "view",
    chunk_size: int | None = None,
) -> Tensor:
    """(L_V2V + L_T2T) / 2: InfoNCE inside each modality, the positive of an item being its own second view.

    With :func:`clip_loss` the mean of both is L_Con of Jiang et al. 2023, Sec. 4. L_V2V is the mean over j of
    log sum_k exp(s <x_j, z_k>) - s <x_j, x_j'>, where z_k is

    - ``"view"``: x_k', so that rows are an ordinary cross-entropy (in the code of CyCLIP, on which they build), or
    - ``"original"``: x_k, k = j too, as the full text prints it; then the loss may be negative.

    Args:
        pairs: n pairs with ``image_view`` and ``text_view``.
        logit_scale: s = 1 / tau > 0, a number or a 0-d tensor (its gradient is kept).
        denominator: which of both.
        chunk_size: rows a tile; None chooses.

    Raises:
        ValueError: ``logit_scale`` not positive and finite, an unknown ``denominator``, a missing view, ``chunk_size``
            below 1.
    """
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    pairs.needed("in_modal_loss", "image_view", "text_view")
    image, text = (in_modal_rows(pairs, name, logit_scale, denominator, chunk_size) for name in ("image", "text"))
    return ((image + text) / 2).to(pairs.dtype)


def in_modal_rows(
    pairs: PairedEmbeddings, name: str, logit_scale: Tensor | float, denominator: str, chunk_size: int | None
) -> Tensor:
    """One modality of :func:`in_modal_loss`: rows of ``name`` against its view, in the working type."""
    check_choice(denominator, "denominator", ("view", "original"))
    view = f"{name}_view"
    chunk = pairs.tile_rows(chunk_size)
    if chunk is not None and pairs.n > 1:
        x, x_view = working(getattr(pairs, name)), working(getattr(pairs, view))
        own = logit_scale * own_products(pairs, name, view)
        if denominator == "view":
            return _surprise(row_lse(x, x_view, logit_scale, exclude_diagonal=True, chunk_size=chunk), own)
        return (row_lse(x, x, logit_scale, chunk_size=chunk) - own).mean()
    logits = logit_scale * pairs.gram(name, view if denominator == "view" else name)
    if denominator == "view":
        return F.cross_entropy(logits, torch.arange(pairs.n, device=logits.device))
    return (logits.logsumexp(dim=1) - logit_scale * own_products(pairs, name, view)).mean()


def own_products(pairs: PairedEmbeddings, a: str, b: str) -> Tensor:
    """(n,) inner products of row i of one matrix and row i of the other."""
    return (working(getattr(pairs, a)) * working(getattr(pairs, b))).sum(dim=1)


def intra_modality_separation_loss(
    pairs: PairedEmbeddings, logit_scale: Tensor | float, *, chunk_size: int | None = None
) -> Tensor:
    """Items of one modality are pushed apart, the more the less their captions have in common (Eslami & de Melo 2025,
    AlignCLIP, IMSep, as in the authors' code): mean over both modalities of the cross-entropy, identity labels, of

        logits = s (V * (1 - C) + diag(<x_i, y_i>)),    V = X X^T for images, Y Y^T for texts,

    with C the caption similarity and * the product of entries. The authors add the sum of both sides, times .5, to the
    sum of both directions of InfoNCE: in terms of means that is ``clip_loss`` + .5 of this one, times 2.

    Args:
        pairs: n pairs with ``caption_similarity``.
        logit_scale: s = 1 / tau > 0, a number or a 0-d tensor (its gradient is kept).
        chunk_size: rows a tile; None chooses.

    Returns:
        0-d tensor in [0, inf).

    Raises:
        ValueError: ``logit_scale`` not positive and finite, no ``caption_similarity``, ``chunk_size`` below 1.
    """
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    (similarity,) = pairs.needed("intra_modality_separation_loss", "caption_similarity")
    partner = own_products(pairs, "image", "text")
    chunk = pairs.tile_rows(chunk_size)
    if chunk is not None and pairs.n > 1:
        sides = [_tiled_separation(pairs, name, partner, logit_scale, chunk) for name in ("image", "text")]
        return ((sides[0] + sides[1]) / 2).to(pairs.dtype)
    partner, labels = torch.diag_embed(partner), torch.arange(pairs.n, device=pairs.device)
    sides = [
        F.cross_entropy(logit_scale * (pairs.gram(name, name) * (1 - similarity) + partner), labels)
        for name in ("image", "text")
    ]
    return ((sides[0] + sides[1]) / 2).to(pairs.dtype)


def _tiled_separation(
    pairs: PairedEmbeddings, name: str, partner: Tensor, logit_scale: Tensor | float, chunk: int
) -> Tensor:
    (similarity,) = pairs.needed("intra_modality_separation_loss", "caption_similarity")
    x = working(getattr(pairs, name))
    others = row_lse(x, x, logit_scale, discount=similarity, exclude_diagonal=True, chunk_size=chunk)
    own = logit_scale * (own_products(pairs, name, name) * (1 - similarity.diagonal()) + partner)
    return _surprise(others, own)
