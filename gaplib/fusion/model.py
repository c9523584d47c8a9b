"""A fusion model after ALBEF (Li et al. 2021, Fig. 1) at tutorial size: two encoders, and a third that reads both.

    glyph -> ImageEncoder -> patches --------------+
                     |                             v (keys and values of the cross-attention)
                contrastive loss            FusionEncoder -> [CLS] and words that have seen the image
                     |                             ^
    words -> TextEncoder  -> words ----------------+

What differs from ALBEF: the size; layers with the norm in front; both encoders start from random weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaplib._validate import check_integer
from gaplib.fusion.vocabulary import CLS, PAD
from gaplib.towers import INIT_LOGIT_SCALE, check_images, check_tokens, seeded


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model.

    vocabulary_size   of the words, 0 = padding (see ``gaplib.fusion.tasks.vocabulary``)
    image_size, patch side of an image and of its square patches, in pixels
    width, heads, hidden
                      of the transformer layers: features, attention heads, width of the perceptron inside
    image_layers, text_layers, fusion_layers
                      number of layers of each encoder
    dim               dimension of the contrastive features
    longest           most tokens in a text, [CLS] among them
    private           with second projection heads, for deep feature separation

    Raises ``ValueError`` for sizes that are too small or do not divide.
    """

    vocabulary_size: int
    image_size: int = 24
    patch: int = 6
    width: int = 64
    heads: int = 2
    image_layers: int = 1
    text_layers: int = 1
    fusion_layers: int = 2
    hidden: int = 128
    dim: int = 32
    longest: int = 32
    private: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "private":
                check_integer(value, name, low=3 if name == "vocabulary_size" else 1)
        if self.image_size % self.patch or self.patch not in (4, 6, 8):
            raise ValueError(f"patch: expected 4, 6 or 8, a divisor of {self.image_size} pixels, got {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of the width {self.width}, got {self.heads}")

    @property
    def patches(self) -> int:
        """Number of patches of one image."""
        return (self.image_size // self.patch) ** 2


class ImageEncoder(nn.Module):
    """Patches of a glyph through transformer layers: (n, 1, size, size) -> (n, 1 + patches, width), [CLS] first.

    Patches overlap a little and are read by three small convolutions: at this budget they learn faster than the one
    linear map of a vision transformer.
    """

    def __init__(self, size: Architecture):
        super().__init__()
        self.size = size
        self.patches = nn.Sequential(
            nn.Conv2d(1, 24, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, size.width, kernel_size=5, stride=size.patch // 2, padding=1),
            nn.GELU(),
            nn.Conv2d(size.width, size.width, kernel_size=1),
        )
        for layer in self.patches[::2]:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.first = nn.Parameter(torch.randn(size.width) * 0.02)
        self.places = nn.Parameter(torch.randn(1 + size.patches, size.width) * 0.02)
        self.layers = _self_attention(size, size.image_layers)
        self.norm = nn.LayerNorm(size.width)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, 1, self.size.image_size)
        patches = self.patches(images).flatten(2).transpose(1, 2)
        states = torch.cat([self.first.expand(len(images), 1, -1), patches], dim=1) + self.places
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class TextEncoder(nn.Module):
    """Words through transformer layers: int64 (n, L), [CLS] first -> (n, L, width). Padding is not attended to."""

    def __init__(self, size: Architecture):
        super().__init__()
        self.size = size
        self.words = nn.Embedding(size.vocabulary_size, size.width, padding_idx=0)
        nn.init.normal_(self.words.weight[1:], std=0.02 * size.width**0.5)
        self.places = nn.Parameter(torch.randn(size.longest, size.width) * 0.02)
        self.layers = _self_attention(size, size.text_layers)
        self.norm = nn.LayerNorm(size.width)

    def forward(self, tokens: Tensor) -> Tensor:
        check_texts(tokens, self.size.vocabulary_size, self.size.longest)
        states = self.words(tokens) + self.places[: tokens.shape[1]]
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=tokens == PAD)
        return self.norm(states)


class FusionEncoder(nn.Module):
    """Words that look at patches: self-attention over the words, then cross-attention to the image, layer by layer."""

    def __init__(self, size: Architecture):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                size.width, size.heads, size.hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(size.fusion_layers)
        )
        self.norm = nn.LayerNorm(size.width)

    def forward(self, words: Tensor, patches: Tensor, tokens: Tensor) -> Tensor:
        """``words`` (n, L, width) of the texts ``tokens`` (n, L), ``patches`` (n, p, width) -> (n, L, width).

        There is no causal mask: every word sees every other.
        """
        for layer in self.layers:
            words = layer(words, patches, tgt_key_padding_mask=tokens == PAD)
        return self.norm(words)


