"""The samples of chapter 01: published embeddings, an untrained open_clip model, the towers that a reader trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from gaplib import geometry
from gaplib._validate import check_matrix
from gaplib.book.chapters import ch01_measures as measures
from gaplib.data import glyphs, published
from gaplib.evaluation.retrieval import mean_recall, retrieval
from gaplib.stats import Estimate, over_seeds
from gaplib.towers import open_clip_towers
from gaplib.training import Run, RunConfig, cached_run
from gaplib.training.untrained import untrained_pairs

TRAINED = ("clip", "convirt", "videoclip", "clasp")
LABELS = {"clip": "CLIP", "convirt": "ConVIRT", "videoclip": "VideoCLIP", "clasp": "CLASP"}
#: The two towers that the reader trains: a sharp temperature held fixed, and CLIP's own start, learned.
TEMPERATURES: Mapping[str, dict[str, Any]] = {
    "sharp": {"tau": 0.01, "learn_tau": False},
    "learned": {"tau": 0.07, "learn_tau": True},
}
#: Results of the published embeddings that the prose names; without those embeddings they read "not measured here".
PUBLISHED_NUMBERS = (
    *(f"pairs.{name}" for name in ("clasp.stranger_share", "convirt.recall_forward", "convirt.stranger_share")),
    *("floor.clip", "L1.clip.centroid_distance", "L1.clip.relative_gap"),
    *(f"L2.{name}.trained_less_untrained" for name in ("clip", "videoclip")),
    *(f"S2.{name}.top5_share" for name in (*TRAINED, "rotation")),
    "S2.clip.top5_excess",
    *(f"C3.clip.{name}" for name in ("direction_cosine", "content_cosine", "content_null")),
    *(f"C3.clip.{side}_{what}" for side in ("image", "text") for what in ("lean", "lean_ratio")),
    *(f"E1.clip.{side}.split_correlation" for side in ("image", "text")),
)
OPEN_CLIP = "ViT-S-32-alt"  # a small pair of transformers


# --- published, or stand-ins -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sample:
    """Paired embeddings of one model: x, y float64 (n, d) with unit rows.

    retrieves: whether partners can be found by similarity at all; where not, only metrics blind to the pairing count.
    real: embeddings that others published; False for the stand-ins.
    """

    name: str
    label: str
    x: torch.Tensor
    y: torch.Tensor
    modalities: tuple[str, str]
    trained: bool
    retrieves: bool
    real: bool = True


def load_samples(seed: int = 100, device: str = "cpu") -> tuple[dict[str, tuple[Sample, Sample]], str]:
    """Model name -> (trained sample, untrained twin), and why these are stand-ins ("" for published ones).

    Where the published embeddings cannot be had (``DataUnavailable``: neither network nor GAPLIB_DATA, or a damaged
    file) the stand-ins are glyph towers, trained at the chapter's two temperatures, each with its untrained twin.
    """
    try:
        return {name: (_published(name), _published(f"{name}_random")) for name in TRAINED}, ""
    except published.DataUnavailable as error:
        return stand_ins(seed, device), str(error)


def _published(name: str) -> Sample:
    data = published.load(name)
    label = LABELS[name.removesuffix("_random")] + ("" if data.trained else " untrained")
    x, y = (geometry.normalize(check_matrix(z, "embeddings").double()) for z in (data.x, data.y))
    return Sample(name, label, x, y, tuple(data.modality_names), data.trained, data.paired_retrieval)


def stand_ins(seed: int = 100, device: str = "cpu") -> dict[str, tuple[Sample, Sample]]:
    """Glyph towers in the place of the published models: test pairs, trained and untrained."""
    names = ("image", "name")
    out = {}
    for key in TEMPERATURES:
        run = train_glyphs(key, seed, device)
        trained = Sample(f"glyphs_{key}", f"Glyphs ({key})", *run.pairs(), names, True, True, real=False)
        untrained = Sample(f"glyphs_{key}_random", f"Glyphs ({key}) untrained", *untrained_pairs(run.config),
                           names, False, False, real=False)  # fmt: skip
        out[f"glyphs_{key}"] = (trained, untrained)
    return out


# --- an untrained model of open_clip's -------------------------------------------------------------------------------


def open_clip_pairs(seed: int, n: int = 64, name: str = OPEN_CLIP) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of n test glyphs and their names by an open_clip model at random initialisation, float64 unit rows.

    The glyphs are enlarged to the model's image size, in three equal channels, shifted and scaled by CLIP's constants.
    """
    import open_clip

    data = glyphs.load()
    sample = data.sample("test", n, seed=seed)
    towers = open_clip_towers(name, seed=seed)
    images = functional.interpolate(sample.images, size=towers.image_size, mode="bilinear").expand(-1, 3, -1, -1)
    constants = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in constants)
    tokens = towers.tokenize([data.names[i].lower() for i in sample.index.tolist()])
    with torch.no_grad():
        found = towers.encode_image((images - mean) / deviation), towers.encode_text(tokens)
    return tuple(geometry.normalize(z.double()) for z in found)


