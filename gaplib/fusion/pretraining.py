"""One step of pre-training: contrast, matching and masked words, and perhaps a regulariser of Jiang et al. 2023."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from gaplib import losses as gap_losses
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.data import glyphs
from gaplib.fusion import losses
from gaplib.fusion.model import Encoded, FusionModel
from gaplib.fusion.momentum import momentum_copy
from gaplib.fusion.vocabulary import encode
from gaplib.pairs import PairedEmbeddings

#: variant -> its term on the contrastive features (Jiang et al. 2023, Sec. 4.1 to 4.3); None: ALBEF's losses alone
VARIANTS: Mapping[str, Callable[[PairedEmbeddings], Tensor] | None] = MappingProxyType(
    {
        "baseline": None,
        "sep": gap_losses.deep_feature_separation_loss,
        "br": gap_losses.brownian_bridge_loss,
        "gc": gap_losses.geometric_consistency_loss,
    }
)


def needs_private(variant: str) -> bool:
    """Whether a variant has second projection heads; ``ValueError`` for an unknown one."""
    return check_choice(variant, "variant", VARIANTS) == "sep"


class Pretraining(nn.Module):
    """The losses of a step, and the momentum encoders that two of them need.

    weight   of the variant's term >= 0. decay: of the momentum encoders. soft: share of their opinion in the targets of
             the contrastive loss. masked: share of a name's words that is hidden, at least one.
    """

    def __init__(
        self,
        model: FusionModel,
        variant: str = "baseline",
        weight: float = 1.0,
        decay: float = 0.9,
        soft: float = 0.4,
        masked: float = 0.25,
    ):
        super().__init__()
        if needs_private(variant) != model.size.private:
            raise ValueError(f"model: expected private={needs_private(variant)} for {variant!r}, got the opposite")
        self.model, self.variant = model, variant
        self.weight, self.soft = check_number(weight, "weight", low=0), check_number(soft, "soft", low=0, high=1)
        self.masked = check_number(masked, "masked", low=0, high=1, low_open=True)
        self.momentum = momentum_copy(model.encoders, decay)

    def terms(
        self, images: Tensor, tokens: Tensor, groups: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Name -> 0-d term of the loss of n pairs: images (n, 1, size, size), texts (n, L), ids of answers (n,).

        The fusion encoder runs once, over 3 n pairs: true ones, ones with a hard negative (a wrong text in even rows, a
        wrong image in odd ones; ALBEF makes both of every row), and true ones with masked words.
        """
        n, scale = len(images), self.model.logit_scale.exp()
        now = self.model.encoders(images, tokens)
        with torch.no_grad():
            slow = self.momentum(images, tokens)
            wrong_text, wrong_image = self._wrong_partners((scale * now.image @ now.text.T).detach(), groups, generator)
            count = ((tokens > 0).sum(dim=1) - 1).mul(self.masked).round().long().clamp(min=1)
            masked_tokens, where = losses.mask_words(tokens, count, generator)
        masked_words = self.model.encoders.text_encoder(masked_tokens)
        texts = torch.cat([tokens, tokens[wrong_text], masked_tokens])
        fused = self.model.fusion(
            torch.cat([now.words, now.words[wrong_text], masked_words]),
            torch.cat([now.patches, now.patches[wrong_image], now.patches]),
            texts,
        )
        match = self.model.matching_logits(fused[: 2 * n], texts[: 2 * n])
        terms = {
            "contrast": losses.contrastive_loss(now.image, now.text, slow.image, slow.text, scale, groups, self.soft),
            "matching": losses.matching_loss(match, positives=n),
            "masking": losses.masking_loss(self.model.masking_logits(fused[2 * n :][where]), tokens[where]),
        }
        term = VARIANTS[self.variant]
        if term is not None:
            terms[self.variant] = self.weight * term(_with_views(now, slow))
        return terms

    @staticmethod
    def _wrong_partners(logits: Tensor, groups: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Texts and images of the n wrong pairs, both int64 (n,): one of the two is the row's own."""
        own = torch.arange(len(groups), device=groups.device)
        even = own % 2 == 0
        wrong_text = losses.hard_negatives(logits, groups, generator)
        wrong_image = losses.hard_negatives(logits.T.contiguous(), groups, generator)
        return torch.where(even, wrong_text, own), torch.where(even, own, wrong_image)

    @torch.no_grad()
    def after_step(self) -> None:
        """The momentum encoders follow; the temperature stays in [0.01, 1]."""
        self.momentum.update_parameters(self.model.encoders)
        self.model.logit_scale.clamp_(0.0, 4.6)


def _with_views(now: Encoded, slow: Encoded) -> PairedEmbeddings:
    """The contrastive features with those of the momentum encoders as second views (Jiang et al. 2023, Sec. 5)."""
    return PairedEmbeddings(
        now.image,
        now.text,
        image_view=slow.image,
        text_view=slow.text,
        image_private=now.image_private,
        text_private=now.text_private,
        image_private_view=slow.image_private,
        text_private_view=slow.text_private,
        check=False,
    )


#: The blocks that the tasks ask about: at this budget the rest of the alphabet would only be passed once.
BLOCKS = ("LATIN ", "GREEK ", "CYRILLIC ", "ARMENIAN ", "GEORGIAN ", "MATHEMATICAL ", "BRAILLE ", "DOMINO ")


@cache
def captions(most: int = 8) -> Tensor:
    """The names of the alphabet as texts, int64 (names, 1 + most): [CLS] and the first ``most`` words of each."""
    return encode(glyphs.load().names)[:, : 1 + most].contiguous()


def pretraining_batches(batch_size: int, seed: int) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
    """A function step -> (images, texts, ids of answers) of training pairs from ``BLOCKS``, pure in (seed, step).

    An epoch is a permutation of the names, faces are drawn anew; padding that no text of the batch needs is cut off.
    """
    g = glyphs.load()
    index = np.array([i for i in g.index("train") if g.names[i].startswith(BLOCKS)])
    per_epoch = len(index) // check_integer(batch_size, "batch_size", low=2, high=len(index))

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(index)
        pairs = g.draw(order[place * batch_size : (place + 1) * batch_size], seed, step)
        tokens = captions()[pairs.index]
        return pairs.images, tokens[:, : int((tokens > 0).sum(dim=1).max())], pairs.positive_id

    return batch
