"""What ALBEF pre-trains with (Li et al. 2021, Sec. 3.2 and 3.3): contrast, matching, masked words.

Every loss is a 0-d tensor. Rows of a batch with the same ``groups`` id are right answers to each other: they share the
target of the contrastive loss and are never negatives of the matching loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gaplib._validate import as_float64, check_matrix, check_number
from gaplib.fusion.vocabulary import MASK, SPECIAL


def same_group(groups: Tensor) -> Tensor:
    """bool (n, n): which rows are right answers to each other, from ids (n,)."""
    return groups[:, None] == groups[None, :]


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    image_momentum: Tensor,
    text_momentum: Tensor,
    logit_scale: Tensor | float,
    groups: Tensor,
    soft: float,
) -> Tensor:
    """InfoNCE against the momentum encoders, with soft targets (Li et al. 2021, Eq. 1 and 6), mean of both directions.

    image, text: unit features (n, dim); image_momentum, text_momentum: those of the momentum encoders, without
    gradient. The target of a row is (1 - soft) * (even over its group) + soft * (what the momentum encoders think).
    The queue of older features that ALBEF contrasts with as well is left out: a batch holds enough of this alphabet.

    Raises ``ValueError`` for ``soft`` outside [0, 1] or a scale that is not positive.
    """
    check_number(soft, "soft", low=0, high=1)
    check_number(logit_scale, "logit_scale", low=0, low_open=True)
    same = same_group(groups).to(image.dtype)
    hard = same / same.sum(dim=1, keepdim=True)

    def one_way(query: Tensor, keys: Tensor, query_momentum: Tensor) -> Tensor:
        with torch.no_grad():
            opinion = (logit_scale * query_momentum @ keys.T).softmax(dim=1)
            target = (1 - soft) * hard + soft * opinion
        return F.cross_entropy(logit_scale * query @ keys.T, target)

    return (one_way(image, text_momentum, image_momentum) + one_way(text, image_momentum, text_momentum)) / 2


def hard_negatives(logits: Tensor, groups: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """For every row a wrong column, drawn from softmax(logits) over the columns of other groups; int64 (n,).

    logits: (n, n) scaled similarities; the more alike a wrong pair, the likelier it is drawn (Li et al. 2021, Sec.
    3.2). By Gumbel's trick, in the logarithm: no probability is formed that could underflow to a row of zeros, on which
    ``torch.multinomial`` stops. ``generator``: on the CPU.

    Raises ``ValueError`` for logits with NaN or infinity, or when a row has no column of another group.
    """
    check_matrix(logits, "logits")
    same = same_group(groups)
    if same.shape != logits.shape:
        raise ValueError(f"groups: expected {len(logits)} ids for logits (n, n), got {len(groups)}")
    if bool(same.all(dim=1).any()):
        raise ValueError(
            f"groups: expected a wrong pair for every row, got none (row {int(same.all(dim=1).nonzero()[0])})"
        )
    noise = torch.empty(logits.shape, dtype=torch.float64).exponential_(generator=generator).log_().neg_()
    score = as_float64(logits.detach())
    score = score + noise.to(score.device)
    return score.masked_fill(same.to(score.device), -torch.inf).argmax(dim=1).to(logits.device)


def matching_loss(logits: Tensor, positives: int) -> Tensor:
    """Cross-entropy of "do they belong together?"; (m, 2) logits, the first ``positives`` rows are true pairs."""
    labels = (torch.arange(len(logits), device=logits.device) < positives).long()
    return F.cross_entropy(logits, labels)


def mask_words(tokens: Tensor, count: Tensor | int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Hide ``count`` words (one number, or one a row) of each text int64 (n, L), drawn evenly: (masked tokens, where).

    where: bool (n, L), True at the hidden words; special tokens are never hidden. All become [MASK]: BERT's exceptions
    (a tenth random, a tenth kept) are left out. ``generator``: on the CPU.

    Raises ``ValueError`` for a text with fewer than ``count`` words, or a count below 1.
    """
    words = tokens >= len(SPECIAL)
    count = torch.as_tensor(count, device=tokens.device).expand(len(tokens))
    if bool((count < 1).any()):
        raise ValueError(f"count: expected at least one masked word a text, got {int(count.min())}")
    if bool((count > words.sum(dim=1)).any()):
        row = int((count > words.sum(dim=1)).nonzero()[0])
        raise ValueError(
            f"count: expected at most the {int(words[row].sum())} words of text {row}, got {int(count[row])}"
        )
    order = torch.rand(tokens.shape, generator=generator).to(tokens.device).masked_fill(~words, 2.0)
    where = order.argsort(dim=1).argsort(dim=1) < count[:, None]
    return tokens.masked_fill(where, MASK), where


def masking_loss(logits: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of the hidden words: logits (m, vocabulary), words int64 (m,)."""
    return F.cross_entropy(logits, words)
