"""Treatments of the gap after training: fitted on training embeddings, applied to any, no gradient.

Each ``fit_*`` takes image and text embeddings, (n, d) and (m, d) float arrays or tensors with unit rows, and returns a
:class:`PostHoc`: for each modality some affine maps, each followed by normalisation. ``fit(...).save(path)`` keeps it
in a safetensors file, and :func:`load` gives it back.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

import gaplib
from gaplib._atomic import atomic
from gaplib._extras import need
from gaplib._validate import as_float64, check_choice, check_matrix, check_number, check_pair, check_unit_rows
from gaplib.geometry.subspaces import leading_directions

#: of the files that ``PostHoc.save`` writes
FORMAT = 1
_KEY = "gaplib.posthoc"  # of their metadata


@dataclass(frozen=True)
class Stage:
    """``z -> normalize((z - shift) @ matrix)``; without a matrix only the shift."""

    shift: torch.Tensor
    matrix: torch.Tensor | None = None

    def __call__(self, z: torch.Tensor, name: str) -> torch.Tensor:
        z = z - self.shift.to(z.device)
        z = z if self.matrix is None else z @ self.matrix.to(z.device)
        if bool((z.norm(dim=1) < 1e-12).any()):
            raise ValueError(
                f"{name}: expected rows away from the point that the treatment sends to zero, got one on it"
            )
        return normalize(z, dim=1)


@dataclass(frozen=True)
class PostHoc:
    """A fitted treatment: the stages that image and text embeddings go through in float64; no stage, no change.

    ``fitted_on`` is how many image and how many text embeddings it was fitted to.
    """

    name: str
    image_stages: tuple[Stage, ...] = ()
    text_stages: tuple[Stage, ...] = ()
    fitted_on: tuple[int, int] = (0, 0)

    def image(self, x: Any) -> torch.Tensor:
        """Apply to image embeddings (n, d): (n, d') unit rows in float64. ``ValueError`` on another dimension."""
        return self._apply(x, "x", self.image_stages)

    def text(self, y: Any) -> torch.Tensor:
        """Apply to text embeddings, as :meth:`image`."""
        return self._apply(y, "y", self.text_stages)

    def __call__(self, x: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply to both; the two need not have the same number of rows."""
        return self.image(x), self.text(y)

    @staticmethod
    def _apply(z: Any, name: str, stages: tuple[Stage, ...]) -> torch.Tensor:
        z = as_float64(check_unit_rows(check_matrix(z, name), name))
        for stage in stages:
            if z.shape[1] != len(stage.shift):
                raise ValueError(f"{name}: expected dimension {len(stage.shift)}, as fitted, got {z.shape[1]}")
            z = stage(z, name)
        return z

    def save(self, path: str | Path) -> Path:
        """Write the treatment to a safetensors file, wholly or not at all; returns the path.

        The file holds the stages in float64, so that :func:`load` gives back every bit, and as metadata the name, the
        dimensions, the counts it was fitted on, gaplib's version and a digest of all of it. Needs ``gaplib[train]``.

        Raises:
            ValueError: if the folder of ``path`` is not there.

        >>> import numpy as np, tempfile
        >>> from gaplib.geometry import normalize
        >>> x, y = (normalize(np.random.default_rng(seed).normal(size=(50, 8)) + seed) for seed in (1, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load(fit("mean-centring", x, y).save(f"{folder}/treatment.safetensors"))
        >>> again.name, again.fitted_on, bool((again.image(x) == fit("mean-centring", x, y).image(x)).all())
        ('mean-centring', (50, 50), True)
        """
        need("train", "safetensors")
        from safetensors.torch import save_file

        path = Path(path)
        if not path.parent.is_dir():
            raise ValueError(f"path: expected a file in a folder that is there, got {path}")
        tensors = {
            f"{side}.{place}.{part}": value.detach().cpu().double().contiguous().clone()
            for side, stages in (("image", self.image_stages), ("text", self.text_stages))
            for place, stage in enumerate(stages)
            for part, value in (("shift", stage.shift), ("matrix", stage.matrix))
            if value is not None
        }
        note = {
            "format": FORMAT,
            "method": self.name,
            "dims": {"image": _dims(self.image_stages), "text": _dims(self.text_stages)},
            "dtype": "float64",
            "fitted_on": list(self.fitted_on),
            "gaplib": gaplib.__version__,
        }
        note["sha256"] = _digest(note, tensors)
        with atomic(path) as partial:
            save_file(tensors, partial, metadata={_KEY: json.dumps(note)})
        return path


def load(path: str | Path) -> PostHoc:
    """The treatment in a file that :meth:`PostHoc.save` wrote, on the CPU. Nothing in the file is executed.

    Raises:
        ValueError: a file that is missing, truncated, changed by a single bit, of a later format, or of something else.
    """
    need("train", "safetensors")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _read(note, tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"path: expected a file written by PostHoc.save, got {path}: {reason}") from error


def _read(note: Any, tensors: dict[str, torch.Tensor]) -> PostHoc:
    if not isinstance(note, dict):
        raise ValueError("it holds no treatment")
    if note["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {note['format']!r}, written by gaplib {note.get('gaplib')}")
    if note.pop("sha256") != _digest(note, tensors):
        raise ValueError("its content is not what was written")
    left, sides = dict(tensors), {}
    for side in ("image", "text"):
        stages: list[Stage] = []
        while (shift := left.pop(f"{side}.{len(stages)}.shift", None)) is not None:
            stages.append(Stage(shift, left.pop(f"{side}.{len(stages)}.matrix", None)))
        sides[side] = tuple(stages)
        if _dims(sides[side]) != note["dims"][side]:
            raise ValueError(f"expected {side} dimensions {note['dims'][side]}, got {_dims(sides[side])}")
    if left or any(z.dtype != torch.float64 or not bool(z.isfinite().all()) for z in tensors.values()):
        raise ValueError("expected stages of finite float64 numbers and nothing else")
    image, text = note["fitted_on"]
    return PostHoc(str(note["method"]), sides["image"], sides["text"], (int(image), int(text)))


def _dims(stages: tuple[Stage, ...]) -> list[int]:
    """Dimension before the first stage, and after each; ``ValueError`` for stages that do not fit one another."""
    dims: list[int] = []
    for stage in stages:
        shift = list(stage.shift.shape)
        matrix = shift * 2 if stage.matrix is None else list(stage.matrix.shape)
        if len(shift) != 1 or len(matrix) != 2 or matrix[:1] != shift or dims[-1:] not in ([], shift):
            raise ValueError(f"expected stages that fit one another, got {shift} and {matrix} after {dims}")
        dims = [*(dims or shift), matrix[1]]
    return dims


def _digest(note: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the metadata and of the tensors' hash."""
    from gaplib._store import tensor_hash

    return hashlib.sha256(f"{json.dumps(note, sort_keys=True)}{tensor_hash(tensors)}".encode()).hexdigest()


def _both(x: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (as_float64(check_unit_rows(check_matrix(z, name, min_rows=2), name)) for z, name in ((x, "x"), (y, "y")))
    check_pair(x, y, paired=False)
    return x, y


def fit_mean_centring(x: Any, y: Any) -> PostHoc:
    """Subtract each modality's mean: C3's "collapse" (Zhang et al. 2024), also I0T-post and GR-CLIP's calibration."""
    x, y = _both(x, y)
    return PostHoc("mean-centring", (Stage(x.mean(0)),), (Stage(y.mean(0)),), (len(x), len(y)))


def fit_shift(x: Any, y: Any, share: float = 1.0) -> PostHoc:
    """Move both modalities towards each other along the gap by ``share`` of it (Liang et al. 2022, shift experiment).

    ``share`` 0 changes nothing, 1 makes the means meet before normalisation, a negative one widens the gap.
    """
    share = float(check_number(share, "share"))
    x, y = _both(x, y)
    half = share * (x.mean(0) - y.mean(0)) / 2
    return PostHoc(f"shift {share:g}", (Stage(half),), (Stage(-half),), (len(x), len(y)))


def fit_orthogonal_shift(x: Any, y: Any) -> PostHoc:
    """Shift the text by the part of the gap that is orthogonal to what varies within modalities (Chowers et al. 2026).

    The directions that vary are the leading ones that hold 99 % of the pooled within-modality variance, our choice.
    """
    x, y = _both(x, y)
    gap = y.mean(0) - x.mean(0)
    basis = leading_directions(torch.cat([x - x.mean(0), y - y.mean(0)]), 0.99)
    return PostHoc("orthogonal shift", (), (Stage(gap - basis @ (basis.T @ gap)),), (len(x), len(y)))


def fit_shared_space(x: Any, y: Any, variance: float = 0.99, tolerance: float = 1e-3) -> PostHoc:
    """Project both modalities on the directions that their subspaces share (Yi et al. 2025, shared-space projection).

    The subspaces hold the share ``variance`` of each modality's energy; shared are the directions whose principal angle
    has a cosine above ``1 - tolerance``.

    Raises:
        ValueError: if the subspaces share no direction at that tolerance.
    """
    tolerance = float(check_number(tolerance, "tolerance", low=0, high=1))
    x, y = _both(x, y)
    bx, by = leading_directions(x, variance), leading_directions(y, variance)
    left, cosines, _ = torch.linalg.svd(bx.T @ by)
    shared = bx @ left[:, : len(cosines)][:, cosines > 1 - tolerance]
    if shared.shape[1] == 0:
        raise ValueError(
            f"tolerance: expected one that leaves a shared direction, got {tolerance:g} "
            f"(largest cosine {float(cosines.max()):.4f})"
        )
    stage = Stage(torch.zeros_like(x[0]), shared)
    return PostHoc("shared-space projection", (stage,), (stage,), (len(x), len(y)))


def fit_trace_matched(x: Any, y: Any) -> PostHoc:
    """Move the text onto the images: match the mean and the total variance, then the mean again (ReAlign, 2602.07026).

    ``y -> mean_x + s (y - mean_y)`` with s = sqrt(trace of the images' covariance / the texts'), normalised; the mean
    that this leaves is moved onto ``mean_x`` once more. The source prints s without the root, which contradicts its own
    condition ``s^2 T_y = T_x``; we take the root. Images stay as they are.

    Raises:
        ValueError: besides the shapes, if the texts are all one point.
    """
    x, y = _both(x, y)
    mean_x, mean_y = x.mean(0), y.mean(0)
    trace_x, trace_y = (float((z - z.mean(0)).square().sum(1).mean()) for z in (x, y))
    if trace_y < 1e-20:
        raise ValueError("y: expected embeddings that vary, got one point")
    scale = (trace_x / trace_y) ** 0.5
    # mean_x + s (y - mean_y) as one shift and one scaling.
    first = Stage(mean_y - mean_x / scale, scale * torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
    return PostHoc("trace-matched", (), (first, Stage(first(y, "y").mean(0) - mean_x)), (len(x), len(y)))


#: name in ``gaplib.methods.METHODS`` -> how it is fitted
TREATMENTS: dict[str, Callable[..., PostHoc]] = {
    "mean-centring": fit_mean_centring,
    "shift": fit_shift,
    "orthogonal-shift": fit_orthogonal_shift,
    "shared-space": fit_shared_space,
    "trace-matched": fit_trace_matched,
}


def fit(name: str, x: Any, y: Any, **options: Any) -> PostHoc:
    """The treatment called ``name`` fitted to images ``x`` and texts ``y``; ``options`` as its ``fit_`` function's."""
    return TREATMENTS[check_choice(name, "treatment", TREATMENTS)](x, y, **options)
