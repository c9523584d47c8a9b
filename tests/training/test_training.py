"""The training loop, its folders and its cache."""

import json
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gaplib import _dependencies, methods
from gaplib import towers as towers_module
from gaplib.data import glyphs
from gaplib.data.views import second_views
from gaplib.pairs import PairedEmbeddings
from gaplib.towers import tiny_towers
from gaplib.towers.encode import encode
from gaplib.training import NonFiniteLoss, Run, RunConfig, RunFolderError, cached_run, checkpoints, history, train
from gaplib.training import cache as run_cache
from gaplib.training import run as run_files
from gaplib.training import trainer as training
from gaplib.training.loop import rate_factor
from gaplib.training.trainer import log_spaced_steps

TINY = {"steps": 10, "batch_size": 16, "dim": 8, "eval_pairs": 24, "history_points": 5}


def tiny(**changes) -> RunConfig:
    return RunConfig(**{**TINY, **changes})


def quiet(config, *args, **options) -> Run:
    return train(config, *args, progress=False, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_run(one: Run, other: Run) -> None:
    assert one.config == other.config
    assert one.history == other.history
    assert one.metrics == other.metrics
    assert one.weights.keys() == other.weights.keys()
    for name in one.weights:
        assert torch.equal(one.weights[name], other.weights[name]), name
    assert one.embeddings.keys() == other.embeddings.keys()
    for name in one.embeddings:
        assert one.embeddings[name].tobytes() == other.embeddings[name].tobytes(), name


class Interrupted(BaseException):
    """Stands for a Ctrl-C or a crash at a chosen moment."""


def interrupt_at(monkeypatch, step: int):
    """Make training stop before the update number ``step``."""
    update = training._Trainer._update

    def stopping(self):
        if self.step == step:
            raise Interrupted
        update(self)

    monkeypatch.setattr(training._Trainer, "_update", stopping)


@pytest.fixture(scope="module")
def run():
    return quiet(tiny())


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_steps_equal_plain_torch(optimizer):
    """The same updates written out: no Fabric, no objective, no history."""
    config = tiny(optimizer=optimizer, steps=2, lr=0.01, weight_decay=0.1, seed=3, warmup=2)
    got = quiet(config)

    data = glyphs.load(config.image_size)
    towers = tiny_towers(len(data.vocabulary), dim=config.dim, image_size=config.image_size, seed=config.seed)
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)
    weights = [w for name, w in towers.named_parameters() if name != "logit_scale"]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": 0.1},
        {"params": [w for w in weights if w.ndim <= 1] + [log_scale], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups) if optimizer == "adamw" else torch.optim.SGD(groups, momentum=0.9)
    for step, lr in ((0, 0.005), (1, 0.01)):
        batch = data.batches("train", config.batch_size, config.seed)(step)
        x = functional.normalize(towers.encode_image(batch.images), dim=1)
        y = functional.normalize(towers.encode_text(batch.tokens), dim=1)
        logits = log_scale.exp() * x @ y.T
        target = torch.arange(len(x))
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        plain.zero_grad()
        loss.backward()
        for group in plain.param_groups:
            group["lr"] = lr
        plain.step()
    for name, expected in towers.state_dict().items():
        if name != "logit_scale":
            torch.testing.assert_close(got.weights[name], expected, rtol=1e-4, atol=2e-5)
    assert got.history[-1]["tau"] == pytest.approx(math.exp(-log_scale.item()), rel=1e-5)
    assert float(got.weights["logit_scale"]) == pytest.approx(log_scale.item(), rel=1e-5)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_run_gives_its_pairs_and_what_was_measured_on_them(run, split):
    x, y = run.pairs(split)
    assert x.dtype == torch.float64
    np.testing.assert_allclose((x**2).sum(dim=1), 1, atol=1e-12)
    np.testing.assert_allclose(x.float(), run.embeddings[f"{split}_image"], atol=1e-6)
    assert run.gap(split) == pytest.approx(float((x.mean(dim=0) - y.mean(dim=0)).norm()), abs=1e-6)
    answer = torch.from_numpy(run.embeddings[f"{split}_answer"])
    best = [(s.argmax(dim=1), answer) for s in (x @ y.T, y @ x.T)]
    assert run.recall(split) == pytest.approx(np.mean([(answer[b] == a).double().mean() for b, a in best]), abs=1e-6)
    for method in (run.pairs, run.gap, run.recall):
        with pytest.raises(ValueError, match="split: expected one of test, dev"):
            method("train")


