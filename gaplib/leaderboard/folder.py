"""The leaderboard's folder: claimed by one comparison, written by one process, each file whole or not there."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from gaplib._atomic import atomic, write_text_atomically

if TYPE_CHECKING:
    from gaplib.leaderboard.plan import Plan

IDENTITY = "leaderboard.json"


class LeaderboardFolderError(ValueError):
    """A folder that cannot take this leaderboard. Nothing in it was changed."""


@contextmanager
def claimed(folder: Path, plan: Plan) -> Iterator[Path]:
    """``folder`` for this plan and this process alone, or ``LeaderboardFolderError``.

    It may be missing, empty, or this comparison's. What a killed process left half-written is removed.
    """
    ours = json.loads(json.dumps(plan.identity()))
    if folder.exists() and not folder.is_dir():
        raise LeaderboardFolderError(f"out: expected a folder, got the file {folder}")
    _check(folder, ours)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _check(folder, ours)  # another process may have claimed it since
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
    content = {**row, "sha256": _self_hash(row)}
    write_text_atomically(folder / "rows" / f"{key}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of the folder with its key; a damaged one is passed over with a warning, and will be made again."""
    for file in sorted((folder / "rows").glob("*.json")):
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            if row.pop("sha256") != _self_hash(row):
                raise ValueError("its SHA-256 is not its own")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(f"{file}: a damaged row, which will be made again: {error}", stacklevel=3)
            continue
        yield file.stem, row


def _self_hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def write_table(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """leaderboard.csv and leaderboard.parquet, ordered by method (as the table of methods has them) and seed."""
    from gaplib.leaderboard.plan import METHODS_AND_CONTROLS
    from gaplib.leaderboard.rows import columns

    place = {name: i for i, name in enumerate(METHODS_AND_CONTROLS)}
    ordered = sorted(rows, key=lambda row: (place.get(row["method"], len(place)), row["method"], row["seed"]))
    if not ordered:
        return
    table = columns(ordered)
    with atomic(folder / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    with atomic(folder / "leaderboard.parquet") as partial:
        table.to_parquet(partial, index=False)
