"""Methods that set a temperature, in open_clip's own training program: rate, checkpoints, resuming, loud failures."""

import copy
import importlib
import importlib.util
import math
import sys
import types
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip_train.scheduler import const_lr
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from gaplib import as_open_clip_loss
from gaplib.methods import method

ROOT = Path(__file__).resolve().parents[2]
RATE = 1e-2


def expm1_log(scale):
    """nu of a softplus, by the textbook's formula."""
    return math.log(math.expm1(scale))


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("train_open_clip", ROOT / "examples" / "train_open_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_model()  # makes its configuration known to open_clip
    return module


class Batches:
    """Eight pairs of noise as open_clip's data: ``data["train"]`` and its ``dataloader`` in one."""

    def __init__(self, example, size):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(8, 3, example.SIDE, example.SIDE, generator=generator)
        texts = torch.randint(1, 49000, (8, example.CONTEXT), generator=generator)
        texts[:, -1] = 49407  # where open_clip reads a text off
        self.batches = list(zip(images.split(size), texts.split(size), strict=True))
        self.num_batches, self.num_samples, self.dataloader = len(self.batches), len(images), self

    def set_epoch(self, epoch):
        pass

    def __iter__(self):
        return iter(self.batches)


@pytest.fixture
def train(example, tmp_path, monkeypatch):
    """``train(loss, *options)`` is open_clip's ``main``: the scales of all calls, and its checkpoints."""
    # The module that reads data needs packages of its own; all else is open_clip's.
    data = types.ModuleType("open_clip_train.data")
    data.get_data = lambda args, *_, **__: {"train": Batches(example, args.batch_size)}
    monkeypatch.setitem(sys.modules, "open_clip_train.data", data)
    monkeypatch.delitem(sys.modules, "open_clip_train.main", raising=False)
    training = importlib.import_module("open_clip_train.main")
    make = training.create_model_and_transforms
    monkeypatch.setattr(training, "setup_logging", lambda *_: None)  # it takes over every logger of the process

    def run(loss, *options, epochs=2, attach=True):
        seen = []

        def make_and_attach(*args, **kwargs):
            made = make(*args, **kwargs)
            if attach:
                loss.attach(made[0])
            return made

        def record(module, args, kwargs):
            own = module.objective.logit_scale if module.owns_temperature else kwargs["logit_scale"]
            seen.append((float(kwargs["logit_scale"].detach()), float(own.detach())))

        loss.register_forward_pre_hook(record, with_kwargs=True)
        monkeypatch.setattr(training, "create_model_and_transforms", make_and_attach)
        monkeypatch.setattr(training, "create_loss", lambda args: loss)
        name = f"run{len(list(tmp_path.iterdir()))}"
        arguments = f"--model {example.NAME} --train-data noise --batch-size 8 --workers 0 --lr {RATE} --warmup 0 "
        arguments += f"--lr-scheduler const --device cpu --precision fp32 --logs {tmp_path} --name {name} "
        training.main([*arguments.split(), "--epochs", str(epochs), *options])
        folder = tmp_path / name / "checkpoints"
        return seen, [folder / f"epoch_{i}.pt" for i in range(1, epochs + 1)]

    yield run
    sys.modules.pop("open_clip_train.main", None)


def saved_scale(checkpoint):
    return float(torch.load(checkpoint, map_location="cpu")["state_dict"]["logit_scale"].double().exp())


@pytest.mark.parametrize(
    ("name", "options", "start", "moved"),
    [
        # what the first step of Adam moves by the learning rate, in what the method trains
        ("slrt", (), 1 / 0.07, lambda scale: 10 * math.log(scale)),
        ("slrt", ("--batch-size", "4", "--accum-freq", "2"), 1 / 0.07, lambda scale: 10 * math.log(scale)),
        ("tr-softplus", (), 1 / 0.07, expm1_log),
        ("flt", (), None, None),
        ("cua", (), 1 / 0.07, math.log),
        ("siglip", ("--siglip",), 10.0, math.log),
    ],
)
def test_open_clips_program_trains_and_saves_the_temperature(name, options, start, moved, train, example):
    loss = as_open_clip_loss(name)
    seen, (first, last) = train(loss, *options)
    # what open_clip logs and evaluates with is what the loss computes with
    for models, own in seen:
        assert models == pytest.approx(own, rel=2e-6)
    if moved is None:
        assert {own for _, own in seen} == {1 / method(name).tau}
    else:
        assert seen[0][1] == pytest.approx(start, rel=1e-6)
        assert abs(moved(saved_scale(first)) - moved(seen[0][1])) == pytest.approx(RATE, rel=0.02)
    assert saved_scale(first) == pytest.approx(seen[-1][1], rel=2e-6)
    if loss.owns_temperature:
        assert saved_scale(last) == pytest.approx(float(loss.objective.logit_scale.detach()), rel=2e-6)
    # the weights are those of an ordinary model, for whoever loads them
    plain = example.make_model(sigmoid=name == "siglip")
    open_clip.load_checkpoint(plain, str(last))
    assert float(plain.logit_scale.detach().exp()) == pytest.approx(saved_scale(last), rel=1e-6)


@pytest.mark.parametrize("name", ["slrt", "tr-softplus"])
def test_resumed_program_goes_on_from_the_saved_temperature(name, train):
    _, (first, straight) = train(as_open_clip_loss(name))
    seen, (_, last) = train(as_open_clip_loss(name), "--resume", str(first))
    assert len(seen) == 1
    assert seen[0][1] == pytest.approx(saved_scale(first), rel=1e-6)
    assert saved_scale(last) == pytest.approx(saved_scale(straight), rel=1e-5)
    assert abs(saved_scale(last) / saved_scale(first) - 1) > 1e-4


def test_program_without_the_attached_model_stops(train):
    with (
        pytest.warns(UserWarning, match="'tr-softplus' sets a temperature that the model lacks.*attach"),
        pytest.raises(RuntimeError, match=r"'tr-softplus' is in no optimizer: call loss\.attach\(model\)"),
    ):
        train(as_open_clip_loss("tr-softplus"), attach=False)


class Model(nn.Module):
    """Just enough of open_clip's."""

    def __init__(self, shape=()):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.full(shape, math.log(1 / 0.07)))
        self.towers = nn.Parameter(torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self):
        x, y = normalize(self.towers, dim=2)
        return {"image_features": x, "text_features": y, "logit_scale": self.logit_scale.exp()}


