"""Finished runs, found again by their content: nothing is trained twice.

The key hashes what a run's weights and embeddings depend on: the configuration, the data, the code of every module that
trains (comments and docstrings aside), the version of torch and the kind of device. Code that measures is not in it:
what it gives is computed from the stored embeddings and kept under a key of its own (``gaplib.training.history``).
Entries are run folders as ``gaplib.training.run`` writes them, in ``cache_dir()/runs/<key>``.
"""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gaplib import _dependencies, _store
from gaplib._store import Store, content_key
from gaplib.data import cache_dir

#: Modules under gaplib.training that train nothing: they measure, or find, lock, name and write files. And what a run,
#: which trains the package's own towers in one process and by whole batches, does not come through.
NOT_BEHAVIOUR = (
    *("gaplib.towers.external", "gaplib.towers.hub", "gaplib.towers.loading"),
    *("gaplib.distributed", "gaplib.training.processes", "gaplib.training.chunked"),
    *("gaplib.training.cache", "gaplib.training.checkpoints", "gaplib.training.history", "gaplib.training.run"),
    *("gaplib._versions", *_store.NOT_BEHAVIOUR),
)


@dataclass(frozen=True)
class Entry:
    """The place of one run in the cache."""

    config: Any
    folder: Path

    @classmethod
    def of(cls, config: Any, data_digest: str, device: str) -> Entry:
        """The entry of a resolved ``gaplib.training.RunConfig`` on a device."""
        import torch

        from gaplib.towers import architecture
        from gaplib.training.config import KINDS
        from gaplib.training.run import FORMAT

        outside = architecture(KINDS.get(config.architecture, config.architecture)).source
        content = {
            **({"architecture": _dependencies.digest([outside])} if outside else {}),
            "format": FORMAT,
            "config": config.to_dict(),
            "data": data_digest,
            "code": code_digest(),
            "torch": torch.__version__,
            "device": str(device).partition(":")[0],
        }
        return cls(config, Store(cache_dir() / "runs").folder(content_key(content)))

    @property
    def store(self) -> Store:
        """The store that the entry is in."""
        return Store(self.folder.parent)

    def load(self) -> Any:
        """The finished run, or None when there is none, or a damaged one."""
        from gaplib.training.history import measured_now
        from gaplib.training.run import Run, RunFolderError

        if not (self.folder / "run.json").exists():
            return None
        try:
            run = Run.load(self.folder)
        except RunFolderError as error:
            warnings.warn(f"cached run is damaged and will be trained again: {error}", stacklevel=3)
            return None
        return measured_now(run, Store(cache_dir() / "measured")) if run.config == self.config else None

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        """Be the only process at this entry. The lock ends with its process, however that ends."""
        return self.store.lock(self.folder.name, timeout, doing="training this run")

    def clear(self) -> None:
        """Remove what the entry holds."""
        self.store.clear(self.folder.name)

    def finished(self) -> None:
        """Drop what only an unfinished run needs."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)


@cache
def code_digest() -> str:
    """Hash of the code that trains."""
    files = _dependencies.closure("gaplib.training.trainer", packages=False, leave_out=NOT_BEHAVIOUR)
    return _dependencies.digest(files)


def cached_runs(folder: Path | None = None) -> list[dict[str, Any]]:
    """What run.json says of every finished run in the cache, with its ``key`` and ``bytes``; damaged ones left out."""
    runs = []
    for file in sorted((folder or cache_dir() / "runs").glob("*/run.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            size = sum(one.stat().st_size for one in file.parent.iterdir())
            runs.append({"key": file.parent.name, "bytes": size, **content})
        except (OSError, ValueError):
            continue
    return runs
