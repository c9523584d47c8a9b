"""Alignment enforced by degrees on glyphs: what a style probe still reads, and what happens to retrieval.

The style of a glyph, which of five faces it is drawn in, is in the image and not in the name. If the two embeddings of
a pair were equal, the five pictures of a character would share one embedding, and no probe could beat chance. The probe
reads embeddings of characters that neither the towers nor the probe were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gaplib import geometry
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.data import glyphs
from gaplib.data.glyphs import GlyphPairs
from gaplib.evaluation.retrieval import mean_recall
from gaplib.methods import method
from gaplib.towers import TwoTower, tiny_towers
from gaplib.towers.encode import encode
from gaplib.training import Run, RunConfig, cached_run, fit

# Chosen on dev, seeds 0 and 1: at tau = .02 there is a gap to close and recall at 10 is off its floor and its ceiling.
TAU, STEPS, MORE_STEPS = 0.02, 250, 100
TOP = 10
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
NOISE = 0.05  # per coordinate of a unit vector in 64 dimensions: four tenths of its length
CHANCE_NATS = math.log(5)

#: name of a row of ``gaplib.methods`` -> its alignment term
TERMS = {"clip-align": "alignment", "clip-inverse-align": "inverse_square_alignment"}


# --- runs ------------------------------------------------------------------------------------------------------------


def config(weight: float, seed: int, row: str = "clip-align", style_words: int = 0, learned: bool = False) -> RunConfig:
    """The run with ``weight`` times the alignment term of ``row``, at tau = .02 held fixed, or .07 and learned."""
    term = TERMS[check_choice(row, "row", TERMS)]
    return RunConfig(
        row,
        tau=0.07 if learned else TAU,
        learn_tau=learned,
        weights={term: weight},
        style_words=style_words,
        steps=STEPS,
        seed=seed,
        history_points=2,
    )


def continued(run: Run, weight: float, row: str = "clip-inverse-align", steps: int = MORE_STEPS) -> TwoTower:
    """The towers of ``run`` after ``steps`` more, now with ``weight`` times the alignment term of ``row``.

    Same temperature (held fixed), optimizer and learning rate; the batches go on where the run's ended.
    """
    term, old = TERMS[check_choice(row, "row", TERMS)], run.config
    objective = method(row, tau=old.tau, temperature="fixed", weights={term: weight}).build()
    towers = run.towers()
    weights = [one for name, one in towers.named_parameters() if name != "logit_scale"]
    optimizer = torch.optim.AdamW(weights, lr=old.lr, weight_decay=old.weight_decay)
    draw = old.pairing().batches(glyphs.load(old.image_size), old.batch_size, old.seed)

    def batches(step: int) -> dict[str, Tensor]:
        pairs = draw(step)
        return {"image": pairs.images, "text": pairs.tokens}

    fit(towers, objective, batches, steps, optimizer=optimizer, first_step=old.steps)
    return towers


def measure(image: Tensor, text: Tensor, answer: np.ndarray) -> dict[str, float]:
    """Gap, alignment, recall at 10 (mean of both directions) and the share of true pairs whose cosine is negative."""
    x, y = (geometry.normalize(one.double()) for one in (image, text))
    return {
        "recall": mean_recall(x, y, TOP, answer),
        "gap": float(geometry.centroid_distance(x, y)),
        "cosine": float(geometry.true_pair_cosine(x, y)),
        "negative": float(((x * y).sum(dim=1) < 0).double().mean()),
        "spread": float(x.var(dim=0, correction=0).sum()),  # 0 where all images share one embedding
    }


def measure_run(run: Run, split: str = "test") -> dict[str, float]:
    """:func:`measure` of a run's own embeddings of the test (or dev) characters."""
    check_choice(split, "split", ("dev", "test"))
    image, text = (torch.from_numpy(run.embeddings[f"{split}_{side}"]) for side in ("image", "text"))
    return measure(image, text, run.embeddings[f"{split}_answer"])


def measure_towers(towers: TwoTower, split: str = "test") -> dict[str, float]:
    """:func:`measure` of the same test characters through ``towers``."""
    pairs = glyphs.load().sample(split, None, seed=0)
    return measure(*encode(towers, pairs), np.asarray(pairs.positive_id))


# --- the style probe -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What a probe reads on test characters: accuracy, cross-entropy in nats, and the C that dev characters chose."""

    accuracy: float
    cross_entropy: float
    C: float


@cache
def style_pairs(split: str, image_size: int = 24) -> GlyphPairs:
    """Every character of ``split`` that five faces draw differently, in all five: 5 k pairs, faces in turn."""
    data = glyphs.load(image_size)
    check_choice(split, "split", glyphs.SPLITS)
    names = data.five_faces()
    names = names[data.split[names] == split]
    return data.pairs(np.repeat(names, len(data.faces)), data.image_table[names].ravel())