def test_same_configuration_twice_is_identical_and_leaves_the_global_generators_alone(run):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert_same_run(quiet(tiny()), run)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_another_seed_is_another_run(run):
    other = quiet(tiny(seed=1))
    assert other.metrics != run.metrics
    assert np.array_equal(other.embeddings["test_index"], run.embeddings["test_index"])  # the same pairs are measured


def test_training_lowers_the_loss_and_moves_the_temperature():
    history = quiet(tiny(steps=60, batch_size=64)).history
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    assert history[0]["tau"] == pytest.approx(0.07, rel=1e-6)
    assert history[-1]["tau"] != history[0]["tau"]
    fixed = quiet(tiny(learn_tau=False, tau=0.02))
    assert [row["tau"] for row in fixed.history] == pytest.approx([0.02] * len(fixed.history), rel=1e-12)


def test_history_and_metrics_follow_from_the_embeddings(run):
    assert [row["step"] for row in run.history] == log_spaced_steps(10, 5)
    assert list(run.frame()["step"]) == log_spaced_steps(10, 5)
    for split, values in (("test", run.metrics), ("dev", run.history[-1])):
        x, y = (run.embeddings[f"{split}_{one}"].astype(np.float64) for one in ("image", "text"))
        assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
        distance = np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))
        assert values["centroid_distance"] == pytest.approx(distance, abs=1e-6)
        assert values["true_pair_cosine"] == pytest.approx((x * y).sum(axis=1).mean(), abs=1e-6)
        answer = run.embeddings[f"{split}_answer"]
        first = answer[(x @ y.T).argmax(axis=1)] == answer
        assert values["image_to_text@1"] == pytest.approx(first.mean(), abs=2 / len(x))
        assert set(values) >= {"linear_separability", "relative_modality_gap", "alignment", "cross_uniformity"}
        assert all(math.isfinite(value) for value in values.values())


def test_embeddings_are_of_the_test_and_dev_splits(run):
    data = glyphs.load(24)
    assert set(data.split[run.embeddings["test_index"]]) == {"test"}
    assert len(set(run.embeddings["test_index"])) == np.count_nonzero(data.split == "test")
    assert set(data.split[run.embeddings["dev_index"]]) == {"dev"}
    assert np.array_equal(data.positive_id[run.embeddings["test_index"]], run.embeddings["test_answer"])


def test_towers_carry_the_trained_weights(run, tmp_path):
    """From the run, and from the model file alone."""
    run.save(tmp_path)
    sample = glyphs.load(24).sample("test", None, seed=0)
    for towers in (run.towers(), towers_module.load(tmp_path / "model.safetensors")):
        assert not towers.training
        image, text = encode(towers, sample)
        assert np.allclose(image.numpy(), run.embeddings["test_image"], atol=1e-6)
        assert np.allclose(text.numpy(), run.embeddings["test_text"], atol=1e-6)


@pytest.mark.parametrize("name", ["siglip", "cuaxu+ts-s3", "cyclip", "sep", "br", "gc", "alignclip", "ss"])
def test_every_kind_of_method_trains(name, tmp_path):
    run = quiet(tiny(method=name, steps=3), tmp_path / "run")
    assert math.isfinite(run.history[-1]["loss"])
    assert ("bias" in run.info["objective"]) == (name == "siglip")
    sample = glyphs.load().sample("test", seed=0)
    again = Run.load(tmp_path / "run")
    assert np.allclose(encode(again.towers(), sample)[0].numpy(), run.embeddings["test_image"], atol=1e-6)
    assert_same_run(again, run)


