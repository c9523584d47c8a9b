"""Small discrete worlds whose informations are known exactly: joints with axes (text, image, label)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gaplib._validate import check_integer, check_number


def block_world(
    components: int,
    text_extra: int,
    image_extra: int,
    label: Callable[[int, int, int], int],
    leakage: float = 0.0,
) -> np.ndarray:
    """Text (C, A) and image (C, B) with a common part C; label Y = ``label(c, a, b)``; C, A, B independent and uniform.

    The text has ``components * text_extra`` symbols, symbol ``c * text_extra + a``; the image likewise. With
    probability ``leakage`` the image's C is drawn anew, which joins all components of the support. The label keeps the
    text's C.

    Returns:
        array (text, image, label) that sums to one.

    Raises:
        ValueError: on sizes below 1, ``leakage`` outside [0, 1], or a label that is negative or not a whole number.
    """
    components = check_integer(components, "components", low=1)
    text_extra = check_integer(text_extra, "text_extra", low=1)
    image_extra = check_integer(image_extra, "image_extra", low=1)
    leakage = float(check_number(leakage, "leakage", low=0, high=1))
    labels = np.array(
        [[[label(c, a, b) for b in range(image_extra)] for a in range(text_extra)] for c in range(components)]
    )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"label: expected a function to whole numbers from 0 on, got values of type {labels.dtype}")
    joint = np.zeros((components * text_extra, components * image_extra, labels.max() + 1))
    weight = 1.0 / (components * text_extra * image_extra)
    for c, a, b in np.ndindex(components, text_extra, image_extra):
        for other in range(components):
            share = (1 - leakage) * (other == c) + leakage / components
            joint[c * text_extra + a, other * image_extra + b, labels[c, a, b]] += weight * share
    return joint


def random_world(texts: int, images: int, labels: int, seed: int, support: float = 1.0) -> np.ndarray:
    """A random joint: exponential weights on a random share ``support`` of the (text, image) cells, at least on one.

    Raises:
        ValueError: on sizes below 1, a negative seed, or ``support`` outside (0, 1].
    """
    sizes = {"texts": texts, "images": images, "labels": labels}
    shape = tuple(check_integer(value, name, low=1) for name, value in sizes.items())
    support = float(check_number(support, "support", low=0, high=1, low_open=True))
    rng = np.random.default_rng(check_integer(seed, "seed", low=0))
    joint = rng.exponential(size=shape)
    mask = rng.random(shape[:2]) < support
    mask.flat[rng.integers(mask.size)] = True
    joint *= mask[:, :, None]
    return joint / joint.sum()
