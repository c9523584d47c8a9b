"""All metrics of one pair of embedding matrices in one call, each gap metric beside what it reads without a gap."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from gaplib._validate import check_integer, check_labels, check_pair
from gaplib.evaluation.retrieval import retrieval_of, sampled_hits
from gaplib.geometry import distance, floors
from gaplib.geometry.inputs import Embeddings, read_two, row_numbers
from gaplib.geometry.metrics import METRICS, SECTIONS, Metric
from gaplib.geometry.report_rendering import Row, as_html, as_text
from gaplib.geometry.separability import equal_rows, row_choices
from gaplib.geometry.stored import StoredRows
from gaplib.stats import Floor

# What grows with the square of the rows, or is fitted again and again, is estimated on a sample where there are many:
# rows of a modality whose distances are compared (metrics of the sample "rows"), ...
UNIFORMITY_ROWS = 10_000
# ... pairs that a classifier learns and is tested on (metrics of the sample "pairs"), ...
SEPARABILITY_PAIRS = 5_000
# ... scores of queries with candidates, both directions together. The candidates are always all.
RETRIEVAL_SCORES = 10**9
LEAST_QUERIES = 1000
_RETRIEVAL = ("image_to_text_at_1", "text_to_image_at_1")


@dataclass(frozen=True)
class GapReport:
    """The report card that :func:`gap_report` returns; ``None`` where a metric does not apply (shown as a dash).

    ``n`` and ``n_text`` are the rows of the first and of the second modality, ``d`` the dimension. ``values`` holds
    every value by its key in :mod:`gaplib.geometry.metrics`, and retrieval; each is an attribute of the report too:
    ``report.alignment``. ``floors`` holds, by the name of a gap metric, a :class:`gaplib.stats.Floor`: for
    ``top5_coordinate_share`` that of random rotations, for the others that of exchanging the modalities within random
    pairs. ``n_groups`` is how many groups the pairs form (``None`` where none were given), ``retrieval_chance`` what
    random embeddings would retrieve, ``notes`` what a reader of the numbers has to know besides.
    """

    n: int
    n_text: int
    d: int
    paired: bool
    seed: int
    values: dict[str, float | None]
    retrieval_chance: float | None = None
    n_groups: int | None = None
    notes: tuple[str, ...] = ()
    floors: dict[str, Floor] = field(default_factory=dict)
    names: tuple[str, str] = ("image", "text")

    def __getattr__(self, name: str) -> Any:
        # Asked only where there is no such field; a report that is just being copied has none yet.
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return values[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.values})

    def rows(self) -> list[Row]:
        """The metrics in reading order, with labels, values, floors and meanings."""
        image, text = self.names
        chance = "" if self.retrieval_chance is None else f"; chance {self.retrieval_chance:.2g}"
        table = [row for metric in METRICS.values() if metric.report for row in self._rows_of(metric)] + [
            self._row("True pairs", "image_to_text_at_1", f"retrieval@1, {image} to {text}", f"0 to 1{chance}"),
            self._row("True pairs", "text_to_image_at_1", f"retrieval@1, {text} to {image}", f"0 to 1{chance}"),
        ]
        return sorted(table, key=lambda row: SECTIONS.index(row.section))

    def _rows_of(self, metric: Metric) -> Iterator[Row]:
        label = metric.label.format(top=min(distance.TOP, self.d))
        for key, name, n in zip(metric.keys, self.names, (self.n, self.n_text), strict=False):
            reading = metric.reading.format(rank=min(n - 1, self.d))
            yield self._row(metric.section, key, f"{label}, {name}" if metric.one_modality else label, reading)

    def _row(self, section: str, key: str, label: str, reading: str) -> Row:
        return Row(section, key, label, self.values[key], self.floors.get(key), reading)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and ``None``: ready for ``json.dumps``."""
        out: dict[str, Any] = {
            "names": list(self.names),
            "n": self.n,
            "n_text": self.n_text,
            "d": self.d,
            "paired": self.paired,
            "n_groups": self.n_groups,
            "seed": self.seed,
            "notes": list(self.notes),
            "retrieval_chance": self.retrieval_chance,
        }
        out |= {row.key: row.value for row in self.rows()}
        out["floors"] = {
            key: {"mean": floor.mean, "low": floor.low, "high": floor.high, "repeats": floor.repeats}
            for key, floor in self.floors.items()
        }
        return out

    def to_frame(self) -> pd.DataFrame:
        """One row a metric (index: its name), columns ``value``, ``floor``, ``floor_low``, ``floor_high`` (nullable
        floats, ``<NA>`` where there is none) and ``meaning``."""
        rows = self.rows()
        columns = {
            "value": [row.value for row in rows],
            "floor": [row.floor and row.floor.mean for row in rows],
            "floor_low": [row.floor and row.floor.low for row in rows],
            "floor_high": [row.floor and row.floor.high for row in rows],
        }
        frame = pd.DataFrame(columns, index=pd.Index([row.key for row in rows], name="metric"), dtype="Float64")
        return frame.assign(meaning=[row.meaning for row in rows])

    @property
    def title(self) -> str:
        """What was measured, in a line."""
        image, text = self.names
        size = f"{self.n} pairs" if self.paired else f"{self.n} and {self.n_text} rows, not paired"
        size += "" if self.n_groups is None else f" in {self.n_groups} groups"
        return f"Modality gap between {image} and {text}: {size}, {self.d} dimensions"

    def __str__(self) -> str:
        return as_text(self.title, self.rows(), self.notes)

    def to_html(self) -> str:
        """A standalone HTML page with the card as a table; no script, nothing to load, light and dark."""
        return as_html(self.title, self.rows(), self.notes)

    def _repr_html_(self) -> str:
        return as_html(self.title, self.rows(), self.notes, standalone=False)