def probe(features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> Reading:
    """Logistic regression on standardised features, fitted on "train", C chosen on "dev", read on "test".

    ``features`` and ``labels`` map the three splits to (n, d) and (n,). Standardised, so that the probe asks what is
    there at any scale: a direction that is only shrunk is not hidden from it. C has the least cross-entropy on dev.

    Raises:
        ValueError: a missing split, or features that are not finite.
    """
    for split in glyphs.SPLITS:
        check_choice(split, "features", features)
        if not np.isfinite(features[split]).all():
            raise ValueError(f"features: expected finite values, got NaN or infinity in {split!r}")
    scaler = StandardScaler().fit(np.asarray(features["train"], dtype=np.float64))
    x = {split: scaler.transform(np.asarray(features[split], dtype=np.float64)) for split in glyphs.SPLITS}
    # From the strongest penalty to the weakest, each from the last one's solution.
    model = LogisticRegression(warm_start=True, max_iter=300, tol=1e-3)
    readings = []
    for C in PENALTIES:
        model.set_params(C=C).fit(x["train"], labels["train"])
        dev, test = (
            log_loss(labels[s], model.predict_proba(x[s]), labels=model.classes_) for s in ("dev", "test")
        )  # fmt: skip
        readings.append((dev, Reading(float(model.score(x["test"], labels["test"])), float(test), C)))
    return min(readings, key=lambda one: one[0])[1]


def style_labels() -> dict[str, np.ndarray]:
    """Face of every pair of :func:`style_pairs`, by split."""
    return {split: np.asarray(style_pairs(split).face) for split in glyphs.SPLITS}


@dataclass(frozen=True)
class Style:
    """What towers keep of the style.

    exact: read from the embeddings as they are; noisy: with Gaussian noise of 0.05 added to every coordinate.
    face_share: share of the image embeddings' variance that lies between the faces of one character.
    alignment: mean squared distance of image and text over all test characters in all five faces.
    """

    exact: Reading
    noisy: Reading
    face_share: float
    alignment: float

    def row(self) -> dict[str, float]:
        """The same as one row of a table: style and noisy (accuracies), their cross-entropies, face_share, distance."""
        return {
            "style": self.exact.accuracy,
            "noisy": self.noisy.accuracy,
            "cross_entropy": self.exact.cross_entropy,
            "noisy_cross_entropy": self.noisy.cross_entropy,
            "face_share": self.face_share,
            "distance": self.alignment,
        }


def style(towers: TwoTower, of: RunConfig, seed: int = 0) -> Style:
    """Probe the style in the image embeddings of ``towers``, whose captions are made as in ``of``."""
    data, pairing = glyphs.load(of.image_size), of.pairing()
    pairs = {split: pairing.captioned(data, style_pairs(split, of.image_size)) for split in glyphs.SPLITS}
    found = {split: encode(towers, one) for split, one in pairs.items()}
    clean = {split: image.double().numpy() for split, (image, _) in found.items()}
    rng = np.random.default_rng([check_integer(seed, "seed", low=0), 5])
    noisy = {split: x + rng.normal(scale=NOISE, size=x.shape) for split, x in clean.items()}
    x, y = (geometry.normalize(one.double()) for one in found["test"])
    labels = style_labels()
    by_character = x.reshape(-1, len(data.faces), x.shape[1])
    within, total = by_character.var(dim=1, correction=0).sum(1).mean(), x.var(dim=0, correction=0).sum()
    return Style(probe(clean, labels), probe(noisy, labels), float(within / total), float(geometry.alignment(x, y)))


def style_of_run(run: Run) -> Style:
    """:func:`style` of a trained run."""
    return style(run.towers(), run.config, run.config.seed)


def untrained_style(seed: int) -> Style:
    """:func:`style` of the towers before their first step."""
    start = config(0, seed)
    return style(tiny_towers(len(glyphs.load().vocabulary), seed=seed), start, seed)


def pixel_ceiling() -> Reading:
    """The same probe on the pixels themselves."""
    images = {split: style_pairs(split).images.flatten(1).numpy() for split in glyphs.SPLITS}
    return probe(images, style_labels())


def name_guess() -> float:
    """How often the best guess of the face from the *name* is right where a glyph is any picture of the alphabet.

    Among the five-faced characters it is 1/5; but many names are drawn by fewer faces, and those are easier to guess.
    """
    data = glyphs.load()
    return float(np.mean(1 / np.bincount(data.name_of_image)))


def readable_bound(alignment: float, noise: float = NOISE, dim: int = 64) -> float:
    r"""At most so many nats about the style survive in :math:`Z_V + N(0, \sigma^2 I)`, where the text knows none.

    :math:`\tfrac d2 \log(1 + A / d\sigma^2)`, with :math:`A` the mean squared distance of true pairs: given
    :math:`Z_T`, which is independent of the style, all that is left of :math:`Z_V` has power :math:`A`, and a Gaussian
    channel carries no more.
    """
    check_number(alignment, "alignment", low=0)
    check_number(noise, "noise", low=0, low_open=True)
    return float(check_integer(dim, "dim", low=1) / 2 * np.log1p(alignment / (dim * noise**2)))


# --- all of it -------------------------------------------------------------------------------------------------------


def train(weight: float, seeds, device: str = "cpu", **options) -> list[Run]:
    """One run a seed, from the cache where it is there; ``options`` as for :func:`config`."""
    return [cached_run(config(weight, seed, **options), device=device) for seed in seeds]


def measured(run: Run) -> dict[str, float]:
    """All that the chapter shows of a run: :meth:`Style.row`, then :func:`measure_run`."""
    return style_of_run(run).row() | measure_run(run)