def test_second_views_reach_the_towers():
    """What a method with views minimises is what the towers make of ``second_views``, put together by hand."""
    config = tiny(method="sep", tau=0.5, learn_tau=False).resolved()
    loop = training.run_loop(config)
    towers = loop.model.towers
    batch = glyphs.load().batches("train", 16, 0)(0)
    inputs = {"image": batch.images, "text": batch.tokens}
    inputs["image_view"], inputs["text_view"] = second_views(glyphs.load(), batch, 0, 0)
    unit = {}
    for name, value in inputs.items():
        modality, _, view = name.partition("_")
        names = f"{modality}_view" if view else modality, f"{modality}_private{'_view' if view else ''}"
        for one, z in zip(names, getattr(towers, f"{modality}_features")(value), strict=True):
            unit[one] = functional.normalize(z, dim=1)
    by_hand = methods.method("sep", tau=0.5, temperature="fixed").build()(PairedEmbeddings(**unit))
    assert loop.loss(0)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_fine_tuning_starts_where_the_other_run_ended(cache, run):
    start = tiny()
    tuned = cached_run(tiny(method="cua", start=start, steps=2))
    assert tuned.history[0]["centroid_distance"] == run.history[-1]["centroid_distance"]
    assert tuned.history[-1]["centroid_distance"] != run.history[-1]["centroid_distance"]
    assert tuned.config == RunConfig.from_dict(json.loads(json.dumps(tuned.config.to_dict())))
    assert tuned.config.start == start.resolved()
    for wrong, match in (
        ({"start": start, "dim": 16}, "start: expected a run with dim 16, got 8"),
        ({"start": start, "method": "sep"}, "start: expected a run with the same towers"),
        ({"start": "clip"}, "start: expected a RunConfig"),
    ):
        with pytest.raises(ValueError, match=match):
            tiny(**wrong)


def test_what_a_method_cannot_be_trained_with_is_refused():
    for wrong, match in (
        ({"method": "cua+mean-centring"}, r"method: expected one to train with.*train 'cua'.*posthoc.fit\('mean-cent"),
        ({"method": "gc", "modalities": "image-image"}, "method: expected one that needs two embeddings alone"),
        ({"method": "shared", "architecture": "conv"}, "architecture: expected one of transformer"),
        (
            {"method": "sep", "architecture": "transformer"},
            r"architecture: expected 'conv' \(or another with private heads\) for 'sep'",
        ),
        ({"architecture": "perceiver"}, "architecture: expected one of conv, tiny, transformer, mlp"),
        ({"swapping": {"p": 0.5}}, "swapping: expected None for 'clip'"),
        ({"method": "hs", "swapping": {"p": 2}}, "p: expected"),
    ):
        with pytest.raises(ValueError, match=match):
            tiny(**wrong)
    assert tiny(method="hs", swapping={"p": 0.5}).resolved().swapping["renormalize"] is True
    assert tiny(method="shared").resolved().architecture == "transformer"
    assert tiny(method="hs", swapping={"p": 0.001}).resolved() == tiny(method="hs").resolved()


def test_mixed_precision_stays_near_single_precision(run):
    half = quiet(tiny(precision="bf16-mixed"))
    assert half.history[0]["loss"] == pytest.approx(run.history[0]["loss"], rel=0.02)
    assert half.history[0]["loss"] != run.history[0]["loss"]
    assert {str(weight.dtype) for weight in half.weights.values()} == {"torch.float32"}


@settings(max_examples=100, deadline=None)
@given(steps=st.integers(1, 5000), points=st.integers(2, 60))
def test_log_spaced_steps(steps, points):
    found = log_spaced_steps(steps, points)
    assert found[0] == 0
    assert found[-1] == steps
    assert found == sorted(set(found))
    assert len(found) <= points


def test_warm_up_and_cosine():
    config = tiny(steps=20, warmup=4, schedule="cosine")
    factors = [rate_factor(step, 20, config.schedule, config.warmup) for step in range(20)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert all(later < earlier for earlier, later in pairwise(factors[4:]))
    assert rate_factor(12, 20, config.schedule, config.warmup) == pytest.approx(0.5)


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 5, 9, 10])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, run, stop):
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        if stop < 10:
            with pytest.raises(Interrupted):
                quiet(tiny(), tmp_path / "run", checkpoint_every=5)
        else:
            patch.setattr(training._Trainer, "_finish", lambda *_: (_ for _ in ()).throw(Interrupted))
            with pytest.raises(Interrupted):
                quiet(tiny(), tmp_path / "run", checkpoint_every=5)
    assert not (tmp_path / "run" / "run.json").exists()
    resumed = quiet(tiny(), tmp_path / "run", resume=True, checkpoint_every=5)
    assert_same_run(resumed, run)
    assert_same_run(Run.load(tmp_path / "run"), run)


