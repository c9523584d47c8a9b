"""What runs on the pretend device, with double precision and, as on mps, without.

``test_device.py`` starts it, as a process of its own: a device is registered with torch once and for good.
"""

import ast
import json
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

import lightning_fabric
import numpy as np
import pretend_device
import pytest
import torch
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy

from gaplib import _devices, evaluation, pairs, swapping
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
    ch11_model,
)
from gaplib.book.results import Recorder
from gaplib.data import cache_dir, glyphs
from gaplib.data.published import DataUnavailable
from gaplib.fusion.runs import FusionConfig
from gaplib.geometry import inputs
from gaplib.leaderboard import plan, rows
from gaplib.training import RunConfig, cached_run, presets
from tools import gpu_check
from tools.gpu_check import CHECKS, TASKS_OF_EMBEDDINGS, TINY_FUSION, difference

DEVICE = pretend_device.NAME
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pretend_device.register()
_devices.DEVICES[DEVICE] = lambda: True
# On the CPU torch would take other kernels for attention, which round otherwise.
torch.backends.cuda.enable_flash_sdp(False)
torch.backends.mha.set_fastpath_enabled(False)


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


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """A cache for either kind of device: results are kept by a device's name. The alphabet is drawn once for all."""
    glyphs.load()
    folders = {}
    for float64 in (True, False):
        folders[float64] = tmp_path_factory.mktemp("cache")
        (folders[float64] / "glyphs").symlink_to(cache_dir() / "glyphs")
    return folders


@pytest.fixture
def pretend(caches):
    """``with pretend(float64):`` there is a device of that kind."""

    @contextmanager
    def device(float64):
        without = _devices.WITHOUT_FLOAT64 | (set() if float64 else {DEVICE})
        with pretend_device.available(float64), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_devices, "WITHOUT_FLOAT64", without)
            patch.setenv("GAPLIB_CACHE", str(caches[float64]))
            yield

    return device


# --- the device's own rules -------------------------------------------------------------------------------------------


def here(*shape):
    return torch.ones(*shape).to(DEVICE)


