"""A run's towers as they are before the first step."""

from __future__ import annotations

import torch

from gaplib import geometry
from gaplib.data import glyphs
from gaplib.towers import tiny_towers
from gaplib.towers.encode import encode
from gaplib.training.config import RunConfig


def untrained_pairs(config: RunConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of the test characters and their names before the first step of ``config``: (n, d) float64, unit rows.

    ``config``: a run of the small two-tower model on images and texts, from new weights.
    """
    data, pairing = glyphs.load(config.image_size), config.pairing()
    towers = tiny_towers(pairing.vocabulary_size(data), dim=config.dim, image_size=config.image_size, seed=config.seed)
    return tuple(geometry.normalize(z.double()) for z in encode(towers, pairing.sample(data, "test", None, seed=0)))