def gap_report(
    x: Any,
    y: Any,
    seed: int = 0,
    paired: bool = True,
    *,
    names: tuple[str, str] = ("image", "text"),
    groups: Any = None,
) -> GapReport:
    """Every metric of the gap between two embedding matrices, those of the gap with their floors.

    The metrics are the rows of :mod:`gaplib.geometry.metrics`.

    Several captions an image come as pairs: the image's row repeated, one caption beside each copy. Give ``groups``
    then. What they change:

    * retrieval: an answer of the same group is right, and equal rows of one group are one item, as query and as
      candidate, so that the numbers are those of :func:`gaplib.evaluation.retrieval` on the images unrepeated;
    * linear separability: a group is never split between training and test;
    * uniformity, mean cosine and effective rank of one modality: equal rows of one group count once;
    * cross-uniformity: only rows of different groups are wrong pairs;
    * mutual kNN alignment: the first pair of every group stands for it;
    * floors: the pairs of a group are exchanged together, as copies are no independent draws.

    The remaining metrics are means over the pairs as given, an image with more captions weighing more.

    Large inputs: above ``UNIFORMITY_ROWS`` rows the uniformities, above ``SEPARABILITY_PAIRS`` pairs the linear
    separability with its floor and the mutual kNN alignment, and above ``RETRIEVAL_SCORES`` scores the queries of
    retrieval are drawn at random with ``seed``; ``notes`` says so. All other metrics and floors use all rows.

    Args:
        x, y: (n, d), n >= 2, rows of norm one, NumPy or torch, any float type; or both
            :class:`gaplib.geometry.stored.StoredRows`, which are gone through in blocks, so that more rows than memory
            holds can be measured.
        seed: of the split and of the floors.
        paired: whether row i of ``x`` belongs to row i of ``y``. ``False`` leaves out what needs true pairs (relative
            modality gap, alignment, true-pair cosine, mutual kNN alignment, cross-uniformity, retrieval), and lets the
            numbers of rows differ.
        names: what to call the modalities.
        groups: (n,) integers or strings (list, array, tensor, pandas Series): pairs with equal ones show the same item.
            ``None`` makes every pair its own group; where rows are copies nevertheless, ``notes`` says so.

    Returns:
        A :class:`GapReport`; ``print`` it, or take ``to_dict()``, ``to_frame()``, ``to_html()``. No value is NaN: what
        does not apply is ``None``, as the share of the top coordinates is where there is no gap at all.

    Raises:
        ValueError: bad matrices, rows not of norm one, fewer than two rows, shapes that do not fit, a negative seed,
            names that are not two different strings, groups of another length or type, fewer than two groups, groups
            of rows that are not paired.

    >>> import numpy as np
    >>> from gaplib.geometry import normalize
    >>> rng = np.random.default_rng(0)
    >>> image = np.repeat(rng.normal(size=(50, 16)), 5, axis=0)
    >>> text = image + 0.1 * rng.normal(size=(250, 16))
    >>> report = gap_report(normalize(image), normalize(text), groups=np.repeat(np.arange(50), 5))
    >>> report.image_to_text_at_1, report.n_groups
    (1.0, 50)
    """
    seed = check_integer(seed, "seed", low=0, high=2**32 - 1)
    if not isinstance(paired, bool | np.bool_):
        raise ValueError(f"paired: expected True or False, got {paired!r}")
    names = tuple(names)  # type: ignore[assignment]  # how many there are is checked next
    if len(names) != 2 or not all(isinstance(name, str) and name for name in names) or names[0] == names[1]:
        raise ValueError(f"names: expected two different strings, got {names!r}")
    u, v, single = _read(x, y, paired)
    data = Embeddings(u, v, bool(paired), _codes(groups, len(u), paired))
    rows = row_numbers(data.x), row_numbers(data.y)
    # Equal rows of one group are one item; without groups every row is.
    first, second = (np.arange(len(r)) if groups is None else _items(data.codes, r) for r in rows)
    items = (first, second)
    precision = torch.float32 if single else torch.float64
    hits, chance = _retrieval(data, items, precision, seed) if paired else ({}, None)
    notes = _copies(rows, names, paired) if groups is None else ()
    return GapReport(
        n=len(data.x),
        n_text=len(data.y),
        d=data.x.shape[1],
        paired=data.paired,
        seed=seed,
        n_groups=None if groups is None else int(data.codes.max()) + 1,
        names=names,
        notes=(*notes, *_samples(data, items)),
        values={**dict.fromkeys(_RETRIEVAL), **_values(data, items, seed), **hits},
        retrieval_chance=chance,
        floors=_floors(data, seed),
    )


