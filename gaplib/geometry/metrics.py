"""The table of the metrics: one row each, read by all who measure or list them.

The report card (:func:`gaplib.geometry.gap_report`), the history of a training run and the glyph suite have a metric as
soon as it has a row here; ``gaplib.geometry`` exports what ``__all__`` names; chapter 01 picks rows by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from gaplib.geometry.distance import (
    alignment,
    alignment_of,
    centroid_distance,
    centroid_distance_of,
    relative_modality_gap,
    relative_modality_gap_of,
    top5_coordinate_share_of,
    top_coordinate_share,
    true_pair_cosine,
    true_pair_cosine_of,
)
from gaplib.geometry.distribution_gap import distribution_gap, distribution_gap_of
from gaplib.geometry.inputs import Embeddings
from gaplib.geometry.mutual_knn import mutual_knn_alignment, mutual_knn_alignment_of
from gaplib.geometry.separability import linear_separability, separability_of
from gaplib.geometry.spread import (
    cross_uniformity,
    cross_uniformity_of,
    cross_uniformity_of_groups,
    effective_rank,
    effective_rank_of,
    mean_cosine,
    mean_cosine_of,
    uniformity,
    uniformity_of,
    wasserstein_uniformity,
    wasserstein_uniformity_of,
)

#: The public functions, which ``gaplib.geometry`` exports: a plain list, which type checkers and editors can read.
__all__ = [
    "alignment",
    "centroid_distance",
    "cross_uniformity",
    "effective_rank",
    "linear_separability",
    "mean_cosine",
    "mutual_knn_alignment",
    "relative_modality_gap",
    "top_coordinate_share",
    "true_pair_cosine",
    "uniformity",
    "wasserstein_uniformity",
]

SECTIONS = ("Gap", "True pairs", "Spread")
SIDES = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the table. What has a default may be left out: report, history and suite then have the metric.

    name: of the result; a metric of one modality has two, ``<name>_image`` and ``<name>_text`` (see ``keys``).
    function: the public function, which reads and checks its arguments.
    core: the computation on rows that are read. It takes :class:`gaplib.geometry.inputs.Embeddings`, or the (n, d) rows
        of one modality, and returns one number, or ``None`` where the metric does not apply (too few rows, say):
        the report then has ``None``, the history and the suite leave it out.
    label: in words. reading: its range, and how to read it. ``{top}`` and ``{rank}`` stand for the number of
        coordinates and the highest rank there can be.
    meaning: what it is, in a line. chance: what it reads by chance, ``None`` where that depends on the embeddings.
    section: of the report card.
    one_modality: the core takes the rows of one modality, and is asked for each.
    directions: the core wants rows of norm one to the last digit, as metrics of cosines do.
    needs_pairs: it means nothing where row i of x does not belong to row i of y.
    seeded: the core takes a seed too.
    sample: what of many rows the report measures. "all"; "pairs": at most ``report.SEPARABILITY_PAIRS`` pairs, as many
        rows of both modalities; "rows": at most ``report.UNIFORMITY_ROWS`` rows of each.
    grouped: core where pairs form groups, of the distinct rows of both modalities: (x, y, groups_x, groups_y).
    report, history: whether they have it. suite: its name there, of ``{key}`` or ``{side}``; "" leaves it out.
    """

    name: str
    function: Callable[..., Any]
    core: Callable[..., Any]
    label: str
    reading: str
    meaning: str
    section: Literal["Gap", "True pairs", "Spread"]
    chance: float | None = None
    one_modality: bool = False
    directions: bool = False
    needs_pairs: bool = False
    seeded: bool = False
    sample: Literal["all", "pairs", "rows"] = "all"
    grouped: Callable[..., Any] | None = None
    report: bool = True
    history: bool = True
    suite: str = "gap.{key}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the values: one, or one for each modality."""
        return tuple(f"{self.name}_{side}" for side in SIDES) if self.one_modality else (self.name,)

    @property
    def suite_names(self) -> tuple[str, ...]:
        """``keys`` as the glyph suite calls them."""
        return tuple(self.suite.format(key=key, side=side) for key, side in zip(self.keys, SIDES, strict=False))

    def of(self, rows: Any, seed: int = 0) -> float | None:
        """What the core finds, for what the core takes."""
        value = self.core(rows, seed) if self.seeded else self.core(rows)
        return None if value is None else float(value)