def test_resuming_starts_at_the_checkpoint(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(Interrupted):
            quiet(tiny(), tmp_path / "run", checkpoint_every=3)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-000003", "step-000006"]
    steps = []
    update = training._Trainer._update
    monkeypatch.setattr(training._Trainer, "_update", lambda self: (steps.append(self.step), update(self)))
    quiet(tiny(), tmp_path / "run", resume=True)
    assert steps == [6, 7, 8, 9]


@pytest.mark.parametrize("where", ["save_file", "replace", "fabric"])
def test_dying_inside_a_checkpoint_loses_only_that_one(tmp_path, monkeypatch, run, where):
    """What is half-written when the process dies is neither read nor left behind."""

    def dies(*args, **options):
        raise Interrupted

    with monkeypatch.context() as patch:
        target = {"save_file": (checkpoints.safetensors.torch, "save_file"), "replace": (checkpoints.os, "replace")}
        saved = []
        whole = checkpoints.save

        def second_dies(fabric, *args, **options):
            saved.append(1)
            if len(saved) == 2:
                patch.setattr(*target.get(where, (fabric, "save")), dies)
            return whole(fabric, *args, **options)

        patch.setattr(checkpoints, "save", second_dies)
        with pytest.raises(Interrupted):
            quiet(tiny(), tmp_path / "run", checkpoint_every=4)
    assert checkpoints.latest(tmp_path / "run" / "checkpoints").name == "step-000004"
    assert_same_run(quiet(tiny(), tmp_path / "run", resume=True), run)
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_damaged_checkpoint_is_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            quiet(tiny(), tmp_path / "run", checkpoint_every=5)
    for name in ("optimizer.ckpt", "model.safetensors"):
        file = tmp_path / "run" / "checkpoints" / "step-000005" / name
        good = file.read_bytes()
        file.write_bytes(good[: len(good) // 2])
        with pytest.raises(RunFolderError, match="step-000005 is damaged"):
            quiet(tiny(), tmp_path / "run", resume=True)
        file.write_bytes(good)
    quiet(tiny(), tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    """The step, the term and the last good checkpoint are named, and the checkpoint can be resumed from."""
    honest = methods.TERMS["alignment"]
    calls = []

    def breaks(pairs):
        calls.append(1)
        return honest(pairs) * (math.nan if len(calls) > 9 else 1)

    monkeypatch.setitem(methods.TERMS, "alignment", breaks)
    with pytest.raises(
        NonFiniteLoss, match=r"not finite at step \d: loss \(alignment\); last good checkpoint: .*step-"
    ) as e:
        quiet(tiny(method="cua", history_points=2), tmp_path / "run", checkpoint_every=2)
    assert e.value.step == 8  # of the nine calls that went well, one measured step 0
    assert e.value.checkpoint == tmp_path / "run" / "checkpoints" / "step-000008"
    monkeypatch.setitem(methods.TERMS, "alignment", honest)
    resumed = quiet(tiny(method="cua", history_points=2), tmp_path / "run", resume=True)
    assert_same_run(resumed, quiet(tiny(method="cua", history_points=2)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_learning_rate_that_explodes_stops_the_run(tmp_path, optimizer):
    with pytest.raises(NonFiniteLoss, match="not finite at step"):
        quiet(tiny(lr=1e30, optimizer=optimizer), tmp_path / "run", checkpoint_every=1)
    good = checkpoints.latest(tmp_path / "run" / "checkpoints")
    if good:
        weights = safetensors.torch.load_file(good / "model.safetensors")
        assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert not (tmp_path / "run" / "run.json").exists()


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folder_of_a_run(tmp_path, run):
    saved = quiet(tiny(), tmp_path / "deep" / "run")
    assert set(content(tmp_path / "deep" / "run")) == {
        "config.json", "run.json", "embeddings.safetensors", "history.safetensors", "model.safetensors"
    }  # fmt: skip
    loaded = Run.load(tmp_path / "deep" / "run")
    assert_same_run(loaded, saved)
    assert_same_run(loaded, run)
    written = json.loads((tmp_path / "deep" / "run" / "run.json").read_text())
    assert RunConfig.from_dict(written["config"]) == tiny().resolved()
    assert written["metrics"] == run.metrics
    assert written["versions"]["torch"] == torch.__version__
    assert loaded.seconds > 0


def test_a_finished_run_is_loaded_by_resume_and_refused_without(tmp_path, monkeypatch):
    first = quiet(tiny(), tmp_path)
    before = content(tmp_path)
    with pytest.raises(RunFolderError, match=r"already holds this run \(finished\)"):
        quiet(tiny(), tmp_path)
    monkeypatch.setattr(training, "_Trainer", None)  # would fail if anything were trained
    assert_same_run(quiet(tiny(), tmp_path, resume=True), first)
    assert content(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_another_configuration_is_refused_and_left_alone(tmp_path, resume):
    quiet(tiny(), tmp_path)
    before = content(tmp_path)
    with pytest.raises(
        RunFolderError, match=r"another configuration \(lr: there .*, here 0\.5; seed: there 0, here 7\)"
    ):
        quiet(tiny(seed=7, lr=0.5), tmp_path, resume=resume)
    assert content(tmp_path) == before


def test_other_folders_are_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="expected an empty folder or a run's"):
        quiet(tiny(), tmp_path)
    with pytest.raises(RunFolderError, match="expected a folder, got the file"):
        quiet(tiny(), tmp_path / "thesis.tex")
    assert content(tmp_path) == {"thesis.tex": b"mine"}


def test_data_that_changed_is_another_run(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            quiet(tiny(), tmp_path, checkpoint_every=5)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "data_digest": "0" * 64}))
    with pytest.raises(RunFolderError, match=r"another configuration \(data\)"):
        quiet(tiny(), tmp_path, resume=True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match="is damaged"):
        quiet(tiny(), tmp_path, resume=True)


def test_a_folder_in_use_is_refused(tmp_path):
    run_files.reserve_folder(tmp_path, tiny().resolved(), glyphs.load(24).digest, resume=False)
    with FileLock(tmp_path / ".lock"), pytest.raises(RunFolderError, match="another process is training"):
        quiet(tiny(), tmp_path, resume=True)
    quiet(tiny(), tmp_path, resume=True)


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "clap"), ("tau", 0.0), ("tau", math.nan), ("learn_tau", 3), ("weights", {"alignment": 1}),
        ("data", "coco"), ("image_size", 4), ("dim", 1), ("batch_size", 1), ("batch_size", 2.5), ("steps", 0),
        ("steps", "many"), ("lr", 0.0), ("lr", math.inf), ("weight_decay", -1), ("optimizer", "lion"), ("warmup", -1),
        ("schedule", "linear"), ("precision", "8"), ("seed", -1), ("eval_pairs", 2), ("history_points", 1),
    ],
)  # fmt: skip
def test_bad_configurations_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        RunConfig(**{field: value})


def test_configurations_survive_json_and_equal_runs_are_equal():
    config = RunConfig("cua", weights={"alignment": 0.5}, seed=4)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    resolved = config.resolved()
    assert resolved.weights == {"uniformity": 1.0, "alignment": 0.5}
    assert (resolved.tau, resolved.learn_tau) == (0.01, False)
    assert resolved.resolved() == resolved
    assert RunConfig("clip").resolved() == RunConfig("clip", tau=0.07, learn_tau=True, weights={}).resolved()
    with pytest.raises(ValueError, match=r"configuration: .* got 'batchsize'; did you mean batch_size"):
        RunConfig.from_dict({"batchsize": 3})


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:1", "", "cuda:999"])
def test_devices_that_are_not_there_are_refused(tmp_path, device):
    with pytest.raises(ValueError, match="device: "):
        quiet(tiny(), tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


# --- cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; ``.trained`` counts the runs that were trained."""
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "cache"))
    real, lock = training.train, threading.Lock()

    class Cache:
        trained = 0
        folder = tmp_path / "cache" / "runs"

        def entry(self):
            return next(path for path in self.folder.iterdir() if path.is_dir())

    counter = Cache()

    def counting(*args, **options):
        with lock:
            counter.trained += 1
        return real(*args, checkpoint_every=4, **options)

    monkeypatch.setattr(training, "train", counting)
    return counter


