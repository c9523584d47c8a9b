"""All downstream tasks on the alphabet in one call: towers (or a run) in, a flat dictionary of numbers out.

    evaluate(run)                                        # the test split
    evaluate(run, posthoc.fit("mean-centring", x, y))    # the same embeddings, treated
    evaluate(towers, split="dev")                        # to choose anything on

`gaplib.glyph_tasks.controls` has what to hold the numbers against. `METRICS` lists every name with its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gaplib import geometry
from gaplib._validate import check_integer
from gaplib.evaluation.arithmetic import STEPS, arithmetic_hits, mean_directions
from gaplib.evaluation.calibration import calibration
from gaplib.evaluation.clustering import clustering
from gaplib.evaluation.few_shot import few_shot
from gaplib.evaluation.fine_grained import fine_grained
from gaplib.evaluation.hubness import hubness
from gaplib.evaluation.linear_probe import linear_probe
from gaplib.evaluation.mixed_search import SHARES, dip, mixed_search, sag
from gaplib.evaluation.retrieval import mean_recall, retrieval
from gaplib.evaluation.robustness import robustness
from gaplib.evaluation.zero_shot import zero_shot
from gaplib.geometry.distribution_gap import centred
from gaplib.geometry.inputs import Embeddings, read_two
from gaplib.geometry.metrics import METRICS as GEOMETRY
from gaplib.geometry.metrics import measured
from gaplib.glyph_tasks import tasks as glyph_tasks
from gaplib.glyph_tasks.metric_table import METRICS, PROBE_MEAN, ZERO_SHOT_MEAN
from gaplib.towers.encode import Inputs
from gaplib.towers.encode import encode as encode_inputs

__all__ = ["GROUPS", "METRICS", "Encoded", "classification", "encode", "encoded", "evaluate", "score"]

_COLLAPSED = 1e-7  # rows this near to their mean are equal in single precision
FAMILIES = ("case", "diacritic", "script")


@dataclass(frozen=True)
class Encoded:
    """Embeddings of everything in ``tasks``: image (m, d), text (k, d) float64 unit rows; logit_scale a number > 0."""

    tasks: glyph_tasks.Tasks
    image: np.ndarray
    text: np.ndarray
    logit_scale: float


def evaluate(
    towers: Any, treatment: Any = None, split: str = "test", seed: int = 0, only: Any = None
) -> dict[str, float]:
    """Score towers on every task.

    Args:
        towers: a ``gaplib.towers.TwoTower`` on names and images, or a ``gaplib.training.Run``, whose towers are taken.
        treatment: a ``gaplib.posthoc.PostHoc`` (or anything with ``image(x)`` and ``text(y)``), applied to all
            embeddings before anything is scored.
        split: "test", or "dev" to choose things on.
        seed: of the few-shot draws, the mixed collections, k-means and the noise; the same seed, the same draws.
        only: names of groups of `GROUPS`, to score nothing else; ``None``: all.

    Returns:
        ``{name: float}``, see `METRICS`.

    Raises:
        ValueError: another split, a negative seed, unknown groups, towers whose second tower takes images.
    """
    return score(encode(towers, treatment, split), seed, only)


def encode(towers: Any, treatment: Any = None, split: str = "test") -> Encoded:
    """Encode every image and every text of the tasks once; arguments as for :func:`evaluate`."""
    if hasattr(towers, "config") and hasattr(towers, "towers"):
        if towers.config.modalities != "image-text":
            raise ValueError(f"towers: expected a run on images and texts, got one on {towers.config.modalities!r}")
        if towers.config.data != "glyphs":
            raise ValueError(f"towers: expected a run on glyphs, got one on {towers.config.data!r}")
        towers = towers.towers()
    for name in ("encode_image", "encode_text", "image_size", "logit_scale"):
        if not hasattr(towers, name):
            raise ValueError(f"towers: expected a run or two towers, got {type(towers).__name__} without {name}")
    tasks = glyph_tasks.build(split, towers.image_size)
    inputs = Inputs(torch.from_numpy(tasks.images).unsqueeze(1), tasks.tokens)
    image, text = encode_inputs(towers, inputs, next(towers.parameters()).device)
    return encoded(tasks, image, text, float(towers.logit_scale.detach().exp()), treatment)


def encoded(tasks: glyph_tasks.Tasks, image: Any, text: Any, logit_scale: float, treatment: Any = None) -> Encoded:
    """:class:`Encoded` from embeddings of ``tasks.images`` and ``tasks.tokens`` in any float type."""
    image, text = (geometry.normalize(torch.as_tensor(z).double()) for z in (image, text))
    for z, rows, name in ((image, tasks.images, "image"), (text, tasks.tokens, "text")):
        if len(z) != len(rows):
            raise ValueError(f"{name}: expected {len(rows)} rows, one for each of the tasks' {name}s, got {len(z)}")
    if treatment is not None:
        image, text = treatment.image(image), treatment.text(text)
    return Encoded(tasks, image.numpy(), text.numpy(), logit_scale)


def score(e: Encoded, seed: int = 0, only: Any = None) -> dict[str, float]:
    """Every metric of embeddings that are there already; ``only`` as for :func:`evaluate`."""
    seed = check_integer(seed, "seed", low=0)
    names = list(GROUPS) if only is None else ([only] if isinstance(only, str) else list(only))
    for name in names:
        if name not in GROUPS:
            raise ValueError(f"only: expected groups among {', '.join(GROUPS)}, got {name!r}")
    out: dict[str, float] = {}
    for name in names:
        out |= {f"{name}.{key}": float(value) for key, value in GROUPS[name](e, seed).items()}
    return out


def _pairs(e: Encoded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = e.tasks
    return e.image[t.pairs_image], e.text[t.pairs_text], t.pairs_answer


def _of_the_table(group: str, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The metrics of the table that a group of the suite has, by their names in it."""
    metrics = [metric for metric in GEOMETRY.values() if metric.suite.startswith(f"{group}.")]
    names = {key: name for metric in metrics for key, name in zip(metric.keys, metric.suite_names, strict=True)}
    found = measured(Embeddings(*read_two(x, y, min_rows=2)), metrics)
    return {names[key].removeprefix(f"{group}."): value for key, value in found.items()}


