"""Batches of natural images and captions, as a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gaplib._validate import check_choice, check_integer
from gaplib.data.natural.captioned import Captioned, picture
from gaplib.training.outside import Outside

#: which of a picture's captions a step takes
CAPTIONS = ("first", "random")


class _Batches:
    """How pictures and captions become a batch; the two kinds below say which ones."""

    def __init__(
        self,
        data: Any,
        model: Outside,
        batch_size: int,
        seed: int = 0,
        captions: str = "random",
        distinct: bool = False,
        augment: bool = True,
        views: bool = False,
    ):
        self.data, self.model, self.seed = data, model, check_integer(seed, "seed", low=0)
        self.batch_size = check_integer(batch_size, "batch_size", low=2)
        self.captions, self.distinct = check_choice(captions, "captions", CAPTIONS), distinct
        self.augment, self.views = augment, views

    def collate(self, samples: Sequence[tuple[Any, list[str]]], step: int) -> dict[str, Any]:
        """Inputs of the towers from pictures and captions; what is random about it is a function of seed and step."""
        rng = np.random.default_rng((self.seed, 2, step))
        pairs = [(one, texts[0 if self.captions == "first" else rng.integers(len(texts))]) for one, texts in samples]
        if self.distinct:
            pairs = list({text: (one, text) for one, text in reversed(pairs)}.values())[::-1]
        pictures, texts = [picture(one) for one, _ in pairs], [text for _, text in pairs]
        prepare = (self.model.augmented if self.augment else None) or self.model.image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            out = {"image": torch.stack([prepare(one) for one in pictures]), "text": self.model.text(texts)}
            if self.views:
                out["image_view"] = torch.stack([self.model.image(_cropped(one)) for one in pictures])
                out["text_view"] = self.model.text([second_text(text, rng) for text in texts])
        return out


class PairBatches(_Batches, Dataset):
    """``batches[step]`` is what ``gaplib.training.fit`` takes: ``image``, ``text`` and, if asked for, second views.

    Every epoch is a permutation of the data; rows that do not fill a batch are left for the next epoch's.

    Args:
        data: pictures with captions.
        model: makes inputs of them.
        batch_size: pairs a step.
        seed: of order, captions, crops and views.
        captions: "first" or "random", drawn anew each epoch.
        distinct: leave out of a batch what has the caption of a row before it (its batch is then smaller).
        augment: crop at random as the library of the model does for its own training, where it does.
        views: whether to add ``image_view`` and ``text_view``.

    Raises ``ValueError`` for a batch larger than the data, or captions of another kind.
    """

    def __init__(self, data: Captioned, model: Outside, batch_size: int, seed: int = 0, **how: Any):
        super().__init__(data, model, batch_size, seed, **how)
        if self.batch_size > len(data):
            raise ValueError(f"batch_size: expected at most the {len(data)} pictures of {data.name}, got {batch_size}")
        self.steps_an_epoch = len(data) // self.batch_size

    def rows(self, step: int) -> np.ndarray:
        """The rows of the data that a step sees."""
        epoch, place = divmod(step, self.steps_an_epoch)
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.data))
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self.collate([self.data[row] for row in self.rows(step)], step)

    def __len__(self) -> int:
        return self.steps_an_epoch

    def from_step(self, first: int, steps: int, workers: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of the steps from ``first`` to ``steps``, prepared by so many processes."""
        return iter(DataLoader(self, batch_size=None, sampler=range(first, steps), num_workers=workers))


class StreamBatches(_Batches, IterableDataset):
    """The same of a webdataset, whose samples come shard by shard; it cannot start in the middle."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        held: list[Any] = []
        step = epoch = 0
        while True:
            before = step
            for sample in self.data.read(seed=(self.seed * 1_000_003 + epoch)):
                held.append(sample)
                if len(held) == self.batch_size:
                    yield self.collate(held, step)
                    held, step = [], step + 1
            if step == before:
                raise ValueError(f"batch_size: expected at most the samples of {self.data.name}, got {self.batch_size}")
            epoch += 1

    def from_step(self, first: int, steps: int, workers: int = 0) -> Iterator[dict[str, Any]]:
        """The first batches; ``first`` must be 0. One process at most reads ahead."""
        check_integer(first, "first_step", low=0, high=0)
        return iter(DataLoader(self, batch_size=None, num_workers=min(workers, 1)))


def _cropped(image: Any) -> Any:
    """A second view of a picture: a random crop of at least half of it, half of them mirrored."""
    from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

    return Compose([RandomResizedCrop(image.size[::-1], scale=(0.5, 1.0)), RandomHorizontalFlip()])(image)


def second_text(text: str, rng: np.random.Generator, share: float = 0.1) -> str:
    """A second view of a caption: words deleted and two exchanged, two of the four edits of EDA (Wei & Zou 2019).

    Each word is deleted with probability ``share``, one is always left; synonyms, EDA's other two edits, would need a
    dictionary.

    >>> second_text("a cat on the grass", np.random.default_rng(3))
    'on cat the'
    """
    words = text.split()
    if len(words) > 1:
        kept = rng.random(len(words)) >= share
        kept[rng.integers(len(words))] = True
        words = [word for word, keep in zip(words, kept, strict=True) if keep]
    if len(words) > 1:
        i, j = rng.choice(len(words), size=2, replace=False)
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def encoded(model: Outside, data: Any, device: Any = "cpu", chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) of all pictures and of their first captions, float32 on the CPU, with unit rows."""
    pairs = [data[row] for row in range(len(data))]
    images = encode_images(model, [one for one, _ in pairs], device, chunk)
    return images, encode_texts(model, [captions[0] for _, captions in pairs], device, chunk)


def encode_images(model: Outside, pictures: Any, device: Any = "cpu", chunk: int = 64) -> Tensor:
    """Embeddings (n, d) of pictures (paths or PIL images), float32 on the CPU, with unit rows."""
    made = []
    for start in range(0, len(pictures), chunk):
        rows = [model.image(picture(pictures[i])) for i in range(start, min(start + chunk, len(pictures)))]
        made.append(_unit(model.towers.encode_image, torch.stack(rows), device))
    return torch.cat(made)


def encode_texts(model: Outside, texts: Any, device: Any = "cpu", chunk: int = 256) -> Tensor:
    """Embeddings (n, d) of texts, float32 on the CPU, with unit rows."""
    parts = [list(texts[start : start + chunk]) for start in range(0, len(texts), chunk)]
    return torch.cat([_unit(model.towers.encode_text, model.text(part), device) for part in parts])


@torch.no_grad()
def _unit(encoder: Any, inputs: Any, device: Any) -> Tensor:
    moved = (
        {name: value.to(device) for name, value in inputs.items()} if isinstance(inputs, dict) else inputs.to(device)
    )
    return torch.nn.functional.normalize(encoder(moved).float(), dim=1).cpu()