# --- a gap of one's own ----------------------------------------------------------------------------------------------


def glyph_config(key: str, seed: int) -> RunConfig:
    """The run of one temperature of ``TEMPERATURES`` and one seed; everything else is gaplib's default."""
    return RunConfig(seed=seed, **TEMPERATURES[key])


def train_glyphs(key: str, seed: int, device: str = "cpu") -> Run:
    """The run of ``glyph_config``, from the cache where it is there: about ten seconds on one CPU core where not."""
    return cached_run(glyph_config(key, seed), device=device)


def shuffled_recall(x: Any, y: Any, answer: Any, seed: int = 0) -> float:
    """``mean_recall`` at 1 with the texts dealt to other images: the floor of retrieval."""
    order = np.random.default_rng(seed).permutation(len(answer))
    found = retrieval(x, y, ks=(1,), image_groups=np.asarray(answer), text_groups=np.asarray(answer)[order])
    return float(sum(found.values()) / len(found))


def script_labels(run: Run, least: int = 30) -> tuple[np.ndarray, list[str]]:
    """First word of each test name (its script, mostly) as a label (n,), -1 where fewer than ``least`` share it."""
    data = glyphs.load(run.config.image_size)
    first = np.array([data.names[i].split()[0] for i in run.embeddings["test_index"]])
    words, inverse, counts = np.unique(first, return_inverse=True, return_counts=True)
    kept = [str(w) for w, c in zip(words, counts, strict=True) if c >= least]
    place = {w: kept.index(w) if w in kept else -1 for w in words.tolist()}
    return np.array([place[words[i]] for i in inverse]), kept


def glyph_measurements(run: Run) -> dict[str, float]:
    """What claims S2 and C3 ask of one trained run, and its gap, retrieval and temperature; on the test characters."""
    x, y = run.pairs()
    cosine, spread = measures.random_groups(x, y)
    image, text = measures.lean_ratios(x, y)
    return {
        "centroid_distance": float(geometry.centroid_distance(x, y)),
        "separability": float(geometry.linear_separability(x, y)),
        "relative_gap": float(geometry.relative_modality_gap(x, y)),
        "true_pair_cosine": float(geometry.true_pair_cosine(x, y)),
        "recall": mean_recall(x, y, groups=run.embeddings["test_answer"]),
        "tau": run.history[-1]["tau"],
        "top5_excess": float(geometry.top_coordinate_share(x, y, measures.TOP))
        - measures.rotation_floor(x.shape[1]).mean,
        "direction_cosine": cosine,
        "length_spread": spread,
        "script_cosine": measures.agreement(measures.group_gaps(x, y, script_labels(run)[0]))[0],
        "image_lean_ratio": image,
        "text_lean_ratio": text,
    }


def over_runs(rows: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Name -> estimate over the runs (one a seed) of what ``glyph_measurements`` gave for each."""
    return {name: over_seeds([row[name] for row in rows]) for name in rows[0]}
