"""Time by turns and memory by process: the two instruments of the benchmark."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def by_turns(work: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each, ``repeats`` times, one after the other in turn, so that a slow minute slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(warm_up + repeats):
        for name, function in work.items():
            started = time.perf_counter()
            function()
            if turn >= warm_up:
                taken[name].append(time.perf_counter() - started)
    return taken


def ratio(taken: Mapping[str, list[float]], name: str, over: str) -> float:
    """Median over the turns of what ``name`` took relative to what ``over`` took in the same turn."""
    return statistics.median(a / b for a, b in zip(taken[name], taken[over], strict=True))


def extra_memory(case: str, n: int, d: int) -> float:
    """MiB by which the peak of a process of its own rises while it does ``case`` once (``bench.memory``)."""
    return _child(["-m", "bench.memory", case, str(n), str(d)], f"{case} with n = {n}")["mib"]


def card_of_files(n: int, d: int) -> dict[str, float]:
    """MiB and seconds of ``gaplib.measure`` of two files of n rows in half precision (``bench.large``)."""
    with tempfile.TemporaryDirectory() as folder:
        return _child(["-m", "bench.large", str(n), str(d), folder], f"measure with n = {n}")


def step_seconds(method: str, batch_size: int, steps: int, count: int) -> float:
    """Median seconds of a step of ``fit`` in ``count`` processes together (``bench.processes``)."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    work = ["-m", "bench.processes", method, str(batch_size), str(steps)]
    return _child([*launch, *work], f"{count} processes")["seconds"]


def _child(arguments: list[str], what: str) -> dict[str, float]:
    """What a Python with one thread prints in its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} stopped (status {done.returncode}): {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def free_memory() -> float:
    """MiB that a process could have now; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))
