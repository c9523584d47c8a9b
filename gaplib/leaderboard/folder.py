"""The leaderboard's folder: reserved by one comparison, written by one process, each file whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gaplib._atomic import write_text_atomically
from gaplib._store import Store

IDENTITY = "leaderboard.json"


class LeaderboardFolderError(ValueError):
    """A folder that cannot take this leaderboard. Nothing in it was changed."""


@contextmanager
def reserved(folder: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """``folder`` for the comparison of this identity and for this process alone, or ``LeaderboardFolderError``.

    It may be missing, empty, or this comparison's. What a killed process left half-written is removed.
    """
    ours = json.loads(json.dumps(dict(identity)))
    if folder.exists() and not folder.is_dir():
        raise LeaderboardFolderError(f"out: expected a folder, got the file {folder}")
    _check(folder, ours)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _check(folder, ours)  # another process may have reserved it since
            for left_over in [*folder.glob(".*.part"), *folder.glob("rows/.*.part")]:
                left_over.unlink(missing_ok=True)
            (folder / "rows").mkdir(exist_ok=True)
            if not (folder / IDENTITY).exists():
                write_text_atomically(folder / IDENTITY, json.dumps(ours, indent=1) + "\n")
            yield folder
    except Timeout:
        raise LeaderboardFolderError(f"out: another process is making a leaderboard in {folder}") from None


def _check(folder: Path, ours: dict[str, Any]) -> None:
    if not (folder / IDENTITY).exists():
        strange = sorted(one.name for one in folder.iterdir() if _foreign(one)) if folder.is_dir() else []
        if strange:
            what = f"{folder} with {strange[0]} in it"
            raise LeaderboardFolderError(f"out: expected an empty folder or a leaderboard's, got {what}")
        return
    try:
        found = dict(json.loads((folder / IDENTITY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LeaderboardFolderError(f"out: {folder / IDENTITY} is damaged: {error}") from error
    differing = [name for name in sorted(found | ours) if found.get(name) != ours.get(name)]
    if differing:
        text = "; ".join(f"{name}: there {found.get(name)!r}, here {ours.get(name)!r}" for name in differing)
        raise LeaderboardFolderError(f"out: {folder} holds a leaderboard of another configuration ({text})")


def _foreign(path: Path) -> bool:
    """Whether this is none of the traces of a leaderboard that was killed before it had said what it is."""
    return not (path.name == ".lock" or path.suffix == ".part" or (path.name == "rows" and not any(path.iterdir())))


def write_row(folder: Path, key: str, row: Mapping[str, Any]) -> None:
    """One row as a file of its own, with its own hash."""
    row_store(folder).write(key, {}, row)


def read_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of the folder with its key; a damaged one is passed over with a warning, and will be made again."""
    store = row_store(folder)
    for key in store.stored_keys():
        if (found := store.read(key)) is not None:
            yield key, found[1]


def row_store(folder: Path) -> Store:
    """The folder's rows, by key."""
    return Store(folder / "rows", "row")
