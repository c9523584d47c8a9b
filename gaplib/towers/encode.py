"""Embeddings of many inputs through two towers: in chunks, without gradients, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaplib._devices import note_device

CHUNK = 1024


class Inputs(NamedTuple):
    """What :func:`encode` reads: images (n, channels, size, size), uint8 or float in [0, 1]; tokens (m, length)."""

    images: Tensor
    tokens: Tensor


def encode(
    towers: Any,
    sample: Any,
    device: torch.device | str = "cpu",
    chunk: int = CHUNK,
    second: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalised embeddings (n, d) of the images and (m, d) of the texts of ``sample``, float32 on the CPU.

    sample: anything with ``images`` and ``tokens`` (:class:`Inputs`, ``gaplib.data.glyphs.GlyphPairs``). device: where
    the towers are. chunk: inputs encoded at a time. second: what the second tower sees in place of the sample's tokens.
    The towers' mode is kept.

    >>> from gaplib.towers import tiny_towers
    >>> inputs = Inputs(torch.zeros(3, 1, 24, 24), torch.ones(2, 5, dtype=torch.int64))
    >>> [tuple(z.shape) for z in encode(tiny_towers(10, dim=8), inputs)]
    [(3, 8), (2, 8)]
    """
    second = sample.tokens if second is None else second
    with evaluating(towers):
        images = encode_rows(lambda rows: towers.encode_image(rows, normalize=True), sample.images, device, chunk)
        texts = encode_rows(lambda rows: towers.encode_text(rows, normalize=True), second, device, chunk)
    return images, texts


@torch.no_grad()
def encode_rows(
    encoder: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device | str = "cpu", chunk: int = CHUNK
) -> Tensor:
    """What ``encoder`` gives for ``rows`` (n, ...), ``chunk`` of them at a time: (n, d) float32 on the CPU.

    Rows of bytes are pixels and are handed over as numbers in [0, 1].
    """
    parts = []
    for part in rows.split(chunk):
        part = part.to(device)
        encoded = encoder(part.float() / 255 if part.dtype == torch.uint8 else part)
        note_device(encoded.device)
        parts.append(encoded.float().cpu())
    return torch.cat(parts)


@contextmanager
def evaluating(towers: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every part is in the mode that it was in before, frozen ones too."""
    modes = [(module, module.training) for module in towers.modules()]
    towers.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