def _gap(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, _ = _pairs(e)
    found = _of_the_table("gap", x, y)
    cx, cy = centred(x, y)
    if min(np.linalg.norm(cx, axis=1).min(), np.linalg.norm(cy, axis=1).min()) < _COLLAPSED:
        # A modality that is one point has no shape once it is centred: nothing is left to differ.
        return {**found, "centred_relative": 0.0, "centred_distance": 0.0, "centred_separability": 0.5}
    # Normalised again, as mean-centring after training does it.
    cx, cy = geometry.normalize(cx), geometry.normalize(cy)
    return {
        **found,
        "centred_relative": geometry.relative_modality_gap(cx, cy),
        "centred_distance": geometry.centroid_distance(cx, cy),
        "centred_separability": geometry.linear_separability(cx, cy),
    }


def _uniformity(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, _ = _pairs(e)
    found = _of_the_table("uniformity", x, y)
    return {**found, "mean": (found["image"] + found["text"]) / 2}


def _recall(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, answer = _pairs(e)
    found = retrieval(x, y, ks=(1, 5, 10), image_groups=answer, text_groups=answer)
    return {**found, **{f"mean@{k}": sum(v for name, v in found.items() if name.endswith(f"@{k}")) / 2 for k in (1, 5)}}


def _zero_shot(e: Encoded, seed: int) -> Mapping[str, float]:
    out = {}
    for name, task in e.tasks.zero_shot.items():
        accuracy = "accuracy@1" if name in ("digits", "faces") else "class_mean_accuracy@1"  # these are balanced
        out[name] = zero_shot(*classification(e, name))[accuracy]
        if name == "digits":
            unseen = task.images.label == "TWO"
            for part, rows in (("digits_seen", ~unseen), ("digits_unseen", unseen)):
                out[part] = zero_shot(*classification(e, name, rows))[accuracy]
    out["faces@5"] = zero_shot(*classification(e, "faces", ks=(5,)))["accuracy@5"]
    return out | {"mean": np.mean([out[name] for name in ZERO_SHOT_MEAN])}


def classification(e: Encoded, name: str, rows: Any = slice(None), ks: tuple[int, ...] = (1,)) -> tuple:
    """Arguments of :func:`zero_shot` for the task ``name``, for its images ``rows``."""
    task = e.tasks.zero_shot[name]
    classes = [e.text[prompts] for prompts in task.prompts]
    return e.image[task.images.image[rows]], task.images.label[rows], classes, ks, task.classes


def _probe(e: Encoded, seed: int) -> Mapping[str, float]:
    out = {}
    for name, sides in e.tasks.probes.items():
        roles = dict(zip(("train", "dev", "test"), (sides[role] for role in ("fit", "tune", "score")), strict=True))
        x = {role: e.image[side.image] for role, side in roles.items()}
        found = linear_probe(x, {role: side.label for role, side in roles.items()}, Cs=(0.01, 0.1, 1.0), max_iter=100)
        out[name] = found["class_mean_accuracy"]
    return out | {"mean": np.mean([out[name] for name in PROBE_MEAN])}


def _few_shot(e: Encoded, seed: int) -> Mapping[str, float]:
    out = {}
    for name, (examples, scored) in e.tasks.few_shot.items():
        found = few_shot(e.image[examples.image], examples.label, e.image[scored.image], scored.label, seed=seed)
        out |= {f"{name}@{k.removesuffix('_shot')}": v for k, v in found.items() if k.endswith("_shot")}
        out[name] = found["mean"]
    return out | {"mean": np.mean([out[name] for name in e.tasks.few_shot])}


def directions(e: Encoded) -> dict[str, np.ndarray]:
    """The text direction of every kind of change, from the fit side's pairs."""
    d = e.tasks.directions
    return mean_directions(e.text, d.source, d.target, d.kind)


def arithmetic_share(e: Encoded, direction: Mapping[str, np.ndarray], role: str, family: str, step: float) -> float:
    """Share of right answers over all faces of the quadruples of one family."""
    hits = []
    for q in e.tasks.quadruples[role]:
        if q.family == family:
            moves = np.stack([direction[kind] for kind in q.kind.tolist()])
            image, bank = e.image[q.image], e.image[q.bank]
            hits.append(arithmetic_hits(image, moves, bank, q.answer, q.bank_answer, own=q.own, step=step))
    if not hits:
        raise ValueError(f"family: expected one that the tasks have, got {family!r}")
    return float(np.concatenate(hits).mean())


def _arithmetic(e: Encoded, seed: int) -> Mapping[str, float]:
    return arithmetic_scores(e, directions(e))


def arithmetic_scores(e: Encoded, direction: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Right answers by family with the step chosen on the tune side, and the baselines without text, without image.

    ``exact`` is the mean of case and diacritic, where one character (and its twins) is right; ``all`` has script too,
    where any letter of the wanted script and case is, which a direction alone often finds.
    """
    out = {}
    for family in FAMILIES:
        tuned = [arithmetic_share(e, direction, "tune", family, step) for step in STEPS]
        step = STEPS[int(np.argmax(tuned))]
        for name, at in ((family, step), (f"{family}_no_text", 0.0), (f"{family}_text_only", np.inf)):
            out[name] = arithmetic_share(e, direction, "score", family, at)
        out[f"{family}_step"] = step
    for name in ("", "_no_text", "_text_only"):
        out[f"exact{name}"] = np.mean([out[f"{family}{name}"] for family in FAMILIES[:2]])
        out[f"all{name}"] = np.mean([out[f"{family}{name}"] for family in FAMILIES])
    return out


def _clusters(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, _ = _pairs(e)
    rows = e.tasks.clusters
    return clustering(x[rows], y[rows], e.tasks.cluster_label, restarts=3, seed=seed)


def _mixed(e: Encoded, seed: int) -> Mapping[str, float]:
    s, out = e.tasks.search, {}
    for name, query, answer in (
        ("image", e.image[s.image_query], s.image_query_answer),
        ("text", e.text[s.text_query], s.text_query_answer),
    ):
        found = mixed_search(query, e.image[s.image], e.text[s.text], answer, s.answer, draws=3, seed=seed)
        out |= {f"{name}@{share:g}": value for share, value in found.items()}
        out |= {f"{name}_dip": dip(found), f"{name}_sag": sag(found), f"{name}_mean": np.mean(list(found.values()))}
    both = {share: (out[f"image@{share:g}"] + out[f"text@{share:g}"]) / 2 for share in SHARES}
    out |= {f"both@{share:g}": value for share, value in both.items()}
    return out | {"dip": dip(both), "sag": sag(both), "mean": np.mean(list(both.values()))}


def _fine_grained(e: Encoded, seed: int) -> Mapping[str, float]:
    a, b, s, t = e.tasks.fine_grained[:, :4].T
    return fine_grained(e.image[a], e.image[b], e.text[s], e.text[t])


def _hubness(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, _ = _pairs(e)
    found = hubness(x, y)
    return {**found, "skewness": (found["image_to_text.skewness"] + found["text_to_image.skewness"]) / 2}


def _calibration(e: Encoded, seed: int) -> Mapping[str, float]:
    out = {}
    for name in ("scripts", "digits"):
        x, labels, classes, _, known = classification(e, name)
        found = calibration(x, labels, classes, e.logit_scale, class_labels=known)
        out |= {f"{name}_{key}": found[key] for key in ("ece", "nll", "brier", "confidence")}
    return out | {"ece": (out["scripts_ece"] + out["digits_ece"]) / 2}


def _noise(e: Encoded, seed: int) -> Mapping[str, float]:
    x, y, answer = _pairs(e)
    found = robustness(x, y, lambda a, b: mean_recall(a, b, groups=answer), draws=2, seed=seed)
    return {name.replace("score@", "recall@"): value for name, value in found.items()}


#: Groups of metrics, in the order of the result; each takes the embeddings and the seed.
GROUPS = {
    "gap": _gap,
    "uniformity": _uniformity,
    "recall": _recall,
    "zero_shot": _zero_shot,
    "probe": _probe,
    "few_shot": _few_shot,
    "arithmetic": _arithmetic,
    "clustering": _clusters,
    "mixed": _mixed,
    "fine_grained": _fine_grained,
    "hubness": _hubness,
    "calibration": _calibration,
    "noise": _noise,
}