def steps(model, loss, optimizer, n=3, accumulate=1, rate=RATE):
    schedule = const_lr(optimizer, rate, 0, n)
    for step in range(n):
        schedule(step)
        optimizer.zero_grad()
        for _ in range(accumulate):
            sum(loss(**model(), output_dict=True).values()).backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    return float(loss.objective.logit_scale.detach().log()) - math.log(1 / 0.07)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_tenth_of_the_rate_survives_one_rate_for_all(optimizer):
    moved = {}
    for name in ("slrt", "clip"):
        for attached in (True, False):
            # clip with its temperature asked for: the same policy at the full rate
            loss = as_open_clip_loss(method(name, tau=0.07))
            model = Model()
            if attached:
                loss.attach(model)
            groups = [{"params": model.parameters()}, *loss.param_groups(1e-3)]
            moved[name, attached] = steps(model, loss, optimizer(groups, lr=1e-3, weight_decay=0.0), rate=1e-3)
    for attached in (True, False):
        assert moved["slrt", attached] == pytest.approx(moved["clip", attached] / 10, rel=0.02)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_model_attached_too_late_is_noticed(accumulate):
    model, loss = Model(), as_open_clip_loss("tr-softplus")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    loss.attach(model)
    with pytest.raises(RuntimeError, match="trains the model and not the temperature"):
        steps(model, loss, optimizer, accumulate=accumulate)
    in_time = Model()
    loss = as_open_clip_loss("tr-softplus").attach(in_time)
    assert steps(in_time, loss, torch.optim.AdamW(in_time.parameters(), lr=RATE), accumulate=accumulate) != 0


def test_warning_comes_once_and_only_in_training():
    model, loss = Model(), as_open_clip_loss("flt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(**{name: z.detach() for name, z in model().items()})
        loss.eval()(**model())
        for quiet in (as_open_clip_loss("cua"), as_open_clip_loss("flt").attach(Model())):
            quiet(**model())
        objective = method("tr-softplus").build()
        objective.param_groups(RATE)  # its owner trains it
        as_open_clip_loss(objective)(**model())
        loss.train()
    with pytest.warns(UserWarning, match="attach") as caught:
        loss(**model())
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(**model())


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("name", ["slrt", "tr-softplus", "tr-exp", "flt"])
def test_attached_model_saves_and_loads_as_any_other(name, shape):
    model, plain = Model(shape), Model(shape)
    loss = as_open_clip_loss(name).attach(model)
    state = model.state_dict()
    assert set(state) == set(plain.state_dict())
    assert state["logit_scale"].shape == shape
    plain.load_state_dict(state)
    assert float(plain.logit_scale.detach().exp()) == pytest.approx(
        float(loss.objective.logit_scale.detach()), rel=1e-6
    )
    # into an attached one, inside another module and copied, too
    wanted = 1 / method(name).tau if name == "flt" else 33.0
    nested = {f"model.{key}": z for key, z in {**state, "logit_scale": torch.full(shape, math.log(33.0))}.items()}
    copied = copy.deepcopy(nn.ModuleDict({"model": model}))
    copied.load_state_dict(nested)
    assert float(copied["model"].logit_scale.detach().exp()) == pytest.approx(wanted, rel=1e-6)
    # and torch's own way out of a parametrisation leaves a plain model
    parametrize.remove_parametrizations(copied["model"], "logit_scale")
    assert float(copied["model"].state_dict()["logit_scale"].exp()) == pytest.approx(wanted, rel=1e-6)


def test_ceiling_holds_for_what_is_saved():
    model = Model()
    loss = as_open_clip_loss("tr-softplus").attach(model)
    with torch.no_grad():
        next(loss.parameters()).fill_(1e4)
    assert float(model.state_dict()["logit_scale"].exp()) == pytest.approx(100, rel=1e-5)


def test_attach_refuses_what_it_cannot_do():
    attached = Model()
    as_open_clip_loss("slrt").attach(attached)
    wrapped = nn.Sequential(Model())
    for bad in (attached, wrapped, nn.Linear(2, 2), "ViT-B-32"):
        with pytest.raises(ValueError, match="model: expected open_clip's own model"):
            as_open_clip_loss("slrt").attach(bad)
    with pytest.raises(ValueError, match="expected a loss made from the method"):
        as_open_clip_loss(method("slrt").build()).attach(Model())
    objective = method("tr-softplus").build()
    as_open_clip_loss(objective).attach(Model())
    untouched = Model()
    assert as_open_clip_loss("cua").attach(untouched).param_groups(RATE) == []
    assert not parametrize.is_parametrized(untouched)
