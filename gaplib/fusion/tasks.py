"""The three tasks as tensors: questions on one picture (vqa), statements on two (nlvr), statements on one (entailment).

Answers are exact: they are computed from Unicode names and from which pictures are pixel-identical. Held-out splits
hold characters, and combinations of attributes, that no training question shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from gaplib._validate import check_choice, check_integer
from gaplib.data import glyphs
from gaplib.fusion import letters
from gaplib.fusion.registry import TASKS, answers, kinds, sentences
from gaplib.fusion.vocabulary import BOS, EOS, encode

__all__ = ["TASKS", "TaskBatch", "answer_id", "answer_tokens", "answers", "batches", "kinds", "sentences", "task"]


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """``n`` questions of one task.

    images: float32 (n, k, 1, 24, 24) in [0, 1], k = 1 picture (nlvr: 2, left first). tokens: int64 (n, L): [CLS], the
    words of the question or statement, padding. answer: int64 (n,), place in ``answers``. answer_tokens: int64 (n, A):
    [BOS], the words of the answer, [EOS], padding. kind: int64 (n,), place in ``kinds``. index: int64 (n, k), the
    characters' places in Glyphs.names. face: int64 (n, k). novel: bool (n,), whether the question shows a combination
    of attributes that no training question shows. text: the n questions.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    answer: torch.Tensor
    answer_tokens: torch.Tensor
    kind: torch.Tensor
    index: torch.Tensor
    face: torch.Tensor
    novel: torch.Tensor
    text: tuple[str, ...]
    answers: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answer)

    def to(self, device: str | torch.device) -> TaskBatch:
        """The same questions on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})


def answer_id(name: str, answer: str) -> int:
    """Place of an answer; ``ValueError`` that lists near ones for a string that is none."""
    return answers(name).index(check_choice(answer, "answer", answers(name)))


def answer_tokens(name: str) -> torch.Tensor:
    """Tokens int64 (number of answers, A) of every answer: [BOS], words, [EOS], padding."""
    return encode(answers(name), start=BOS, end=EOS)


def task(name: str, split: str, n: int, seed: int = 0) -> TaskBatch:
    """``n`` questions of a task ("vqa", "nlvr", "entailment") on one split, the same for the same arguments.

    Raises ``ValueError`` for an unknown name or split, n < 1 or a negative seed.
    """
    return _batch(name, split, n, [check_integer(seed, "seed", low=0), 0])


def batches(name: str, split: str, batch_size: int, seed: int = 0) -> Callable[[int], TaskBatch]:
    """A function ``batch(step) -> TaskBatch`` that depends on (name, split, batch_size, seed, step) alone."""
    check_choice(name, "name", TASKS)
    check_choice(split, "split", glyphs.SPLITS)
    size = check_integer(batch_size, "batch_size", low=1)
    seed = check_integer(seed, "seed", low=0)
    return lambda step: _batch(name, split, size, [seed, 1, check_integer(step, "step", low=0)])


def _batch(name: str, split: str, n: int, seed: list[int]) -> TaskBatch:
    module = TASKS[check_choice(name, "name", TASKS)]
    check_choice(split, "split", glyphs.SPLITS)
    drawn = module.draw(split, check_integer(n, "n", low=1), np.random.default_rng(seed))
    g = letters.alphabet()
    image = np.array(drawn.image)
    answer = torch.tensor([module.ANSWERS.index(a) for a in drawn.answer])
    return TaskBatch(
        images=torch.from_numpy(g.images[image]).unsqueeze(2).to(torch.float32) / 255,
        tokens=encode(drawn.text),
        answer=answer,
        answer_tokens=answer_tokens(name)[answer],
        kind=torch.tensor([module.KINDS.index(kind) for kind in drawn.kind]),
        index=torch.tensor(drawn.name),
        face=torch.from_numpy(g.face_of_image[image].astype(np.int64)),
        novel=torch.tensor(drawn.novel),
        text=tuple(drawn.text),
        answers=module.ANSWERS,
        kinds=module.KINDS,
    )
