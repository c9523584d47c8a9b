"""Perceptrons of two layers, on pixels and on a bag of words: the smallest towers that can learn."""

from __future__ import annotations

from torch import Tensor, nn

from gaplib._validate import check_integer
from gaplib.towers.tiny import BagOfTokens
from gaplib.towers.two_tower import INIT_LOGIT_SCALE, TwoTower, seeded


class Pixels(nn.Module):
    """Images (n, 1, size, size) -> (n, size²)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) - 0.5


def mlp_towers(
    vocabulary_size: int,
    dim: int = 64,
    image_size: int = 24,
    seed: int = 0,
    width: int = 128,
    init_logit_scale: float = INIT_LOGIT_SCALE,
) -> TwoTower:
    """Towers of one hidden layer of ``width`` units each, at random initialisation by ``seed``.

    Args:
        vocabulary_size: number of token ids, at least 3 (0 pads, 1 is unknown).
        dim: dimension of the embeddings, at least 2.
        image_size: side of the images in pixels, at least 1.
        seed: of the first weights.
        width: units of the hidden layers, at least 1.
        init_logit_scale: logarithm of the inverse temperature.

    Raises:
        ValueError: sizes below these, or a negative seed.

    Example:
        >>> import torch
        >>> mlp_towers(30, dim=8).encode_text(torch.tensor([[2, 3, 0]])).shape
        torch.Size([1, 8])
    """
    given = {"vocabulary_size": vocabulary_size, "dim": dim, "image_size": image_size, "width": width}
    least = {"vocabulary_size": 3, "dim": 2, "image_size": 1, "width": 1}
    recipe = {name: check_integer(value, name, low=least[name]) for name, value in given.items()}
    with seeded(seed):
        image = nn.Sequential(Pixels(), nn.Linear(image_size**2, width), nn.GELU(), nn.Linear(width, dim))
        text = BagOfTokens(vocabulary_size, dim, width)
    full = {"kind": "mlp", **recipe, "init_logit_scale": init_logit_scale}
    return TwoTower(image, text, image_size, 1, init_logit_scale, full)
