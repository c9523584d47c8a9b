"""Small transformers for glyphs and names, with one trunk for both modalities or one for each.

A glyph is cut into patches, a name into words; each has its own embedding. What follows has one architecture: a
transformer encoder, the mean over what is really there, a norm and a projection. Shared between the modalities it is
the architecture of AlignCLIP (Eslami & de Melo 2025): one transformer, final norm and projection, separate embeddings.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from gaplib._validate import check_integer, check_number
from gaplib.towers.two_tower import INIT_LOGIT_SCALE, TwoTower, check_images, check_tokens, seeded

CONTEXT = 32  # most tokens of a text; the longest name has 13
_PLACE = 0.3  # spread of the embedded places at the start, about that of an embedded patch


class Patches(nn.Module):
    """Images (n, 1, size, size) -> (n, number of patches, width): one linear map of each patch, and its place."""

    def __init__(self, image_size: int, patch: int, width: int):
        super().__init__()
        self.embedding = nn.Conv2d(1, width, patch, stride=patch)
        self.place = nn.Parameter(_PLACE * torch.randn((image_size // patch) ** 2, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.embedding(images).flatten(2).transpose(1, 2) + self.place


class Words(nn.Module):
    """Token ids (n, L) -> (n, L, width): an embedding of each word, and of its place."""

    def __init__(self, vocabulary_size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.place = nn.Parameter(_PLACE * torch.randn(CONTEXT, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) + self.place[: tokens.shape[1]]


class Trunk(nn.Module):
    """Transformer encoder (norm first, no dropout), mean over the real tokens, norm, projection to ``dim``."""

    def __init__(self, width: int, layers: int, heads: int, dim: int):
        super().__init__()

        def layer() -> nn.TransformerEncoderLayer:
            options: dict[str, Any] = dict(dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
            return nn.TransformerEncoderLayer(width, heads, 2 * width, **options)

        self.encoder = nn.TransformerEncoder(layer(), layers, enable_nested_tensor=False)
        # torch copies that one layer with its weights: each shall start from its own draw.
        self.encoder.layers = nn.ModuleList(layer() for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(n, L, width) -> (n, dim). padding: bool (n, L), True where nothing is; None: all is real."""
        x = self.encoder(x, src_key_padding_mask=padding)
        if padding is None:
            return self.projection(self.norm(x.mean(dim=1)))
        real = (~padding).unsqueeze(2).to(x.dtype)
        return self.projection(self.norm((x * real).sum(dim=1) / real.sum(dim=1)))


class TransformerTowers(TwoTower):
    """Two embeddings and one trunk, or two; ``trunks`` holds each once, so a shared one is saved and stepped once."""

    text_tower: Words

    def __init__(
        self,
        patches: Patches,
        words: Words,
        trunks: dict[str, Trunk],
        image_size: int,
        scale: float,
        recipe: dict[str, Any],
    ):
        super().__init__(patches, words, image_size, 1, scale, recipe)
        self.trunks = nn.ModuleDict(trunks)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of float images (n, 1, image_size, image_size); ``ValueError`` otherwise."""
        check_images(images, self.channels, self.image_size)
        z = self._trunk("image")(self.image_tower(images))
        return nn.functional.normalize(z, dim=-1) if normalize else z

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of token ids int64 (n, L), 0 = padding, at least one other in each row.

        Raises ``ValueError`` for anything else, and for L above `CONTEXT`.
        """
        check_tokens(tokens, self.text_tower.embedding.num_embeddings, CONTEXT)
        real = tokens != 0
        if not bool(real.any(dim=1).all()):
            row = int((~real.any(dim=1)).nonzero()[0])
            raise ValueError(f"tokens: expected a token other than padding in each row, got none in row {row}")
        longest = int(real.any(dim=0).nonzero().max()) + 1  # columns that are padding everywhere cost time for nothing
        tokens, real = tokens[:, :longest], real[:, :longest]
        z = self._trunk("text")(self.text_tower(tokens), ~real)
        return nn.functional.normalize(z, dim=-1) if normalize else z

    def _trunk(self, modality: str) -> Trunk:
        return cast(Trunk, self.trunks["shared" if "shared" in self.trunks else modality])


def transformer_towers(
    vocabulary_size: int,
    dim: int = 64,
    image_size: int = 24,
    shared: bool = False,
    seed: int = 0,
    width: int = 48,
    layers: int = 1,
    heads: int = 2,
    patch: int = 8,
    init_logit_scale: float = INIT_LOGIT_SCALE,
) -> TransformerTowers:
    """Transformers for glyphs and names, random weights by seed; ``shared``: one trunk for both modalities.

    The embeddings and the image's (or the shared) trunk start from the same weights either way. The sizes are what one
    CPU core can train: a step at batch 256 takes about 20 ms, where `tiny_towers` takes 13 and learns more.

    Raises ``ValueError`` for a vocabulary below 3, ``dim`` below 2, ``image_size`` outside [12, 128], a ``width`` that
    ``heads`` does not divide, an ``image_size`` that ``patch`` does not divide, sizes below 1 or a negative seed.
    """
    vocabulary_size = check_integer(vocabulary_size, "vocabulary_size", low=3)
    dim = check_integer(dim, "dim", low=2)
    image_size = check_integer(image_size, "image_size", low=12, high=128)
    if not isinstance(shared, bool):
        raise ValueError(f"shared: expected True or False, got {shared!r}")
    width, layers = check_integer(width, "width", low=2), check_integer(layers, "layers", low=1)
    heads, patch = check_integer(heads, "heads", low=1), check_integer(patch, "patch", low=1)
    if width % heads:
        raise ValueError(f"heads: expected a divisor of width ({width}), got {heads}")
    if image_size % patch:
        raise ValueError(f"patch: expected a divisor of image_size ({image_size}), got {patch}")
    init_logit_scale = float(check_number(init_logit_scale, "init_logit_scale"))
    sizes = dict(width=width, layers=layers, heads=heads, patch=patch)
    recipe: dict[str, Any] = dict(
        vocabulary_size=vocabulary_size, dim=dim, image_size=image_size, init_logit_scale=init_logit_scale
    )
    recipe = {"kind": "transformer", **recipe, "shared": shared, **sizes}
    with seeded(seed):
        patches, words = Patches(image_size, patch, width), Words(vocabulary_size, width)
        trunks = {"shared" if shared else "image": Trunk(width, layers, heads, dim)}
        if not shared:
            trunks["text"] = Trunk(width, layers, heads, dim)
    return TransformerTowers(patches, words, trunks, image_size, init_logit_scale, recipe)