def test_nothing_is_trained_twice(cache, monkeypatch, run):
    first = cached_run(tiny())
    assert_same_run(first, run)
    assert_same_run(cached_run(tiny(tau=0.07, learn_tau=True)), run)  # the same run, said otherwise
    assert cache.trained == 1
    assert not (cache.entry() / "checkpoints").exists()
    cached_run(tiny(seed=5))
    assert cache.trained == 2
    monkeypatch.setattr(run_cache, "code_digest", lambda: "another")
    cached_run(tiny())
    assert cache.trained == 3
    assert [row["config"]["seed"] for row in run_cache.cached_runs()].count(0) == 2


def test_the_key_follows_code_that_a_run_depends_on(tmp_path):
    """A copy of the package, changed file by file."""
    shutil.copytree(_dependencies.ROOT / "gaplib", tmp_path / "gaplib", ignore=shutil.ignore_patterns("__pycache__"))

    def key():
        files = _dependencies.closure(
            "gaplib.training.trainer", packages=False, leave_out=run_cache.NOT_BEHAVIOUR, root=tmp_path
        )
        return _dependencies.digest(files)

    before = key()
    assert before == run_cache.code_digest()
    finders = ("_dependencies", "_store", "_atomic", "training/cache")
    pages = ("book/plots/__init__", "book/results", "claims/__init__", "__main__", "data/glyph_summary")
    measures = ("training/history", "geometry/distance", "geometry/report", "evaluation/retrieval", "stats")
    for module in (*pages, *finders, *measures):
        with open(tmp_path / "gaplib" / f"{module}.py", "a") as file:
            file.write("\nchanged = 1\n")
    with open(tmp_path / "gaplib" / "losses" / "contrastive.py", "a") as file:
        file.write("\n# a remark\n")
    assert key() == before
    for module in (
        *("losses/contrastive", "methods", "temperature", "swapping", "towers/tiny", "pairs"),
        *("data/glyphs", "data/views", "training/trainer", "training/loop", "training/fitting", "training/config"),
    ):
        with open(tmp_path / "gaplib" / f"{module}.py", "a") as file:
            file.write("\nchanged = 1\n")
        assert key() != before, module
        before = key()


