"""The papers' own experiments on natural images, as far as they are known, and the full runs of them.

Each value of a preset says where it is from (``Preset.status``):

paper      it stands in the paper's text
code       it stands in the authors' code
summary    known to us only from a summary that others wrote of the paper
ours       not known; what we chose, and why

    run_preset("fahim", "clip", data=(train, test), work="runs")         # one row
    run_full("06", seeds=(100,))                                         # what a chapter's presets still lack

A full run needs the files in the folder GAPLIB_NATURAL (``coco/``, ``cc3m.csv`` and, for further metrics,
``cifar10/``, ``cifar100/`` and ``simat/``), and days of a GPU. Rows are JSON files in ``results/full``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gaplib._atomic import write_text_atomically
from gaplib._extras import MissingExtra
from gaplib._store import content_hash
from gaplib._validate import check_choice, check_integer
from gaplib.data import DataUnavailable, cache_dir
from gaplib.data.natural.classes import Classified, cifar10, cifar100
from gaplib.data.natural.coco import coco
from gaplib.data.natural.simat import Simat, simat
from gaplib.evaluation.arithmetic import simat_score
from gaplib.evaluation.zero_shot import zero_shot
from gaplib.towers.encode import evaluating
from gaplib.training.natural import Settings, train_and_test, train_outside
from gaplib.training.natural_batches import encode_images, encode_texts
from gaplib.training.outside import Outside

FORMAT = 1
STATUS = ("paper", "code", "summary", "ours")


@dataclass(frozen=True)
class Preset:
    """One paper's experiment.

    chapters    of the book that show its rows
    methods     label -> fields of ``Settings`` that make the method
    towers      what ``gaplib.training.outside.load`` takes
    data        "coco" or "cc3m"
    epochs, warmup_epochs    of the training pairs
    settings    further fields of ``Settings``
    status      name of a value -> (a word of ``STATUS``, a remark)
    """

    source: str
    chapters: tuple[str, ...]
    methods: Mapping[str, Mapping[str, Any]]
    towers: str
    data: str
    epochs: int
    warmup_epochs: int
    settings: Mapping[str, Any]
    status: Mapping[str, tuple[str, str]]


_FIXED = {"tau": 0.01, "temperature": "fixed"}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fahim": Preset(
            source="Fahim et al. 2024, It's Not a Modality Gap",
            chapters=("06", "09"),
            methods={
                "clip": {"method": "clip", **_FIXED},
                "cua": {"method": "cua", **_FIXED},
                "cuaxu": {"method": "cuaxu", **_FIXED},
            },
            towers="open_clip:ViT-B-32-quickgelu:openai",
            data="coco",
            epochs=9,
            warmup_epochs=0,
            settings={
                "dim": 128,
                "batch_size": 64,
                "lr": 1e-6,
                "weight_decay": 0.1,
                "betas": (0.9, 0.99),
                "schedule": "constant",
                "captions": "first",
                "distinct": True,
                "augment": False,
                "eval_pairs": 5000,
            },
            status={
                "towers": ("code", "OpenAI's ViT-B/32; loaded by transformers there, by open_clip here"),
                "dim": ("code", "new projections without a bias, of 32, 64 and 128; how they are drawn is ours"),
                "tau": ("code", "fixed"),
                "lr": ("code", ""),
                "batch_size": ("code", ""),
                "epochs": ("code", ""),
                "weight_decay": ("code", "that gains and biases do not decay is ours"),
                "betas": ("code", ""),
                "schedule": ("code", "none"),
                "data": ("code", "COCO 2017, the 5,000 pictures of val at the end"),
                "distinct": ("code", "what repeats a caption of its batch is left out"),
                "captions": ("summary", "the first; the authors' code feeds the second to the text tower"),
                "augment": ("ours", "no random crops: not known"),
                "warmup_epochs": ("code", "no scheduler"),
                "eval_pairs": ("code", "one caption a picture"),
            },
        ),
        "yaras": Preset(
            source="Yaras et al. 2024, Explaining and Mitigating the Modality Gap",
            chapters=("07", "09"),
            methods={name: {"method": name} for name in ("clip", "flt", "ts-s3", "tr-softplus", "slrt", "hs", "ss")},
            towers="open_clip:RN50",
            data="coco",
            epochs=100,
            warmup_epochs=20,
            settings={
                "batch_size": 1024,
                "lr": 1e-4,
                "weight_decay": 0.0,
                "schedule": "cosine",
                "captions": "random",
                "eval_pairs": 512,
            },
            status={
                "towers": ("summary", "RN50 and CLIP's text transformer, from scratch"),
                "data": ("summary", "COCO's training part; which year is ours: 2017"),
                "batch_size": ("summary", ""),
                "epochs": ("summary", ""),
                "warmup_epochs": ("summary", ""),
                "schedule": ("summary", "cosine"),
                "eval_pairs": ("summary", "random held-out pairs"),
                "tau": ("ours", "where it is learned it starts at 0.07, open_clip's own start"),
                "lr": ("ours", "not known; that of Grassucci et al.'s code, which follows the same recipe"),
                "weight_decay": ("ours", "not known; Adam, as in the same code"),
                "dim": ("ours", "not known; open_clip's RN50 has 1024"),
                "betas": ("ours", "not known; torch's defaults"),
                "captions": ("ours", "not known; one of the five at random"),
                "augment": ("ours", "not known; open_clip's own crops"),
                "distinct": ("ours", "not known"),
            },
        ),
        "jiang": Preset(
            source="Jiang et al. 2023, Latent Modality Structures",
            chapters=("08", "09"),
            # Their deep feature separation needs private heads, which open_clip's towers have not.
            methods={name: {"method": name} for name in ("clip-views", "br", "gc")},
            towers="open_clip:RN50",
            data="cc3m",
            epochs=64,
            warmup_epochs=0,
            settings={
                "batch_size": 128,
                "lr": 5e-4,
                "weight_decay": 0.1,
                "schedule": "cosine",
                "warmup": 10_000,
                "captions": "first",
                "eval_pairs": 5000,
            },
            status={
                "towers": ("paper", "RN50 and a text encoder like BERT; here CLIP's text transformer"),
                "data": ("paper", "CC3M"),
                "views": ("paper", "random crop and flip; of EDA's four edits of a text we have two"),
                "batch_size": ("ours", "not in the main text; the default of CyCLIP's code, which they build on"),
                "epochs": ("ours", "the same"),
                "lr": ("ours", "the same"),
                "weight_decay": ("ours", "the same"),
                "warmup": ("ours", "the same, in steps"),
                "warmup_epochs": ("ours", "counted in steps"),
                "schedule": ("ours", "the same"),
                "weights": ("ours", "of the losses: not in the main text; 1"),
                "dim": ("ours", "not known; open_clip's RN50 has 1024"),
                "betas": ("ours", "not known; torch's defaults"),
                "tau": ("ours", "not known; learned from 0.07"),
                "captions": ("paper", "a picture has one"),
                "augment": ("ours", "not known; open_clip's own crops"),
                "distinct": ("ours", "not known"),
                "eval_pairs": ("ours", "held-out pairs of the same data"),
            },
        ),
    }
)


def settings_of(name: str, label: str, train_pairs: int, seed: int = 100, **changes: Any) -> Settings:
    """The settings of one run of a preset on so many training pairs.

    ``changes``: ``epochs``, ``warmup_epochs``, ``towers`` or a field of ``Settings``, in place of the preset's.

    >>> found = settings_of("fahim", "cua", train_pairs=118_287)
    >>> found.steps, found.lr, found.batch_size, found.tau
    (16632, 1e-06, 64, 0.01)
    """
    preset = PRESETS[check_choice(name, "preset", PRESETS)]
    own = {**preset.settings, **preset.methods[check_choice(label, "method", preset.methods)]}
    epochs = check_integer(changes.pop("epochs", preset.epochs), "epochs", low=1)
    warm = check_integer(changes.pop("warmup_epochs", preset.warmup_epochs), "warmup_epochs", low=0)
    own = {"towers": preset.towers, "data": preset.data, **own, **changes, "seed": seed}
    an_epoch = max(1, train_pairs // own["batch_size"])
    return Settings(**{"warmup": warm * an_epoch, **own, "steps": epochs * an_epoch})


def run_preset(
    name: str,
    label: str,
    data: tuple[Any, Any],
    work: str | Path,
    *,
    seed: int = 100,
    device: str = "cpu",
    tasks: Mapping[str, Any] | None = None,
    workers: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Train one method as a preset says, and write and return its row.

    Args:
        name, label: a preset and one of its methods.
        data: pairs to train on and to measure on, both with a length.
        work: folder for what is being trained. A run that was interrupted goes on from its last epoch.
        seed: of initial weights and batches.
        device: "cpu", "cuda", "cuda:N" or "mps". With CUDA the towers run in bfloat16 (losses in single precision): at
            1,024 pairs a step they would not fit a card otherwise. What the papers did is not known.
        tasks: name -> ``Classified`` (zero-shot accuracy) or ``Simat`` (its score), measured before and after.
        workers: processes that read pictures; ``None``: up to 8 where a GPU waits for them, else none.
        changes: as for :func:`settings_of`; the row names them.

    Returns:
        The row, which is also in ``full_dir()``: ``format``, ``preset``, ``method``, ``seed``, ``changed`` (names of
        what differs from the preset), ``settings``, ``before`` and ``after`` (metrics by name), ``train_pairs``,
        ``test_pairs``, ``device`` (the one that was used), ``precision``, ``versions``, ``seconds``, and ``sha256`` (of
        the rest).

    Raises as ``gaplib.training.natural.train_outside``.
    """
    settings = settings_of(name, label, len(data[0]), seed, **changes)
    an_epoch, on_gpu = max(1, len(data[0]) // settings.batch_size), device.startswith("cuda")
    run = train_outside(
        settings,
        Path(work) / f"{name}.{label}.{seed}",
        device=device,
        resume=True,
        checkpoint_every=an_epoch,
        workers=(min(8, (os.cpu_count() or 1) - 1) if on_gpu else 0) if workers is None else workers,
        precision="bf16-mixed" if on_gpu else "32-true",
        data=data,
        more=lambda model, used: task_scores(model, tasks or {}, used),
    )
    row = {"format": FORMAT, "preset": name, "method": label, "seed": seed, "changed": sorted(changes), **run}
    row["sha256"] = content_hash(row)
    full_dir().mkdir(parents=True, exist_ok=True)
    text = json.dumps(row, indent=1, allow_nan=False) + "\n"
    write_text_atomically(full_dir() / f"{name}.{label}.{seed}.json", text)
    return row


def task_scores(model: Outside, tasks: Mapping[str, Any], device: Any = "cpu") -> dict[str, float]:
    """Zero-shot accuracy (``name.accuracy@1``) or SIMAT's score (``name.score``, percent) of each task."""
    found = {}
    model.towers.to(device)
    with evaluating(model.towers):
        for name, data in tasks.items():
            if not isinstance(data, Classified | Simat):
                raise ValueError(f"tasks: expected classes or SIMAT, got {type(data).__name__} for {name!r}")
            images = encode_images(model, data.pictures, device).numpy()
            if isinstance(data, Classified):
                classes = [encode_texts(model, prompts, device).numpy() for prompts in data.prompts]
                found[f"{name}.accuracy@1"] = zero_shot(images, data.label, classes)["accuracy@1"]
            else:
                words = sorted({*data.source, *data.target})
                of = dict(zip(words, encode_texts(model, words, device).numpy(), strict=True))
                source, target = (np.stack([of[word] for word in side]) for side in (data.source, data.target))
                own = data.own
                score = simat_score(images[own], source, target, images, data.similarity, data.norm2, own=own)
                found[f"{name}.score"] = score
    return found


# --- full runs -------------------------------------------------------------------------------------------------------


def full_dir() -> Path:
    """Where rows of full runs lie: the environment's GAPLIB_FULL, else ``results/full``."""
    return Path(os.environ.get("GAPLIB_FULL") or "results/full")


def full_rows(chapter: str | None = None) -> list[dict[str, Any]]:
    """The rows that are there (of a chapter's presets), by preset, method and seed.

    Raises ``ValueError`` that names a file which is damaged, or of another format.
    """
    rows = []
    for path in sorted(full_dir().glob("*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row.pop("sha256") != content_hash(row) or row["format"] != FORMAT:
                raise ValueError("changed after it was written, or of another format")
            if chapter is None or chapter in PRESETS[row["preset"]].chapters:
                rows.append(row)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: expected a row of a full run ({error})") from error
    return rows


def natural_data(kind: str, eval_pairs: int) -> tuple[Any, Any]:
    """Pairs to train on and to measure on from the folder GAPLIB_NATURAL: ``kind`` is "coco" (2017) or "cc3m".

    Raises ``DataUnavailable`` that says what is missing.
    """
    folder = natural_folder()
    if check_choice(kind, "data", ("coco", "cc3m")) == "coco":
        train, test = (coco(folder / "coco", part, karpathy=False) for part in ("train", "val"))
        return train, test.sample(eval_pairs)
    table = next((folder / name for name in ("cc3m.csv", "cc3m.tsv") if (folder / name).exists()), None)
    if table is None:
        raise DataUnavailable(
            f"cc3m: there is no {folder / 'cc3m.csv'} (columns filepath and title) with the pictures of Conceptual "
            "Captions; img2dataset downloads them from the publisher's list"
        )
    return train_and_test(Settings("clip", f"csv:{table}", "", eval_pairs=eval_pairs))


def natural_folder() -> Path:
    """The folder that the environment's GAPLIB_NATURAL names; ``DataUnavailable`` where there is none."""
    named = os.environ.get("GAPLIB_NATURAL", "").strip()
    if not named:
        raise DataUnavailable("natural images: GAPLIB_NATURAL names no folder; set it to the one with coco/ in it")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DataUnavailable(f"natural images: GAPLIB_NATURAL names {folder}, which is no folder")
    return folder


def natural_tasks() -> dict[str, Any]:
    """The tasks whose files are in the folder GAPLIB_NATURAL: any of cifar10, cifar100 and simat."""
    readers: dict[str, Callable[..., Any]] = {"cifar10": cifar10, "cifar100": cifar100, "simat": simat}
    folder = natural_folder()
    return {name: reader(folder / name) for name, reader in readers.items() if (folder / name).is_dir()}


def run_full(chapter: str, seeds: Sequence[int], device: str = "cuda") -> list[str]:
    """Run what a chapter's presets still lack, and return, in words, what could not be run and why.

    Rows that are there are not run again.
    """
    there = {(row["preset"], row["method"], row["seed"]) for row in full_rows()}
    missing = []
    for name, preset in PRESETS.items():
        wanted = [(label, seed) for label in preset.methods for seed in seeds if (name, label, seed) not in there]
        if chapter not in preset.chapters or not wanted:
            continue
        try:
            data, tasks = natural_data(preset.data, preset.settings["eval_pairs"]), natural_tasks()
            for label, seed in wanted:
                work = cache_dir() / "full"
                run_preset(name, label, data, work, seed=seed, device=device, tasks=tasks)
        except (DataUnavailable, MissingExtra) as error:
            missing.append(f"{preset.source}: {error}")
    return missing
