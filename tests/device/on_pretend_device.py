"""What runs on the pretend device: ``test_device.py`` starts it, with and without double precision there.

A file of its own process: a device is registered with torch once and for good.
"""

import ast
import json
import os
from functools import partial
from pathlib import Path

import lightning_fabric
import numpy as np
import pretend_device
import pytest
import torch
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy

from gaplib import _devices, evaluation, swapping
from gaplib.book.chapters import (
    ch01_samples,
    ch02_layers,
    ch02_towers,
    ch03_runs,
    ch04_runs,
    ch05_runs,
    ch07_temperature_swapping,
    ch08_runs,
    ch09_rows,
    ch10_fusion,
)
from gaplib.book.results import Recorder
from gaplib.data import glyphs
from gaplib.data.published import DataUnavailable
from gaplib.fusion import losses as fusion_losses
from gaplib.fusion.runs import FusionConfig
from gaplib.leaderboard import plan, rows
from gaplib.pairs import PairedEmbeddings
from gaplib.training import RunConfig, cached_run, presets
from tools.gpu_check import CHECKS, TASKS_OF_EMBEDDINGS, difference, random, unit_rows

FLOAT64 = os.environ["PRETEND_FLOAT64"] == "1"
DEVICE = pretend_device.NAME
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pretend_device.start(FLOAT64)
_devices.DEVICES[DEVICE] = lambda: True
# On the CPU torch would take other kernels for attention, which round otherwise.
torch.backends.cuda.enable_flash_sdp(False)
torch.backends.mha.set_fastpath_enabled(False)
if not FLOAT64:
    _devices.WITHOUT_FLOAT64.add(DEVICE)


class PretendAccelerator(CPUAccelerator):
    """What Fabric asks of a device."""

    def setup_device(self, device):
        pass


def fabric(accelerator, _real=lightning_fabric.Fabric, **options):
    """Fabric, which knows no such device by its name."""
    if accelerator != DEVICE:
        return _real(accelerator=accelerator, **options)
    strategy = SingleDeviceStrategy(device=pretend_device.device(), accelerator=PretendAccelerator())
    return _real(strategy=strategy, precision=options["precision"])


lightning_fabric.Fabric = fabric


# --- the device's own rules -------------------------------------------------------------------------------------------


def here(*shape):
    return torch.ones(*shape).to(DEVICE)