PLACE, ON_CPU = torch.tensor([0, 2]), torch.ones(3)
#: each of a (3,) tensor of the device
FAULTS = {
    "sum": lambda x: x + ON_CPU,
    "sum, a number of the device": lambda x: ON_CPU + x[0],
    "product of matrices": lambda x: here(3, 3) @ torch.ones(3, 3),
    "where": lambda x: torch.where(x > 0, x, ON_CPU),
    "cat": lambda x: torch.cat([x, ON_CPU]),
    "stack of numbers": lambda x: torch.stack([x[0], ON_CPU[0]]),
    "comparison": lambda x: torch.equal(x, ON_CPU),
    "in place": lambda x: ON_CPU.clone().mul_(x),
    "in place, numbers": lambda x: torch.ones(()).add_(x[0]),
    "labels": lambda x: torch.nn.functional.cross_entropy(here(3, 3), torch.arange(3)),
    "gather": lambda x: x.gather(0, PLACE),
    "embedding": lambda x: torch.nn.functional.embedding(PLACE, here(3, 2)),
    "module left behind": lambda x: torch.nn.Linear(3, 2)(here(1, 3)),
    "indices into the CPU": lambda x: ON_CPU[PLACE.to(DEVICE)],
    "mask into the CPU": lambda x: ON_CPU[x > 0],
    "values of the CPU put in": lambda x: x.clone().index_put_((PLACE,), torch.ones(2)),
    "generator": lambda x: torch.rand(3, device=DEVICE, generator=torch.Generator()),
    "generator, in place": lambda x: here(3).normal_(generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
    "asarray": lambda x: np.asarray(x),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_cuda_refuses_is_refused(pretend, fault):
    with pretend(float64=True), pytest.raises((pretend_device.DeviceError, TypeError), match=r"device"):
        fault(here(3))


def test_what_cuda_allows_is_allowed(pretend):
    with pretend(float64=True):
        x = here(3).requires_grad_()
        loss = (x * torch.tensor(2.0) + 1)[PLACE].sum() + x[torch.tensor([True, False, True])].sum()
        loss.backward()
        assert x.grad.tolist() == [3, 0, 3]
        assert (loss.item(), x.grad.device.type, x.cpu().device.type) == (8, DEVICE, "cpu")
        filled = torch.zeros(3, device=DEVICE)
        filled[PLACE] = torch.tensor(5.0)
        filled[1] = 7.0
        assert filled.tolist() == torch.tensor([5, 7, 5], device=DEVICE).tolist()
        np.testing.assert_array_equal(filled.cpu().numpy(), [5, 7, 5])
        base = here(2, 2)
        base[0].add_(1)  # through a view
        assert base.tolist() == [[2, 2], [1, 1]]


@pytest.mark.parametrize("float64", [True, False])
def test_double_precision_is_there_or_not(pretend, float64):
    makers = (
        lambda: here(2).double(),
        lambda: torch.zeros(2, device=DEVICE, dtype=torch.float64),
        lambda: torch.tensor([1.0], dtype=torch.float64).to(DEVICE),
        lambda: torch.as_tensor([1.0], dtype=torch.float64, device=DEVICE),
    )
    with pretend(float64):
        for make in makers:
            if float64:
                assert make().dtype == torch.float64
            else:
                with pytest.raises(TypeError, match=r"has no torch\.float64"):
                    make()


def in_double_precision(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(DEVICE)


#: what is planted in gaplib -> the check that must fail of it, on a device with double precision or without
PLANTED = {
    "groups stay on the CPU": (
        pairs, "PairedEmbeddings", "_checked_groups", lambda self: torch.as_tensor(self.groups), "groups, dense", True
    ),
    "similarities stay on the CPU": (
        pairs, "PairedEmbeddings", "_checked_similarity", lambda self, check: self.caption_similarity,
        "method alignclip", True,
    ),
    "random numbers in double precision": (swapping, "", "_random", in_double_precision, "method ss", False),
    "metrics in double precision": (inputs, "", "as_float64", torch.Tensor.double, "metric alignment", False),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_planted_in_gaplib_is_seen(pretend, monkeypatch, name):
    module, owner, attribute, fault, check, float64 = PLANTED[name]
    monkeypatch.setattr(getattr(module, owner) if owner else module, attribute, fault)
    expected = pretend_device.DeviceError if float64 else TypeError
    with pretend(float64), pytest.raises(expected, match=r"on one device|has no torch\.float64"):
        CHECKS[check].compute(DEVICE)


# --- everything that takes a device -----------------------------------------------------------------------------------


#: towers of another library, which chapter 02 below takes as well
SLOW = {"towers open_clip"}
#: training that computes in double precision or draws in it, and one that does not
ONCE_MORE = {*(f"fit {name}" for name in ("cua", "cyclip", "sep", "br", "gc", "hs", "ss")), "fusion br"}


@cache
def on_cpu(name):
    return CHECKS[name].values("cpu")


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in SLOW])
def test_values_are_those_of_the_cpu(pretend, name):
    expected = on_cpu(name)
    with pretend(float64=True):
        found = CHECKS[name].values(DEVICE)
    assert types(found) == types(expected)
    assert difference(expected, found) < 1e-12  # none in single precision; a singular value is rounded otherwise


@pytest.mark.parametrize(
    "name", [name for name in CHECKS if name in ONCE_MORE or not name.startswith(("fit", "fusion", "run", "towers"))]
)
def test_values_without_double_precision_are_those_of_the_cpu(pretend, name):
    expected = on_cpu(name)
    with pretend(float64=False):
        found = CHECKS[name].values(DEVICE)
    # Gradients that come back from the CPU are summed in another order.
    assert difference(expected, found) < 1e-6
    assert types(found) == types(expected)


def types(values):
    return {name: value.dtype for name, value in values.items()}


def test_every_task_is_among_the_checks():
    assert set(TASKS_OF_EMBEDDINGS) == set(evaluation.__all__)


def test_checks_can_fail():
    right = on_cpu("method cua")
    wrong = right | {"loss": right["loss"] + 1e-3}
    assert difference(right, right) == 0
    assert difference(right, wrong) == pytest.approx(1e-3 / float(right["loss"].abs().clamp(min=1)), rel=1e-2)
    one, nan, two = {"a": torch.tensor(1.0)}, {"a": torch.tensor(np.nan)}, {"a": torch.ones(2)}
    assert [difference(one, other) for other in (nan, two, right)] == [np.inf] * 3
    assert difference(nan, nan) == 0


def test_the_command_says_what_agrees_and_what_does_not(pretend, monkeypatch, capsys):
    def differs(device):
        return {"a": torch.tensor(float(device == DEVICE))}

    def fails(device):
        raise DataUnavailable("no such thing")

    name = "method cua"
    monkeypatch.setattr(gpu_check, "CHECKS", {name: CHECKS[name]})
    with pretend(float64=True):
        assert gpu_check.main(["--device", DEVICE]) == 0
        planted = {"wrong": gpu_check.Check(differs, 1e-3), "broken": gpu_check.Check(fails, 1e-3)}
        monkeypatch.setattr(gpu_check, "CHECKS", {name: CHECKS[name], **planted})
        assert gpu_check.main(["--device", DEVICE]) == 1
    first, second = capsys.readouterr().out.split("1 of 1 agree\n")
    assert first.splitlines()[-1].split()[:2] == name.split()
    assert second.splitlines()[-1] == "1 of 3 agree; not so: wrong, broken"
    assert "DIFFERS" in second
    assert "failed on cpu: DataUnavailable: no such thing" in second


# --- the notebooks ----------------------------------------------------------------------------------------------------


def small(config):
    """The same kind of run, of one step."""
    changes = {"steps": 1, "batch_size": 8, "eval_pairs": 8, "history_points": 2, "warmup": 0}
    start = {"start": small(config.start)} if config.start else {}
    return RunConfig(**{**vars(config), **changes, **start})


@pytest.fixture
def tiny(monkeypatch):
    """Chapters train one step where they would train hundreds, and of runs on images and texts the same for all."""

    def one(config, device="cpu", **_):
        return cached_run(small(RunConfig() if config.modalities == "image-text" else config), device)

    for module in (ch01_samples, ch03_runs, ch04_runs, ch05_runs, presets, rows):
        monkeypatch.setattr(module, "cached_run", one)

    def unavailable(name):
        raise DataUnavailable(name)

    monkeypatch.setattr(ch01_samples.published, "load", unavailable)
    monkeypatch.setattr(ch02_towers, "RESNET_SIZE", 32)
    monkeypatch.setattr(ch02_towers, "KINDS", ("data",))
    monkeypatch.setattr(ch10_fusion, "FusionConfig", partial(FusionConfig, **TINY_FUSION))
    monkeypatch.setattr(ch10_fusion, "VARIANTS", ("baseline",))
    monkeypatch.setattr(ch10_fusion, "TASKS", ("vqa",))


def embeddings(found):
    """What a chapter gets of its runs, as arrays by place."""
    if hasattr(found, "embeddings") and isinstance(found.embeddings, dict):
        return {"test": found.embeddings["test_image"]}
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


def trained_on(device):
    towers = ch11_model.model(0, device).towers()
    return next(ch11_model.trained_on(towers, "cua", 0, steps=1, device=device).parameters()).detach()


#: function that a notebook hands DEVICE to -> a small call of it
CALLS = {
    "ch01_samples.load_samples": lambda device: ch01_samples.load_samples(device=device)[0],
    "ch01_samples.train_glyphs": lambda device: ch01_samples.train_glyphs(
        next(iter(ch01_samples.TEMPERATURES)), 0, device
    ),
    "ch02_towers.survey": lambda device: ch02_towers.survey(glyphs.load(), 0, inits=1, n=2, device=device),
    "ch02_layers.cosines_by_depth": lambda device: ch02_layers.cosines_by_depth(
        0, width=8, depth=3, n=8, device=device
    ),
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
    "ch11_model.model": lambda device: ch11_model.model(0, device),
    "ch11_model.trained_on": lambda device: trained_on(device),
    "ch10_fusion.pretrained": lambda device: ch10_fusion.pretrained([0], device),
    "ch10_fusion.finetuned": lambda device: ch10_fusion.finetuned([0], device),
    "ch10_fusion.unimodal": lambda device: ch10_fusion.unimodal([0], device),
}
#: the others: what has a test of its own, what trains by a function above, and full runs on natural images
APART = {
    *("results.Recorder", "ch09_rows.rows", "training.fit", "full_results.table"),
    *("ch09_rows.made_again", "ch09_rows.held_out_centring"),  # by ch09_rows.trained
}


#: untrained twins of stand-ins, and towers that are rotated onto each other before they are trained
ALSO_ON_CPU = {name: {"cpu"} for name in ("ch01_samples.load_samples", "ch03_runs.film", "ch03_runs.trained")}
#: what computes in double precision itself
IN_CHAPTERS = ("ch02_layers.cosines_by_depth", "ch02_layers.mlp_initialisations")


@pytest.mark.parametrize(
    ("name", "float64"), [*((name, True) for name in CALLS), *((one, False) for one in IN_CHAPTERS)]
)
def test_chapters_compute_on_the_device_and_say_so(pretend, tiny, name, float64):
    used, found = {}, {}
    for where in ("cpu", DEVICE):
        recorder = Recorder("01", device="cuda")
        with pretend(float64) if where == DEVICE else nullcontext():
            found[where] = embeddings(CALLS[name](where))
        used[where] = set(recorder.device.split(", "))
    assert used["cpu"] == {"cpu"}
    assert used[DEVICE] - (ALSO_ON_CPU.get(name, set())) == {DEVICE}
    assert found["cpu"].keys() == found[DEVICE].keys()
    for key, value in found["cpu"].items():
        np.testing.assert_array_equal(np.asarray(found[DEVICE][key]), np.asarray(value), err_msg=key)


def test_a_row_of_the_leaderboard_is_trained_on_the_device(pretend, tiny):
    board = plan.Plan("tuned", {}, evaluate, DEVICE)
    run = Recorder("09")
    (job,) = board.jobs(board.rows(["cua"], [100]))
    with pretend(float64=True):
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
