"""All metrics of one pair of embedding matrices in one call, each gap metric beside what it reads without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from gaplib._validate import as_float64, check_integer, check_labels, check_matrix, check_pair
from gaplib.evaluation.retrieval import retrieval
from gaplib.geometry import distance, spread
from gaplib.geometry.inputs import read_two, row_numbers
from gaplib.geometry.report_rendering import Row, as_html, as_text
from gaplib.geometry.separability import equal_rows, linear_separability
from gaplib.stats import Floor, permutation_floor

_REPEATS = 200
_TOP = 5


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
    x, y = check_matrix(x, "x", min_rows=2).detach(), check_matrix(y, "y", min_rows=2).detach()
    check_pair(x, y, paired=paired)
    codes, n_groups = None, None
    if groups is not None:
        if not paired:
            raise ValueError("groups: expected None where rows are not paired, for they have no groups in common")
        codes = np.unique(check_labels(groups, len(x), "groups"), return_inverse=True)[1]
        n_groups = int(codes.max()) + 1
        if n_groups < 2:
            raise ValueError(f"groups: expected at least 2 different groups, got {n_groups}")
    rows_x, rows_y = (row_numbers(as_float64(z)) for z in (x, y))
    notes = () if groups is not None else _copies((rows_x, rows_y), names, paired)
    # Equal rows of one group are one item; without groups every row is.
    items_x, items_y = (slice(None) if codes is None else _items(codes, rows) for rows in (rows_x, rows_y))
    values: dict[str, Any] = {
        "centroid_distance": distance.centroid_distance(x, y, paired=paired),
        "linear_separability": linear_separability(x, y, seed=seed, groups=codes, paired=paired),
        "wasserstein_uniformity": spread.wasserstein_uniformity(x, y, paired=paired),
    }
    for name, z in (("image", x[items_x]), ("text", y[items_y])):
        values[f"uniformity_{name}"] = spread.uniformity(z)
        values[f"mean_cosine_{name}"] = spread.mean_cosine(z)
        values[f"effective_rank_{name}"] = spread.effective_rank(z)
    if paired:
        own = np.arange(len(x)) if codes is None else codes
        own_x, own_y = own[items_x], own[items_y]
        found = retrieval(x[items_x], y[items_y], ks=(1,), image_groups=own_x, text_groups=own_y)
        values |= {
            "relative_modality_gap": distance.relative_modality_gap(x, y),
            "alignment": distance.alignment(x, y),
            "true_pair_cosine": distance.true_pair_cosine(x, y),
            "cross_uniformity": spread.cross_uniformity(x, y)
            if codes is None
            else spread.cross_uniformity_of_groups(x[items_x], y[items_y], own_x, own_y),
            "image_to_text_at_1": found["image_to_text@1"],
            "text_to_image_at_1": found["text_to_image@1"],
            "retrieval_chance": np.bincount(own_x) @ np.bincount(own_y) / (len(own_x) * len(own_y)),
        }
    floors = _floors(*equal_rows(*read_two(x, y, paired=paired), seed), codes, paired, seed)
    top, k = None, min(_TOP, x.shape[1])
    if float(values["centroid_distance"]) > distance.NO_GAP:
        top = float(distance.top_coordinate_share(x, y, k, paired=paired))
        floors["top5_coordinate_share"] = _floor(distance.rotation_null(x, y, k, _REPEATS, seed, paired=paired))
    return GapReport(
        n=len(x),
        n_text=len(y),
        d=x.shape[1],
        paired=bool(paired),
        seed=seed,
        top5_coordinate_share=top,
        floors=floors,
        names=names,
        n_groups=n_groups,
        notes=notes,
        **{key: float(value) for key, value in values.items()},
    )


def _items(codes: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Index of the first of the equal rows in every group, ascending."""
    first = np.unique(codes * (rows.max() + 1) + rows, return_index=True)[1]
    return torch.from_numpy(np.sort(first))


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


def _floors(x: torch.Tensor, y: torch.Tensor, codes: np.ndarray | None, paired: bool, seed: int) -> dict[str, Floor]:
    """Permutation floors: as :func:`gaplib.stats.permutation_floor`, the two cheap ones all repeats in one product.

    An exchange turns the sign of a pair's difference: the gap vector becomes the signed mean of the differences, while
    the sum of the centroids and the true pairs stay. By the parallelogram law that fixes the spread inside the
    modalities too, so the relative gap follows from the length of the gap. The pairs of a group turn together.
    """
    n, rng = len(x), np.random.default_rng(seed)
    codes = np.arange(n) if codes is None else codes
    signs = np.stack([np.where(rng.random(codes.max() + 1) < 0.5, -1.0, 1.0)[codes] for _ in range(_REPEATS)])
    signs = torch.from_numpy(signs)
    floors = {"centroid_distance": _floor((signs.to(x.device) @ (x - y) / n).norm(dim=1))}
    if paired:
        u, v = distance.read_pairs(x, y, min_rows=2)
        lengths = (signs.to(u.device) @ (u - v) / n).norm(dim=1)
        centroids = ((u + v).mean(dim=0).square().sum() + lengths.square()) / 2
        within = (2 - centroids) * n / (4 * (n - 1))
        between = (u - v).square().sum(dim=1).mean() / 4
        floors["relative_modality_gap"] = _floor(torch.stack([distance.ratio(between, w) for w in within.clamp(min=0)]))
    # Each repeat is a fit of its own; more rows make it slower and its floor narrower.
    repeats = int(np.clip(20_000 // n, 5, 20))
    floors["linear_separability"] = permutation_floor(
        lambda a, b: linear_separability(a, b, seed=seed, groups=codes), x, y, repeats, seed, codes
    )
    return floors


def _floor(samples: torch.Tensor) -> Floor:
    values = samples.cpu().numpy()
    low, high = np.quantile(values, [0.025, 0.975])
    return Floor(float(values.mean()), float(low), float(high), len(values), tuple(values.tolist()))
