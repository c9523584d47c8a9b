"""All metrics of one pair of embedding matrices in one call, each gap metric beside what it reads without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from gaplib._validate import check_integer, check_labels
from gaplib.evaluation.retrieval import retrieval_of
from gaplib.geometry import distance, floors, spread
from gaplib.geometry.inputs import Embeddings, read_two, row_numbers, unit_rows
from gaplib.geometry.report_rendering import Row, as_html, as_text
from gaplib.geometry.separability import equal_rows, separability_of
from gaplib.stats import Floor

_TOP = 5
# What grows with the square of the rows, or is fitted again and again, is estimated on a sample where there are many:
# rows of a modality whose distances are compared, ...
UNIFORMITY_ROWS = 10_000
# ... pairs that the classifier of the linear separability learns and is tested on, ...
SEPARABILITY_PAIRS = 5_000
# ... scores of queries with candidates, both directions together. The candidates are always all.
RETRIEVAL_SCORES = 10**9
LEAST_QUERIES = 1000


@dataclass(frozen=True)
class GapReport:
    """The report card that :func:`gap_report` returns; ``None`` where a metric does not apply (shown as a dash).

    ``n`` and ``n_text`` are the rows of the first and of the second modality, ``d`` the dimension. ``floors`` holds, by
    the name of a gap metric, a :class:`gaplib.stats.Floor`: for ``top5_coordinate_share`` that of random rotations, for
    the others that of exchanging the modalities within random pairs. ``n_groups`` is how many groups the pairs form
    (``None`` where none were given), ``retrieval_chance`` what random embeddings would retrieve, ``notes`` what a
    reader of the numbers has to know besides.
    """

    n: int
    n_text: int
    d: int
    paired: bool
    seed: int
    centroid_distance: float
    linear_separability: float
    top5_coordinate_share: float | None
    wasserstein_uniformity: float
    uniformity_image: float
    uniformity_text: float
    mean_cosine_image: float
    mean_cosine_text: float
    effective_rank_image: float
    effective_rank_text: float
    relative_modality_gap: float | None = None
    alignment: float | None = None
    true_pair_cosine: float | None = None
    cross_uniformity: float | None = None
    image_to_text_at_1: float | None = None
    text_to_image_at_1: float | None = None
    retrieval_chance: float | None = None
    n_groups: int | None = None
    notes: tuple[str, ...] = ()
    floors: dict[str, Floor] = field(default_factory=dict)
    names: tuple[str, str] = ("image", "text")

    def rows(self) -> list[Row]:
        """The metrics in reading order, with labels, values, floors and meanings."""
        image, text = self.names
        top = min(_TOP, self.d)
        chance = "" if self.retrieval_chance is None else f"; chance {self.retrieval_chance:.2g}"
        table = [
            ("Gap", "centroid_distance", "centroid distance", "0 to 2; 0: same centroid"),
            ("Gap", "relative_modality_gap", "relative modality gap", "0 to 1; true pairs against own modality"),
            ("Gap", "linear_separability", "linear separability", ".5: mixed, 1: a plane tells the modalities apart"),
            ("Gap", "top5_coordinate_share", f"gap in {top} coordinates", "share of the squared gap, 0 to 1"),
            ("True pairs", "alignment", "alignment", "mean squared distance, 0 to 4; low is close"),
            ("True pairs", "true_pair_cosine", "cosine", "-1 to 1; high is close"),
            ("True pairs", "image_to_text_at_1", f"retrieval@1, {image} to {text}", f"0 to 1{chance}"),
            ("True pairs", "text_to_image_at_1", f"retrieval@1, {text} to {image}", f"0 to 1{chance}"),
            ("Spread", "uniformity_image", f"uniformity, {image}", "-8 to 0; low fills the sphere"),
            ("Spread", "uniformity_text", f"uniformity, {text}", "-8 to 0; low fills the sphere"),
            ("Spread", "cross_uniformity", "cross-uniformity", "-8 to 0; low: wrong pairs far apart"),
            ("Spread", "wasserstein_uniformity", "Wasserstein uniformity", "-1.41 to 0; 0: uniform, both pooled"),
            ("Spread", "mean_cosine_image", f"mean cosine, {image}", "far above 0: a cone"),
            ("Spread", "mean_cosine_text", f"mean cosine, {text}", "far above 0: a cone"),
            ("Spread", "effective_rank_image", f"effective rank, {image}", f"1 to {min(self.n - 1, self.d)}"),
            ("Spread", "effective_rank_text", f"effective rank, {text}", f"1 to {min(self.n_text - 1, self.d)}"),
        ]
        return [
            Row(section, key, label, getattr(self, key), self.floors.get(key), note)
            for section, key, label, note in table
        ]

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

    def _title(self) -> str:
        image, text = self.names
        size = f"{self.n} pairs" if self.paired else f"{self.n} and {self.n_text} rows, not paired"
        size += "" if self.n_groups is None else f" in {self.n_groups} groups"
        return f"Modality gap between {image} and {text}: {size}, {self.d} dimensions"

    def __str__(self) -> str:
        return as_text(self._title(), self.rows(), self.notes)

    def to_html(self) -> str:
        """A standalone HTML page with the card as a table; no script, nothing to load, light and dark."""
        return as_html(self._title(), self.rows(), self.notes)

    def _repr_html_(self) -> str:
        return as_html(self._title(), self.rows(), self.notes, standalone=False)


def gap_report(
    x: Any,
    y: Any,
    seed: int = 0,
    paired: bool = True,
    *,
    names: tuple[str, str] = ("image", "text"),
    groups: Any = None,
) -> GapReport:
    """Every metric of the gap between two embedding matrices, with its floor.

    Several captions an image come as pairs: the image's row repeated, one caption beside each copy. Give ``groups``
    then. What they change:

    * retrieval: an answer of the same group is right, and equal rows of one group are one item, as query and as
      candidate, so that the numbers are those of :func:`gaplib.evaluation.retrieval` on the images unrepeated;
    * linear separability: a group is never split between training and test;
    * uniformity, mean cosine and effective rank of one modality: equal rows of one group count once;
    * cross-uniformity: only rows of different groups are wrong pairs;
    * floors: the pairs of a group are exchanged together, as copies are no independent draws.

    The remaining metrics are means over the pairs as given, an image with more captions weighing more.

    Large inputs: above ``UNIFORMITY_ROWS`` rows the uniformities, above ``SEPARABILITY_PAIRS`` pairs the linear
    separability with its floor, and above ``RETRIEVAL_SCORES`` scores the queries of retrieval are drawn at random with
    ``seed``; ``notes`` says so. All other metrics and floors have closed forms and use all rows.

    Args:
        x, y: (n, d), n >= 2, rows of norm one, NumPy or torch, any float type.
        seed: of the split and of the floors.
        paired: whether row i of ``x`` belongs to row i of ``y``. ``False`` leaves out what needs true pairs (relative
            modality gap, alignment, true-pair cosine, cross-uniformity, retrieval), and lets the numbers of rows
            differ.
        names: what to call the modalities.
        groups: (n,) integers or strings (list, array, tensor, pandas Series): pairs with equal ones show the same item.
            ``None`` makes every pair its own group; where rows are copies nevertheless, ``notes`` says so.

    Returns:
        A :class:`GapReport`; ``print`` it, or take ``to_dict()``, ``to_frame()``, ``to_html()``. No value is NaN: the
        share of the top coordinates is ``None`` where there is no gap at all.

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
    u, v = read_two(x, y, paired=paired, min_rows=2)
    single = max(x.dtype.itemsize, y.dtype.itemsize) < 8
    data = Embeddings(u, v, bool(paired), _codes(groups, len(u), paired))
    rows = row_numbers(data.x), row_numbers(data.y)
    # Equal rows of one group are one item; without groups every row is.
    items = tuple(np.arange(len(r)) if groups is None else _items(data.codes, r) for r in rows)
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
        **_gap(data, seed),
        **_spread(data, items, seed),
        **(_retrieval(data, items, torch.float32 if single else torch.float64, seed) if paired else {}),
    )


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


