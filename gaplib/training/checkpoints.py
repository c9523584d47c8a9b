"""Checkpoints of an unfinished run: folders ``step-NNNNNN`` that are either whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import nn

from gaplib.training.run import RunFolderError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

KEEP = 2  # the newest, and one before it


def save(fabric: Fabric, folder: Path, step: int, model: nn.Module, optimizer: Any, **progress: Any) -> Path:
    """Write the state after ``step`` updates and drop the oldest; ``progress`` is anything of plain values."""
    folder.mkdir(exist_ok=True)
    partial = folder / f".step-{step:06d}.{os.getpid()}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(weights, partial / "model.safetensors")
    fabric.save(partial / "optimizer.ckpt", {"optimizer": optimizer, "step": step, **progress})
    done = folder / f"step-{step:06d}"
    shutil.rmtree(done, ignore_errors=True)
    os.replace(partial, done)
    for old in _all(folder)[:-KEEP]:
        shutil.rmtree(old)
    return done


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder``, if there is one."""
    return (_all(folder) or [None])[-1]


def load(fabric: Fabric, checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Bring ``model`` and ``optimizer`` to the state of ``checkpoint`` and return what else ``save`` was given.

    Nothing in the file is executed (weights only). Raises ``RunFolderError`` when it is damaged.
    """
    try:
        state = fabric.load(checkpoint / "optimizer.ckpt", weights_only=True)
        model.load_state_dict(safetensors.torch.load_file(checkpoint / "model.safetensors"))
        optimizer.load_state_dict(state.pop("optimizer"))
        return state
    except Exception as error:  # torch, zipfile and pickle each have their own kinds
        raise RunFolderError(
            f"out: checkpoint {checkpoint} is damaged ({error}); remove it to resume earlier"
        ) from error


def _all(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("step-*") if one.is_dir())
