"""Results that a build of a named commit made and that are kept in the repository: ``results/kept.json``.

The name of each is the key under which a store has it, a hash of all that it depends on: configuration, data, code and
versions. So a kept result is the one that would come out, and what has changed since has another key and is made anew.
Written by ``python -m tools.keep_results``, with a hash of itself, and never edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from gaplib._store import Store, sealed, unsealed
from gaplib.book.results import confirm_dir, write_json

#: the file's own fields: where its results are from
ORIGIN = ("commit", "date", "versions")


def file() -> Path:
    """Where the kept results lie, beside the confirming ones."""
    return confirm_dir().parent / "kept.json"


def lay_out(store: Store, keys: Iterable[str]) -> int:
    """Put the kept results of ``keys`` into ``store`` where it has none of its own; returns how many."""
    found, there = _read(file()), set(store.stored_keys())
    wanted = [key for key in keys if key in found and key not in there]
    for key in wanted:
        store.write(key, {}, found[key])
    return len(wanted)


def keep(results: dict[str, Any], origin: dict[str, Any], path: Path) -> Path:
    """Write ``results`` (key -> plain values) with their ``origin`` to ``path``, wholly or not at all."""
    return write_json(path, sealed({**{name: origin[name] for name in ORIGIN}, "results": results}))


@cache
def _read(path: Path) -> dict[str, Any]:
    """The results by key; none where there is no file. ``ValueError`` for a file that was changed."""
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")))["results"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the file that was kept ({error}); make it anew or remove it") from error
