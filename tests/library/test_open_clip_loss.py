"""A method as open_clip's loss: against open_clip's own losses, in its own loop, and where it must say no."""

import importlib.util
import math
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn.functional import normalize

import gaplib
from gaplib import as_open_clip_loss
from gaplib.methods import METHODS, method
from gaplib.open_clip_loss import REFUSED

ROOT = Path(__file__).resolve().parents[2]
SCALE = torch.tensor(14.0)


def features(n=9, d=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return [normalize(z, dim=1).to(dtype).requires_grad_() for z in raw]


class Scale(torch.nn.Module):
    """What a method's temperature is put into."""

    def __init__(self):
        super().__init__()
        self.logit_scale = torch.nn.Parameter(SCALE.log())


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def test_clip_is_open_clips_with_gradients():
    x, y = features()
    scale = torch.tensor(14.0, requires_grad=True)
    ours, theirs = as_open_clip_loss("clip")(x, y, scale), ClipLoss()(x, y, scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for got, wanted in zip(gradients(ours, x, y, scale), gradients(theirs, x, y, scale), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-12)
    # a softmax does not feel a bias
    torch.testing.assert_close(as_open_clip_loss("clip")(x, y, scale, torch.tensor(-3.0)), theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_siglip_is_open_clips_with_the_models_scale_and_bias(shape):
    x, y = features()
    scale = torch.full(shape, 14.0, requires_grad=True)
    bias = torch.nn.Parameter(torch.full(shape, -3.0))
    loss = as_open_clip_loss("siglip")
    ours, theirs = loss(x, y, scale, logit_bias=bias), SigLipLoss()(x, y, scale, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for got, wanted in zip(gradients(ours, x, scale, bias), gradients(theirs, x, scale, bias), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(loss(x, y, scale), SigLipLoss()(x, y, scale, None), rtol=1e-12, atol=0)
    assert not list(loss.parameters())
    assert not loss.param_groups(lr=1.0)


def test_dict_holds_the_summands_under_open_clips_names():
    x, y = features()
    parts = as_open_clip_loss("cua")(x, y, SCALE, output_dict=True)
    uniformity = sum(torch.pdist(z).pow(2).mul(-2).exp().mean().log() for z in (x, y)) / 2
    wanted = {
        "contrastive_loss": ClipLoss()(x, y, SCALE),
        "uniformity_loss": uniformity,
        "alignment_loss": (x - y).pow(2).sum(dim=1).mean(),
    }
    assert list(parts) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-10, atol=0)
    torch.testing.assert_close(as_open_clip_loss("cua")(x, y, SCALE), sum(wanted.values()), rtol=1e-10, atol=0)
    assert list(as_open_clip_loss("clip")(x, y, SCALE, output_dict=True)) == list(
        ClipLoss()(x, y, SCALE, output_dict=True)
    )


def test_models_temperature_wins_unless_the_method_is_about_it():
    x, y = features()
    assert METHODS["cua"].temperature == "fixed"  # and still:
    cua = as_open_clip_loss("cua")
    assert not cua.owns_temperature
    x, y = x.detach(), y.detach()
    at = [float(cua(x, y, scale, output_dict=True)["contrastive_loss"]) for scale in (SCALE, 2 * SCALE)]
    assert at == pytest.approx([float(ClipLoss()(x, y, scale)) for scale in (SCALE, 2 * SCALE)])
    for asked in (method("cua", tau=0.05), method("cua", tau=0.05).build()):
        loss = as_open_clip_loss(asked)
        assert loss.owns_temperature
        got = float(loss(x, y, SCALE, output_dict=True)["contrastive_loss"])
        assert got == pytest.approx(float(ClipLoss()(x, y, torch.tensor(20.0))))


def test_learned_temperature_of_the_method_is_trained_and_kept_under_its_ceiling():
    x, y = (z.detach() for z in features())
    loss = as_open_clip_loss("slrt")
    (group,) = loss.param_groups(lr=0.5)
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)  # the tenth is inside the parameter
    assert [id(p) for p in group["params"]] == [id(p) for p in loss.parameters()]
    models = torch.tensor(14.0, requires_grad=True)
    value = loss(x, y, models)
    assert float(value.detach()) == pytest.approx(float(ClipLoss()(x, y, torch.tensor(1 / 0.07))), rel=1e-6)
    value.backward()
    assert models.grad is None
    assert group["params"][0].grad.abs() > 0
    with torch.no_grad():
        group["params"][0].fill_(10 * math.log(1e4))  # what a large step of an optimizer can do
    assert float(loss(x, y, models).detach()) == pytest.approx(float(ClipLoss()(x, y, torch.tensor(100.0))), rel=1e-5)


def test_objective_keeps_its_temperature():
    objective = method("slrt").build()
    loss = as_open_clip_loss(objective)
    assert [id(p) for p in loss.parameters()] == [id(p) for p in objective.temperature.parameters()]


@pytest.mark.parametrize("name", [*METHODS, "cua+ts-s3", "cua+mean-centring", "cuaxu+slrt"])
def test_every_method_works_or_says_why_not(name):
    chosen = method(name)
    x, y = features()
    if not chosen.requires:
        parts = as_open_clip_loss(name).attach(Scale())(x, y, SCALE, torch.tensor(-1.0), output_dict=True)
        assert all(value.ndim == 0 and value.isfinite() for value in parts.values())
        assert len(parts) == 1 + len(chosen.terms)
        return
    with pytest.raises(ValueError, match="cannot be a loss of open_clip") as caught:
        as_open_clip_loss(name)
    assert repr(name) in str(caught.value)
    assert any(REFUSED[need] in str(caught.value) for need in chosen.requires)


def test_the_table_has_methods_of_both_kinds():
    """Else the test above would not try what it says."""
    refused = {need for row in METHODS.values() for need in row.requires}
    assert refused == set(REFUSED)
    assert {"clip", "siglip", "cua", "cuaxu", "slrt", "hs"} <= {
        name for name, row in METHODS.items() if not row.requires
    }


def test_bad_input():
    with pytest.raises(ValueError, match="did you mean cua"):
        as_open_clip_loss("cuax")
    with pytest.raises(ValueError, match="expected a name, a Method or an Objective, got int"):
        as_open_clip_loss(3)
    x, y = features()
    loss = as_open_clip_loss("clip")
    with pytest.raises(ValueError, match="image: expected L2-normalised rows"):
        loss(2 * x, y, SCALE)
    with pytest.raises(ValueError, match="logit_scale: expected a number"):
        loss(x, y, torch.tensor(0.0))
    with pytest.raises(ValueError, match="as many rows"):
        loss(x, y[:-1], SCALE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_loss": "yes"}, "local_loss: expected True or False, got 'yes'"),
        ({"gather_with_grad": 2}, "gather_with_grad: expected None, True or False, got 2"),
        ({"rank": 2, "world_size": 2}, r"rank: expected a whole number in \[0, 1\], got 2"),
        ({"world_size": 0}, "world_size: expected "),
        ({"local_loss": True, "gather_with_grad": False, "world_size": 2}, "local_loss: expected gather_with_grad"),
        ({"use_horovod": True}, "use_horovod: expected False"),
        ({"check": "no"}, "check: expected True or False, got 'no'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        as_open_clip_loss("clip", **options)


@pytest.mark.parametrize("options", [{"rank": 0, "world_size": 2}, {"rank": 1}])
def test_processes_that_do_not_run_are_noticed(options):
    loss = as_open_clip_loss("clip", **options)
    with pytest.raises(RuntimeError, match=r"(world_size|rank): expected \d, which torch.distributed has \(1 process"):
        loss(*features(), SCALE)


def test_open_clips_options_of_one_process_are_taken():
    x, y = features()
    for options in ({"local_loss": True, "gather_with_grad": False}, {"use_horovod": False, "cache_labels": True}):
        assert torch.equal(as_open_clip_loss("clip", **options)(x, y, SCALE), as_open_clip_loss("clip")(x, y, SCALE))
    options = {"local_loss": False, "gather_with_grad": True, "cache_labels": True, "rank": 0, "world_size": 1}
    torch.testing.assert_close(as_open_clip_loss("clip", **options)(x, y, SCALE), ClipLoss(**options)(x, y, SCALE))
    with pytest.raises(TypeError, match="locl_loss is no option"):
        as_open_clip_loss("clip", locl_loss=False)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("logits", "logits: .* a model without a captioning head, or open_clip's CoCaLoss"),
        ("labels", "labels: .*CoCaLoss"),
        ("dist_image_features", "dist_image_features: .* train without --distill-model"),
        ("dist_logit_scale", "dist_logit_scale: .*DistillClipLoss"),
    ],
)
def test_outputs_of_captioners_and_teachers_are_refused_with_the_reason(output, message):
    x, y = features()
    with pytest.raises(ValueError, match=message):
        as_open_clip_loss("clip")(x, y, SCALE, **{output: x})
    with pytest.raises(TypeError, match="takes what open_clip's ClipLoss takes, and no pixels"):
        as_open_clip_loss("clip")(x, y, SCALE, pixels=x)


def test_unchecked_batch_with_nan_reaches_the_scaler():
    x, y = features(dtype=torch.float32)
    with torch.no_grad():
        x[2, 1] = math.nan
    with pytest.raises(ValueError, match="image: expected finite values"):
        as_open_clip_loss("cua")(x, y, SCALE)
    optimizer = torch.optim.SGD([x, y], lr=1.0)
    scaler = torch.amp.GradScaler("cpu")
    before = y.detach().clone()
    scaler.scale(as_open_clip_loss("cua", check=False)(x, y, SCALE)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(y, before)
    assert scaler.get_scale() == 65536 / 2


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if not row.requires])
def test_unchecked_loss_reads_nothing_from_the_device(name, monkeypatch):
    """A tensor on torch's meta device has no values: whoever reads one fails."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the one thing that device lacks
    x, y = (z.detach().to("meta") for z in features())
    scale, bias = (torch.tensor(z, device="meta") for z in (14.0, -1.0))
    # what swaps does so
    chosen = method(name) if METHODS[name].swapping is None else method(name, swapping={"p": 1.0})
    loss = as_open_clip_loss(chosen, check=False).to("meta")
    assert loss(x, y, scale, bias).device.type == "meta"
    checked = as_open_clip_loss(chosen).to("meta")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        checked(x, y, scale, bias)


def test_checks_are_back_after_an_unchecked_loss():
    x, y = features()
    as_open_clip_loss("clip", check=False)(x, y, torch.tensor(-1.0))
    with pytest.raises(ValueError, match="logit_scale: expected a number"):
        as_open_clip_loss("clip")(x, y, torch.tensor(-1.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    x, y = features(n=32, d=16, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = as_open_clip_loss("cuaxu")(x, y, SCALE)
    assert loss.dtype == torch.float32
    exact = as_open_clip_loss("cuaxu")(*(normalize(z.detach().double(), dim=1) for z in (x, y)), SCALE)
    assert float(loss.detach()) == pytest.approx(float(exact), abs=0.02)
    (gradient,) = gradients(loss, x)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kinds", [(torch.bfloat16, torch.float32), (torch.float64, torch.bfloat16)])
def test_two_types_are_each_checked_as_what_they_are(kinds):
    """A row of bfloat16 may have norm 1.003, which in float32 is no unit row."""
    x, y = (z.detach().to(kind) for z, kind in zip(features(n=64, d=48), kinds, strict=True))
    wanted = torch.promote_types(*kinds)
    loss = as_open_clip_loss("clip")(x, y, SCALE)
    torch.testing.assert_close(loss, ClipLoss()(x.to(wanted), y.to(wanted), SCALE))
    bad = 1.01 * y.to(torch.float32)
    with pytest.raises(ValueError, match="text: expected L2-normalised rows"):
        as_open_clip_loss("clip")(x, bad, SCALE)


def swapping(p, seed=0):
    return as_open_clip_loss(method("hs", swapping={"p": p}), seed=seed)


def test_swapping_has_its_own_random_numbers():
    x, y = (z.detach() for z in features())
    plain = float(ClipLoss()(x, y, SCALE))
    assert float(swapping(0.0)(x, y, SCALE)) == pytest.approx(plain)
    state = torch.get_rng_state()
    loss, same, other = swapping(1.0), swapping(1.0), swapping(1.0, seed=1)
    first, second = (float(loss(x, y, SCALE)) for _ in range(2))
    assert len({plain, first, second, float(other(x, y, SCALE))}) == 4
    assert float(same(x, y, SCALE)) == first
    other.load_state_dict(same.state_dict())
    assert float(other(x, y, SCALE)) == second
    assert float(loss.eval()(x, y, SCALE)) == pytest.approx(plain)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("train_open_clip", ROOT / "examples" / "train_open_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cua", "siglip", "slrt"])
def test_step_of_a_real_model(example, name):
    """open_clip's loop: its model's output as keyword arguments, the sum of the values, the clamp after the step."""
    torch.manual_seed(0)
    loss = as_open_clip_loss(name)
    model = example.make_model(sigmoid=name == "siglip").train()
    loss.attach(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(24, 3, example.SIDE, example.SIDE, generator=generator)
    texts = torch.randint(1, 49000, (24, example.CONTEXT), generator=generator)
    texts[:, -1] = 49407  # where open_clip reads a text off
    optimizer = torch.optim.AdamW([{"params": model.parameters()}, *loss.param_groups(lr=1e-3)], lr=1e-3)
    seen, before = [], [p.detach().clone() for p in loss.parameters()]
    for _ in range(30):
        optimizer.zero_grad()
        losses = loss(**model(images, texts), output_dict=True)
        total = sum(losses.values())
        total.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        seen.append({key: value.item() for key, value in losses.items()} | {"loss": total.item()})
    assert seen[-1]["loss"] < seen[0]["loss"] - 0.1
    for term in set(seen[0]) - {"loss"}:
        assert seen[-1][term] < seen[0][term], term
    if name == "cua":
        assert set(seen[0]) == {"contrastive_loss", "alignment_loss", "uniformity_loss", "loss"}
    moved = [not torch.equal(p, old) for p, old in zip(loss.parameters(), before, strict=True)]
    assert moved == [True] * (name == "slrt")


def test_example_prints_gap_before_and_after(example, capsys):
    example.main(["--method", "cua", "--steps", "2", "--batch-size", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("before: centroid distance")
    assert lines[-1].startswith("after:  centroid distance")
    assert lines[1].startswith("step 0, clip ")
    assert "uniformity " in lines[1]
    assert "loss " in lines[1]


def test_gaplib_is_light_until_the_loss_is_asked_for():
    code = (
        "import gaplib, sys; assert 'torch' not in sys.modules; gaplib.as_open_clip_loss; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert "as_open_clip_loss" in dir(gaplib)
    with pytest.raises(AttributeError, match="no attribute 'as_open_clip'"):
        gaplib.as_open_clip  # noqa: B018
