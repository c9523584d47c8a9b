"""Chapter 03, the space that the modalities fill: few components, the subspaces' angle, the projection onto what they
share (Yi et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gaplib import geometry
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.evaluation.retrieval import mean_recall
from gaplib.posthoc import fit_shared_space

#: A direction counts as shared whose principal angle has a cosine above 1 less this. The first is Yi et al.'s (2025).
TOLERANCES = (1e-3, 1e-2, 0.05, 0.1, 0.2, 0.4)


# --- how evenly the space is used ------------------------------------------------------------------------------------


def uniform_points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """(n, d) float64 points spread evenly over the sphere at random."""
    n, d = check_integer(n, "n", low=1), check_integer(d, "d", low=2)
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", low=0))
    return geometry.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64))


def first_eighth(x: Any) -> float:
    """Share of the variance along the first d / 8 principal components, rounded down but at least one."""
    return float(geometry.explained_variance(x)[: max(1, x.shape[1] // 8)].sum())


def components_for(x: Any, share: float) -> int:
    """How many principal components it takes to hold ``share`` of the variance, in (0, 1]."""
    share = float(check_number(share, "share", low=0, high=1, low_open=True))
    held = geometry.explained_variance(x).cumsum(dim=0)
    return int((held < share - 1e-12).sum()) + 1


def usage(x: Any, seed: int = 0) -> dict[str, float]:
    """How unevenly the rows of x (n, d) use the space, against uniform points of the same n and d.

    first_eighth and its excess over theirs, effective_rank, rank_ratio (over theirs), components_80.
    """
    other = uniform_points(*x.shape, seed)
    rank, share = float(geometry.effective_rank(x)), first_eighth(x)
    return {
        "first_eighth": share,
        "first_eighth_excess": share - first_eighth(other),
        "effective_rank": rank,
        "rank_ratio": rank / float(geometry.effective_rank(other)),
        "components_80": components_for(x, 0.8),
    }


# --- the angle between the subspaces, and the projection -------------------------------------------------------------


def centre_angle(x: Any, y: Any) -> float:
    """Angle between the two centroids' directions, in degrees, [0, 180]; a centroid at zero is a ``ValueError``."""
    a, b = (geometry.normalize(torch.as_tensor(z).double().mean(dim=0, keepdim=True))[0] for z in (x, y))
    return float(torch.rad2deg(2 * torch.atan2((a - b).norm(), (a + b).norm())))


def smallest_angle(x: Any, y: Any, variance: float = 0.99) -> float:
    """Smallest principal angle of the modalities' subspaces, in degrees."""
    return float(torch.rad2deg(geometry.principal_angles(x, y, variance)[0]))


def angles(x: Any, y: Any, variance: float = 0.99) -> dict[str, float]:
    """Centre angle, smallest principal angle, their difference, and the largest dimension that the subspaces may have
    together without a common direction, less the one they have ("room": below zero they must intersect)."""
    centre, found = centre_angle(x, y), geometry.principal_angles(x, y, variance)
    dims = [geometry.subspaces.leading_directions(z, variance).shape[1] for z in (x, y)]
    smallest = float(torch.rad2deg(found[0]))
    return {
        "centre": centre, "smallest": smallest, "difference": centre - smallest, "dims_image": dims[0],
        "dims_text": dims[1], "room": x.shape[1] - sum(dims),
    }  # fmt: skip


def projected(
    fit: Sequence[Any],
    test: Sequence[Any],
    tolerance: float = TOLERANCES[0],
    k: int = 1,
    groups: Any = None,
    probe: bool = False,
) -> dict[str, float] | None:
    """The shared-space projection fitted on one pair of clouds and applied to another; None where nothing is shared.

    dims (of the shared space), and before and after it: centre angle (degrees), centroid distance, recall at k,
    and with ``probe`` separability (C = 1); cut, the relative cut of the angle, and recall_change.
    """
    try:
        treatment = fit_shared_space(*fit, tolerance=tolerance)
    except ValueError as error:
        if "shared direction" not in str(error):
            raise
        return None
    x, y = test
    a, b = treatment(x, y)
    out: dict[str, float] = {"dims": a.shape[1]}
    for name, (u, v) in {"before": (x, y), "after": (a, b)}.items():
        out[f"angle_{name}"] = centre_angle(u, v)
        out[f"distance_{name}"] = float(geometry.centroid_distance(u, v))
        if probe:
            out[f"separability_{name}"] = float(geometry.linear_separability(u, v))
        out[f"recall_{name}"] = mean_recall(u, v, k, groups)
    out["cut"] = 1 - out["angle_after"] / out["angle_before"]
    out["recall_change"] = out["recall_after"] - out["recall_before"]
    return out


def split_halves(n: int, seed: int = 0) -> np.ndarray:
    """(n,) labels 0 and 1, as equal in number as n allows, in random order: which half a row belongs to."""
    order = np.random.default_rng(check_integer(seed, "seed", low=0)).permutation(check_integer(n, "n", low=4))
    half = np.zeros(n, dtype=np.int64)
    half[order[: n // 2]] = 1
    return half


def projected_between_halves(x: Any, y: Any, half: np.ndarray, quantity: str, tolerance: float) -> float:
    """A quantity of :func:`projected`, fitted on half 0 and applied to half 1, and the other way; their mean.

    ``ValueError`` where a half shares no direction at that tolerance.
    """
    values = []
    for chosen in (0, 1):
        fit, test = (
            [torch.as_tensor(z)[torch.from_numpy(half == side)] for z in (x, y)] for side in (chosen, 1 - chosen)
        )
        found = projected(fit, test, tolerance)
        if found is None:
            raise ValueError(f"tolerance: expected one that leaves a shared direction, got {tolerance:g}")
        values.append(check_choice(quantity, "quantity", found) and found[quantity])
    return float(np.mean(values))


def frontier(fit: Sequence[Any], test: Sequence[Any], **keywords: Any) -> Mapping[float, dict[str, float]]:
    """:func:`projected` at every tolerance of ``TOLERANCES`` that leaves a shared direction."""
    found = {tolerance: projected(fit, test, tolerance, **keywords) for tolerance in TOLERANCES}
    return {tolerance: row for tolerance, row in found.items() if row is not None}
