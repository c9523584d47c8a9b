"""Extra peak memory of one case, in a process that does nothing else: ``python -m bench.memory CASE N D``.

What the inputs take is there before and does not count; the libraries are warm, since the case runs once at a small
size first.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.cases import CASES

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _kib(field: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(field))


def extra_peak(case: str, n: int, d: int) -> float:
    """:func:`peak_of` the case, warm."""
    torch.set_num_threads(1)
    CASES[case](64, 16)()
    return peak_of(CASES[case](n, d))


def peak_of(work: Callable[[], Any]) -> float:
    """MiB of resident memory at the peak of ``work()`` beyond what was resident before it began."""
    if STATUS.exists():
        RESET.write_text("5")  # Linux: the peak starts anew from what is resident now
        before = _kib("VmRSS")
        work()
        return (_kib("VmHWM") - before) / 1024
    # Elsewhere the peak cannot be reset: right only if it is higher than that of the imports.
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / per_mib


if __name__ == "__main__":
    print(json.dumps({"mib": extra_peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}))
