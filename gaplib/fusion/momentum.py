"""Momentum encoders: a copy of the encoders that follows them slowly, by torch's own averaged models.

After each step m <- decay * m + (1 - decay) * w: ALBEF's second pair of encoders (Li et al. 2021, Sec. 3.2). They give
the other side of the contrastive loss, its soft targets, and the second views of the regularisers.
"""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gaplib._validate import check_number


def momentum_copy(encoders: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``encoders`` without gradient; call it as them, and ``update_parameters(encoders)`` after each step.

    It starts equal to the encoders. ``decay`` in [0, 1): share that stays at an update; ``ValueError`` otherwise.
    """
    check_number(decay, "decay", low=0, high=1, high_open=True)
    copy = AveragedModel(encoders, multi_avg_fn=get_ema_multi_avg_fn(decay))
    copy.n_averaged += 1  # the copy counts as the first model: else the first update would overwrite it
    return copy.requires_grad_(False)
