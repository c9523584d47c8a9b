"""Reading what publishers of data sets wrote: JSON, and pictures by name; every error names the file and the place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gaplib.data import DataUnavailable


def parse(text: str, path: Path, line: int | None = None) -> Any:
    """The JSON in ``text``; ``ValueError`` names the line of ``path`` where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {line or error.lineno}: expected JSON, got {error.msg}") from None


def read_object(path: Path) -> dict:
    """The JSON object that a file holds."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error.reason} at byte {error.start}") from None
    document = parse(text, path)
    if not isinstance(document, dict):
        raise ValueError(f"{path}, line 1: expected a JSON object, got {type(document).__name__}")
    return document


def read_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """Place and JSON object of each line that is not empty."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if line.strip():
                try:
                    entry = parse(line.decode(), path, number)
                except UnicodeDecodeError as error:
                    raise ValueError(f"{place}: expected text in UTF-8, got {error.reason}") from None
                if not isinstance(entry, dict):
                    raise ValueError(f"{place}: expected a JSON object, got {type(entry).__name__}")
                yield place, entry


def field(entry: Any, name: str, kind: type, place: str) -> Any:
    """The value of a field that must be there and of this kind."""
    if not isinstance(entry, dict) or name not in entry:
        raise ValueError(f"{place}: expected a field {name!r}, got none")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{place}: {name}: expected {kind.__name__}, got {value!r:.80}")
    return value


def text_field(entry: Any, name: str, place: str) -> str:
    """The text of a field, without white space around it; at least one word."""
    value = field(entry, name, str, place).strip()
    if not value:
        raise ValueError(f"{place}: {name}: expected at least one word, got an empty text")
    return value


def inside(folder: Path, name: str, place: str) -> Path:
    """``folder / name``; ``ValueError`` for a name that leads out of the folder.

    >>> inside(Path("images"), "val2017/1.jpg", "captions.json, images[0]").as_posix()
    'images/val2017/1.jpg'
    >>> inside(Path("images"), "../secret.jpg", "captions.json, images[0]")
    Traceback (most recent call last):
    ...
    ValueError: captions.json, images[0]: expected a name inside images, got '../secret.jpg'
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or pure.is_absolute() or ".." in pure.parts or (pure.parts and ":" in pure.parts[0]):
        raise ValueError(f"{place}: expected a name inside {folder}, got {name!r}")
    return folder / name


def require_files(paths: Iterable[Path], what: str) -> None:
    """Raise ``DataUnavailable`` unless all files are there; it says how many are not, and which is the first.

    A folder is listed once: to ask for each of half a million files takes minutes.
    """
    listings: dict[Path, set[str]] = {}
    count, missing = 0, []
    for path in paths:
        count += 1
        if path.parent not in listings:
            listings[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in listings[path.parent]:
            missing.append(path)
    if missing:
        raise DataUnavailable(f"{what}: {len(missing)} of {count} pictures are missing, the first is {missing[0]}")


def first_there(candidates: Sequence[Path], what: str, hint: str) -> Path:
    """The first of the candidates that exists; ``DataUnavailable`` names the first one and says how to get it."""
    for path in candidates:
        if path.exists():
            return path
    also = f" (or {', '.join(map(str, candidates[1:]))})" if len(candidates) > 1 else ""
    raise DataUnavailable(f"{what}: there is no {candidates[0]}{also}; {hint}")
