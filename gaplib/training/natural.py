"""Train a model of another library on natural images with a method of the table, and measure the gap before and after.

    train_outside(Settings("cua", data="coco:/data/coco", towers="open_clip:ViT-B-32:openai", steps=1000), out="run")

A run is a folder:

embeddings.safetensors    of the held-out pairs at the end: ``test_image`` and ``test_text`` (n, d), unit rows
history.csv               a row a step: loss, its terms, tau
model.safetensors         the weights, with open_clip_config.json: ``open_clip:local-dir:FOLDER`` loads both. Of a
                          transformers model instead ``model/``: ``hf:FOLDER/model``
config.json               what is being trained; the first file to be written
checkpoints/              removed when the run is done
run.json                  settings, metrics before and after, versions, device, seconds; the last to be written
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.numpy
import torch
from tqdm.auto import tqdm

from gaplib._atomic import atomic, write_text_atomically
from gaplib._devices import check_device
from gaplib._validate import check_integer, check_number
from gaplib._versions import versions
from gaplib.data.natural import open_data
from gaplib.data.natural.shards import Shards
from gaplib.evaluation.retrieval import retrieval
from gaplib.geometry import linear_separability
from gaplib.methods import Method, method
from gaplib.towers.encode import evaluating
from gaplib.towers.external import CONFIG
from gaplib.training import checkpoints
from gaplib.training.fitting import prepare
from gaplib.training.history import measure
from gaplib.training.natural_batches import PairBatches, StreamBatches, encoded
from gaplib.training.outside import Outside, load
from gaplib.training.run import RunFolderError, exclusive, refuse_foreign, reserve_folder

KS = (1, 5, 10)
#: what a run writes besides config.json and run.json
FILES = ("embeddings.safetensors", "history.csv", "model.safetensors", CONFIG)
#: what a method may need of towers that open_clip's and transformers' have not
_NOT_HERE = {"private heads": "heads for private features", "shared towers": "one trunk for both modalities"}


@dataclass(frozen=True)
class Settings:
    """What is trained, on what, how. All of it decides the run's numbers; device and workers are not part of it.

    method, tau, temperature   as ``gaplib.methods.method`` takes them
    data, towers               as ``gaplib.data.natural.open_data`` and ``gaplib.training.outside.load`` take them
    steps, batch_size          optimizer steps and pairs a step
    lr, weight_decay, betas    of AdamW; ``schedule`` ("constant" or "cosine") after ``warmup`` steps
    dim                        width of new last projections, or None
    captions, distinct, augment    see ``natural_batches.PairBatches``
    eval_pairs                 held-out pairs to measure on, at most
    """

    method: str
    data: str
    towers: str
    steps: int = 1000
    batch_size: int = 64
    lr: float = 1e-5
    tau: float | None = None
    temperature: str | None = None
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"
    warmup: int = 0
    dim: int | None = None
    captions: str = "random"
    distinct: bool = False
    augment: bool = True
    eval_pairs: int = 1000
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    def configured_method(self) -> Method:
        """The row of the table, configured; ``ValueError`` where other libraries' towers cannot be trained with it."""
        row = method(self.method, tau=self.tau, temperature=self.temperature)
        if row.post_hoc:
            raise ValueError(
                f"method: expected one to train with, got {row.name!r}, a treatment after training: train with "
                f"{row.trained!r}, then gaplib.posthoc.fit"
            )
        for need, words in _NOT_HERE.items():
            if need in row.requires:
                raise ValueError(f"method: {row.name!r} requires {words}, which {self.towers!r} has not")
        return row


