"""Pre-train a fusion model, fine-tune it on a task, score it. Nothing is trained twice: results are kept by content.

    config = FusionConfig(variant="br", seed=3)
    pretrain(config).model(), finetune(config, "vqa").accuracy, finetune(config, "vqa", inputs="text").accuracy

All that a fine-tuning has in common between variants is equal for one seed: questions, order, the head's first weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gaplib import _dependencies
from gaplib._devices import check_device, note_device
from gaplib._store import NOT_BEHAVIOUR, Store, content_key
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.data import cache_dir, glyphs
from gaplib.fusion.heads import TaskModel, task_model
from gaplib.fusion.model import Architecture, FusionModel, fusion_model
from gaplib.fusion.pretraining import Pretraining, needs_private, pretraining_batches
from gaplib.fusion.tasks import TASKS, TaskBatch, answer_tokens, task
from gaplib.fusion.vocabulary import CLS, UNK, vocabulary
from gaplib.training.loop import Loop

INPUTS = ("both", "text", "image")
#: task -> steps and peak learning rate of its fine-tuning, chosen on dev with the baseline of seeds 0 and 1
TASK_SETTINGS = {"vqa": (300, 2e-3), "nlvr": (200, 1e-3), "entailment": (200, 1e-3)}


@dataclass(frozen=True)
class FusionConfig:
    """What a fusion run depends on. ``ValueError`` names the field that is out of its range.

    variant, weight   a name of ``gaplib.fusion.pretraining.VARIANTS`` and the weight of its term
    seed              first weights, batches, negatives, masks; questions of the tasks
    steps, batch_size, lr, decay, soft, masked
                      of pre-training: see ``gaplib.fusion.pretraining.Pretraining``
    task_steps, task_lr, task_batch_size, test_questions
                      of a fine-tuning, the same for all variants; None: those of ``TASK_SETTINGS``
    """

    variant: str = "baseline"
    weight: float = 1.0
    seed: int = 0
    steps: int = 280
    batch_size: int = 64
    lr: float = 3e-3
    decay: float = 0.9
    soft: float = 0.4
    masked: float = 0.25
    task_steps: int | None = None
    task_lr: float | None = None
    task_batch_size: int = 32
    test_questions: int = 960

    def __post_init__(self) -> None:
        needs_private(self.variant)
        for name in ("steps", "batch_size", "task_steps", "task_batch_size", "test_questions"):
            if getattr(self, name) is not None or name != "task_steps":
                check_integer(getattr(self, name), name, low=2)
        check_integer(self.seed, "seed", low=0)
        for name in ("lr", "task_lr"):
            if getattr(self, name) is not None or name != "task_lr":
                check_number(getattr(self, name), name, low=0, low_open=True)
        check_number(self.weight, "weight", low=0)

    def pretraining(self) -> dict[str, Any]:
        """The fields that pre-training depends on."""
        fields = {name: value for name, value in asdict(self).items() if not name.startswith(("task_", "test_"))}
        return fields if self.variant != "baseline" else fields | {"weight": 0.0}


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained model. history: one dict a tenth of the run (step and the mean of every term since the last)."""

    config: FusionConfig
    history: list[dict[str, float]]
    seconds: float
    weights: dict[str, Tensor] = field(repr=False)

    def model(self) -> FusionModel:
        """A new model with the trained weights, on the CPU, in evaluation mode."""
        model = fusion_model(_architecture(self.config))
        model.load_state_dict(self.weights)
        return model.eval()


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model's answers to its test questions.

    chosen int64 (n,) and right bool (n,): the answers given, and whether they are right. kind int64 (n,) and novel
    bool (n,): as in ``TaskBatch``. history: the loss, mean of every tenth of the run.
    """

    config: FusionConfig
    task: str
    inputs: str
    history: list[float]
    seconds: float
    chosen: Tensor = field(repr=False)
    right: Tensor = field(repr=False)
    kind: Tensor = field(repr=False)
    novel: Tensor = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Share of test questions that were answered right."""
        return float(self.right.double().mean())


def pretrain(config: FusionConfig, device: str = "cpu") -> Pretrained:
    """Pre-train a variant on the training characters and their names, or take it from the cache.

    Raises ``NonFiniteLoss`` with step and term; ``ValueError`` for a device that is not there.
    """
    key = _key(["pretrain", config.pretraining()], device)
    weights, note = _store().make(key, lambda: _pretrain(config, device))
    return Pretrained(config, note["history"], note["seconds"], weights)


