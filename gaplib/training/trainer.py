"""Train two towers with a method of the table, and write down the gap as it goes.

    run = train(RunConfig("cua", tau=.05, seed=100))        # or cached_run(...), which trains nothing twice
    run.frame(), run.metrics, run.embeddings["test_image"], run.towers()

A run on the CPU is a function of its configuration (and of the versions and the number of threads): batches are a pure
function of (seed, step), no global random state is read or written, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn
from tqdm.auto import tqdm

from gaplib._devices import check_device, note_device
from gaplib._validate import check_integer
from gaplib._versions import versions
from gaplib.data.caption_similarity import caption_similarity
from gaplib.data.datasets import DATASETS
from gaplib.towers import architecture, image_pair_towers
from gaplib.towers.encode import encode
from gaplib.training import checkpoints
from gaplib.training.cache import Entry
from gaplib.training.config import KINDS, RunConfig
from gaplib.training.fitting import prepare
from gaplib.training.history import measure, measuring_digest
from gaplib.training.loop import Loop, NonFiniteLoss
from gaplib.training.processes import one_process
from gaplib.training.run import Run, RunFolderError, exclusive, reserve_folder

__all__ = ["NonFiniteLoss", "Run", "RunConfig", "RunFolderError", "cached_run", "train"]

CHECKPOINT_EVERY = 100


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
            return _noted(Run.load(folder))
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
        return _noted(run)
    with entry.lock(timeout):
        if (run := entry.load()) is not None:
            return _noted(run)
        try:
            run = train(config, entry.folder, device, resume=True, progress=progress)
        except RunFolderError:  # a damaged entry, finished or not
            entry.clear()
            run = train(config, entry.folder, device, progress=progress)
        entry.finished()
    return run


def _noted(run: Run) -> Run:
    """A run that was kept: what it gives was computed on its device."""
    note_device(run.info["device"])
    return run


class _Trainer:
    """One run: the loop that takes it on, and what is measured and kept on the way."""

    def __init__(self, config: RunConfig, device: str, data: Any, folder: Path | None):
        self.config, self.data, self.folder = config, data, folder
        self.pairing = config.pairing()
        dev_size = int(np.count_nonzero(data.split == "dev"))
        self.dev = self.pairing.sample(data, "dev", min(config.eval_pairs, dev_size), seed=0)
        self.loop = run_loop(config, device, data)
        self.fabric, self.model, self.objective = self.loop.fabric, self.loop.model, self.loop.model.objective
        self.spent, self.history = 0.0, []
        self.seen: list[tuple[Tensor, Tensor]] = []  # the dev pairs' embeddings at each step of the history

    @property
    def step(self) -> int:
        """Number of updates that were made."""
        return self.loop.step

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

    def _update(self) -> None:
        self.loop.update()

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """One row of the history: after ``step`` updates, the loss of the batch that comes next and the dev metrics."""
        self.model.eval()
        _, values = self.loop.loss(self.step)
        self.model.train()
        image, text = self._encode(self.dev)
        self.seen.append((image, text))
        measured = measure(image, text, np.asarray(self.dev.positive_id))
        return {"step": self.step, "loss": values["loss"], **self.model.temperature, **measured}

    def _encode(self, sample: Any) -> tuple[Tensor, Tensor]:
        image, text = encode(self.model.towers, sample, self.fabric.device, second=self.pairing.second(sample))
        if not (image.isfinite().all() and text.isfinite().all()):
            raise NonFiniteLoss(self.step, "embeddings", self.loop.checkpoint)
        return image, text

    def _resume(self) -> None:
        self.loop.checkpoint = checkpoints.latest(self.folder / "checkpoints") if self.folder else None
        if self.loop.checkpoint:
            state = checkpoints.load(self.fabric, self.loop.checkpoint, self.model, self.loop.optimizer)
            self.loop.step, self.spent, self.history = state["step"], state["spent"], state["history"]
            self.seen = state["seen"]

    def _save_checkpoint(self) -> None:
        self.loop.check_weights()
        self.loop.checkpoint = checkpoints.save(
            self.fabric,
            self.folder / "checkpoints",
            self.step,
            self.model,
            self.loop.optimizer,
            history=self.history,
            seen=self.seen,
            spent=self.spent,
        )

    def _finish(self, started: float) -> Run:
        test = self.pairing.sample(self.data, "test", None, seed=0)
        image, text = self._encode(test)
        dev_image, dev_text = self._encode(self.dev)
        self.model.hand_over(self.step)
        towers = self.model.towers
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
                "measured_by": measuring_digest(),
                "objective": {name: value.item() for name, value in self.objective.state_dict().items()},
            },
            folder=self.folder,
            seen={side: torch.stack([z[i] for z in self.seen]).numpy() for i, side in enumerate(("image", "text"))},
        )
        if self.folder:
            run.save(self.folder)
        return run


def run_loop(config: RunConfig, device: str = "cpu", data: Any = None) -> Loop:
    """The loop of a resolved configuration before its first step; ``ValueError`` where several processes run."""
    one_process("train")
    data = _data(config) if data is None else data
    pairing, objective = config.pairing(), config.configured_method().build()
    draw, requires = pairing.batches(data, config.batch_size, config.seed), objective.method.requires

    def batches(step: int) -> dict[str, Tensor]:
        batch = draw(step)
        inputs = {"image": batch.images, "text": pairing.second(batch)}
        if config.multi_positive:
            inputs["groups"] = torch.as_tensor(batch.positive_id)
        if "views" in requires:
            views = DATASETS[config.data].second_views
            inputs["image_view"], inputs["text_view"] = views(data, batch, config.seed, step)
        if "caption similarity" in requires:
            inputs["caption_similarity"] = caption_similarity(batch.tokens)
        return inputs

    return prepare(
        _towers(config, data, device), objective, batches, config.steps, lr=config.lr,
        weight_decay=config.weight_decay, optimizer=config.optimizer, schedule=config.schedule, warmup=config.warmup,
        device=device, precision=config.precision, seed=config.seed,
    )  # fmt: skip


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
        row = architecture(KINDS.get(kind["architecture"], kind["architecture"]))
        heads = {"private_dim": config.dim if kind["private"] else None} if row.private_heads else {}
        trunk = {"shared": kind["shared"]} if row.shared_trunk else {}
        return row.builder(vocabulary, **size, **heads, **trunk)
    towers = image_pair_towers(**size)
    if config.procrustes:
        sample = data.sample("train", min(2048, int(np.count_nonzero(data.split == "train"))), seed=config.seed)
        first, second = encode(towers, sample, second=sample.images)
        rotation, _ = orthogonal_procrustes(second.double().numpy(), first.double().numpy())
        towers.text_tower[-1].set(torch.from_numpy(rotation))
    return towers


def log_spaced_steps(steps: int, points: int) -> list[int]:
    """At most ``points`` >= 2 steps from 0 to ``steps``, both ends among them, evenly spaced in the logarithm."""
    spaced = np.geomspace(steps, 1, points - 1).round().astype(int)
    return sorted({0, *spaced.tolist()})


@cache
def _loaded(name: str, image_size: int) -> Any:
    return DATASETS[name].load(image_size)


def _data(config: RunConfig) -> Any:
    return _loaded(config.data, config.image_size)
