"""How big is the gap: every metric of it, and a report card.

Metrics take NumPy arrays or torch tensors of any float type, (n, d) with one item a row, and return 0-d float64 tensors
without gradient (the differentiable forms are in :mod:`gaplib.losses`). They never change their arguments nor touch a
global random generator. Those that measure distances want rows of norm one and say so; those that measure cosines take
any scale and refuse rows of zeros.
"""

from gaplib.geometry import metrics as _metrics
from gaplib.geometry.distance import (
    gap_direction,
    gap_vector,
    relative_modality_gap_unhalved,
    relative_modality_gap_with_diagonal,
    rotation_null,
)
from gaplib.geometry.inputs import normalize

# The metrics that the table has, by the names in its __all__.
from gaplib.geometry.metrics import *  # noqa: F403
from gaplib.geometry.report import GapReport, gap_report
from gaplib.geometry.subspaces import explained_variance, principal_angles

__all__ = [
    "GapReport",
    "explained_variance",
    "gap_direction",
    "gap_report",
    "gap_vector",
    "normalize",
    "principal_angles",
    "relative_modality_gap_unhalved",
    "relative_modality_gap_with_diagonal",
    "rotation_null",
]
__all__ += _metrics.__all__