def _read(x: Any, y: Any, paired: bool) -> tuple[Any, Any, bool]:
    """Both modalities as float64 unit rows, and whether they came with fewer bits."""
    if isinstance(x, StoredRows) and isinstance(y, StoredRows):
        for z, name in ((x, "x"), (y, "y")):
            if len(z) < 2:
                raise ValueError(f"{name}: expected at least 2 rows, got {len(z)}")
        check_pair(x, y, paired=paired)  # type: ignore[arg-type]  # only shapes and devices are looked at
        return x, y, x.half_or_single and y.half_or_single
    u, v = read_two(x, y, paired=paired, min_rows=2)
    return u, v, max(x.dtype.itemsize, y.dtype.itemsize) < 8


def _codes(groups: Any, n: int, paired: bool) -> np.ndarray | None:
    if groups is None:
        return None
    if not paired:
        raise ValueError("groups: expected None where rows are not paired, for they have no groups in common")
    codes = np.unique(check_labels(groups, n, "groups"), return_inverse=True)[1]
    if codes.max() == 0:
        raise ValueError("groups: expected at least 2 different groups, got 1")
    return codes


def _items(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Index of the first of the equal rows in every group, ascending."""
    first = np.unique(codes * (rows.max() + 1) + rows, return_index=True)[1]
    return np.sort(first)


def _copies(rows: tuple[np.ndarray, np.ndarray], names: tuple[str, str], paired: bool) -> tuple[str, ...]:
    """A note on each modality that has copies of rows."""
    what_then = (
        "Without groups (--groups FILE) each counts as an item of its own: retrieval takes copies for wrong answers, "
        "and the held-out split of the linear separability may have them on both sides."
        if paired
        else "The held-out split of the linear separability may have copies on both sides: leave them out."
    )
    return tuple(
        f"{name}: {len(numbers) - numbers.max() - 1} of {len(numbers)} rows are copies of an earlier row. {what_then}"
        for numbers, name in zip(rows, names, strict=True)
        if numbers.max() + 1 < len(numbers)
    )


def _drawn(codes: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Indices of at most ``limit`` rows, drawn at random, ascending; of two groups at least if there are two."""
    if len(codes) <= limit:
        return np.arange(len(codes))
    rows = np.random.default_rng(seed).permutation(len(codes))[:limit]
    others = np.flatnonzero(codes != codes[rows[0]])
    if len(others) and not np.isin(others, rows).any():
        rows[-1] = others[0]
    return np.sort(rows)


def queries_of(items: tuple[Sized, Sized]) -> int:
    """How many queries of retrieval are scored in each direction, at most."""
    few, many = sorted(map(len, items))
    return many if few * many <= RETRIEVAL_SCORES else max(LEAST_QUERIES, RETRIEVAL_SCORES // (2 * many))


def _samples(data: Embeddings, items: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """A note on what is estimated from a sample."""

    def sampled(sample: str) -> str:
        metrics = [metric for metric in METRICS.values() if metric.report and metric.sample == sample]
        return ", ".join(metric.label for metric in metrics if data.paired or not metric.needs_pairs)

    parts = []
    if max(map(len, items)) > UNIFORMITY_ROWS:
        parts.append(f"{sampled('rows')} from {UNIFORMITY_ROWS} rows of each modality")
    if min(len(data.x), len(data.y)) > SEPARABILITY_PAIRS:
        parts.append(f"{sampled('pairs')}, floors included, from {SEPARABILITY_PAIRS} pairs")
    if data.paired and (queries := queries_of(items)) < max(map(len, items)):
        parts.append(f"retrieval from {queries} queries a direction among all candidates")
    return [f"Estimated on rows drawn at random: {'; '.join(parts)}. The rest is from all rows."] if parts else []


def _limit(sample: str) -> int:
    return {"all": sys.maxsize, "pairs": SEPARABILITY_PAIRS, "rows": UNIFORMITY_ROWS}[sample]


def _values(data: Embeddings, items: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, float | None]:
    """Every metric of the table by key, ``None`` where it does not apply."""
    values: dict[str, float | None] = {}
    for directions in (True, False):  # one kind after the other: the rows at norm one are a copy of everything
        rows = data.directions() if directions else data
        for metric in METRICS.values():
            if metric.report and metric.directions == directions:
                values |= zip(metric.keys, _of(metric, rows, items, seed), strict=True)
    return values


def _of(metric: Metric, data: Embeddings, items: tuple[np.ndarray, np.ndarray], seed: int) -> list[float | None]:
    """The values of one metric, a value for each of its keys, of the rows that it is to be measured on."""
    if metric.needs_pairs and not data.paired:
        return [None]
    by_groups = metric.grouped if data.groups is not None else None
    if metric.one_modality or by_groups:
        own = data.codes if data.paired else np.arange(max(map(len, items)))
        drawn = [index[_drawn(own[index], _limit(metric.sample), seed)] for index in items]
        x, y = (_at(z, index, metric.sample == "all") for z, index in zip((data.x, data.y), drawn, strict=True))
        if by_groups:
            return [float(by_groups(x, y, *(own[index] for index in drawn)))]
        return [metric.of(x, seed), metric.of(y, seed)]
    return [metric.of(data if metric.sample == "all" else _some_pairs(data, _limit(metric.sample), seed), seed)]


def _at(z: Any, index: np.ndarray, many: bool) -> Any:
    """Some or all rows of ``z``, in their order; where they may be ``many``, stored ones stay stored."""
    if isinstance(z, StoredRows) and not many:
        return z[index]
    if len(index) == len(z):
        return z
    return z.take(index) if isinstance(z, StoredRows) else z[index]


def _balanced(data: Embeddings, seed: int) -> Embeddings:
    """As many rows in both modalities; of the larger one, a random choice."""
    if isinstance(data.x, torch.Tensor):
        return Embeddings(*equal_rows(data.x, data.y, seed), groups=data.groups)
    choices = row_choices((len(data.x), len(data.y)), seed)
    x, y = (z if index is None else z.take(index) for z, index in zip((data.x, data.y), choices, strict=True))
    return Embeddings(x, y, groups=data.groups)


def _some_pairs(data: Embeddings, limit: int, seed: int) -> Embeddings:
    balanced = _balanced(data, seed)
    return balanced.take(_drawn(balanced.codes, limit, seed))


def _floors(data: Embeddings, seed: int) -> dict[str, Floor]:
    balanced, gap = _balanced(data, seed), distance.gap_vector_of(data)
    exchanges = floors.Exchanges(balanced, seed)
    found = {
        "centroid_distance": floors.centroid_floor(balanced, exchanges),
        "linear_separability": floors.separability_floor(_some_pairs(data, SEPARABILITY_PAIRS, seed), seed),
    }
    if gap.norm() > distance.NO_GAP:
        null = distance.rotation_null_of(len(gap), min(distance.TOP, len(gap)), floors.REPEATS, seed)
        found["top5_coordinate_share"] = floors.summary(null)
    if data.paired:
        found["relative_modality_gap"] = floors.relative_floor(data.directions(), exchanges)
    return found


def _retrieval(
    data: Embeddings, items: tuple[np.ndarray, np.ndarray], dtype: torch.dtype, seed: int
) -> tuple[dict[str, float], float]:
    """Retrieval at 1 in both directions, in the precision of the input, and its chance."""
    own_x, own_y = (data.codes[index] for index in items)
    some_x, some_y = (_drawn(own, queries_of(items), seed) for own in (own_x, own_y))
    chance = float(np.bincount(own_x) @ np.bincount(own_y) / (len(own_x) * len(own_y)))
    if not isinstance(data.x, torch.Tensor):
        first, second = (_at(z, index, True) for z, index in zip((data.x, data.y), items, strict=True))
        directions = ((first, second, own_x, own_y, some_x), (second, first, own_y, own_x, some_y))
        return {
            name: sampled_hits(one[some].to(dtype), other.split, own[some], others)
            for name, (one, other, own, others, some) in zip(_RETRIEVAL, directions, strict=True)
        }, chance
    x, y = (z[index].to(dtype) for z, index in zip((data.x, data.y), items, strict=True))
    if len(some_x) == len(x) and len(some_y) == len(y):
        found = retrieval_of(x, y, own_x, own_y, (1,))
    else:
        found = {
            "image_to_text@1": retrieval_of(x[some_x], y, own_x[some_x], own_y, (1,))["image_to_text@1"],
            "text_to_image@1": retrieval_of(x, y[some_y], own_x, own_y[some_y], (1,))["text_to_image@1"],
        }
    return {name: float(found[name.replace("_at_", "@")]) for name in _RETRIEVAL}, chance
