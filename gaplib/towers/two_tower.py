"""The interface that every pair of encoders has, its argument checks and its seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from gaplib._atomic import atomic
from gaplib._validate import check_integer

INIT_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP's initial temperature of 0.07


class TwoTower(nn.Module):
    """An image tower and a text tower that end in the same space.

    image_tower: module (n, channels, size, size) -> (n, dim). text_tower: module (n, L) int64 -> (n, dim).
    logit_scale: parameter, the *logarithm* of the inverse temperature, as in open_clip.
    image_size: side of the images. channels: 1 (glyphs) or 3. recipe: how `load` builds the model again.
    image_private, text_private: second heads (n, width) -> (n, private_dim) on what the last layer of each tower reads;
    towers with them have `penultimate` and `last`, whose composition is the tower. None: there are none.
    """

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        image_size: int,
        channels: int = 1,
        init_logit_scale: float = INIT_LOGIT_SCALE,
        recipe: dict | None = None,
        image_private: nn.Module | None = None,
        text_private: nn.Module | None = None,
    ):
        super().__init__()
        self.image_tower, self.text_tower = image_tower, text_tower
        self.image_private, self.text_private = image_private, text_private
        self.logit_scale = nn.Parameter(torch.tensor(float(init_logit_scale)))
        self.image_size, self.channels, self.recipe = image_size, channels, recipe

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of float images (n, channels, image_size, image_size); ``ValueError`` otherwise."""
        check_images(images, self.channels, self.image_size)
        return _maybe_normalized(self.image_tower(images), normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Embeddings (n, dim) of token ids int64 (n, L), 0 = padding; ``ValueError`` for anything else."""
        return _maybe_normalized(self.text_tower(tokens), normalize)

    def image_features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shared (n, dim) and private (n, private_dim) features in one pass, not normalised; None without a head."""
        if self.image_private is None:
            return self.encode_image(images), None
        check_images(images, self.channels, self.image_size)
        return _both(self.image_tower, self.image_private, images)

    def text_features(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shared (n, dim) and private (n, private_dim) features in one pass, not normalised; None without a head."""
        if self.text_private is None:
            return self.encode_text(tokens), None
        return _both(self.text_tower, self.text_private, tokens)

    def encode_image_private(self, images: Tensor, normalize: bool = False) -> Tensor:
        """What images keep for themselves, (n, private_dim); ``ValueError`` for towers without private heads."""
        return _maybe_normalized(_present(self.image_features(images)[1]), normalize)

    def encode_text_private(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """What texts keep for themselves, (n, private_dim); ``ValueError`` for towers without private heads."""
        return _maybe_normalized(_present(self.text_features(tokens)[1]), normalize)

    def save(self, path: str | Path) -> None:
        """Write the weights and how the model was built to a safetensors file, wholly or not at all."""
        if self.recipe is None:
            raise ValueError("towers: only models made by this module's builders can be saved with their recipe")
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        with atomic(path) as partial:
            save_file(weights, partial, metadata={"gaplib.towers": json.dumps(self.recipe)})


def _both(tower: Any, private: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    hidden = tower.penultimate(inputs)
    return tower.last(hidden), private(hidden)


def _present(private: Tensor | None) -> Tensor:
    if private is None:
        raise ValueError("private_dim: expected towers built with private heads, got towers without")
    return private


def _maybe_normalized(x: Tensor, normalize: bool) -> Tensor:
    return functional.normalize(x, dim=-1) if normalize else x


def check_images(images: Tensor, channels: int, size: int) -> None:
    """Raise ``ValueError`` unless ``images`` is a finite float tensor (n, channels, size, size) with n >= 1."""
    wanted = f"a finite float tensor of shape (n, {channels}, {size}, {size})"
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(f"images: expected {wanted}, got {getattr(images, 'dtype', type(images).__name__)}")
    if images.ndim != 4 or images.shape[1:] != (channels, size, size) or not len(images):
        raise ValueError(f"images: expected {wanted}, got shape {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"images: expected {wanted}, got NaN or infinity")


def check_tokens(tokens: Tensor, vocabulary_size: int, longest: int | None = None) -> None:
    """Raise ``ValueError`` unless ``tokens`` (n, L) holds ids in [0, vocabulary_size) and 1 <= L <= longest, n >= 1."""
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"tokens: expected integers (n, L), got {getattr(tokens, 'dtype', type(tokens).__name__)}")
    if tokens.ndim != 2 or not tokens.numel():
        raise ValueError(f"tokens: expected shape (n, L) with n, L >= 1, got {tuple(tokens.shape)}")
    if longest is not None and tokens.shape[1] > longest:
        raise ValueError(f"tokens: expected at most {longest} tokens a text, got {tokens.shape[1]}")
    low, high = (int(value) for value in tokens.aminmax())
    if low < 0 or high >= vocabulary_size:
        raise ValueError(f"tokens: expected ids in [0, {vocabulary_size - 1}], got {low} to {high}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's CPU random numbers from ``seed`` inside the block; outside, the global state is as it was."""
    check_integer(seed, "seed", low=0, high=2**63 - 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed a GPU too
        yield
