"""The card of more rows than are loaded, in a process that does nothing else: ``python -m bench.large N D FOLDER``.

Memory is that of the process at its peak beyond what was resident before, the pages of mapped files included; seconds
are those of the processor, which a busy machine changes little, and those of the clock.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.memory import peak_of

_ROWS = 2**13


def write_pairs(folder: Path, n: int, d: int) -> tuple[Path, Path]:
    """Two .npy files (n, d) of unit rows in half precision, paired, with a gap."""
    rng, paths = np.random.default_rng(0), (folder / "image.npy", folder / "text.npy")
    files = [np.lib.format.open_memmap(path, "w+", np.float16, (n, d)) for path in paths]
    spread = rng.standard_normal((d // 4, d)).astype(np.float32)
    for start in range(0, n, _ROWS):
        common = rng.standard_normal((min(_ROWS, n - start), d // 4)).astype(np.float32) @ spread / np.sqrt(d // 4)
        for file, shift in zip(files, (0.3, -0.3), strict=True):
            rows = common + rng.standard_normal(common.shape, dtype=np.float32) + shift
            file[start : start + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for file in files:
        file.flush()
    return paths


def _timed(work: Callable[[], Any], taken: dict[str, float]) -> Callable[[], Any]:
    def timed() -> Any:
        started, processor = time.perf_counter(), time.process_time()
        found = work()
        taken.update({"seconds": time.perf_counter() - started, "processor": time.process_time() - processor})
        return found

    return timed


def measured(n: int, d: int, folder: Path) -> dict[str, float]:
    """MiB, seconds and seconds of the processor of ``gaplib.measure`` of two files."""
    from gaplib import measure

    torch.set_num_threads(1)
    small = folder / "small"
    small.mkdir(exist_ok=True)
    measure(*write_pairs(small, 200, 16))  # the libraries are warm
    paths, taken = write_pairs(folder, n, d), {}
    return {"mib": peak_of(_timed(lambda: measure(*paths), taken)), **taken}


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