def train_outside(
    settings: Settings,
    out: str | Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    checkpoint_every: int = 1000,
    workers: int = 0,
    progress: bool = False,
    precision: str = "32-true",
    model: Outside | None = None,
    data: tuple[Any, Any] | None = None,
    more: Callable[[Outside, Any], dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Train, measure before and after, write the folder ``out``, and return what its run.json holds.

    Args:
        settings: what to train.
        out: a new or empty folder, or with ``resume`` one that holds this same run, finished or not.
        device: "cpu", "cuda", "cuda:N" or "mps".
        resume: go on from the last checkpoint; the result is that of an uninterrupted run. Not with a webdataset, whose
            stream cannot start in the middle.
        checkpoint_every: steps between checkpoints.
        workers: processes that read and prepare pictures; they change no number.
        precision: "32-true" or "bf16-mixed".
        model, data: in place of what ``settings.towers`` and ``settings.data`` name: a loaded model, and the pairs to
            train on and to measure on.
        more: ``more(model, device)``, further metrics by name, measured before and after, too.

    Raises:
        ValueError: settings out of range, a method that the towers cannot be trained with.
        RunFolderError: a folder that is not this run's to write; nothing in it is changed.
        DataUnavailable: data or weights that are missing.
        NonFiniteLoss: a loss or weight is no longer finite.

    A run that stops before its first checkpoint leaves nothing behind.
    """
    row = settings.configured_method()
    check_integer(settings.steps, "steps", low=1)
    check_number(settings.lr, "lr", low=0, low_open=True)
    check_integer(checkpoint_every, "checkpoint_every", low=1)
    check_device(device)
    _refuse_others(Path(out), resume)
    train, test = train_and_test(settings) if data is None else data
    if resume and isinstance(train, Shards):
        raise ValueError("--resume: expected data with a length, got a webdataset, which starts at its beginning")
    model = load(settings.towers, settings.seed, settings.dim) if model is None else model
    batches = _batches(settings, row, train, model)
    folder = reserve_folder(out, settings, digest(train), resume)  # type: ignore[arg-type]  # only its to_dict is used
    with exclusive(folder):
        if (folder / "run.json").exists():
            return json.loads((folder / "run.json").read_text(encoding="utf-8"))
        try:
            return _trained(
                settings, row, model, batches, (train, test), folder, device, checkpoint_every, workers, progress,
                precision, more or (lambda model, device: {}),
            )  # fmt: skip
        except BaseException:
            if checkpoints.latest(folder / "checkpoints") is None:
                _take_back(folder)
            raise


def _take_back(folder: Path) -> None:
    """Leave nothing of a run that stopped before its first checkpoint: there is nothing to go on from."""
    with suppress(OSError):
        for name in (*FILES, "config.json", ".lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _trained(
    settings: Settings,
    row: Method,
    model: Outside,
    batches: Any,
    data: tuple[Any, Any],
    folder: Path,
    device: str,
    checkpoint_every: int,
    workers: int,
    progress: bool,
    precision: str,
    more: Callable[[Outside, Any], dict[str, float]],
) -> dict[str, Any]:
    loop: Any = prepare(
        model.towers, row.build(), lambda step: next(stream), settings.steps, lr=settings.lr,
        weight_decay=settings.weight_decay, schedule=settings.schedule, warmup=settings.warmup, device=device,
        precision=precision, seed=settings.seed,
        optimizer=lambda groups: torch.optim.AdamW(groups, betas=settings.betas),
    )  # fmt: skip
    started = time.perf_counter()
    state: dict[str, Any] = {"history": [], "before": {}, "spent": 0.0}
    loop.checkpoint = checkpoints.latest(folder / "checkpoints")
    if loop.checkpoint:
        state = checkpoints.load(loop.fabric, loop.checkpoint, loop.model, loop.optimizer)
        loop.step = state.pop("step")
    else:
        state["before"] = measure_pairs(model, data[1], loop.fabric.device) | more(model, loop.fabric.device)
    stream = batches.from_step(loop.step, settings.steps, workers)
    _run(loop, settings.steps, state, folder, checkpoint_every, progress, started)
    loop.check_weights()
    loop.model.hand_over(loop.step)
    model.towers.eval()
    image, text = _embeddings(model, data[1], loop.fabric.device)
    with atomic(folder / "embeddings.safetensors") as partial:
        arrays = {"test_image": image.contiguous().numpy(), "test_text": text.contiguous().numpy()}
        safetensors.numpy.save_file(arrays, partial)
    write_text_atomically(folder / "history.csv", pd.DataFrame(state["history"]).to_csv(index=False))
    model.save(folder)
    content = {
        "settings": settings.to_dict(),
        "before": state["before"],
        "after": scores(image, text) | more(model, loop.fabric.device),
        "train_pairs": len(data[0]) if hasattr(data[0], "__len__") else None,
        "test_pairs": len(image),
        "device": str(loop.fabric.device),
        "precision": precision,
        "versions": versions(),
        "seconds": state["spent"] + time.perf_counter() - started,
    }
    write_text_atomically(folder / "run.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return content


def _run(
    loop: Any, steps: int, state: dict[str, Any], folder: Path, every: int, progress: bool, started: float
) -> None:
    loop.model.towers.train()
    with tqdm(total=steps, initial=loop.step, disable=not progress, unit="step") as bar:
        while loop.step < steps:
            state["history"].append(loop.update() | loop.model.temperature)
            bar.set_postfix(loss=f"{state['history'][-1]['loss']:.3f}", refresh=False)
            bar.update()
            if loop.step % every == 0 and loop.step < steps:
                loop.check_weights()
                spent = state["spent"] + time.perf_counter() - started
                kept = state | {"spent": spent}
                where = folder / "checkpoints"
                loop.checkpoint = checkpoints.save(loop.fabric, where, loop.step, loop.model, loop.optimizer, **kept)


def _batches(settings: Settings, row: Method, train: Any, model: Outside) -> Any:
    how = {name: getattr(settings, name) for name in ("captions", "distinct", "augment")}
    kind = StreamBatches if isinstance(train, Shards) else PairBatches
    return kind(train, model, settings.batch_size, settings.seed, views="views" in row.requires, **how)


def train_and_test(settings: Settings) -> tuple[Any, Any]:
    """The pairs to train on, and at most ``eval_pairs`` others to measure on, drawn by seed 0.

    Data with splits (coco, flickr30k) has its own. Of a table, a tenth of the pictures is held out; of a webdataset,
    the last shard.

    Raises ``ValueError`` for a webdataset of one shard, or a table of less than 20 pictures.
    """
    found = open_data(settings.data)
    if isinstance(found, Shards):
        if len(found.shards) < 2:
            raise ValueError(f"data: expected at least two shards, of which the last is held out, got {found.pattern}")
        return found.part(found.shards[:-1]), list(islice(found.part(found.shards[-1:]), settings.eval_pairs))
    if found.split:
        return open_data(settings.data, "train"), found.sample(settings.eval_pairs)
    if len(found) < 20:
        raise ValueError(f"data: expected at least 20 pictures, of which a tenth is held out, got {len(found)}")
    test = {int(one) for one in found.sample_rows(min(settings.eval_pairs, len(found) // 10))}
    return found.subset([i for i in range(len(found)) if i not in test]), found.subset(sorted(test))


def measure_pairs(model: Outside, data: Any, device: Any = "cpu") -> dict[str, float]:
    """Gap metrics and recall at 1, 5 and 10 of held-out pairs: a picture and its first caption each."""
    return scores(*_embeddings(model, data, device))


def scores(image: torch.Tensor, text: torch.Tensor) -> dict[str, float]:
    """What is reported of paired embeddings (n, d): geometry, linear separability, recall in both directions."""
    rows = pd.RangeIndex(len(image)).to_numpy()
    found = measure(image, text, rows)
    found |= {name: float(value) for name, value in retrieval(image.double(), text.double(), ks=KS).items()}
    return found | {"linear_separability": float(linear_separability(image.double(), text.double()))}


def _embeddings(model: Outside, data: Any, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model.towers.to(device)
    with evaluating(model.towers):
        return encoded(model, data, device)


def digest(data: Any) -> str:
    """SHA-256 of what is known of the data without reading its pictures: names, captions, or shards and their sizes."""
    found = hashlib.sha256()
    if isinstance(data, Shards):
        entries: Any = ((path.name, path.stat().st_size) for path in data.shards)
    else:
        entries = ((Path(one).name if isinstance(one, str | Path) else "", captions) for one, captions in data)
    for entry in entries:
        found.update(json.dumps(entry).encode())
    return found.hexdigest()


def _refuse_others(out: Path, resume: bool) -> None:
    """Refuse before the data is read what ``reserve_folder`` would refuse after it."""
    refuse_foreign(out)
    if (out / "config.json").exists() and not resume:
        raise RunFolderError(f"out: {out} already holds a run; resume it or name another folder")
