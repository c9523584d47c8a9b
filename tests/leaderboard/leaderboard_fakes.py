"""Evaluations for the leaderboard's tests: cheap, and importable from the processes that it starts."""

import os
from pathlib import Path

import numpy as np
import torch


def cheap(run, treatment=None):
    """A few numbers that depend on every embedding of the test split, and the threads that the process was given."""
    x, y = (run.embeddings[f"test_{name}"].astype(np.float64) for name in ("image", "text"))
    if treatment is not None:
        x, y = (x / np.linalg.norm(x, axis=1, keepdims=True), y / np.linalg.norm(y, axis=1, keepdims=True))
        x, y = (np.asarray(z) for z in treatment(x, y))
    gap, cosine = np.linalg.norm(x.mean(0) - y.mean(0)), (x * y).sum(1).mean()
    told = float(os.environ.get("OMP_NUM_THREADS", "nan"))
    return {"gap": float(gap), "cosine": float(cosine), "threads": torch.get_num_threads(), "told": told}


def other(run, treatment=None):
    """Another evaluation."""
    return cheap(run, treatment)


def sometimes_nan(run, treatment=None):
    """NaN for one seed of one method, an exception for another."""
    if (run.config.method, run.config.seed) == ("cua", 100):
        return {**cheap(run), "cosine": float("nan")}
    if (run.config.method, run.config.seed) == ("siglip", 101):
        raise RuntimeError("no\nluck")
    return cheap(run, treatment)


def here() -> str:
    """The folder that a process must have on its path."""
    return str(Path(__file__).parent)
