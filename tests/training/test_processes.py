"""Several processes on CPU with gloo: every parameter's gradient is that of one process on the joined batch."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import processes_worker as worker
import pytest
import torch
from processes_worker import CASES, SETTINGS, TRAINED, WORLDS

from gaplib.methods import METHODS
from gaplib.training import fit

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
        torch.testing.assert_close(
            got[name], value, rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{what}, {n}: {text}"
        )


@pytest.mark.parametrize("how", ["", " in chunks"])
def test_gradients_of_every_method_are_those_of_one_process(found, how):
    tried = 0
    for name in CASES:
        wanted = worker.gradients_of(name, 0, 1)
        moved = [key for key, gradient in wanted.items() if gradient.abs().max() > 1e-6]
        assert len(moved) > 0.7 * len(wanted), name
        for world in WORLDS if how == "" else worker.IN_CHUNKS:
            for rank in range(world):
                check(found[world][rank][name + how], wanted, f"{name}{how}, process {rank} of {world}")
        tried += 1
    assert tried == len(TRAINED) + 2 == 26


@pytest.mark.parametrize("name", ["cua", "hs", "siglip"])
def test_fit_ends_where_one_process_does_with_one_history(found, name):
    wanted = worker.fitted(name, 0, 1)
    assert wanted["history"].diff().abs().min() > 1e-4
    for world in WORLDS:
        for rank in range(world):
            got = found[world][rank][f"fit {name}"]
            # Adam divides a gradient by its size: what is rounding in the gradient of nothing is a step.
            for key, value in wanted.items():
                torch.testing.assert_close(
                    got[key], value, rtol=1e-8, atol=1e-8, msg=f"{name}, {key}, {rank} of {world}"
                )


@pytest.mark.parametrize("name", SETTINGS)
def test_open_clip_losses_equal_open_clips_in_its_settings(found, name):
    for world in WORLDS:
        for rank in range(world):
            what = f"{name}, process {rank} of {world}"
            check(found[world][rank][f"ours {name}"], found[world][rank][f"open_clip's {name}"], what)
    # without --gather-with-grad open_clip's gradient of the towers is a share of the exact one
    exact = worker.open_clip_gradients(worker.ours_as_open_clips(name, 0, 1), "siglip" in name, slice(None), False)
    for world in WORLDS:
        got, share = found[world][0][f"ours {name}"], world if name == "clip, no grad" else 1
        check(got | {key: got[key] * share for key in ("image", "text")}, exact, f"{name}, {world} processes")


def test_open_clip_losses_of_every_method_equal_one_process(found):
    names = [name for name in TRAINED if not METHODS[name].requires]
    for name in names:
        loss = worker.ours_as_open_clips(name, 0, 1)
        wanted = worker.open_clip_gradients(loss, name == "siglip", slice(None), False)
        assert all(gradient.abs().max() > 1e-6 for gradient in wanted.values()), name
        for world in WORLDS:
            for rank in range(world):
                check(found[world][rank][f"loss {name}"], wanted, f"{name}, process {rank} of {world}")
    assert len(names) == 14


@pytest.mark.parametrize(
    ("what", "first", "second"),
    [
        ("dry", "batches: expected one from every process, got none from process 1 of 2", "ran dry after 2 of them"),
        ("steps", r"steps: expected the same in all processes, got \[3, 4\] by rank", None),
        ("device", "device: (this machine has no cuda|expected cuda where several processes train)", None),
        (
            "fields",
            "pairs: expected the same fields in all processes, got .*'image text', 'image text image_view'",
            None,
        ),
        ("width", r"pairs: expected the same dimension in all processes, got \[4, 3\]", None),
        ("type", "pairs: expected the same float type in all processes, got .*float32.*float64", None),
        ("similarity", "caption_similarity: expected that of the joined batch", None),
        ("joined similarity", r"caption_similarity: expected shape \(6, 6\), got \(3, 3\)", None),
        ("seed", r"pairs: expected the same number to agree on \(a seed\)", None),
        ("rank", "RuntimeError: rank: expected 0, .*got 1", "RuntimeError: rank: expected 1, .*got 0"),
        ("world", "RuntimeError: world_size: expected 2, .*got 3", None),
        ("local", "local_loss: expected gather_with_grad", None),
        ("train", "train: expected one process, got 2", None),
        ("twice", "once_differentiable", None),
    ],
)
def test_failures_are_said_in_all_processes(found, what, first, second):
    for rank, message in enumerate((first, second or first)):
        assert re.search(message, found[2][rank]["failures"][what]), found[2][rank]["failures"][what]


def test_rows_of_any_type_come_through(found):
    halves = [torch.randn(2 + rank, 4, generator=torch.Generator().manual_seed(rank)) for rank in (0, 1)]
    half = torch.cat([torch.nn.functional.normalize(z, dim=1).bfloat16() for z in halves])
    for rank in (0, 1):
        got = found[2][rank]["types"]
        assert torch.equal(got["half"], half)
        assert torch.equal(got["groups"], torch.tensor([0, 1, 0, 1, 2]))
        assert torch.equal(got["bool"], torch.tensor([True, False, False, True, False]))


@pytest.mark.parametrize(
    "started",
    [
        ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "SCRIPT"),
        ("SCRIPT", "--devices", "2"),
    ],
    ids=["torchrun", "Fabric.launch"],
)
def test_started_by_anyone_it_ends_where_one_process_does(started, capsys, monkeypatch):
    script = ROOT / "examples" / "several_processes.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *(str(script) if part == "SCRIPT" else part for part in started)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    monkeypatch.setattr(sys, "argv", ["several_processes.py"])
    runpy.run_path(str(script), run_name="__main__")
    alone = capsys.readouterr().out
    assert alone.startswith("1 processes, loss ")
    assert done.stdout.splitlines()[-1] == alone.strip().replace("1 processes", "2 processes")


def test_what_fabric_run_says_does_not_get_in_the_way(monkeypatch):
    """It is torchrun and some variables, which Fabric would hold against what ``fit`` asks for."""
    for name, value in {"CLI_USED": 1, "DEVICES": 2, "STRATEGY": "ddp", "PRECISION": "16-mixed"}.items():
        monkeypatch.setenv(f"LT_{name}", str(value))
    pair = torch.nn.Linear(8, 4), torch.nn.Linear(6, 4)
    assert len(fit(pair, "clip", [(torch.randn(6, 8), torch.randn(6, 6))], 2)) == 2
    assert os.environ["LT_DEVICES"] == "2"
