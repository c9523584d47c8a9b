"""Several processes on CPU with gloo: every parameter's gradient is that of one process on the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import processes_worker as worker
from processes_worker import CASES, ROWS, SETTINGS, TRAINED, WORLDS

from gaplib.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """``found[world][rank]``: what the processes of each world came to."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, worker.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        world: [torch.load(folder / f"{world}.{rank}.pt", weights_only=True) for rank in range(world)]
        for world in WORLDS
    }


def check(got, wanted, what):
    assert got.keys() == wanted.keys(), what
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{what}, {n}: {text}")


@pytest.mark.parametrize("how", ["", " in chunks"])
def test_gradients_of_every_method_are_those_of_one_process(found, how):
    tried = 0
    for name in CASES:
        wanted = worker.gradients_of(name, 0, 1)
        moved = [key for key, gradient in wanted.items() if gradient.abs().max() > 1e-6]
        assert len(moved) > 0.7 * len(wanted), name
        for world in WORLDS:
            for rank in range(world):
                check(found[world][rank][name + how], wanted, f"{name}{how}, process {rank} of {world}")
        tried += 1
    assert tried == len(TRAINED) + 2 == 26
