"""Zero-shot classification of EMNIST's handwriting by towers that have seen print alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from gaplib.data import glyphs
from gaplib.data.emnist import Emnist
from gaplib.evaluation.zero_shot import zero_shot
from gaplib.towers.encode import Inputs, encode


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
    found = (z.double().numpy() for z in encode(towers, Inputs(data.images, alphabet.encode(names))))
    image, text = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in found)
    if treatment is not None:
        image, text = treatment.image(image).numpy(), treatment.text(text).numpy()
    return zero_shot(image, data.label, np.split(text, ends), (1, 5), np.array(classes))
