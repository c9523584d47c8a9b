"""Losses that compare two geometries: cyclic terms, geometric consistency, the Brownian bridge.

Each is a sum over n² products of small differences. Written out, with D = X - Y and S = X + Y,

    X X^T - Y Y^T = (D S^T + S D^T) / 2        X Y^T - Y X^T = (D S^T - S D^T) / 2

so that squared norms need two d x d matrices and no n x n one. They are computed from differences in float64: near
alignment the differences of inner products have lost all their digits in float32.
"""

from __future__ import annotations

from torch import Tensor

from gaplib._validate import as_float64, check_number, values_are_read
from gaplib.pairs import PairedEmbeddings


def cyclic_loss(pairs: PairedEmbeddings) -> Tensor:
    """In-modal plus cross-modal consistency, (1/n) sum over all j, k of (<x_j, x_k> - <y_j, y_k>)² + (<x_j, y_k> -
    <x_k, y_j>)², in [0, inf) (Goel et al. 2022, CyCLIP, as in the authors' code, which weighs both terms .25 each).

    The sum of both is (1/n) sum over j, k of <x_j - y_j, x_k + y_k>²: zero where the pairs coincide, but also where all
    the differences are orthogonal to all the sums, as with a gap that is constant and orthogonal to the rest.
    """
    return _rounded(_cyclic(pairs) / pairs.n, pairs)


def geometric_consistency_loss(pairs: PairedEmbeddings) -> Tensor:
    """L_GC + L_GC^a of Jiang et al. 2023, Sec. 4.3, in [0, inf): the cyclic terms, plus consistency of both views:
    (1/n) sum over j, k of (<x_j, x_k> - <x_j', x_k'>)² + (<y_j, y_k> - <y_j', y_k'>)², plus (1/n) sum over j of
    (<x_j, y_j> - <x_j', y_j'>)².

    Raises:
        ValueError: pairs without ``image_view`` or ``text_view``.
    """
    image_view, text_view = pairs.needed("geometric_consistency_loss", "image_view", "text_view")
    views = _in_modal(pairs.image, image_view) + _in_modal(pairs.text, text_view)
    x, y, x_view, y_view = (as_float64(z) for z in (pairs.image, pairs.text, image_view, text_view))
    # <x, y> - <x', y'> from differences, which keeps its digits where the views nearly coincide.
    partners = ((x - x_view) * y + x_view * (y - y_view)).sum(dim=1).square().sum()
    return _rounded((_cyclic(pairs) + views + partners) / pairs.n, pairs)


def brownian_bridge_loss(pairs: PairedEmbeddings, t: float = 0.25) -> Tensor:
    """(1/n) sum over j of |x_j' - mu_j|², mu_j = (t x_j + (1 - t) y_j) / |t x_j + (1 - t) y_j|, in [0, 4]: the second
    view of an image is drawn to the path from its text to the image (Jiang et al. 2023, Sec. 4.2, first line of the
    loss; the printed second line is not equal to it).

    Args:
        pairs: n pairs with ``image_view``.
        t: place on the path, in [0, 1]: 0 is the text, 1 the image. The paper has .25.

    Raises:
        ValueError: pairs without ``image_view``, ``t`` outside [0, 1], or a pair whose mean is zero.
    """
    check_number(t, "t", low=0, high=1)
    (view,) = pairs.needed("brownian_bridge_loss", "image_view")
    mean = t * as_float64(pairs.image) + (1 - t) * as_float64(pairs.text)
    norm = mean.norm(dim=1, keepdim=True)
    if values_are_read() and bool((norm == 0).any()):
        raise ValueError(
            f"pairs: expected image and text whose mean has a direction, got opposite ones in pair {int(norm.argmin())}"
        )
    return _rounded((as_float64(view) - mean / norm).square().sum(dim=1).mean(), pairs)


def _rounded(loss: Tensor, pairs: PairedEmbeddings) -> Tensor:
    """The loss in the embeddings' type, on their device (which may have no float64: in this order)."""
    return loss.to(pairs.dtype).to(pairs.device)


def _cyclic(pairs: PairedEmbeddings) -> Tensor:
    """Both cyclic terms, summed over all j and k."""
    return _mixed_norm(*_difference_and_sum(pairs.image, pairs.text))


def _difference_and_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = as_float64(x), as_float64(y)
    return x - y, x + y


def _mixed_norm(difference: Tensor, total: Tensor) -> Tensor:
    """|D S^T|², by the smaller of two forms."""
    n, d = difference.shape
    if n < d:
        return (difference @ total.T).square().sum()
    return ((difference.T @ difference) * (total.T @ total)).sum()


def _in_modal(x: Tensor, y: Tensor) -> Tensor:
    """|X X^T - Y Y^T|², summed over all entries: |D S^T + S D^T|² / 4."""
    difference, total = _difference_and_sum(x, y)
    n, d = difference.shape
    if n < d:
        half = difference @ total.T
        return (half + half.T).square().sum() / 4
    cross = total.T @ difference
    return (_mixed_norm(difference, total) + (cross * cross.T).sum()) / 2
