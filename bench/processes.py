"""Time steps of ``fit`` on this process's share of a batch: ``python -m bench.processes METHOD BATCH STEPS``.

Run by ``bench.measure.step_seconds``, alone or by torchrun; process 0 prints the median of the steps as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from statistics import median

import torch

from gaplib import distributed
from gaplib.towers import tiny_towers
from gaplib.training import fit

WARM_UP = 3
SIDE, WORDS, LENGTH = 32, 200, 8


def main(method: str, batch_size: int, steps: int) -> float:
    """Median seconds of a step, after those that warm up."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    joined = {
        "image": torch.rand(batch_size, 1, SIDE, SIDE, generator=draw),
        "text": torch.randint(1, WORDS, (batch_size, LENGTH), generator=draw),
    }

    def batch(step: int) -> dict[str, torch.Tensor]:
        return {name: z[distributed.rank() :: distributed.processes()] for name, z in joined.items()}

    times: list[float] = []
    towers = tiny_towers(WORDS, dim=64, image_size=SIDE)
    fit(towers, method, batch, WARM_UP + steps, on_step=lambda loop: times.append(time.perf_counter()))
    return median(b - a for a, b in pairwise(times[WARM_UP:]))


if __name__ == "__main__":
    seconds = main(sys.argv[1], *map(int, sys.argv[2:]))
    if distributed.rank() == 0:
        print(json.dumps({"seconds": seconds}))
