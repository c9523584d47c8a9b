"""The data sets that runs can train on, by name: one row each.

A data set is an object with ``digest`` (hexadecimal, of all that it holds), ``vocabulary`` (words; the token ids are
their places), ``names`` (n captions), ``tokens`` (n, L), ``split`` (n,) of "train", "dev" and "test", ``positive_id``
(n,) (equal: right answers to each other), ``index(split)``, ``sample(split, n, seed)``, ``draw(index, seed, step)`` and
``batches(split, batch_size, seed)``, which give ``gaplib.data.glyphs.GlyphPairs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gaplib.data import digits, glyphs, views


@dataclass(frozen=True)
class DataSet:
    """One row: ``load(image_size)``, and ``second_views(data, pairs, seed, step) -> (images, tokens)`` where it can."""

    load: Callable[[int], Any]
    second_views: Callable[..., tuple[Any, Any]] | None = None


DATASETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "glyphs": DataSet(glyphs.load, views.second_views),
        "digits": DataSet(digits.load),
    }
)
