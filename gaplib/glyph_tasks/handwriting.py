"""Zero-shot classification of EMNIST's handwriting by towers that have seen print alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gaplib.data import glyphs
from gaplib.data.emnist import Emnist
from gaplib.evaluation.zero_shot import zero_shot


@torch.no_grad()
def emnist_zero_shot(towers: Any, data: Emnist, treatment: Any = None) -> dict[str, float]:
    """Accuracy of naming EMNIST's characters, chance 1 / number of classes.

    Args:
        towers: ``gaplib.towers.TwoTower`` on glyphs. data: from :func:`gaplib.data.emnist.load`, in the towers' size.
        treatment: a ``gaplib.posthoc.PostHoc``, as for `gaplib.glyph_tasks.suite.evaluate`.

    Returns:
        As :func:`gaplib.evaluation.zero_shot.zero_shot`, k = 1 and 5; a class that EMNIST does not split by case has
        both names as its prompts.

    Raises:
        ValueError: images of another size than the towers take.
    """
    alphabet = glyphs.load(towers.image_size)
    classes = sorted(data.names)
    names = [name for one in classes for name in data.names[one]]
    ends = np.cumsum([len(data.names[one]) for one in classes])[:-1]
    training = towers.training
    towers.eval()
    try:
        parts = [towers.encode_image(part, normalize=True).float() for part in data.images.split(1024)]
        text = towers.encode_text(alphabet.encode(names), normalize=True).double().numpy()
    finally:
        towers.train(training)
    image = torch.cat(parts).double()
    image, text = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (image.numpy(), text))
    if treatment is not None:
        image, text = treatment.image(image).numpy(), treatment.text(text).numpy()
    return zero_shot(image, data.label, np.split(text, ends), (1, 5), np.array(classes))
