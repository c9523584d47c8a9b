"""Chapter 11: a model that stands for the reader's own, a collection to search, and what a treatment or training does.

The model is chapter 09's pair of glyph towers at a low fixed temperature: it retrieves, and it has a gap. The
collection holds characters that no training saw, each as a picture and as a name; queries are the same characters in
another typeface.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gaplib import geometry, posthoc
from gaplib.book.chapters.ch09_rows import SETTINGS, SHARP, trained
from gaplib.data import DataUnavailable, glyphs, published
from gaplib.evaluation.mixed_search import mixed_search
from gaplib.evaluation.retrieval import mean_recall
from gaplib.methods import method
from gaplib.posthoc import PostHoc
from gaplib.towers.encode import encode
from gaplib.training import Run, fit

TAU = SETTINGS[SHARP].changes["tau"]  # of the model, and of everything that trains it on
STEPS, RATE, BATCH = 100, 1e-3, 256
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of names among the documents
SIZES = (2, 5, 10, 20, 50, 200, 2000)
DRAWS = 3  # samples of each size


def model(seed: int, device: str = "cpu") -> Run:
    """The model that stands for the reader's own, from the cache where it is there: about ten seconds where not.

    It is chapter 09's row ``SHARP``.
    """
    return trained(SHARP, seed, device)


def captioned_pictures(n: int, seed: int = 0, size: int = 64) -> list[tuple[Image.Image, list[str]]]:
    """``n`` characters in black on white, each with two captions: what ``gaplib.embed`` takes."""
    data = glyphs.load()
    sample = data.sample("test", n, seed=seed)
    ink = (255 * (1 - sample.images[:, 0])).round().to(torch.uint8).numpy()
    names = [data.names[i].lower() for i in sample.index.tolist()]
    return [
        (Image.fromarray(one).resize((size, size)), [name, f"a drawing of the {name}"])
        for one, name in zip(ink, names, strict=True)
    ]


def write_files(folder: Path, run: Run) -> str:
    """``image.npy`` and ``text.npy`` of a trained model in ``folder``; returns whose they are.

    CLIP's published embeddings where they can be had, else those of ``run`` in their place.
    """
    try:
        found = published.load("clip")
        x, y, whose = found.x, found.y, "CLIP, photographs and captions"
    except DataUnavailable:
        x, y, whose = *run.pairs(), "glyph towers, in the place of CLIP"
    for name, z in (("image", x), ("text", y)):
        np.save(folder / f"{name}.npy", np.asarray(z, dtype=np.float32))
    return whose


# --- a collection to search ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Collection:
    """Items as pictures and as names, and queries: pictures of the items in another typeface.

    image, text: float64 (n, d) unit rows, row i of both is one item. query: (q, d). answer: (n,) int64; documents with
    a query's answer are right (pixel-identical characters share one). query_answer: (q,).
    """

    image: Tensor
    text: Tensor
    query: Tensor
    answer: np.ndarray
    query_answer: np.ndarray

    @classmethod
    def of(cls, towers: nn.Module, split: str = "test") -> Collection:
        """Embeddings of a split's characters in the first typeface, and of the queries in the last."""
        data = glyphs.load()
        items, queries = data.sample(split, face=0), data.sample(split, face=len(data.faces) - 1)
        (image, text), (query, _) = (map(_unit, encode(towers, one)) for one in (items, queries))
        answer, asked = items.positive_id.numpy(), queries.positive_id.numpy()
        there = np.isin(asked, answer)
        return cls(image, text, query[torch.from_numpy(there)], answer, asked[there])

    def treated(self, treatment: PostHoc) -> Collection:
        """The same items and queries after a treatment: pictures as images, names as texts."""
        image, text = treatment(self.image, self.text)
        return replace(self, image=image, text=text, query=treatment.image(self.query))

    def mixed(self, shares: Sequence[float] = SHARES) -> dict[float, float]:
        """NDCG at 10 where that share of the items is there as a name and the others as a picture."""
        given = (self.query, self.image, self.text, self.query_answer, self.answer)
        return mixed_search(*given, shares=shares, draws=2)

    def scores(self) -> dict[str, float]:
        """The gap, recall at 1 (two indexes, both directions) and NDCG at 10 of mixed search (one index, mean)."""
        return {
            "gap": float(geometry.centroid_distance(self.image, self.text)),
            "recall": mean_recall(self.image, self.text, groups=self.answer),
            "mixed": float(np.mean(list(self.mixed().values()))),
        }