def _queries(items: tuple[np.ndarray, np.ndarray]) -> int:
    """How many queries of retrieval are scored in each direction, at most."""
    few, many = sorted(map(len, items))
    return many if few * many <= RETRIEVAL_SCORES else max(LEAST_QUERIES, RETRIEVAL_SCORES // (2 * many))


def _samples(data: Embeddings, items: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """A note on what is estimated from a sample."""
    parts = []
    if max(map(len, items)) > UNIFORMITY_ROWS:
        parts.append(f"the uniformities from {UNIFORMITY_ROWS} rows of each modality")
    if min(len(data.x), len(data.y)) > SEPARABILITY_PAIRS:
        parts.append(f"the linear separability and its floor from {SEPARABILITY_PAIRS} pairs")
    if data.paired and (queries := _queries(items)) < max(map(len, items)):
        parts.append(f"retrieval from {queries} queries a direction among all candidates")
    return [f"Estimated on rows drawn at random: {', '.join(parts)}. The rest is from all rows."] if parts else []


def _gap(data: Embeddings, seed: int) -> dict[str, Any]:
    """The gap and the true pairs, and the floors."""
    balanced = Embeddings(*equal_rows(data.x, data.y, seed), groups=data.groups)
    drawn = balanced.take(_drawn(balanced.codes, SEPARABILITY_PAIRS, seed))
    signs = floors.exchange_signs(balanced, seed)
    gap, k = distance.gap_vector_of(data), min(_TOP, data.x.shape[1])
    values: dict[str, Any] = {
        "centroid_distance": float(gap.norm()),
        "linear_separability": float(separability_of(drawn, seed)),
        "top5_coordinate_share": None,
    }
    found = {
        "centroid_distance": floors.centroid_floor(balanced, signs),
        "linear_separability": floors.separability_floor(drawn, seed),
    }
    if gap.norm() > distance.NO_GAP:
        values["top5_coordinate_share"] = float(distance.top_share_of(gap, k))
        null = distance.rotation_null_of(len(gap), k, floors.REPEATS, seed)
        found["top5_coordinate_share"] = floors.summary(null)
    if data.paired:
        directions = data.directions()
        values["relative_modality_gap"] = float(distance.relative_modality_gap_of(directions))
        values["alignment"] = float(distance.alignment_of(data))
        values["true_pair_cosine"] = float(distance.true_pair_cosine_of(directions))
        found["relative_modality_gap"] = floors.relative_floor(directions, signs)
    return {**values, "floors": found}


def _spread(data: Embeddings, items: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, float]:
    """How the modalities fill the sphere; what compares all rows with all is estimated on ``UNIFORMITY_ROWS``."""
    values = {"wasserstein_uniformity": spread.wasserstein_uniformity_of(data)}
    own = data.codes if data.paired else np.arange(max(map(len, items)))
    drawn = [index[_drawn(own[index], UNIFORMITY_ROWS, seed)] for index in items]
    for name, z, all_items, some in zip(("image", "text"), (data.x, data.y), items, drawn, strict=True):
        values[f"uniformity_{name}"] = spread.uniformity_of(z[some])
        z = z if len(all_items) == len(z) else z[all_items]
        values[f"mean_cosine_{name}"] = spread.mean_cosine_of(unit_rows(z))
        values[f"effective_rank_{name}"] = spread.effective_rank_of(z)
    if data.paired and data.groups is None:
        values["cross_uniformity"] = spread.cross_uniformity_of(data.take(drawn[0]))
    elif data.paired:
        here, there = drawn
        values["cross_uniformity"] = spread.cross_uniformity_of_groups(
            data.x[here], data.y[there], own[here], own[there]
        )
    return {name: float(value) for name, value in values.items()}


def _retrieval(
    data: Embeddings, items: tuple[np.ndarray, np.ndarray], dtype: torch.dtype, seed: int
) -> dict[str, float]:
    """Retrieval at 1 in both directions, in the precision of the input, and its chance."""
    x, y = (z[index].to(dtype) for z, index in zip((data.x, data.y), items, strict=True))
    own_x, own_y = (data.codes[index] for index in items)
    some_x, some_y = (_drawn(own, _queries(items), seed) for own in (own_x, own_y))
    if len(some_x) == len(x) and len(some_y) == len(y):
        found = retrieval_of(x, y, own_x, own_y, (1,))
    else:
        found = {
            "image_to_text@1": retrieval_of(x[some_x], y, own_x[some_x], own_y, (1,))["image_to_text@1"],
            "text_to_image@1": retrieval_of(x, y[some_y], own_x, own_y[some_y], (1,))["text_to_image@1"],
        }
    return {
        "image_to_text_at_1": float(found["image_to_text@1"]),
        "text_to_image_at_1": float(found["text_to_image@1"]),
        "retrieval_chance": float(np.bincount(own_x) @ np.bincount(own_y) / (len(own_x) * len(own_y))),
    }
