"""How alike two names are by their words: the semantic distance of AlignCLIP without a sentence encoder."""

from __future__ import annotations

import torch
from torch import Tensor


def caption_similarity(tokens: Tensor) -> Tensor:
    """Cosine of the bags of words of every two texts, float32 (n, n) in [0, 1], symmetric, its diagonal exactly 1.

    tokens: int64 (n, L), 0 = padding. Each word counts as often as it stands in the text, and all words alike: two
    texts without a common word have 0, texts of the same words in any order 1. The unknown token is a word like others.

    AlignCLIP (Eslami & de Melo 2025) takes the cosine of sentence embeddings (all-mpnet-base-v2) here. Character names
    are built from a fixed grammar, where shared words are shared meaning; the measure is exact and needs no download.

    Raises:
        ValueError: unless ``tokens`` is an integer matrix of ids >= 0 with at least one word in each row.
    """
    wanted = "tokens: expected integers (n, L), ids >= 0, with a word in each row"
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{wanted}, got {getattr(tokens, 'dtype', type(tokens).__name__)}")
    if tokens.ndim != 2 or not tokens.numel():
        raise ValueError(f"{wanted}, got shape {tuple(tokens.shape)}")
    if int(tokens.min()) < 0:
        raise ValueError(f"{wanted}, got the id {int(tokens.min())}")
    empty = ~(tokens != 0).any(dim=1)
    if bool(empty.any()):
        raise ValueError(f"{wanted}, got only padding in row {int(empty.nonzero()[0])}")
    used, column = torch.unique(tokens, return_inverse=True)  # only the words at hand get a column
    counts = torch.zeros(len(tokens), len(used), device=tokens.device)
    counts.scatter_add_(1, column, (tokens != 0).float())
    unit = counts / counts.norm(dim=1, keepdim=True)
    return (unit @ unit.T).clamp_(0, 1).fill_diagonal_(1)