def _unit(z: Tensor) -> Tensor:
    return geometry.normalize(z.double())


def training_pairs(towers: nn.Module, n: int | None = None, seed: int = 0, script: str = "") -> tuple[Tensor, Tensor]:
    """Embeddings of ``n`` training characters (default: all) and their names, float64 unit rows (n, d) each.

    script: only characters whose name begins with it.
    """
    data = glyphs.load()
    sample = data.sample("train", seed=seed)
    if script:
        chosen = np.array([data.names[i].startswith(script) for i in sample.index.tolist()])
        sample = data.draw(sample.index.numpy()[chosen], seed, 0)
    image, text = map(_unit, encode(towers, sample))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(image))[:n])
    return image[order], text[order]


def by_sample_size(
    pairs: tuple[Tensor, Tensor], found: Collection, sizes: Sequence[int] = SIZES, seed: int = 0
) -> dict[str, np.ndarray]:
    """What centring does by the number of pairs it is fitted on: score -> (sizes,), means over ``DRAWS`` samples."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in sizes:
        draws = [rng.permutation(len(pairs[0]))[:n] for _ in range(DRAWS)]
        each = [found.treated(posthoc.fit("mean-centring", *(z[i] for z in pairs))).scores() for i in draws]
        rows.append({name: np.mean([one[name] for one in each]) for name in each[0]})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def fitted_where(towers: nn.Module, found: Collection, seed: int = 0) -> dict[str, dict[str, float]]:
    """Scores after centring by where its means come from, and without any."""
    places = {
        "nowhere: as trained": None,
        "training pairs": training_pairs(towers, seed=seed),
        "the collection itself, without its pairs": (found.image, found.text),
        "training pairs of one script (Greek)": training_pairs(towers, seed=seed, script="GREEK"),
    }
    return {
        name: (found if pairs is None else found.treated(posthoc.fit("mean-centring", *pairs))).scores()
        for name, pairs in places.items()
    }


def recall_of_products(image: Tensor, text: Tensor, answer: np.ndarray) -> float:
    """Recall at 1 by plain inner products, mean of both directions: what an index does that does not normalise."""
    products = (image @ text.T).numpy()
    there, back = answer[products.argmax(axis=1)] == answer, answer[products.argmax(axis=0)] == answer
    return float((there.mean() + back.mean()) / 2)


def with_and_without_norm(pairs: tuple[Tensor, Tensor], found: Collection) -> dict[str, float]:
    """Recall at 1 by inner products: as trained, after subtracting the means, and normalised again after that."""
    x, y = (z - mean.mean(0) for z, mean in zip((found.image, found.text), pairs, strict=True))
    centred = found.treated(posthoc.fit("mean-centring", *pairs))
    each = {"trained": (found.image, found.text), "subtracted": (x, y), "normalised": (centred.image, centred.text)}
    return {name: recall_of_products(*two, found.answer) for name, two in each.items()}


# --- training on -----------------------------------------------------------------------------------------------------


def batches(seed: int, split: str = "train") -> Callable[[int], Mapping[str, Tensor]]:
    """Batches as ``gaplib.training.fit`` takes them, a function of the step: image, text, groups."""
    draw = glyphs.load().batches(split, BATCH, seed)

    def batch(step: int) -> Mapping[str, Tensor]:
        pairs = draw(step)
        return {"image": pairs.images, "text": pairs.tokens, "groups": pairs.positive_id}

    return batch


def trained_on(towers: Any, name: str, seed: int, steps: int = STEPS, device: str = "cpu") -> nn.Module:
    """A copy of ``towers``, on the CPU, after ``steps`` more with the method ``name`` at the model's temperature."""
    towers = copy.deepcopy(towers)
    objective = method(name).build(tau=TAU, temperature="fixed")
    fit(towers, objective, batches(seed), steps, lr=RATE, device=device)
    return towers.cpu()
