"""Train two towers with a method of the table, and write down the gap as it goes.

    run = train(RunConfig("cua", tau=.05, seed=100))        # or cached_run(...), which trains nothing twice
    run.frame(), run.metrics, run.embeddings["test_image"], run.towers()

A run on the CPU is a function of its configuration (and of the versions and the number of threads): batches are a pure
function of (seed, step), no global random state is read or written, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from gaplib._validate import check_integer
from gaplib._versions import versions
from gaplib.data import glyphs
from gaplib.data.caption_similarity import caption_similarity
from gaplib.data.views import second_views
from gaplib.methods import Objective
from gaplib.pairs import PairedEmbeddings
from gaplib.towers import image_pair_towers, tiny_towers, transformer_towers
from gaplib.towers.encode import encode
from gaplib.training import checkpoints
from gaplib.training.cache import Entry
from gaplib.training.config import RunConfig
from gaplib.training.fabric import check_device, launch
from gaplib.training.history import log_spaced_steps, measure
from gaplib.training.run import Run, RunFolderError, exclusive, reserve_folder

__all__ = ["NonFiniteLoss", "Run", "RunConfig", "RunFolderError", "cached_run", "train"]

CHECKPOINT_EVERY = 100


class NonFiniteLoss(RuntimeError):
    """Training stopped: a loss or a weight became NaN or infinite. ``step``, ``term`` and ``checkpoint`` say where."""

    def __init__(self, step: int, term: str, checkpoint: Path | None):
        self.step, self.term, self.checkpoint = step, term, checkpoint
        last = f"last good checkpoint: {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(f"not finite at step {step}: {term}; {last}")


def train(
    config: RunConfig,
    out: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: bool = True,
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> Run:
    """Train, measure, and with ``out`` write the run's folder (see ``gaplib.training.run``).

    device   "cpu", "cuda", "cuda:N" or "mps"
    resume   continue what ``out`` holds of this very run from its last checkpoint, or load it if it is finished

    Raises ``RunFolderError`` for a folder that is not this run's to write (nothing in it is changed), ``NonFiniteLoss``
    when a loss or a weight is no longer finite, ``ValueError`` for an unknown or missing device.
    """
    check_integer(checkpoint_every, "checkpoint_every", low=1)
    config = config.resolved()
    check_device(device)
    data = _data(config)
    config.pairing().batches(data, config.batch_size, config.seed)  # refuses a batch larger than the data
    if out is None:
        return _Trainer(config, device, data, None).run(progress, checkpoint_every)
    folder = reserve_folder(out, config, data.digest, resume)
    with exclusive(folder):
        if (folder / "run.json").exists():
            return Run.load(folder)
        return _Trainer(config, device, data, folder).run(progress, checkpoint_every)


def cached_run(config: RunConfig, device: str = "cpu", progress: bool = False, timeout: float = 3600.0) -> Run:
    """The run of ``config``, trained only if the cache does not hold it (what is hashed: ``gaplib.training.cache``).

    Several processes may ask for the same run: one trains, the others wait for it, ``timeout`` seconds at most
    (``TimeoutError``). A damaged entry is trained again; one that was interrupted goes on from its checkpoint.
    """
    config = config.resolved()
    check_device(device)
    entry = Entry.of(config, _data(config).digest, device)
    if (run := entry.load()) is not None:
        return run
    with entry.lock(timeout):
        if (run := entry.load()) is not None:
            return run
        try:
            run = train(config, entry.folder, device, resume=True, progress=progress)
        except RunFolderError:  # a damaged entry, finished or not
            entry.clear()
            run = train(config, entry.folder, device, progress=progress)
        entry.finished()
    return run


class _Step(nn.Module):
    """Towers and objective as one module, so that Fabric wraps, moves and saves them together."""

    def __init__(self, towers: nn.Module, objective: Objective):
        super().__init__()
        self.towers, self.objective = towers, objective

    def forward(self, inputs: dict[str, Tensor], *args: Any) -> dict[str, Tensor]:
        image, image_private = self.towers.image_features(inputs["image"])
        text, text_private = self.towers.text_features(inputs["text"])
        features = {"image": image, "text": text, "image_private": image_private, "text_private": text_private}
        if "image_view" in inputs:
            features["image_view"], features["image_private_view"] = self.towers.image_features(inputs["image_view"])
            features["text_view"], features["text_private_view"] = self.towers.text_features(inputs["text_view"])
        with torch.autocast(inputs["image"].device.type, enabled=False):  # losses in single precision
            unit = {name: functional.normalize(z.float(), dim=1) for name, z in features.items() if z is not None}
            beside = {name: inputs.get(name) for name in ("groups", "caption_similarity")}
            return self.objective.parts(PairedEmbeddings(**unit, **beside, check=False), *args)


class _Trainer:
    """One run: the state of training, and the steps that take it on."""

    def __init__(self, config: RunConfig, device: str, data: Any, folder: Path | None):
        self.config, self.data, self.folder = config, data, folder
        self.fabric = launch(device, config.precision)
        self.pairing = config.pairing()
        self.batch = self.pairing.batches(data, config.batch_size, config.seed)
        dev_size = int(np.count_nonzero(data.split == "dev"))
        self.dev = self.pairing.sample(data, "dev", min(config.eval_pairs, dev_size), seed=0)
        towers = _towers(config, data, device)
        self.objective = config.configured_method().build()
        self.requires = self.objective.method.requires
        step = _Step(towers, self.objective)
        self.model, self.optimizer = self.fabric.setup(step, _optimizer(step, config))
        self.step, self.spent, self.history = 0, 0.0, []
        self.checkpoint: Path | None = None

    def run(self, progress: bool, checkpoint_every: int) -> Run:
        self._resume()
        started = time.perf_counter() - self.spent
        measured = set(log_spaced_steps(self.config.steps, self.config.history_points))
        bar = tqdm(
            total=self.config.steps, initial=self.step, disable=not progress, desc=self.config.method, unit="step"
        )
        with bar:
            while True:
                if self.step in measured and (not self.history or self.history[-1]["step"] < self.step):
                    self.history.append(self._measure())
                    now = self.history[-1]
                    bar.set_postfix(loss=f"{now['loss']:.3f}", gap=f"{now['centroid_distance']:.3f}", refresh=False)
                if self.step == self.config.steps:
                    break
                self._update()
                bar.update()
                self.spent = time.perf_counter() - started
                if self.folder and self.step % checkpoint_every == 0:
                    self._save_checkpoint()
        return self._finish(started)

    def _forward(self, step: int) -> Tensor:
        """The loss on the batch of ``step``; stops the run if one of its terms is not finite."""
        inputs = self.fabric.to_device(self._inputs(step))
        if not 0 < float(self.objective.logit_scale.detach()) < math.inf:
            raise NonFiniteLoss(step, "temperature", self.checkpoint)
        parts = self.model(inputs, step, self.config.steps, _generator(self.config.seed, step))
        loss = sum(parts.values())
        if not math.isfinite(loss.item()):
            bad = [name for name, value in parts.items() if not math.isfinite(value.item())]
            raise NonFiniteLoss(step, f"loss ({', '.join(bad) or 'sum of its terms'})", self.checkpoint)
        return loss

    def _inputs(self, step: int) -> dict[str, Tensor]:
        """What the towers and the objective see at ``step``."""
        batch = self.batch(step)
        inputs = {"image": batch.images, "text": self.pairing.second(batch)}
        if self.config.multi_positive:
            inputs["groups"] = torch.as_tensor(batch.positive_id)
        if "views" in self.requires:
            inputs["image_view"], inputs["text_view"] = second_views(self.data, batch, self.config.seed, step)
        if "caption similarity" in self.requires:
            inputs["caption_similarity"] = caption_similarity(batch.tokens)
        return inputs

    def _update(self) -> None:
        factor = _rate_factor(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        loss = self._forward(self.step)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.objective.after_step()
        self.step += 1

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """One row of the history: after ``step`` updates, the loss of the batch that comes next and the dev metrics."""
        self.model.eval()
        loss = self._forward(self.step)
        self.model.train()
        image, text = self._encode(self.dev)
        return {
            "step": self.step,
            "loss": float(loss),
            "tau": 1.0 / float(self.objective.logit_scale.detach()),
            **measure(image, text, np.asarray(self.dev.positive_id)),
        }

    def _encode(self, sample: Any) -> tuple[Tensor, Tensor]:
        image, text = encode(self.model.module.towers, sample, self.fabric.device, second=self.pairing.second(sample))
        if not (image.isfinite().all() and text.isfinite().all()):
            raise NonFiniteLoss(self.step, "embeddings", self.checkpoint)
        return image, text

    def _resume(self) -> None:
        self.checkpoint = checkpoints.latest(self.folder / "checkpoints") if self.folder else None
        if self.checkpoint:
            state = checkpoints.load(self.fabric, self.checkpoint, self.model.module, self.optimizer)
            self.step, self.spent, self.history = state["step"], state["spent"], state["history"]

    def _save_checkpoint(self) -> None:
        for name, weight in self.model.module.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteLoss(self.step, f"weight {name}", self.checkpoint)
        self.checkpoint = checkpoints.save(
            self.fabric,
            self.folder / "checkpoints",
            self.step,
            self.model.module,
            self.optimizer,
            history=self.history,
            spent=self.spent,
        )

    def _finish(self, started: float) -> Run:
        test = self.pairing.sample(self.data, "test", None, seed=0)
        image, text = self._encode(test)
        dev_image, dev_text = self._encode(self.dev)
        towers = self.model.module.towers
        with torch.no_grad():  # the towers leave with the temperature that they were trained at
            towers.logit_scale.fill_(math.log(float(self.objective.logit_scale.detach())))
        embeddings = {"test_image": image, "test_text": text, "dev_image": dev_image, "dev_text": dev_text}
        for split, sample in (("test", test), ("dev", self.dev)):
            for name, values in {"answer": sample.positive_id, "face": sample.face, "index": sample.index}.items():
                embeddings[f"{split}_{name}"] = np.asarray(values, dtype=np.int64)
        run = Run(
            config=self.config,
            history=self.history,
            metrics=measure(image, text, np.asarray(test.positive_id)),
            embeddings={name: np.ascontiguousarray(np.asarray(value)) for name, value in embeddings.items()},
            weights={name: value.detach().cpu().contiguous() for name, value in towers.state_dict().items()},
            seconds=time.perf_counter() - started,
            info={
                "data_digest": self.data.digest,
                "device": str(self.fabric.device),
                "versions": versions(),
                "towers": {**towers.recipe, "seed": self.config.seed},
                "objective": {name: value.item() for name, value in self.objective.state_dict().items()},
            },
            folder=self.folder,
        )
        if self.folder:
            run.save(self.folder)
        return run


def _towers(config: RunConfig, data: Any, device: str) -> nn.Module:
    """The run's towers before training: those of the run that it starts from, or new ones.

    With ``procrustes`` the second one is rotated onto the first.
    """
    if config.start:
        return cached_run(config.start, device=device).towers().train()
    size = {"dim": config.dim, "image_size": config.image_size, "seed": config.seed}
    if config.modalities == "image-text":
        kind = config.towers_of(config.configured_method())
        vocabulary = config.pairing().vocabulary_size(data, views=kind["views"])
        if kind["architecture"] == "transformer":
            return transformer_towers(vocabulary, shared=kind["shared"], **size)
        return tiny_towers(vocabulary, private_dim=config.dim if kind["private"] else None, **size)
    towers = image_pair_towers(**size)
    if config.procrustes:
        sample = data.sample("train", min(2048, int(np.count_nonzero(data.split == "train"))), seed=config.seed)
        first, second = encode(towers, sample, second=sample.images)
        rotation, _ = orthogonal_procrustes(second.double().numpy(), first.double().numpy())
        towers.text_tower[-1].set(torch.from_numpy(rotation))
    return towers


def _optimizer(step: _Step, config: RunConfig) -> torch.optim.Optimizer:
    """Matrices and filters decay, gains and biases do not; the objective's own parameters follow its method."""
    weights = [(name, weight) for name, weight in step.towers.named_parameters() if name != "logit_scale"]
    groups = [
        {"params": [w for _, w in weights if w.ndim > 1], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [w for _, w in weights if w.ndim <= 1], "lr": config.lr, "weight_decay": 0.0},
        *step.objective.param_groups(config.lr),
    ]
    groups = [{**group, "peak_lr": group["lr"]} for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer](groups)


def _rate_factor(step: int, config: RunConfig) -> float:
    """Share of the peak learning rate at ``step``."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - config.warmup) / max(config.steps - config.warmup, 1)))


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


@cache
def _glyphs(image_size: int) -> Any:
    return glyphs.load(image_size)


def _data(config: RunConfig) -> Any:
    return _glyphs(config.image_size)
