"""What a run writes down while it trains: the geometry of a fixed sample of pairs, measured now and then."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from gaplib.evaluation.retrieval import retrieval
from gaplib.geometry.distance import alignment, centroid_distance, relative_modality_gap, true_pair_cosine
from gaplib.geometry.inputs import normalize
from gaplib.geometry.separability import linear_separability
from gaplib.geometry.spread import cross_uniformity, mean_cosine, uniformity
from gaplib.towers.encode import encode as encode  # gaplib.leaderboard.rows asks for it here


def log_spaced_steps(steps: int, points: int) -> list[int]:
    """At most ``points`` >= 2 steps from 0 to ``steps``, both ends among them, evenly spaced in the logarithm."""
    spaced = np.geomspace(steps, 1, points - 1).round().astype(int)
    return sorted({0, *spaced.tolist()})


def measure(image: Tensor, text: Tensor, answer: np.ndarray) -> dict[str, float]:
    """The gap metrics of paired embeddings, in double precision, and retrieval at 1 where equal answers are hits."""
    x, y = image.double(), text.double()
    # The towers normalise in single precision; what is left of that would count in the eighth digit of a distance.
    x, y = normalize(x), normalize(y)
    values = {
        "centroid_distance": centroid_distance(x, y),
        "linear_separability": linear_separability(x, y),
        "relative_modality_gap": relative_modality_gap(x, y),
        "true_pair_cosine": true_pair_cosine(x, y),
        "alignment": alignment(x, y),
        "uniformity_image": uniformity(x),
        "uniformity_text": uniformity(y),
        "cross_uniformity": cross_uniformity(x, y),
        "mean_cosine_image": mean_cosine(x),
        "mean_cosine_text": mean_cosine(y),
        **retrieval(x, y, ks=(1,), image_groups=answer, text_groups=answer),
    }
    return {name: float(value) for name, value in values.items()}