@dataclass(frozen=True)
class Encoded:
    """What the two encoders say: states (n, length, width), and unit contrastive features (n, dim), perhaps private."""

    patches: Tensor
    words: Tensor
    image: Tensor
    text: Tensor
    image_private: Tensor | None = None
    text_private: Tensor | None = None


class Encoders(nn.Module):
    """The image encoder and the text encoder with their projections: the part that has a momentum copy."""

    def __init__(self, size: Architecture):
        super().__init__()
        self.image_encoder, self.text_encoder = ImageEncoder(size), TextEncoder(size)
        self.image_projection = nn.Linear(size.width, size.dim)
        self.text_projection = nn.Linear(size.width, size.dim)
        self.image_private = nn.Linear(size.width, size.dim) if size.private else None
        self.text_private = nn.Linear(size.width, size.dim) if size.private else None

    def forward(self, images: Tensor, tokens: Tensor) -> Encoded:
        patches, words = self.image_encoder(images), self.text_encoder(tokens)
        image, text = mean_state(patches), mean_state(words, tokens)

        def unit(head: nn.Module | None, state: Tensor) -> Tensor | None:
            return None if head is None else F.normalize(head(state), dim=1)

        return Encoded(
            patches,
            words,
            unit(self.image_projection, image),
            unit(self.text_projection, text),
            unit(self.image_private, image),
            unit(self.text_private, text),
        )


class FusionModel(nn.Module):
    """The pre-training model: encoders, fusion encoder, the heads for matching and for masked words, a temperature.

    ``logit_scale`` is the logarithm of the inverse temperature, as in open_clip. The head for masked words shares the
    embedding of the words, as BERT's does.
    """

    def __init__(self, size: Architecture):
        super().__init__()
        self.size = size
        self.encoders = Encoders(size)
        self.fusion = FusionEncoder(size)
        self.matching_head = nn.Sequential(nn.Linear(size.width, size.width), nn.GELU(), nn.Linear(size.width, 2))
        self.masking_head = nn.Sequential(nn.Linear(size.width, size.width), nn.GELU(), nn.LayerNorm(size.width))
        self.masking_bias = nn.Parameter(torch.zeros(size.vocabulary_size))
        self.logit_scale = nn.Parameter(torch.tensor(INIT_LOGIT_SCALE))

    def fuse(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Fused states (n, L, width) of texts int64 (n, L) beside images (n, 1, size, size)."""
        return self.fusion(self.encoders.text_encoder(tokens), self.encoders.image_encoder(images), tokens)

    def matching_logits(self, fused: Tensor, tokens: Tensor) -> Tensor:
        """(n, 2) from fused states of the texts ``tokens``: column 1 says that image and text belong together."""
        return self.matching_head(mean_state(fused, tokens))

    def masking_logits(self, states: Tensor, words: Tensor | None = None) -> Tensor:
        """(..., vocabulary) from fused states (..., width) of masked words; only for the ids ``words``, if given."""
        table, bias = self.encoders.text_encoder.words.weight, self.masking_bias
        if words is not None:
            table, bias = table[words], bias[words]
        return F.linear(self.masking_head(states), table, bias)


def fusion_model(size: Architecture, seed: int = 0) -> FusionModel:
    """The model at random initialisation by ``seed``; torch's global random state stays as it was."""
    with seeded(seed):
        return FusionModel(size)


def mean_state(states: Tensor, tokens: Tensor | None = None) -> Tensor:
    """Mean (n, width) of states (n, length, width), padding of the texts ``tokens`` left out."""
    if tokens is None:
        return states.mean(dim=1)
    seen = (tokens != PAD).unsqueeze(2).to(states.dtype)
    return (states * seen).sum(dim=1) / seen.sum(dim=1)


def check_texts(tokens: Tensor, vocabulary_size: int, longest: int) -> None:
    """Raise ``ValueError`` unless ``tokens`` int64 (n, L) are ids that start with [CLS], no text empty or too long."""
    check_tokens(tokens, vocabulary_size, longest)
    if bool((tokens[:, 0] != CLS).any()):
        row = int((tokens[:, 0] != CLS).nonzero()[0])
        raise ValueError(
            f"tokens: expected [CLS] ({CLS}) in front of every text, got {int(tokens[row, 0])} in row {row}"
        )
    empty = (tokens[:, 1:] == PAD).all(dim=1)
    if bool(empty.any()):
        raise ValueError(f"tokens: expected at least one word a text, got an empty one (row {int(empty.nonzero()[0])})")


def _self_attention(size: Architecture, layers: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            size.width, size.heads, size.hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        for _ in range(layers)
    )
