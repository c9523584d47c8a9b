"""What is asked of the leaderboard's workers and what they give: rows to be made, jobs of them, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gaplib.training.config import RunConfig


@dataclass(frozen=True)
class Spec:
    """One row to be made: what is trained, the treatment after it or the control on it, and the row's key."""

    method: str
    seed: int
    setting: str
    config: RunConfig
    run_key: str
    key: str
    treatment: str = ""
    control: str = ""


@dataclass(frozen=True)
class Job:
    """All missing rows on one run, so that no two processes or machines train it. ``code`` is what must run it.

    ``device`` is where the run is trained; rows are scored on the CPU.
    """

    specs: tuple[Spec, ...]
    code: str
    evaluate: Callable[..., Mapping[str, float]]
    device: str = "cpu"


@dataclass(frozen=True)
class Result:
    """A row, or why there is none."""

    spec: Spec
    row: dict[str, Any] | None = None
    error: str = ""
