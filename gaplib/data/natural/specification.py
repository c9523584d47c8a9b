"""``KIND:WHERE``, as the command line takes data: a table of kinds, and the one function that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gaplib._validate import check_choice
from gaplib.data.natural.classes import cifar10, cifar100, emnist
from gaplib.data.natural.coco import coco, flickr30k
from gaplib.data.natural.shards import Shards
from gaplib.data.natural.simat import simat
from gaplib.data.natural.tables import csv_pairs


def _whole(reader: Callable[[str], Any]) -> Callable[[str, str | None], Any]:
    """A reader of data that has no splits: any is all of it."""
    return lambda where, split: reader(where)


#: kind -> reader(where, split)
KINDS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "coco": coco,
        "flickr30k": flickr30k,
        "csv": _whole(csv_pairs),
        "webdataset": _whole(Shards),
        "cifar10": cifar10,
        "cifar100": cifar100,
        "emnist": emnist,
        "simat": simat,
    }
)


def open_data(spec: str, split: str | None = None) -> Any:
    """Pictures with captions from ``coco:FOLDER``, ``flickr30k:FOLDER``, ``csv:FILE``, ``webdataset:PATTERN``, ...

    Args:
        spec: a kind of ``KINDS``, a colon, and where its files are. Each kind's module says which files it wants.
        split: "train", "val" or "test" where the kind has splits; csv and webdataset have none. ``None``: the part that
            results are reported on.

    Returns:
        A sequence: ``len(data)``, ``data[i] -> (path or PIL image, [captions])``, slices, ``subset`` and ``sample``
        (:class:`gaplib.data.natural.Captioned`); cifar10, cifar100 and emnist have ``label``, ``classes`` and
        ``prompts`` besides. ``webdataset:`` is an iterable of the same without a length.

    Raises:
        DataUnavailable: files that are missing: which, how many, and who has them.
        ValueError: no such kind (they are listed), a split that it does not have, files with other content.
        MissingExtra: a library that is missing, with the command that brings it.

    >>> open_data("cocoa:/data")
    Traceback (most recent call last):
    ...
    ValueError: data: expected one of coco, flickr30k, ..., got 'cocoa'; did you mean coco?
    """
    kind, colon, where = str(spec).partition(":")
    if not colon or not where.strip():
        raise ValueError(f"data: expected KIND:WHERE with one of {', '.join(KINDS)}, got {spec!r}")
    return KINDS[check_choice(kind, "data", KINDS)](where, split)
