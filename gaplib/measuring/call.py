"""``gaplib.measure``: embeddings in, a card out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from gaplib._validate import check_integer
from gaplib.embedding_files import check_stored_pair
from gaplib.geometry import gap_report
from gaplib.geometry.inputs import Embeddings
from gaplib.geometry.stored import StoredRows
from gaplib.measuring import modalities as reading
from gaplib.measuring.advice import advice_for
from gaplib.measuring.card import PLACED, Card, Measured
from gaplib.measuring.intervals import difference, intervals, without_blocks
from gaplib.measuring.models import MEASURED, place, read_rows
from gaplib.stats import Estimate


def measure(
    *modalities: Any,
    names: tuple[str, ...] | None = None,
    paired: bool = True,
    pairs: Any = None,
    groups: Any = None,
    compare: tuple[Any, Any] | None = None,
    key: str | None = None,
    seed: int = 0,
    subsample: int | None = None,
    among: str | Path | None = None,
    note: Callable[[str], None] | None = None,
) -> Card:
    """The gap between modalities: every metric with its floor and interval, its place, and what to do next.

    What is measured, and what of large inputs is drawn at random: :func:`gaplib.geometry.gap_report`. Modalities that
    would take more than 64 MiB in double precision are gone through block by block, so that files larger than memory
    can be measured; nothing else changes but round-off.

    Args:
        modalities: two or more, each (n, d) floats of any scale without rows of zeros: an array, a tensor, or a path
            (:func:`gaplib.embedding_files.open_embeddings`: .npy, .npz, .pt, .safetensors, .parquet, .csv, folders of
            shards). Or one path that holds two, as ``python -m gaplib train`` and clip-retrieval write them. Or one
            mapping of name to any of those, for more than two modalities or for names.
        names: of the modalities; else the names of files, else "image" and "text".
        paired: whether row i of all modalities is one item. ``False`` leaves out what needs pairs.
        pairs: for each row of the second modality the row of the first that it belongs to, 0 to n - 1: (m,) whole
            numbers, or a file of them. For five captions an image. Rows of one image form a group.
        groups: (n,) labels of the pairs, or a file of them; equal ones show one item.
        compare: two modalities more, of another model or from after a treatment, measured alike and set beside these.
            Where their counts are the same, their row i must be the item of row i: the differences' intervals rest on
            it.
        key: the name of the array in files that hold several.
        seed: of everything that is drawn.
        subsample: at most so many rows of each modality (pairs), drawn at random.
        among: a table of measured models (:mod:`gaplib.measuring.models`) to be placed among; default: the book's.
        note: is told what was done to the rows; default: the card's ``notes`` have it.

    Returns:
        A :class:`gaplib.measuring.Card`. More than two modalities give a matrix of gaps.

    Raises:
        ValueError: an argument or file is bad, by name; counts that do not fit (both counts, and what to do).

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=(100, 16))
    >>> captions = np.repeat(image, 5, axis=0) + 0.3 * rng.normal(size=(500, 16)) + 1
    >>> card = measure(image, captions, pairs=np.repeat(np.arange(100), 5))
    >>> card.report.n_groups, card.report.centroid_distance > card.report.floors["centroid_distance"].high
    (100, True)
    >>> sorted(card.matrix("centroid_distance").columns)
    ['image', 'text']
    """
    seed = check_integer(seed, "seed", low=0, high=2**32 - 1)
    said: list[str] = []
    tell = said.append if note is None else note
    if key is not None and len(modalities) == 1 and reading.is_path(modalities[0]):
        raise ValueError("key: expected None with one file, of which two arrays are taken: name two, each as FILE:NAME")
    names, given = reading.named_modalities(modalities, names, tell)
    rows = [reading.read_rows(one, name, key, tell) for one, name in zip(given, names, strict=True)]
    if len(rows) > 2:
        if pairs is not None or compare is not None:
            raise ValueError(f"{'pairs' if compare is None else 'compare'}: expected two modalities, got {len(rows)}")
        measured = {}
        codes = reading.read_groups(groups, len(rows[0]))
        for (i, one), (j, other) in combinations(enumerate(names), 2):
            check_stored_pair(rows[i], rows[j], paired)
            x, y, kept = _drawn(rows[i], rows[j], codes, paired, subsample, seed, said if i + j == 1 else [])
            measured[one, other] = _measured(x, y, (one, other), paired, kept, seed)
        return Card(names, measured, notes=tuple(said))
    two = (names[0], names[1])
    x, y, codes = _matched(rows[0], rows[1], two, paired, pairs, groups, said)
    n = len(x)
    x, y, codes = _drawn(x, y, codes, paired, subsample, seed, said)
    this = _measured(x, y, two, paired, codes, seed)
    models = read_rows(MEASURED if among is None else among)
    values = this.report.values
    places = {name: place(name, value, models) for name in PLACED if (value := values[name]) is not None}
    compared: Measured | None = None
    changes: dict[str, Estimate | float] = {}
    if compare is not None:
        x, y, codes = _matched(*_compared(compare, key, tell), two, paired, pairs, groups, said)
        same_items = paired and len(x) == n  # groups and drawn rows are then the same, too
        x, y, codes = _drawn(x, y, codes, paired, subsample, seed, [])
        compared = _measured(x, y, two, paired, codes, seed)
        changes = _differences(this, compared, same_items)
    return Card(
        names,
        {two: this},
        {name: where for name, where in places.items() if where},
        advice_for(this.report),
        compared,
        changes,
        tuple(said),
    )


def _matched(
    x: StoredRows, y: StoredRows, names: tuple[str, str], paired: bool, pairs: Any, groups: Any, said: list[str]
) -> tuple[StoredRows, StoredRows, np.ndarray | None]:
    """Both modalities row by row, and the groups of the pairs."""
    if pairs is not None:
        if not paired or groups is not None:
            raise ValueError(f"pairs: expected None beside {'paired=False' if not paired else 'groups'}")
        check_stored_pair(x, y, paired=False)
        index = reading.read_pairs(pairs, len(x), len(y), names)
        if missing := len(x) - len(np.unique(index)):
            said.append(f"{missing} of {len(x)} rows of {names[0]} have no row of {names[1]} and are left out")
        return x.take(index), y, index
    check_stored_pair(x, y, paired)
    if groups is not None and not paired:
        raise ValueError("groups: expected None where rows are not paired, for they have no groups in common")
    return x, y, reading.read_groups(groups, len(x))


def _drawn(
    x: StoredRows,
    y: StoredRows,
    codes: np.ndarray | None,
    paired: bool,
    subsample: int | None,
    seed: int,
    said: list[str],
) -> tuple[StoredRows, StoredRows, np.ndarray | None]:
    """At most ``subsample`` rows of each, the same where they are paired."""
    if subsample is None or max(len(x), len(y)) <= check_integer(subsample, "subsample", low=2):
        return x, y, codes
    kept = [
        np.sort(np.random.default_rng(seed).permutation(len(z))[:subsample]) if len(z) > subsample else None
        for z in (x, y)
    ]
    said.append(f"measured on {subsample} rows of {x.name} ({len(x)}) and {y.name} ({len(y)}), drawn at random")
    x, y = (z if index is None else z.take(index) for z, index in zip((x, y), kept, strict=True))
    return x, y, codes[kept[0]] if codes is not None and paired else codes


def _measured(
    x: StoredRows, y: StoredRows, names: tuple[str, str], paired: bool, codes: np.ndarray | None, seed: int
) -> Measured:
    """The report with intervals."""
    first, second = reading.in_memory_if_small((x, y))
    report = gap_report(first, second, seed, paired, names=names, groups=codes)
    numbers = None if codes is None else np.unique(codes, return_inverse=True)[1]
    data = Embeddings(first, second, bool(paired), numbers)  # type: ignore[arg-type]  # stored rows stand for tensors
    return Measured(report, intervals(report, without_blocks(data, seed)))


def _compared(compare: Any, key: str | None, tell: Callable[[str], None]) -> tuple[StoredRows, StoredRows]:
    if not isinstance(compare, (tuple, list)) or len(compare) != 2:
        what = f"{len(compare)} of them" if isinstance(compare, (tuple, list)) else f"{type(compare).__name__}"
        raise ValueError(f"compare: expected a tuple of two modalities, got {what}")
    one, other = (reading.read_rows(rows, f"compare[{number}]", key, tell) for number, rows in enumerate(compare))
    return one, other


def _differences(this: Measured, other: Measured, same_items: bool) -> dict[str, Estimate | float]:
    """By key, what the other value has more; with an interval where both have one."""
    found: dict[str, Estimate | float] = {}
    for key, value in this.report.values.items():
        theirs = other.report.values[key]
        if value is None or theirs is None:
            continue
        if key in this.intervals and key in other.intervals:
            found[key] = difference(this.intervals[key], other.intervals[key], same_items)
        else:
            found[key] = theirs - value
    return found
