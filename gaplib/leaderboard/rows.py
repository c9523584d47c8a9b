"""From a run to its rows: train it or find it, treat its embeddings, score them. Other processes do this."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

import gaplib
from gaplib import posthoc
from gaplib.data import glyphs
from gaplib.geometry import normalize
from gaplib.glyph_tasks.controls import CONTROLS
from gaplib.leaderboard.jobs import Job, Result, Spec
from gaplib.towers.encode import encode
from gaplib.training import Run, cached_run

#: Training characters that a treatment is fitted to, the same for every run.
FIT_SAMPLE = 2000


def results(job: Job) -> list[Result]:
    """The rows of a job. One that fails, by an exception or by a value that is not finite, takes no other with it."""
    torch.set_num_threads(1)
    try:
        run = cached_run(job.specs[0].config, job.device)
    except Exception as error:
        return [Result(spec, error=_reason(error)) for spec in job.specs]
    return list(_score_all(job, run))


def _score_all(job: Job, run: Run) -> Iterator[Result]:
    for spec in job.specs:
        try:
            metrics = {name: float(value) for name, value in _metrics(spec, run, job.evaluate).items()}
            bad = [f"{name} = {value}" for name, value in metrics.items() if not math.isfinite(value)]
            if bad:
                raise ArithmeticError(f"expected finite metrics, got {', '.join(bad)}")
            yield Result(spec, row(spec, run, metrics))
        except Exception as error:
            yield Result(spec, error=_reason(error))


def _metrics(spec: Spec, run: Run, evaluate: Any) -> Mapping[str, float]:
    if spec.control == "untrained":
        return CONTROLS[spec.control](run, seed=spec.seed)
    if spec.control == "pixel nearest neighbour":
        return CONTROLS[spec.control](size=spec.config.image_size)
    if spec.control:
        return CONTROLS[spec.control](run)
    return evaluate(run, treatment=fitted(spec.treatment, run) if spec.treatment else None)


def training_pairs(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of the training characters that treatments are fitted to, (2000, d) each.

    Unit rows in double precision: single leaves a rest that a mean of 2,000 rows would keep.
    """
    data = glyphs.load(run.config.image_size)
    sample = data.sample("train", FIT_SAMPLE, seed=0)
    image, text = encode(run.towers(), sample, second=run.config.pairing().second(sample))
    return normalize(image.double()), normalize(text.double())


def fitted(treatment: str, run: Run) -> posthoc.PostHoc:
    """A treatment fitted to the run's embeddings of 2,000 training characters."""
    return posthoc.fit(treatment, *training_pairs(run))


def row(spec: Spec, run: Run, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What the tables say of a row: where it comes from, then its metrics."""
    return {
        "method": spec.method,
        "seed": spec.seed,
        "setting": spec.setting,
        "tau": float(run.history[-1]["tau"]),
        "steps": run.config.steps,
        "seconds": float(run.seconds),
        "gaplib": gaplib.__version__,
        "torch": torch.__version__,
        "device": torch.device(run.info["device"]).type,
        "run": spec.run_key,
        "configuration": json.dumps(run.config.to_dict(), sort_keys=True),
        "metrics": dict(metrics),
    }


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
