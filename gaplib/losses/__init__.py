"""Contrastive losses and the regularisers that act on the gap: functions of :class:`~gaplib.pairs.PairedEmbeddings`.

Notation: x_i and y_i are image and text of pair i, x_i' and y_i' their second views, n the number of pairs. Every
function returns a 0-d tensor in the embeddings' type, with gradient; half types are computed in float32 and rounded
once, at the end. Natural logarithms. What a loss needs beyond two embeddings and did not get is a ``ValueError`` that
names the argument of ``PairedEmbeddings`` and the loss.

A loss that compares all pairs takes ``chunk_size``: None is the dense form on Gram matrices that the losses share,
up to a size, and tiles beyond it (:mod:`gaplib.tiled`); a number means tiles of that many rows. Values and gradients
are the same.

A loss may be compiled (``torch.compile``), by itself or within a training step: values and gradients are the same.
Little is won by it. The graph breaks where arguments are checked, so that ``fullgraph=True`` is refused, and the parts
that have written-out gradients (the uniformities, all tiles) run uncompiled.

Gradients may be differentiated again (``create_graph=True``), to any order; tiles then take the memory of the dense
form, several (n, n) matrices. Of a compiled loss, torch refuses second derivatives unless the backend is "eager". The
transforms of ``torch.func`` are refused by the written-out gradients.
"""

from gaplib.losses.alignment import alignment_loss, inverse_square_alignment_loss
from gaplib.losses.consistency import brownian_bridge_loss, cyclic_loss, geometric_consistency_loss
from gaplib.losses.contrastive import clip_loss, in_modal_loss, intra_modality_separation_loss
from gaplib.losses.separation import deep_feature_separation_loss
from gaplib.losses.sigmoid import siglip_loss
from gaplib.losses.uniformity import centroid_uniformity_loss, cross_uniformity_loss, uniformity_loss

__all__ = [
    "alignment_loss",
    "brownian_bridge_loss",
    "centroid_uniformity_loss",
    "clip_loss",
    "cross_uniformity_loss",
    "cyclic_loss",
    "deep_feature_separation_loss",
    "geometric_consistency_loss",
    "in_modal_loss",
    "intra_modality_separation_loss",
    "inverse_square_alignment_loss",
    "siglip_loss",
    "uniformity_loss",
]
