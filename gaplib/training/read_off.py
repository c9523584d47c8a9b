"""What every chapter reads off a finished run: its pairs, its gap, its recall."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gaplib import geometry
from gaplib._validate import check_choice
from gaplib.training import Run

SPLITS = ("test", "dev")


def pairs(run: Run, split: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
    """Both modalities' embeddings of a split, "test" or "dev", float64 with unit rows."""
    check_choice(split, "split", SPLITS)
    names = (f"{split}_image", f"{split}_text")
    return tuple(geometry.normalize(torch.from_numpy(run.embeddings[name]).double()) for name in names)


def gap(run: Run, split: str = "test") -> float:
    """Centroid distance of a split's pairs."""
    return _metrics(run, split)["centroid_distance"]


def recall(run: Run, split: str = "test") -> float:
    """Recall at 1 of a split's pairs, mean of both directions."""
    values = _metrics(run, split)
    return (values["image_to_text@1"] + values["text_to_image@1"]) / 2


def _metrics(run: Run, split: str) -> Mapping[str, float]:
    return run.metrics if check_choice(split, "split", SPLITS) == "test" else run.history[-1]
