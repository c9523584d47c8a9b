"""A run on disk: a folder of the files below.

embeddings.safetensors    of the test and dev pairs at the end, with what the pairs are
history.safetensors       of the dev pairs at each step of the history
model.safetensors         weights of the towers
config.json               what is being trained; the first file to be written
checkpoints/step-NNNNNN/  model.safetensors, optimizer.ckpt
run.json                  configuration, history, final metrics, versions, seconds; the last: with it the run is done
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors.numpy
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

from gaplib._atomic import atomic, sha256, write_text_atomically
from gaplib._store import content_hash
from gaplib._validate import check_choice
from gaplib.geometry.inputs import normalize
from gaplib.training.config import RunConfig

if TYPE_CHECKING:
    from gaplib.towers import TwoTower

FORMAT = 2
SPLITS = ("test", "dev")
_DATA_FILES = ("embeddings.safetensors", "history.safetensors", "model.safetensors")


class RunFolderError(ValueError):
    """A folder that cannot be used for a run: another run's, not a run's at all, or damaged. Nothing was changed."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    history     one dictionary a measured step: step, loss, tau and the gap metrics of the dev pairs (``frame()``)
    metrics     the same metrics on the test split, which nothing was chosen on
    embeddings  arrays by name: test_image, test_text, dev_image, dev_text (n, d) float32 with unit rows; test_answer,
                test_face, test_index (n,) int64 and the same for dev (see ``gaplib.data.glyphs``)
    weights     state of the towers, by name
    seconds     spent on training and measuring
    info        versions, device, digest of the data, recipe of the towers, state of the objective
    seen        the dev pairs' embeddings at each step of the history, "image" and "text", float32 (steps, n, d); None
                for a run that was loaded, which has them on disk (``dev_embeddings()``)
    """

    config: RunConfig
    history: list[dict[str, float]]
    metrics: dict[str, float]
    embeddings: dict[str, np.ndarray] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)
    seconds: float
    info: dict[str, Any] = field(repr=False)
    folder: Path | None = None
    seen: dict[str, np.ndarray] | None = field(default=None, repr=False)

    def dev_embeddings(self) -> dict[str, np.ndarray]:
        """The dev pairs' embeddings at each step of the history: "image" and "text", float32 (steps, n, d), unit rows.

        >>> from gaplib.training import RunConfig, train
        >>> run = train(RunConfig(steps=2, batch_size=8, dim=4, eval_pairs=8, history_points=2), progress=False)
        >>> run.dev_embeddings()["image"].shape
        (2, 8, 4)
        """
        if self.seen is not None:
            return self.seen
        return safetensors.numpy.load_file(self.folder / "history.safetensors")

    def frame(self) -> pd.DataFrame:
        """The history as a table, one row a measured step."""
        return pd.DataFrame(self.history)

    def pairs(self, split: str = "test") -> tuple[Tensor, Tensor]:
        """Image and text embeddings of ``split``, "test" or "dev": (n, d) float64 each, with unit rows.

        ``ValueError`` for another split.
        """
        check_choice(split, "split", SPLITS)
        return tuple(
            normalize(torch.from_numpy(self.embeddings[f"{split}_{side}"]).double()) for side in ("image", "text")
        )

    def gap(self, split: str = "test") -> float:
        """Centroid distance of the pairs of ``split``, in [0, 2]."""
        return self._measured(split)["centroid_distance"]

    def recall(self, split: str = "test") -> float:
        """Recall at 1 of the pairs of ``split``, mean of both directions, in [0, 1]."""
        found = self._measured(split)
        return (found["image_to_text@1"] + found["text_to_image@1"]) / 2

    def _measured(self, split: str) -> dict[str, float]:
        """The metrics of ``split`` after the last step."""
        return self.metrics if check_choice(split, "split", SPLITS) == "test" else self.history[-1]

    def towers(self) -> TwoTower:
        """New towers with the trained weights, on the CPU, in evaluation mode."""
        from gaplib.towers import build

        towers = build(self.info["towers"])
        towers.load_state_dict(self.weights)
        return towers.eval()

    def save(self, folder: str | Path) -> None:
        """Write the run's files; run.json comes last and holds the hashes of the others."""
        folder = Path(folder)
        for name, arrays in (("embeddings", self.embeddings), ("history", self.dev_embeddings())):
            with atomic(folder / f"{name}.safetensors") as partial:
                safetensors.numpy.save_file(arrays, partial)
        self.towers().save(folder / "model.safetensors")
        content = {
            "format": FORMAT,
            "config": self.config.to_dict(),
            "history": self.history,
            "metrics": self.metrics,
            "seconds": self.seconds,
            **{name: value for name, value in self.info.items() if name != "files"},
            "files": {name: sha256(folder / name) for name in _DATA_FILES},
        }
        content["sha256"] = content_hash(content)
        write_text_atomically(folder / "run.json", json.dumps(content, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a finished run back. ``RunFolderError`` says which file is missing or damaged."""
        folder = Path(folder)
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            if content.pop("sha256") != content_hash(content):
                raise RunFolderError(f"{folder}: run.json is damaged (its SHA-256 is not its own)")
            if content.pop("format") != FORMAT:
                raise RunFolderError(f"{folder}: expected a run of format {FORMAT}; written by another gaplib")
            for name, expected in content["files"].items():
                if sha256(folder / name) != expected:
                    raise RunFolderError(f"{folder}: {name} is damaged (its SHA-256 is not the one in run.json)")
            return cls(
                config=RunConfig.from_dict(content.pop("config")),
                history=content.pop("history"),
                metrics=content.pop("metrics"),
                seconds=content.pop("seconds"),
                embeddings=safetensors.numpy.load_file(folder / "embeddings.safetensors"),
                weights=safetensors.torch.load_file(folder / "model.safetensors"),
                info=content,
                folder=folder,
            )
        except RunFolderError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise RunFolderError(f"{folder}: not a finished run, or damaged: {error}") from error


def reserve_folder(folder: str | Path, config: RunConfig, data_digest: str, resume: bool) -> Path:
    """Make ``folder`` this run's, or refuse.

    A folder that is missing or empty is taken. With ``resume`` so is one that holds this same run, finished or not.
    Everything else raises ``RunFolderError`` and is left as it is.
    """
    folder = Path(folder)
    refuse_foreign(folder)
    ours = {"format": FORMAT, "config": config.to_dict(), "data_digest": data_digest}
    if (folder / "config.json").exists():
        found = _read_config(folder)
        if found != ours:
            raise RunFolderError(f"out: {folder} holds a run of another configuration ({_difference(found, ours)})")
        if not resume:
            state = "finished" if (folder / "run.json").exists() else "unfinished"
            raise RunFolderError(f"out: {folder} already holds this run ({state}); resume it or name another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / "config.json", json.dumps(ours, indent=1) + "\n")
    return folder


def refuse_foreign(folder: Path) -> None:
    """``RunFolderError`` for a file, and for a folder with anything else in it than a run or what a killed one left."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"out: expected a folder, got the file {folder}")
    no_run = folder.is_dir() and not (folder / "config.json").exists()
    if no_run and any(one.suffix not in {".part", ".lock"} for one in folder.iterdir()):
        raise RunFolderError(f"out: expected an empty folder or a run's, got {folder} with other files in it")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Refuse a reserved folder that another process is training in, and clear away what a killed one left half-written.

    The lock ends with its process, however that ends.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        with lock:
            for left_over in list(folder.glob("**/.*.part")):
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink(missing_ok=True)
            yield
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise RunFolderError(f"out: another process is training in {folder}") from None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {name: found[name] for name in ("format", "config", "data_digest")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"out: {folder / 'config.json'} is damaged: {error}") from error


def _difference(found: dict[str, Any], ours: dict[str, Any]) -> str:
    if found["format"] != ours["format"]:
        return "written by another gaplib"
    names = sorted(set(found["config"]) | set(ours["config"]))
    changed = [name for name in names if found["config"].get(name) != ours["config"].get(name)]
    return (
        "; ".join(f"{n}: there {found['config'].get(n)!r}, here {ours['config'].get(n)!r}" for n in changed) or "data"
    )
