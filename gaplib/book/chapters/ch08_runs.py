"""Chapter 08, latent structure: the runs of the three regularisers, what is read off them, and one ablation.

Deep feature separation, the Brownian bridge and geometric consistency (Jiang et al. 2023, Sec. 4) against plain CLIP,
against the four-way contrastive loss that all three build on, and against CyCLIP. What can be seen on a handful of
points, without training, is in ``ch08_points``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from gaplib import losses
from gaplib._validate import check_choice
from gaplib.data import glyphs
from gaplib.data.views import second_views, view_vocabulary
from gaplib.glyph_tasks import suite
from gaplib.methods import Objective, method
from gaplib.pairs import PairedEmbeddings
from gaplib.stats import Estimate
from gaplib.towers import TwoTower, tiny_towers
from gaplib.towers.encode import encode_rows
from gaplib.training import Run, fit, presets
from gaplib.training.tuned import TRIES

#: name of a column -> method, setting of ``gaplib.training.presets``. "-1": the paper's form with weight 1, which is
#: the book's choice, for the weights that the paper trained with are not known.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "clip": ("clip", "tuned"),
    "views": ("clip-views", "tuned"),
    "sep": ("sep", "tuned"),
    "br": ("br", "tuned"),
    "gc": ("gc", "tuned"),
    "cyclip": ("cyclip", "tuned"),
    "sep-1": ("sep", "paper"),
    "br-1": ("br", "paper"),
    "gc-1": ("gc", "paper"),
}
LABELS = {
    "clip": "CLIP",
    "views": "four-way (control)",
    "sep": "separation",
    "br": "bridge",
    "gc": "consistency",
    "cyclip": "CyCLIP",
    "sep-1": "separation, weight 1",
    "br-1": "bridge, weight 1",
    "gc-1": "consistency, weight 1",
}
GROUPS = ("gap", "uniformity", "recall", "zero_shot", "probe")
TASKS = ("scripts", "digits", "faces")
PROBES = ("script", "case", "diacritic", "style")
FEATURES = ("shared", "private", "both")
#: short name of a measure -> its name in the suite
MEASURES = {
    "distance": "gap.centroid_distance",
    "separability": "gap.linear_separability",
    "rmg": "gap.relative",
    "true_pair": "gap.true_pair_cosine",
    "uniformity": "uniformity.mean",
    "recall": "recall.mean@1",
    **{task: f"zero_shot.{task}" for task in TASKS},
    "zero_shot": "zero_shot.mean",
    **{f"probe_{task}": f"probe.{task}" for task in PROBES},
    "probe": "probe.mean",
}
EXAMPLES = (
    "LATIN SMALL LETTER E WITH ACUTE",
    "GREEK CAPITAL LETTER OMEGA",
    "CYRILLIC SMALL LETTER ZHE",
    "BLACK STAR",
    "BOX DRAWINGS LIGHT VERTICAL AND RIGHT",
    "MATHEMATICAL SANS-SERIF BOLD CAPITAL R",
)


# --- runs ------------------------------------------------------------------------------------------------------------


def train(seeds: Sequence[int], device: str = "cpu") -> dict[str, list[Run]]:
    """The runs of every column of ``COLUMNS``, one a seed, from the cache where they are there."""
    return {column: presets.runs(name, seeds, setting, device) for column, (name, setting) in COLUMNS.items()}


def scores(towers: Any, split: str = "test") -> dict[str, float]:
    """Gap, uniformity, retrieval, zero-shot and probes of a run or of towers, by the names of the suite."""
    return suite.evaluate(towers, split=split, only=GROUPS)


def tries(name: str) -> list[dict[str, Any]]:
    """What tuning saw of a method: six tries, each the mean of seeds 0 and 1 on the dev characters, by gap.

    Each holds method, changes, recall, gap and strength: its weight over the greatest one tried, None for a method
    without weights.
    """
    found = sorted((one for one in TRIES if one["method"] == name), key=lambda one: one["gap"])
    weights = [next(iter(one["changes"].get("weights", {}).values()), None) for one in found]
    return [
        one | {"strength": None if weight is None else weight / max(weights)}
        for one, weight in zip(found, weights, strict=True)
    ]


def table(
    estimates: Mapping[str, Estimate],
    columns: Mapping[str, str],
    rows: Mapping[str, str] = LABELS,
    prefix: str = "towers",
) -> pd.DataFrame:
    """Recorded means with their half widths, as text: a row a training, a column a measure.

    columns, rows: part of the result's name, ``prefix.row.column`` -> the words at the edge.
    """

    def text(e: Estimate) -> str:
        return f"{e.value:.3f} ± {(e.high - e.low) / 2:.3f}"

    return pd.DataFrame(
        {
            words: {label: text(estimates[f"{prefix}.{row}.{column}"]) for row, label in rows.items()}
            for column, words in columns.items()
        }
    )


# --- which features a probe reads ------------------------------------------------------------------------------------


def probe_by_features(run: Run, split: str = "test") -> dict[str, dict[str, float]]:
    """Probes on the shared image features of a run with private heads, on its private ones, and on both side by side.

    "both" has twice the dimensions of the other two. ``ValueError`` for towers without private heads.
    """
    towers = run.towers().eval()
    shared = suite.encode(towers, split=split)
    images = torch.from_numpy(shared.tasks.images).unsqueeze(1)
    private = encode_rows(lambda rows: towers.encode_image_private(rows, normalize=True), images).double().numpy()
    features = {"shared": shared.image, "private": private, "both": np.concatenate([shared.image, private], axis=1)}
    return {name: suite.score(replace(shared, image=z), only="probe") for name, z in features.items()}


def private_overlap(run: Run, split: str = "test") -> float:
    """Root mean square of <x_j, u_j>, shared and private image features of the same image; 1/sqrt(d) by chance."""
    towers, batch = run.towers().eval(), _alphabet().sample(split, None, seed=0)
    with torch.no_grad():
        shared, private = (functional.normalize(z.double(), dim=1) for z in towers.image_features(batch.images))
    return float((shared * private).sum(dim=1).square().mean().sqrt())


# --- second views ----------------------------------------------------------------------------------------------------


@cache
def _alphabet() -> glyphs.Glyphs:
    return glyphs.load()


def view_examples(names: Sequence[str] = EXAMPLES, seed: int = 0, views: int = 3) -> list[dict[str, Any]]:
    """A drawing of each name and ``views`` second views of it: name, image (24, 24), views [(24, 24)], texts [str]."""
    data = _alphabet()
    if missing := [name for name in names if name not in data.names]:
        raise ValueError(f"names: expected names of the alphabet, got {missing[0]!r}")
    index = np.array([data.names.index(name) for name in names])
    faces = data.image_table[index]
    pairs = data.pairs(index, faces[np.arange(len(index)), (faces >= 0).argmax(axis=1)])
    words = view_vocabulary(data)
    rows = [
        {"name": name, "image": image[0].numpy(), "views": [], "texts": []}
        for name, image in zip(names, pairs.images, strict=True)
    ]
    for step in range(views):
        images, tokens = second_views(data, pairs, seed, step)
        for row, image, ids in zip(rows, images, tokens.tolist(), strict=True):
            row["views"].append(image[0].numpy())
            row["texts"].append(" ".join(words[i] for i in ids if i))
    return rows


# --- the ablation: the in-modal denominator as printed ---------------------------------------------------------------


class _Denominator(Objective):
    """The four-way contrastive loss with the other in-modal denominator (``losses.in_modal_loss``)."""

    denominator = "original"

    def parts_at(self, scale: Any, pairs: PairedEmbeddings, *args: Any) -> dict[str, torch.Tensor]:
        return {
            "clip": losses.clip_loss(pairs, scale) / 2,
            "in_modal": losses.in_modal_loss(pairs, scale, denominator=self.denominator) / 2,
        }


def train_denominator(seed: int, denominator: str = "original", steps: int | None = None) -> TwoTower:
    """Towers trained as the column "views" is, except for the denominator: "view" gives the very same run."""
    config = presets.config("clip-views", seed, steps=steps or presets.STEPS)
    row = method("clip-views").configured(tau=config.tau)
    objective = _Denominator(row)
    objective.denominator = check_choice(denominator, "denominator", ("view", "original"))
    data = _alphabet()
    towers = tiny_towers(
        config.pairing().vocabulary_size(data, views=True), dim=config.dim, image_size=config.image_size, seed=seed
    )
    draw = config.pairing().batches(data, config.batch_size, seed)

    def batches(step: int) -> dict[str, torch.Tensor]:
        batch = draw(step)
        image_view, text_view = second_views(data, batch, seed, step)
        return {"image": batch.images, "text": batch.tokens, "image_view": image_view, "text_view": text_view}

    fit(towers, objective, batches, config.steps, lr=config.lr, weight_decay=config.weight_decay, seed=seed)
    return towers