def _pretrain(config: FusionConfig, device: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    started = time.perf_counter()
    model = fusion_model(_architecture(config), config.seed).to(device)
    objective = Pretraining(model, config.variant, config.weight, config.decay, config.soft, config.masked).to(device)
    batch = pretraining_batches(config.batch_size, config.seed)
    generator = torch.Generator().manual_seed(config.seed)

    def terms(step: int) -> dict[str, Tensor]:
        return objective.terms(*(one.to(device) for one in batch(step)), generator)

    history = _optimise(model, terms, config.steps, config.lr, objective.after_step)
    return model.state_dict(), {"history": history, "seconds": time.perf_counter() - started}


def finetune(
    config: FusionConfig, name: str, inputs: str = "both", split: str = "test", device: str = "cpu"
) -> Finetuned:
    """Fine-tune the pre-trained model on a task ("vqa", "nlvr", "entailment"), all weights, and answer ``split``.

    inputs   "both"; "text": blank images, "image": a question without words, in training and in the test: baselines
             that should know no more than chance
    Raises as `pretrain`; ``ValueError`` for an unknown task, inputs or split.
    """
    check_choice(name, "name", TASKS)
    check_choice(inputs, "inputs", INPUTS)
    key = _key(["finetune", asdict(config), name, inputs, split], device)
    tensors, note = _store().make(key, lambda: _finetune(config, name, inputs, split, device))
    return Finetuned(config, name, inputs, note["history"], note["seconds"], **tensors)


def _finetune(
    config: FusionConfig, name: str, inputs: str, split: str, device: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    pretrained = pretrain(config, device)
    started = time.perf_counter()
    size, (steps, lr) = config.task_batch_size, TASK_SETTINGS[name]
    steps, lr = config.task_steps or steps, config.task_lr or lr
    questions = blank(task(name, "train", steps * size, config.seed), inputs)
    model = task_model(
        pretrained.model(),
        images=questions.images.shape[1],
        answers=answer_tokens(name) if name == "vqa" else None,
        classes=len(questions.answers),
        seed=config.seed,
    ).to(device)

    def terms(step: int) -> dict[str, Tensor]:
        rows = slice(step * size, (step + 1) * size)
        parts = (questions.images[rows], questions.tokens[rows], questions.answer[rows])
        return {"answer": model.loss(*(one.to(device) for one in parts))}

    history = _optimise(model, terms, steps, lr)
    test = blank(task(name, split, config.test_questions, config.seed), inputs)
    chosen = choose(model, test)
    tensors = {"chosen": chosen, "right": chosen == test.answer, "kind": test.kind, "novel": test.novel}
    note = {"history": [row["answer"] for row in history], "seconds": time.perf_counter() - started}
    return tensors, note


@torch.no_grad()
def choose(model: TaskModel, questions: TaskBatch, batch_size: int = 128) -> Tensor:
    """The answers that a fine-tuned model gives, places int64 (n,) in the task's list, on the CPU."""
    device = next(model.parameters()).device
    chunks = zip(questions.images.split(batch_size), questions.tokens.split(batch_size), strict=True)
    model.eval()
    return torch.cat(
        [model.scores(images.to(device), tokens.to(device)).argmax(dim=1).cpu() for images, tokens in chunks]
    )


def blank(questions: TaskBatch, inputs: str) -> TaskBatch:
    """The questions with one input left: "text" empties the images, "image" leaves one unknown word of the text."""
    if check_choice(inputs, "inputs", INPUTS) == "both":
        return questions
    if inputs == "text":
        return replace(questions, images=torch.zeros_like(questions.images))
    return replace(questions, tokens=torch.tensor([[CLS, UNK]]).repeat(len(questions), 1))


# --- optimisation -----------------------------------------------------------------------------------------------------


def _optimise(
    model: nn.Module,
    terms: Callable[[int], dict[str, Tensor]],
    steps: int,
    lr: float,
    after_step: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """AdamW, a tenth of the steps warm-up, then a cosine to zero; the history of the terms in ten rows."""
    warmup = max(1, steps // 10)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))

    optimizer = torch.optim.AdamW(_groups(model.named_parameters()), lr=lr, fused=True)
    loop = Loop(model, terms, optimizer, rate=rate, after_step=after_step, clip_norm=1.0)
    history, recent = [], []
    model.train()
    for step in range(1, steps + 1):
        row = loop.update()
        recent.append({name: value for name, value in row.items() if name not in ("step", "loss")})
        if step % max(1, steps // 10) == 0 or step == steps:
            history.append({"step": step} | {k: sum(r[k] for r in recent) / len(recent) for k in recent[0]})
            recent = []
    loop.check_weights()
    return history


def _groups(parameters: Iterable[tuple[str, Tensor]]) -> list[dict[str, Any]]:
    """Matrices decay, gains, biases and the temperature do not."""
    named = list(parameters)
    decays = [weight for _, weight in named if weight.ndim > 1]
    return [
        {"params": decays, "weight_decay": 0.01},
        {"params": [weight for _, weight in named if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def _architecture(config: FusionConfig) -> Architecture:
    return Architecture(len(vocabulary()), private=needs_private(config.variant))


# --- cache ------------------------------------------------------------------------------------------------------------


@cache
def _code() -> str:
    return _dependencies.digest(_dependencies.closure("gaplib.fusion.runs", packages=False, leave_out=NOT_BEHAVIOUR))


def _store() -> Store:
    return Store(cache_dir() / "fusion", "cached fusion result")


def _key(content: list[Any], device: str) -> str:
    """Key of a result: its configuration, the data, the code, torch's version, the kind of device."""
    kind, _ = check_device(device)
    note_device(kind)  # who asks for the key makes the result there, or takes one that was made there
    return content_key([content, glyphs.load().digest, _code(), torch.__version__, kind])
