"""What the numbers of `gaplib.glyph_tasks.suite` are held against, under the same names.

untrained                  the same architecture before any training
shuffled_pairs             every text is another text's embedding: what is left needs no agreement of the modalities
pixel_nearest_neighbour    no tower at all, images compared pixel by pixel
unimodal_ceiling           the image tower alone: what its images would allow if texts were as good as labelled images
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gaplib._validate import check_integer
from gaplib.evaluation.arithmetic import mean_directions
from gaplib.evaluation.few_shot import few_shot
from gaplib.evaluation.fine_grained import fine_grained
from gaplib.evaluation.mixed_search import mixed_search
from gaplib.evaluation.retrieval import retrieval
from gaplib.evaluation.zero_shot import class_mean
from gaplib.glyph_tasks import suite
from gaplib.glyph_tasks import tasks as glyph_tasks
from gaplib.towers import build


def untrained(towers: Any, split: str = "test", seed: int = 0, only: Any = None) -> dict[str, float]:
    """`suite.evaluate` of towers of the same architecture with the random weights of ``seed``.

    towers: a run, or towers with a recipe; ``ValueError`` for towers that do not say how they were built. ``only`` as
    for `suite.evaluate`.
    """
    recipe = towers.info["towers"] if hasattr(towers, "info") else getattr(towers, "recipe", None)
    if not recipe:
        raise ValueError(f"towers: expected a run, or towers with a recipe, got {type(towers).__name__}")
    return suite.evaluate(build({**recipe, "seed": seed}), split=split, seed=seed, only=only)


def shuffled_pairs(
    towers: Any, treatment: Any = None, split: str = "test", seed: int = 0, only: Any = None
) -> dict[str, float]:
    """`suite.evaluate` with the text embeddings permuted among all texts, names and prompts alike.

    Every modality keeps its geometry, so gaps of centroids stay; metrics that read images alone do not change.
    """
    e = suite.encode(towers, treatment, split)
    order = np.random.default_rng(check_integer(seed, "seed", low=0)).permutation(len(e.text))
    return suite.score(replace(e, text=e.text[order]), seed, only)


def pixel_nearest_neighbour(split: str = "test", seed: int = 0, size: int = 24) -> dict[str, float]:
    """The metrics that images alone allow (see :func:`unimodal`), on the pixels themselves."""
    tasks = glyph_tasks.build(split, size)
    return unimodal(tasks, tasks.images.reshape(len(tasks.images), -1) / 255.0, seed)


def unimodal_ceiling(towers: Any, treatment: Any = None, split: str = "test", seed: int = 0) -> dict[str, float]:
    """The same metrics on the image embeddings of trained towers; arguments as `suite.evaluate`."""
    e = suite.encode(towers, treatment, split)
    return unimodal(e.tasks, e.image, seed)


def unimodal(tasks: glyph_tasks.Tasks, image: Any, seed: int = 0) -> dict[str, float]:
    """Metrics of the suite in which labelled images take the place of texts.

    ``zero_shot.*`` and ``probe.*``: the label of the nearest labelled image of the fit side (of the few-shot examples
    for digits; of the same characters in an upright sans serif for unseen faces). ``recall.*`` and ``fine_grained.*``:
    another face of the character in place of its name. ``arithmetic.*``: directions between images. ``few_shot.*`` and
    ``mixed.image@0`` as they are.

    Args:
        tasks: from :func:`gaplib.glyph_tasks.tasks.build`.
        image: (m, d) rows for ``tasks.images``, any scale but no zero rows.

    Raises:
        ValueError: a matrix of another number of rows.
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2 or len(image) != len(tasks.images):
        raise ValueError(
            f"image: expected {len(tasks.images)} rows, one for each of the tasks' images, got {image.shape}"
        )
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    out: dict[str, float] = {}
    has = tasks.second_image >= 0
    x, y, answer = image[tasks.pairs_image[has]], image[tasks.second_image[has]], tasks.pairs_answer[has]
    found = retrieval(x, y, ks=(1, 5, 10), image_groups=answer, text_groups=answer)
    out |= {f"recall.{name}": float(value) for name, value in found.items()}
    out["recall.mean@1"] = (out["recall.image_to_text@1"] + out["recall.text_to_image@1"]) / 2

    for zero, probe in (("scripts", "script"), ("case", "case"), ("diacritic", "diacritic"), (None, "style")):
        sides = tasks.probes[probe]
        out[f"probe.{probe}"] = _nearest_label(image, sides["fit"], sides["score"], balanced=True)
        if zero:
            out[f"zero_shot.{zero}"] = out[f"probe.{probe}"]
    out["zero_shot.digits"] = _nearest_label(image, *tasks.few_shot["digits"], balanced=False)
    out["zero_shot.faces"] = _nearest_label(image, tasks.printed, tasks.zero_shot["faces"].images, balanced=False)
    out["zero_shot.mean"] = float(np.mean([out[f"zero_shot.{name}"] for name in suite.ZERO_SHOT_MEAN]))
    out["probe.mean"] = float(np.mean([out[f"probe.{name}"] for name in suite.PROBE_MEAN]))

    for name, (examples, scored) in tasks.few_shot.items():
        sets = (image[examples.image], examples.label, image[scored.image], scored.label)
        out[f"few_shot.{name}"] = few_shot(*sets, seed=seed)["mean"]
    out["few_shot.mean"] = float(np.mean([out[f"few_shot.{name}"] for name in tasks.few_shot]))

    d = tasks.directions
    drawn = (d.source_image >= 0) & (d.target_image >= 0)
    moves = mean_directions(image, d.source_image[drawn], d.target_image[drawn], d.kind[drawn])
    if set(d.kind.tolist()) <= set(moves):
        e = suite.Encoded(tasks, image, image, 1.0)
        out |= {f"arithmetic.{name}": float(value) for name, value in suite.arithmetic_scores(e, moves).items()}

    s = tasks.search
    query, documents = image[s.image_query], image[s.image]
    found = mixed_search(query, documents, documents, s.image_query_answer, s.answer, shares=(0,), seed=seed)
    out["mixed.image@0"] = found[0.0]

    pairs = tasks.fine_grained[(tasks.fine_grained[:, 4:] >= 0).all(axis=1)]
    matched = fine_grained(*(image[pairs[:, column]] for column in (0, 1, 4, 5)))
    return out | {f"fine_grained.{name}": value for name, value in matched.items()}


def _nearest_label(image: np.ndarray, known: Any, asked: Any, balanced: bool) -> float:
    """Accuracy of giving each row of ``asked`` the label of the nearest row of ``known``; of equals the first."""
    nearest = (image[asked.image] @ image[known.image].T).argmax(axis=1)
    hits = (known.label[nearest] == asked.label).astype(np.float64)
    return class_mean(hits, np.unique(asked.label, return_inverse=True)[1]) if balanced else float(hits.mean())


CONTROLS = {
    "untrained": untrained,
    "shuffled pairs": shuffled_pairs,
    "pixel nearest neighbour": pixel_nearest_neighbour,
    "unimodal ceiling": unimodal_ceiling,
}