def test_a_metric_that_changes_is_measured_again_and_nothing_is_trained(cache, monkeypatch):
    """The second key: same weights and embeddings, new numbers, and the old ones when the old code is back."""
    first = cached_run(tiny())
    real, asked = history.measure, []

    def doubled(image, text, answer):
        asked.append(len(image))
        return {**real(image, text, answer), "centroid_distance": 2 * real(image, text, answer)["centroid_distance"]}

    with monkeypatch.context() as patch:
        patch.setattr(history, "measuring_digest", lambda: "another")
        patch.setattr(history, "measure", doubled)
        second = cached_run(tiny())
        assert len(asked) == len(first.history) + 1
        assert cached_run(tiny()).history == second.history  # kept
        assert len(asked) == len(first.history) + 1
    assert cache.trained == 1
    for old, new in ((first.metrics, second.metrics), *zip(first.history, second.history, strict=True)):
        assert new["centroid_distance"] == 2 * old["centroid_distance"]
        assert {k: v for k, v in new.items() if k != "centroid_distance"} == {
            k: v for k, v in old.items() if k != "centroid_distance"
        }
    assert second.info["measured_by"] == "another"
    assert_same_run(cached_run(tiny()), first)
    loaded = Run.load(cache.entry())
    np.testing.assert_array_equal(loaded.dev_embeddings()["image"][-1], loaded.embeddings["dev_image"])


@pytest.mark.parametrize("name", ["run.json", "embeddings.safetensors", "history.safetensors", "model.safetensors"])
@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_a_damaged_entry_is_trained_again(cache, run, name, how):
    cached_run(tiny())
    file = cache.entry() / name
    good = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        file.write_bytes(good[:middle] if how == "cut" else flipped)
    if name == "run.json" and how == "gone":
        again = cached_run(tiny())
    else:
        with pytest.warns(UserWarning, match="damaged and will be trained again"):
            again = cached_run(tiny())
    assert_same_run(again, run)
    assert_same_run(Run.load(cache.entry()), run)


def test_an_interrupted_entry_goes_on(cache, monkeypatch, run):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            cached_run(tiny())
    steps = []
    update = training._Trainer._update
    monkeypatch.setattr(training._Trainer, "_update", lambda self: (steps.append(self.step), update(self)))
    assert_same_run(cached_run(tiny()), run)
    assert steps == [4, 5, 6, 7, 8, 9]


def test_one_of_several_callers_trains(cache, run):
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: cached_run(tiny()), range(3)))
    assert cache.trained == 1
    for one in runs:
        assert_same_run(one, run)


def test_a_lock_that_is_not_given_back_times_out(cache):
    cached_run(tiny())
    folder = cache.entry()
    shutil.rmtree(folder)
    with FileLock(folder.with_suffix(".lock")), pytest.raises(TimeoutError, match="another process has been training"):
        cached_run(tiny(), timeout=0.1)