ONES, PLACE, ON_CPU = here(3), torch.tensor([0, 2]), torch.ones(3)
FAULTS = {
    "sum": lambda: ONES + ON_CPU,
    "sum, a number of the device": lambda: ON_CPU + here(),
    "product of matrices": lambda: here(3, 3) @ torch.ones(3, 3),
    "where": lambda: torch.where(ONES > 0, ONES, ON_CPU),
    "cat": lambda: torch.cat([ONES, ON_CPU]),
    "stack of numbers": lambda: torch.stack([ONES[0], ON_CPU[0]]),
    "comparison": lambda: torch.equal(ONES, ON_CPU),
    "in place": lambda: ON_CPU.clone().mul_(ONES),
    "in place, numbers": lambda: torch.ones(()).add_(here()),
    "labels": lambda: torch.nn.functional.cross_entropy(here(3, 3), torch.arange(3)),
    "gather": lambda: ONES.gather(0, PLACE),
    "embedding": lambda: torch.nn.functional.embedding(PLACE, here(3, 2)),
    "module left behind": lambda: torch.nn.Linear(3, 2)(here(1, 3)),
    "indices into the CPU": lambda: ON_CPU[PLACE.to(DEVICE)],
    "mask into the CPU": lambda: ON_CPU[ONES > 0],
    "values of the CPU put in": lambda: ONES.clone().index_put_((PLACE,), torch.ones(2)),
    "generator": lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
    "generator, in place": lambda: here(3).normal_(generator=torch.Generator()),
    "numpy": lambda: ONES.numpy(),
    "asarray": lambda: np.asarray(ONES),
    "gradient": lambda: (here(3).requires_grad_() * 2).sum().backward(torch.ones(1)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_cuda_refuses_is_refused(fault):
    with pytest.raises((pretend_device.DeviceError, TypeError, RuntimeError), match=r"device|type"):
        fault()


def test_what_cuda_allows_is_allowed():
    x = here(3).requires_grad_()
    loss = (x * torch.tensor(2.0) + 1)[PLACE].sum() + x[torch.tensor([True, False, True])].sum()
    loss.backward()
    assert x.grad.tolist() == [3, 0, 3]
    assert (float(loss), x.grad.device.type, x.cpu().device.type) == (8, DEVICE, "cpu")
    filled = torch.zeros(3, device=DEVICE)
    filled[PLACE] = torch.tensor(5.0)
    filled[1] = 7.0
    assert filled.tolist() == torch.tensor([5, 7, 5], device=DEVICE).tolist()
    np.testing.assert_array_equal(filled.cpu().numpy(), [5, 7, 5])
    assert torch.ones(2).to(DEVICE).add_(1).view(1, 2).sum(1).tolist() == [4]


def test_double_precision_is_there_or_not():
    makers = (
        lambda: ONES.double(),
        lambda: torch.zeros(2, device=DEVICE, dtype=torch.float64),
        lambda: torch.tensor([1.0], dtype=torch.float64).to(DEVICE),
        lambda: torch.as_tensor([1.0], dtype=torch.float64, device=DEVICE),
    )
    for make in makers:
        if FLOAT64:
            assert make().dtype == torch.float64
        else:
            with pytest.raises(TypeError, match=r"has no torch\.float64"):
                make()


def test_a_fault_planted_in_gaplib_is_seen(monkeypatch):
    """Random numbers that stay on the CPU, and a mask that is made there."""
    x, y = (unit_rows(seed).to(DEVICE) for seed in (0, 1))
    drawn = torch.rand(x.shape) < 0.5
    with pytest.raises(pretend_device.DeviceError, match="where"):
        torch.where(drawn, x, y)
    monkeypatch.setattr(PairedEmbeddings, "device", torch.device("cpu"))
    with pytest.raises(pretend_device.DeviceError):
        CHECKS["method clip-views"].values(DEVICE)


def test_random_numbers_in_double_precision_reach_the_device_rounded(monkeypatch):
    """What stood in two places and could not run on mps."""
    x, y = (unit_rows(seed).to(DEVICE) for seed in (0, 1))
    swapping.soft_swap(x, y, torch.Generator().manual_seed(0))
    chosen = fusion_losses.hard_negatives(x @ y.T, torch.arange(len(x), device=DEVICE))
    assert chosen.device.type == DEVICE
    monkeypatch.setattr(fusion_losses, "as_float64", torch.Tensor.double)
    if FLOAT64:
        fusion_losses.hard_negatives(x @ y.T, torch.arange(len(x), device=DEVICE))
    else:
        with pytest.raises(TypeError, match="has no"):
            fusion_losses.hard_negatives(x @ y.T, torch.arange(len(x), device=DEVICE))


# --- everything that takes a device -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
def test_values_are_those_of_the_cpu(name):
    on_cpu, found = (CHECKS[name].values(where) for where in ("cpu", DEVICE))
    assert found.keys() == on_cpu.keys()
    assert {key for key in found if not same(found[key], on_cpu[key])} == set()


def same(one, other):
    return one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def test_every_task_is_among_the_checks():
    assert set(TASKS_OF_EMBEDDINGS) == set(evaluation.__all__)


def test_checks_can_fail():
    right = CHECKS["method cua"].values("cpu")
    wrong = right | {"loss": right["loss"] + 1e-3}
    assert difference(right, right) == 0
    assert difference(right, wrong) == pytest.approx(1e-3 / float(right["loss"].abs().clamp(min=1)), rel=1e-2)
    assert not same(right["loss"], wrong["loss"])
    assert difference(right, {"loss": right["loss"]}) == difference({"a": torch.tensor(1.0)}, {"a": torch.tensor(np.nan)})


# --- the notebooks ----------------------------------------------------------------------------------------------------


def small(config):
    """The same kind of run, of one step."""
    changes = {"steps": 1, "batch_size": 8, "eval_pairs": 8, "history_points": 2, "warmup": 0}
    start = {"start": small(config.start)} if config.start else {}
    return RunConfig(**{**vars(config), **changes, **start})


@pytest.fixture
def tiny(monkeypatch):
    """Chapters train one step where they would train hundreds; of several runs the first, in place of all."""
    asked = []

    def one(config, device="cpu", **_):
        if not asked or asked[-1][0] != device:
            asked.append((device, cached_run(small(config), device)))
        return asked[-1][1]

    for module in (ch01_samples, ch03_runs, ch04_runs, ch05_runs, presets, rows):
        monkeypatch.setattr(module, "cached_run", one)

    def unavailable(name):
        raise DataUnavailable(name)

    monkeypatch.setattr(ch01_samples.published, "load", unavailable)
    monkeypatch.setattr(ch10_fusion, "FusionConfig", partial(FusionConfig, steps=2, batch_size=8, task_steps=2,
                                                             task_batch_size=4, test_questions=8))  # fmt: skip
    monkeypatch.setattr(ch10_fusion, "VARIANTS", ("baseline",))


def embeddings(found):
    """What a chapter gets of its runs, as arrays by place."""
    if hasattr(found, "embeddings") and isinstance(found.embeddings, dict):
        assert torch.device(found.info["device"]).type in (DEVICE, "cpu")
        return {"test": found.embeddings["test_image"], "device": found.info["device"].partition(":")[0]}
    if hasattr(found, "chosen"):
        return {"chosen": found.chosen, "loss": found.history}
    if hasattr(found, "weights"):
        return found.weights
    if hasattr(found, "cosines"):
        return found.cosines | {"embeddings": found.embeddings}
    if hasattr(found, "x"):
        return {"x": found.x, "y": found.y}
    if isinstance(found, dict):
        return {f"{key} {name}": v for key, value in found.items() for name, v in embeddings(value).items()}
    if isinstance(found, list | tuple):
        return embeddings(dict(enumerate(found)))
    return {"": found}


#: function that a notebook hands DEVICE to -> a small call of it
CALLS = {
    "ch01_samples.load_samples": lambda device: ch01_samples.load_samples(device=device)[0],
    "ch01_samples.train_glyphs": lambda device: ch01_samples.train_glyphs("0.01", 0, device),
    "ch02_towers.survey": lambda device: ch02_towers.survey(glyphs.load(), 0, inits=1, n=2, device=device),
    "ch02_layers.cosines_by_depth": lambda device: ch02_layers.cosines_by_depth(0, width=8, depth=3, n=8, device=device),
    "ch02_layers.mlp_initialisations": lambda device: ch02_layers.mlp_initialisations(
        "relu", 0, inits=2, width=8, depth=3, n=8, device=device
    ),
    "ch03_runs.film": lambda device: ch03_runs.film(0, device),
    "ch03_runs.trained": lambda device: ch03_runs.trained([ch03_runs.same(0), ch03_runs.mixed(0)], device),
    "ch04_runs.first_steps": lambda device: ch04_runs.first_steps("adamw", 0, device),
    "ch04_runs.train_all": lambda device: ch04_runs.train_all([ch04_runs.config(0)], device),
    "ch05_runs.train": lambda device: ch05_runs.train(0.5, [0], device),
    "training.cached_run": lambda device: cached_run(small(RunConfig(method="cuaxu")), device=device),
    "presets.runs": lambda device: presets.runs("cua", [0, 1], device=device),
    "ch07_temperature_swapping.train": lambda device: ch07_temperature_swapping.train(
        next(iter(ch07_temperature_swapping.SETTINGS)), [0], device
    ),
    "ch08_runs.train": lambda device: ch08_runs.train([0], device),
    "ch09_rows.trained": lambda device: ch09_rows.trained(ch09_rows.SHARP, 0, device),
    "ch10_fusion.pretrained": lambda device: ch10_fusion.pretrained([0], device),
    "ch10_fusion.finetuned": lambda device: ch10_fusion.finetuned([0], device),
    "ch10_fusion.unimodal": lambda device: ch10_fusion.unimodal([0], device),
}
#: the others, which have a test of their own below
APART = {"results.Recorder", "ch09_rows.rows"}


@pytest.mark.parametrize("name", CALLS)
def test_chapters_compute_on_the_device_and_say_so(tiny, name):
    recorders = {where: Recorder("01", device="cuda") for where in ("cpu", DEVICE)}
    found = {}
    for where in recorders:
        recorders[where] = Recorder("01", device="cuda")
        found[where] = embeddings(CALLS[name](where))
        expected = {where, "cpu"} if name == "ch01_samples.load_samples" else {where}  # and its untrained twins
        assert set(recorders[where].device.split(", ")) == expected
    devices = {where: {value for key, value in values.items() if key.endswith("device")} for where, values in found.items()}
    assert all(kinds <= {where} for where, kinds in devices.items())
    assert found["cpu"].keys() == found[DEVICE].keys()
    for key, value in found["cpu"].items():
        if not key.endswith("device"):
            np.testing.assert_array_equal(np.asarray(found[DEVICE][key]), np.asarray(value), err_msg=key)


def test_a_row_of_the_leaderboard_is_trained_on_the_device(tiny):
    board = plan.Plan("tuned", {}, evaluate, DEVICE)
    run = Recorder("09")
    (job,) = board.jobs(board.rows(["cua"], [100]))
    (result,) = rows.results(job)
    assert result.error == ""
    assert (result.row["device"], result.row["metrics"]) == (DEVICE, {"trained on the device": 1.0})
    assert run.device == DEVICE
    assert json.loads(json.dumps(result.row)) == result.row


def evaluate(run, treatment=None):
    return {"trained on the device": float(run.info["device"] == str(pretend_device.device()))}


def test_chapter_09_hands_its_device_to_all_rows(monkeypatch, tmp_path):
    """Its processes would not know the pretend device, so that what they are given is looked at."""
    given = []

    def main(names, seeds, out, jobs, **options):
        given.append((options["device"], out.name))
        return ch09_rows.columns([])

    def work(jobs, processes):
        given.extend((job.device, "settings") for job in jobs)
        row = {"method": "", "seed": 100, "device": DEVICE, "metrics": {}}
        yield from (rows.Result(spec, row) for job in jobs for spec in job.specs)

    monkeypatch.setattr(ch09_rows, "leaderboard", main)
    monkeypatch.setattr(ch09_rows.processes, "results", work)
    run = Recorder("09", device="cuda")
    table = ch09_rows.rows([100], tmp_path, device=DEVICE)
    assert {device for device, _ in given} == {DEVICE}
    assert len(table) == len(ch09_rows.SETTINGS)
    assert [one.name for one in tmp_path.iterdir()] == [DEVICE]  # apart from the CPU's
    assert run.device == DEVICE


def test_every_function_that_a_notebook_hands_its_device_to_is_covered():
    found = {name for path in sorted(NOTEBOOKS.glob("*.ipynb")) for name in handed_on(path)}
    assert found == set(CALLS) | APART


def test_every_notebook_hands_its_device_on():
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert set(handed_on(path)) > {"results.Recorder"}, path.name


def handed_on(path):
    """Last two parts of the names of the functions that a notebook calls with DEVICE."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for call in ast.walk(tree):
        given = [*call.args, *(one.value for one in call.keywords)] if isinstance(call, ast.Call) else []
        if any(isinstance(one, ast.Name) and one.id == "DEVICE" for one in given):
            first, _, rest = ast.unparse(call.func).partition(".")
            yield ".".join(f"{names[first]}.{rest}".strip(".").split(".")[-2:])


def test_inputs_are_those_of_the_cpu():
    """The checks' own random numbers: were they drawn on the device, equal values would say nothing."""
    assert random(3).device.type == "cpu"
