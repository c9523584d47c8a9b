"""Small towers for glyphs and names: convolutions and a bag of tokens, or two image towers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._validate import check_integer, check_number
from gaplib.towers.two_tower import INIT_LOGIT_SCALE, TwoTower, check_tokens, seeded


class BagOfTokens(nn.Module):
    """Mean of token embeddings (padding left out), then a perceptron: word order is not seen."""

    def __init__(self, vocabulary_size: int, dim: int, width: int):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, width, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (n, L) -> (n, dim)."""
        return self.last(self.penultimate(tokens))

    def penultimate(self, tokens: Tensor) -> Tensor:
        """int64 (n, L) -> (n, width), what the last layer reads."""
        check_tokens(tokens, self.embedding.num_embeddings)
        return self.head[1](self.head[0](self.embedding(tokens)))

    def last(self, hidden: Tensor) -> Tensor:
        """(n, width) -> (n, dim)."""
        return self.head[2](hidden)


class Convolutions(nn.Sequential):
    """Three convolutions, each of which halves the side, and a linear layer."""

    def __init__(self, image_size: int, dim: int):
        left = math.ceil(image_size / 8)
        super().__init__(
            *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.GELU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.GELU()),
            nn.Flatten(),
            nn.Linear(64 * left * left, dim),
        )

    def penultimate(self, images: Tensor) -> Tensor:
        """(n, 1, size, size) -> (n, features), what the last layer reads."""
        for module in list(self)[:-1]:
            images = module(images)
        return images

    def last(self, hidden: Tensor) -> Tensor:
        """(n, features) -> (n, dim)."""
        return self[-1](hidden)


def tiny_towers(
    vocabulary_size: int,
    dim: int = 64,
    image_size: int = 24,
    seed: int = 0,
    init_logit_scale: float = INIT_LOGIT_SCALE,
    private_dim: int | None = None,
) -> TwoTower:
    """Three convolutions for images (n, 1, image_size, image_size), a bag of tokens for names; random weights by seed.

    A training step at batch 256 takes about 13 ms on one CPU core, a run of 600 steps about 8 s. Raises ``ValueError``
    for a vocabulary below 3 (padding, unknown, one word), ``dim`` or ``private_dim`` below 2, ``image_size`` outside
    [12, 128] or a negative seed.

    With ``private_dim``, a second linear head on each tower's penultimate features (the "independent" features of Jiang
    et al. 2023, Sec. 4.1). The rest starts as it does without.
    """
    vocabulary_size = check_integer(vocabulary_size, "vocabulary_size", low=3)
    dim = check_integer(dim, "dim", low=2)
    image_size = check_integer(image_size, "image_size", low=12, high=128)
    init_logit_scale = float(check_number(init_logit_scale, "init_logit_scale"))
    recipe: dict[str, Any] = dict(
        vocabulary_size=vocabulary_size, dim=dim, image_size=image_size, init_logit_scale=init_logit_scale
    )
    with seeded(seed):
        image_tower = Convolutions(image_size, dim)
        text_tower = BagOfTokens(vocabulary_size, dim, width=128)
        heads = []
        if private_dim is not None:  # after all others, which therefore draw the same numbers with and without
            private_dim = recipe["private_dim"] = check_integer(private_dim, "private_dim", low=2)
            widths: tuple[Any, Any] = (image_tower[-1].in_features, text_tower.head[-1].in_features)
            heads = [nn.Linear(width, private_dim) for width in widths]
    recipe = {"kind": "tiny", **recipe}
    return TwoTower(image_tower, text_tower, image_size, 1, init_logit_scale, recipe, *heads)


class FixedMap(nn.Module):
    """A linear map that is not trained: x -> x @ matrix, the identity until `set` is called."""

    matrix: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("matrix", torch.eye(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix

    def set(self, matrix: Tensor) -> None:
        """Take ``matrix`` (dim, dim) as the map from now on."""
        self.matrix.copy_(torch.as_tensor(matrix, dtype=self.matrix.dtype))


def image_pair_towers(
    dim: int = 64, image_size: int = 24, seed: int = 0, init_logit_scale: float = INIT_LOGIT_SCALE
) -> TwoTower:
    """Two image towers of `tiny_towers`, initialised apart: no second modality. ``encode_text`` takes images as well.

    The second tower ends in a `FixedMap`, so that an initial gap can be rotated away (Fahim et al. 2024, Sec. 3.2).
    Raises ``ValueError`` as `tiny_towers`.
    """
    dim = check_integer(dim, "dim", low=2)
    image_size = check_integer(image_size, "image_size", low=12, high=128)
    init_logit_scale = float(check_number(init_logit_scale, "init_logit_scale"))
    with seeded(seed):
        first = Convolutions(image_size, dim)
        second = nn.Sequential(Convolutions(image_size, dim), FixedMap(dim))
    recipe = dict(kind="image-pair", dim=dim, image_size=image_size, init_logit_scale=init_logit_scale)
    return TwoTower(first, second, image_size, 1, init_logit_scale, recipe)