_ROWS = (
    Metric(
        name="centroid_distance",
        function=centroid_distance,
        core=centroid_distance_of,
        label="centroid distance",
        reading="0 to 2; 0: same centroid",
        meaning="Distance of the two centroids",
        section="Gap",
        chance=0.0,
    ),
    Metric(
        name="relative_modality_gap",
        function=relative_modality_gap,
        core=relative_modality_gap_of,
        label="relative modality gap",
        reading="0 to 1; true pairs against own modality",
        meaning="Distance of the true pairs relative to the spread inside the modalities",
        section="Gap",
        directions=True,
        needs_pairs=True,
        suite="gap.relative",
    ),
    Metric(
        name="linear_separability",
        function=linear_separability,
        core=separability_of,
        label="linear separability",
        reading=".5: mixed, 1: a plane tells the modalities apart",
        meaning="Accuracy of telling the modalities apart",
        section="Gap",
        chance=0.5,
        seeded=True,
        sample="pairs",
    ),
    Metric(
        name="top5_coordinate_share",
        function=top_coordinate_share,
        core=top5_coordinate_share_of,
        label="gap in {top} coordinates",
        reading="share of the squared gap, 0 to 1",
        meaning="Share of the squared gap vector in its largest coordinates",
        section="Gap",
        history=False,
        suite="",
    ),
    Metric(
        name="distribution_gap",
        function=distribution_gap,
        core=distribution_gap_of,
        label="distribution gap",
        reading="0 to 2; 0: same covariance",
        meaning="Wasserstein distance left after centring",
        section="Gap",
        chance=0.0,
        report=False,
        history=False,
        suite="gap.distribution",
    ),
    Metric(
        name="alignment",
        function=alignment,
        core=alignment_of,
        label="alignment",
        reading="mean squared distance, 0 to 4; low is close",
        meaning="Mean squared distance of the true pairs",
        section="True pairs",
        needs_pairs=True,
        suite="",
    ),
    Metric(
        name="true_pair_cosine",
        function=true_pair_cosine,
        core=true_pair_cosine_of,
        label="true-pair cosine",
        reading="-1 to 1; high is close",
        meaning="Mean cosine of the true pairs",
        section="True pairs",
        directions=True,
        needs_pairs=True,
    ),
    Metric(
        name="mutual_knn_alignment",
        function=mutual_knn_alignment,
        core=mutual_knn_alignment_of,
        label="mutual kNN alignment",
        reading="0 to 1; neighbours shared; chance 10/(n - 1)",
        meaning="Share of the 10 nearest neighbours that both modalities have in common",
        section="True pairs",
        directions=True,
        needs_pairs=True,
        sample="pairs",
        history=False,  # it would take as long as all the others together
    ),
    Metric(
        name="uniformity",
        function=uniformity,
        core=uniformity_of,
        label="uniformity",
        reading="-8 to 0; low fills the sphere",
        meaning="How evenly a modality fills the sphere",
        section="Spread",
        one_modality=True,
        sample="rows",
        suite="uniformity.{side}",
    ),
    Metric(
        name="cross_uniformity",
        function=cross_uniformity,
        core=cross_uniformity_of,
        grouped=cross_uniformity_of_groups,
        label="cross-uniformity",
        reading="-8 to 0; low: wrong pairs far apart",
        meaning="How evenly the wrong pairs fill the sphere",
        section="Spread",
        needs_pairs=True,
        sample="rows",
        suite="uniformity.cross",
    ),
    Metric(
        name="wasserstein_uniformity",
        function=wasserstein_uniformity,
        core=wasserstein_uniformity_of,
        label="Wasserstein uniformity",
        reading="-1.41 to 0; 0: uniform, both pooled",
        meaning="Minus the Wasserstein distance of both modalities, pooled, from an isotropic Gaussian",
        section="Spread",
        history=False,
        suite="",
    ),
    Metric(
        name="mean_cosine",
        function=mean_cosine,
        core=mean_cosine_of,
        label="mean cosine",
        reading="far above 0: a cone",
        meaning="Mean cosine of distinct rows of a modality",
        section="Spread",
        one_modality=True,
        directions=True,
        suite="",
    ),
    Metric(
        name="effective_rank",
        function=effective_rank,
        core=effective_rank_of,
        label="effective rank",
        reading="1 to {rank}",
        meaning="Number of equally strong directions that would spread as the rows of a modality do",
        section="Spread",
        one_modality=True,
        history=False,
        suite="uniformity.{key}",
    ),
)

#: Rows by name, in the order of the report card.
METRICS = {metric.name: metric for metric in _ROWS}


def measured(data: Embeddings, metrics: Iterable[Metric]) -> dict[str, float]:
    """Values of all the pairs by key, without those that do not apply."""
    directions = data.directions()
    found: dict[str, float | None] = {}
    for metric in metrics:
        given = directions if metric.directions else data
        parts = (given.x, given.y) if metric.one_modality else (given,)
        found |= {key: metric.of(rows) for key, rows in zip(metric.keys, parts, strict=True)}
    return {key: value for key, value in found.items() if value is not None}
