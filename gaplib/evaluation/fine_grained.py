"""Two images, two texts, told apart by one detail: are both matched? (as in MMVP-VLM, Tong et al. 2024)"""

from __future__ import annotations

from typing import Any

import numpy as np

from gaplib._validate import check_pair
from gaplib.evaluation._inputs import tie_tolerance, unit_rows


def fine_grained(image_a: Any, image_b: Any, text_a: Any, text_b: Any) -> dict[str, float]:
    """Share of the pairs of pairs in which each item goes to its own partner.

    Args:
        image_a, image_b, text_a, text_b: (n, d), row i: two images and their two texts; any scale but no zero rows.

    Returns:
        ``both``: each of the two images is nearer to its own text (the score of MMVP-VLM; chance 1/4);
        ``both_texts``: each of the two texts is nearer to its own image (chance 1/4);
        ``one``: an image is nearer to its own text, mean over all 2n (chance 1/2).
        A tie counts half for each image or text.

    Raises:
        ValueError: matrices that do not fit, zero rows.
    """
    given = {"image_a": image_a, "image_b": image_b, "text_a": text_a, "text_b": text_b}
    a, b, s, t = (unit_rows(z, name) for name, z in given.items())
    for name, z in (("image_b", b), ("text_a", s), ("text_b", t)):
        check_pair(a, z, ("image_a", name))
    near = tie_tolerance(*given.values())
    image_a_won = _won(a, s, t, near)
    image_b_won = _won(b, t, s, near)
    return {
        "both": float((image_a_won * image_b_won).mean()),
        "both_texts": float((_won(s, a, b, near) * _won(t, b, a, near)).mean()),
        "one": float((image_a_won + image_b_won).mean() / 2),
    }


def _won(query: np.ndarray, own: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
    margin = (query * own).sum(axis=1) - (query * other).sum(axis=1)
    return np.where(np.abs(margin) <= tolerance, 0.5, margin > 0)
