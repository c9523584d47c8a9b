"""How big is the gap: every metric of it, and a report card.

Metrics take NumPy arrays or torch tensors of any float type, (n, d) with one item a row, and return 0-d float64 tensors
without gradient (the differentiable forms are in :mod:`gaplib.losses`). They never change their arguments nor touch a
global random generator. Those that measure distances want rows of norm one and say so; those that measure cosines take
any scale and refuse rows of zeros.
"""

from gaplib.geometry.distance import (
    alignment,
    centroid_distance,
    gap_direction,
    gap_vector,
    relative_modality_gap,
    relative_modality_gap_unhalved,
    relative_modality_gap_with_diagonal,
    rotation_null,
    top_coordinate_share,
    true_pair_cosine,
)
from gaplib.geometry.inputs import normalize
from gaplib.geometry.report import GapReport, gap_report
from gaplib.geometry.separability import linear_separability
from gaplib.geometry.spread import cross_uniformity, effective_rank, mean_cosine, uniformity, wasserstein_uniformity
from gaplib.geometry.subspaces import explained_variance, principal_angles

__all__ = [
    "GapReport",
    "alignment",
    "centroid_distance",
    "cross_uniformity",
    "effective_rank",
    "explained_variance",
    "gap_direction",
    "gap_report",
    "gap_vector",
    "linear_separability",
    "mean_cosine",
    "normalize",
    "principal_angles",
    "relative_modality_gap",
    "relative_modality_gap_unhalved",
    "relative_modality_gap_with_diagonal",
    "rotation_null",
    "top_coordinate_share",
    "true_pair_cosine",
    "uniformity",
    "wasserstein_uniformity",
]
