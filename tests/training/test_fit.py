"""``fit``: any two encoders, any objective, any batches; against plain torch and against the book's own runs."""

from __future__ import annotations

import json
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gaplib import losses
from gaplib.geometry import centroid_distance, normalize
from gaplib.methods import METHODS, method
from gaplib.towers import image_pair_towers, tiny_towers, transformer_towers
from gaplib.towers.adapt import HubTowers, TwoEncoders, as_towers
from gaplib.training import NonFiniteLoss, RunConfig, fit, train
from gaplib.training.trainer import run_loop

TRAINED = [name for name, row in METHODS.items() if not row.post_hoc]
N, SIDE, WORDS = 12, 12, 20


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(width: int = 4, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Two encoders of vectors."""
    pair = nn.Linear(8, width), nn.Linear(6, width)
    for module in pair:
        for weight in module.parameters():
            weight.data = 0.5 * torch.randn(weight.shape, generator=draw(seed + weight.ndim + weight.shape[-1]))
    return pair


def vectors(n: int = 16, seed: int = 1) -> dict[str, torch.Tensor]:
    """Pairs that share a signal."""
    signal = torch.randn(n, 6, generator=draw(seed))
    return {"image": torch.cat([signal, torch.randn(n, 2, generator=draw(seed + 1))], dim=1), "text": signal}


def pictures(seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch with everything that any method requires, for the package's own towers."""
    generator = draw(seed)
    similar = torch.rand(N, N, generator=generator)
    return {
        "image": torch.rand(N, 1, SIDE, SIDE, generator=generator),
        "text": torch.randint(1, WORDS, (N, 5), generator=generator),
        "image_view": torch.rand(N, 1, SIDE, SIDE, generator=generator),
        "text_view": torch.randint(1, WORDS, (N, 5), generator=generator),
        "caption_similarity": (similar + similar.T) / 2,
        "name": [f"item {i}" for i in range(N)],  # not looked at
    }


def towers_for(name: str) -> nn.Module:
    requires = METHODS[name].requires
    if "shared towers" in requires:
        return transformer_towers(WORDS, dim=8, image_size=SIDE, patch=4, width=16, layers=1, heads=2, shared=True)
    return tiny_towers(WORDS, dim=8, image_size=SIDE, private_dim=8 if "private heads" in requires else None)


# --- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_steps_equal_plain_torch(optimizer):
    towers, batch = linear(), vectors()
    plain = linear()
    history = fit(
        towers, "clip", [batch], 6, lr=0.05, weight_decay=0.1, optimizer=optimizer, warmup=2, schedule="cosine"
    )
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)
    weights = [weight for module in plain for weight in module.parameters()]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": 0.1},
        {"params": [*(w for w in weights if w.ndim == 1), log_scale], "weight_decay": 0.0},
    ]
    by_hand = {
        "sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW, "adam": torch.optim.Adam,
    }[optimizer](groups)  # fmt: skip
    rates = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    for row, rate in zip(history, rates, strict=True):
        x, y = (functional.normalize(module(batch[side]), dim=1) for module, side in zip(plain, batch, strict=True))
        logits, target = log_scale.exp() * x @ y.T, torch.arange(len(x))
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-5)
        assert row["tau"] == pytest.approx(math.exp(-log_scale.item()), rel=1e-5)
        by_hand.zero_grad()
        loss.backward()
        for group in by_hand.param_groups:
            group["lr"] = 0.05 * rate
        by_hand.step()
    for ours, theirs in zip(towers, plain, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["clip", "cua+ts-s3", "br", "hs"])
def test_it_is_the_loop_of_the_runs(name, tmp_path, monkeypatch):
    """A run of the book and ``fit`` on its batches end at the same weights, to the last bit."""
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    config = RunConfig(
        name, steps=4, batch_size=16, dim=8, eval_pairs=16, history_points=2, seed=3, warmup=2, schedule="cosine",
        swapping={"p": 0.5} if name == "hs" else None,
    ).resolved()  # fmt: skip
    run = train(config, progress=False)
    loop = run_loop(config)
    seen = []
    fit(
        loop.model.towers, config.configured_method(), lambda step: seen.append(step) or batches(config)(step),
        config.steps, lr=config.lr, weight_decay=config.weight_decay, warmup=2, schedule="cosine", seed=3,
    )  # fmt: skip
    assert seen == [0, 1, 2, 3]
    for weight, value in loop.model.towers.state_dict().items():
        assert torch.equal(run.weights[weight], value), weight


def batches(config):
    from gaplib.data import glyphs
    from gaplib.data.views import second_views

    data = glyphs.load(config.image_size)
    drawn = config.pairing().batches(data, config.batch_size, config.seed)

    def batch(step):
        pairs = drawn(step)
        image_view, text_view = second_views(data, pairs, config.seed, step) if config.method == "br" else (None, None)
        return {"image": pairs.images, "text": pairs.tokens, "image_view": image_view, "text_view": text_view}

    return batch


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_trains_from_its_name(name):
    towers, before = towers_for(name), torch.get_rng_state()
    history = fit(towers, name, [pictures()], 5)
    assert [row["step"] for row in history] == list(range(5))
    assert all(math.isfinite(value) for row in history for value in row.values())
    if not METHODS[name].swapping:
        assert min(row["loss"] for row in history[1:]) < history[0]["loss"]
    terms = {key for row in history for key in row} - {"step", "loss", "tau"}
    assert terms >= {term for term, weight in METHODS[name].terms.items() if weight}
    for row in history:
        assert row["loss"] == pytest.approx(sum(row[term] for term in terms), rel=1e-5)
    if METHODS[name].temperature == "fixed":
        assert float(towers.logit_scale) == pytest.approx(-math.log(METHODS[name].tau))
    else:
        assert float(towers.logit_scale) != pytest.approx(-math.log(history[0]["tau"]), abs=1e-6)
    assert torch.equal(before, torch.get_rng_state())


def test_towers_keep_their_mode_and_take_the_temperature_with_them():
    towers = tiny_towers(WORDS, dim=8, image_size=SIDE).eval()
    objective = METHODS["clip"].build(tau=0.05)
    modes = []
    history = fit(towers, objective, [pictures()], 3, on_step=lambda loop: modes.append(towers.training))
    assert modes == [True] * 4
    assert not towers.training
    assert float(towers.logit_scale) == pytest.approx(math.log(float(objective.logit_scale)), rel=1e-6)
    assert history[0]["tau"] == pytest.approx(0.05)


def test_on_step_sees_the_loop_before_each_step_and_after_the_last():
    seen = []
    fit(linear(), "clip", [vectors()], 3, first_step=7, on_step=lambda loop: seen.append(loop.step))
    assert seen == [7, 8, 9, 10]

    class Enough(Exception):
        pass

    def stop(loop):
        if loop.step == 1:
            raise Enough

    towers = as_towers(linear()).eval()
    with pytest.raises(Enough):
        fit(towers, "clip", [vectors()], 3, on_step=stop)
    assert not towers.training


def test_a_training_that_goes_on_has_the_schedules_of_the_whole():
    """Two calls, one optimizer, against one call; the temperature's schedule ends where the second call ends."""
    whole, halves = linear(), linear()
    taus = [row["tau"] for row in fit(whole, "ts-s3", [vectors()], 6)]
    assert taus == pytest.approx([0.01 * (1 + 4 * step / 6) for step in range(6)])
    later = [row["tau"] for row in fit(halves, "ts-s3", [vectors()], 3, first_step=3)]
    assert later == pytest.approx(taus[3:])

    one, two = linear(), linear()
    fit(one, "flt", [vectors()], 6)
    stepped = torch.optim.AdamW([w for module in two for w in module.parameters()], lr=3e-3, weight_decay=0.01)
    for first in (0, 3):
        fit(two, "flt", [vectors()], 3, first_step=first, optimizer=stepped)
    assert torch.allclose(one[0].bias, two[0].bias, atol=1e-4)


# --- towers -----------------------------------------------------------------------------------------------------------


class FakeHub(nn.Module):
    """The interface of CLIP in transformers, without the library."""

    def __init__(self, wrapped: bool):
        super().__init__()
        self.image, self.text = linear()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.wrapped = wrapped

    def get_image_features(self, pixel_values):
        found = self.image(pixel_values)
        return SimpleNamespace(pooler_output=found) if self.wrapped else found

    def get_text_features(self, input_ids, attention_mask=None):
        assert attention_mask is not None
        return self.text(input_ids * attention_mask)


@pytest.mark.parametrize("wrapped", [False, True])
def test_models_of_a_hub_train_and_keep_the_scale_that_was_learned(wrapped):
    model, batch = FakeHub(wrapped), vectors()
    batch["text"] = {"input_ids": batch["text"], "attention_mask": torch.ones_like(batch["text"])}
    history = fit(model, "clip", [batch], 10, lr=0.02)
    assert history[-1]["loss"] < history[0]["loss"]
    assert isinstance(as_towers(model), HubTowers)
    assert float(model.logit_scale) != 2.0
    assert math.exp(float(model.logit_scale)) == pytest.approx(1 / history[-1]["tau"], rel=0.05)


def test_an_open_clip_model_trains(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 16, "head_width": 8, "patch_size": 6},
        "text_cfg": {"context_length": 5, "vocab_size": WORDS, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "fit-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = open_clip.create_model("fit-tiny", load_weights=False)
    batch = pictures()
    batch["image"] = batch["image"].expand(-1, 3, -1, -1)
    history = fit(model, "cua", [batch], 12)
    assert history[-1]["loss"] < history[0]["loss"]
    assert math.exp(float(model.logit_scale)) == pytest.approx(100, rel=1e-4)


def test_parameters_that_are_frozen_stay():
    image, text = linear()
    text.requires_grad_(False)
    before = text.weight.clone(), image.weight.clone()
    fit((image, text), "clip", [vectors()], 3)
    assert torch.equal(text.weight, before[0])
    assert not torch.equal(image.weight, before[1])
    with pytest.raises(ValueError, match="towers: expected parameters to train, got none"):
        fit((nn.Flatten(), nn.Flatten()), "flt", [{"image": torch.rand(4, 3), "text": torch.rand(4, 3)}], 1)


@pytest.mark.parametrize("towers", [nn.Linear(2, 2), (nn.Linear(2, 2),), (torch.relu, torch.relu), None, "ViT-B-32"])
def test_what_is_no_pair_of_towers_is_refused(towers):
    with pytest.raises(ValueError, match="towers: expected a module with encode_image and encode_text"):
        fit(towers, "clip", [vectors()], 1)


def test_widths_that_differ_are_refused():
    with pytest.raises(ValueError, match="towers: expected embeddings of one width, got image 4 and text 5"):
        fit((nn.Linear(8, 4), nn.Linear(6, 5)), "clip", [vectors()], 1)


def test_requirements_on_the_towers_are_named():
    for name in ("sep",):
        with pytest.raises(ValueError, match=r"towers: expected private heads.*which 'sep' requires, got none"):
            fit(towers_for("clip"), name, [pictures()], 1)
    for towers in (towers_for("clip"), linear(), image_pair_towers(dim=8, image_size=SIDE)):
        with pytest.raises(ValueError, match="towers: expected one trunk for both modalities, which 'alignclip' req"):
            fit(towers, "alignclip", [pictures()], 1)
    shared = nn.Linear(6, 4)
    x = torch.rand(8, 6, generator=draw())
    fit((shared, shared), "shared", [{"image": x, "text": x + 0.1}], 1)


# --- objectives -------------------------------------------------------------------------------------------------------


def test_any_function_of_the_pairs_will_do():
    towers = linear()
    history = fit(towers, partial(losses.clip_loss, logit_scale=20.0), [vectors()], 10, lr=0.02)
    assert set(history[0]) == {"step", "loss"}
    assert history[-1]["loss"] < history[0]["loss"]

    def both(pairs):
        return {"clip": losses.clip_loss(pairs, 20.0), "uniformity": 0.1 * losses.uniformity_loss(pairs)}

    row = fit(towers, both, [vectors()], 1)[0]
    assert row["loss"] == pytest.approx(row["clip"] + row["uniformity"])


def test_a_module_brings_its_own_parameters_and_shares_the_towers():
    class Scaled(nn.Module):
        def __init__(self, of=None):
            super().__init__()
            self.log_scale = nn.Parameter(torch.tensor(1.0)) if of is None else of

        def forward(self, pairs):
            return losses.clip_loss(pairs, self.log_scale.exp())

    objective = Scaled()
    fit(linear(), objective, [vectors()], 5, lr=0.1)
    assert float(objective.log_scale) != 1.0
    # A scale that belongs to the towers is trained, once, where the objective is the reader's own.
    model = FakeHub(False)
    batch = vectors()
    batch["text"] = {"input_ids": batch["text"], "attention_mask": torch.ones_like(batch["text"])}
    fit(model, Scaled(model.logit_scale), [batch], 5, lr=0.1)
    assert float(model.logit_scale) != 2.0


def test_views_reach_a_function_too():
    seen = []

    def views(pairs):
        seen.append(pairs.image_view is not None and pairs.caption_similarity is not None)
        return losses.clip_loss(pairs, 10.0) + losses.in_modal_loss(pairs, 10.0)

    fit(towers_for("br"), views, [pictures()], 2)
    assert seen == [True, True]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda pairs: pairs.image_text.diagonal(), r"expected a 0-d tensor.*shape \(16,\) for 'loss'"),
        (lambda pairs: 0.5, "expected a 0-d tensor.*got float for 'loss'"),
        (lambda pairs: None, "expected a 0-d tensor.*got NoneType"),
        (lambda pairs: {}, "expected a 0-d tensor.*got none"),
        (
            lambda pairs: {"a": pairs.image.sum(), "b": pairs.image},
            "expected a 0-d tensor.*got a tensor of shape .* for 'b'",
        ),
        (lambda pairs: pairs.image.sum().detach(), "expected a loss that depends on parameters"),
        (3, "expected a method's name or a function of pairs, got 3"),
        ("mean-centring", "expected one to train with, got 'mean-centring', a treatment.*'clip'"),
        ("cua+shift", "expected one to train with.*a treatment after training: fit with 'cua'"),
    ],
)
def test_objectives_that_are_none(objective, message):
    with pytest.raises(ValueError, match=f"objective: {message}"):
        fit(linear(), objective, [vectors()], 1)


def test_an_unknown_method_lists_the_near_ones():
    with pytest.raises(ValueError, match=r"method: expected one of .*cuaxu"):
        fit(linear(), "cuax", [vectors()], 1)


# --- batches ----------------------------------------------------------------------------------------------------------


class Pairs(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        batch = vectors(32)
        return {"image": batch["image"][i], "text": batch["text"][i], "groups": i // 2}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Pairs()[i] for i in range(32))


@pytest.mark.parametrize("data", [Pairs(), Stream()])
def test_a_data_loader_is_gone_through_again(data):
    history = fit(linear(), "clip", DataLoader(data, batch_size=8), 9)  # four batches an epoch
    assert len(history) == 9


def test_every_form_of_batches_gives_the_same():
    given = [vectors(seed=s) for s in range(3)]
    forms = (given, given.__getitem__, dict(enumerate(given)), iter(given), (b for b in given), tuple(given))
    forms = (*forms, [(b["image"], b["text"]) for b in given])
    ends = []
    for form in forms:
        towers = linear()
        fit(towers, "clip", form, 3)
        ends.append(towers[0].weight)
    assert all(torch.equal(ends[0], one) for one in ends)


def test_groups_are_right_answers():
    batch = vectors()
    alone = fit(linear(), "clip", [batch], 1)[0]["loss"]
    grouped = fit(linear(), "clip", [batch | {"groups": np.arange(16) // 2}], 1)[0]["loss"]
    assert grouped != alone
    assert fit(linear(), "clip", [batch | {"groups": list(range(16))}], 1)[0]["loss"] == pytest.approx(alone)


@pytest.mark.parametrize(
    ("given", "done"),
    [([], 0), (iter([]), 0), (2, 2), ({0: "batch", 1: "batch"}, 2)],
    ids=["none", "empty", "2", "map"],
)
def test_batches_that_run_dry_say_after_how_many_steps(given, done):
    if given == 2:
        given = (vectors() for _ in range(2))
    elif isinstance(given, dict):
        given = dict.fromkeys(given, vectors())
    towers = linear()
    start = towers[0].weight.clone()
    with pytest.raises(ValueError, match=f"batches: expected one for each of 5 steps, ran dry after {done} of them"):
        fit(towers, "clip", given, 5)
    assert torch.equal(start, towers[0].weight) == (done == 0)


@pytest.mark.parametrize(
    ("name", "missing", "reason"),
    [
        ("clip", "image", ""),
        ("clip", "text", ""),
        ("br", "image_view", r", which 'br' requires \(views\)"),
        ("gc", "text_view", r", which 'gc' requires \(views\)"),
        ("alignclip", "caption_similarity", r", which 'alignclip' requires \(caption similarity\)"),
    ],
)
def test_a_missing_field_is_named_with_the_reason(name, missing, reason):
    batch = pictures()
    del batch[missing]
    with pytest.raises(ValueError, match=f"batch: expected the field '{missing}'{reason}, got .*name"):
        fit(towers_for(name), name, [batch], 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (vectors(), r"batches: expected several, got one batch; \[batch\]"),
        (5, "batches: expected a function of the step or an iterable, got int"),
        ([torch.rand(3, 8)], "batch: expected a mapping with image and text, got Tensor"),
        ([None], "batch: expected a mapping"),
        ([{"image": torch.rand(3, 8), "text": torch.rand(4, 6)}], "text: expected .*3"),
        ([vectors() | {"groups": [0, 1]}], "groups: expected 16 whole numbers"),
    ],
)
def test_what_are_no_batches(given, message):
    with pytest.raises(ValueError, match=message):
        fit(linear(), "clip", given, 1)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("steps", 0), ("steps", 2.5), ("lr", 0), ("lr", float("nan")), ("weight_decay", -1), ("optimizer", "lion"),
        ("schedule", "step"), ("warmup", -1), ("clip_norm", 0), ("precision", "8"), ("first_step", -1), ("seed", -1),
        ("device", "tpu"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_named(argument, value):
    towers = linear()
    start = towers[0].weight.clone()
    with pytest.raises(ValueError, match=f"{argument}: "):
        fit(towers, "clip", [vectors()], **{"steps": 1, argument: value})
    assert torch.equal(start, towers[0].weight)


def test_a_step_that_is_not_finite_names_its_term():
    def breaks(pairs):
        return {"clip": losses.clip_loss(pairs, 10.0), "extra": pairs.image.sum() * float("nan")}

    with pytest.raises(NonFiniteLoss, match=r"not finite at step 4: loss \(extra\); there is no checkpoint") as caught:
        fit(linear(), breaks, [vectors()], 2, first_step=4)
    assert caught.value.step == 4
    towers = linear()
    with pytest.raises(NonFiniteLoss, match=r"weight towers\.image_encoder\.weight|loss|temperature"):
        fit(towers, "clip", [vectors()], 3, lr=1e38, optimizer="sgd")
    objective = METHODS["clip"].build()
    with torch.no_grad():
        objective.temperature.log_scale.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="not finite at step 0: temperature"):
        fit(linear(), objective, [vectors()], 1)


def test_gradients_are_clipped_together():
    towers, start = linear(), linear()
    fit(towers, method("flt"), [vectors()], 1, lr=1.0, weight_decay=0.0, clip_norm=0.01, optimizer=torch.optim.SGD)
    moved = [(a - b).detach() for one, two in zip(towers, start, strict=True) for a, b in zip(one.parameters(), two.parameters(), strict=True)]  # noqa: E501  # fmt: skip
    assert math.sqrt(sum(float(one.square().sum()) for one in moved)) == pytest.approx(0.01, rel=1e-3)


def test_double_precision_is_kept():
    towers = tuple(module.double() for module in linear())
    batch = {name: value.double() for name, value in vectors().items()}
    row = fit(towers, partial(losses.clip_loss, logit_scale=20.0), [batch], 1, optimizer="sgd")[0]
    x, y = (module.double() for module in linear())
    u, v = functional.normalize(x(batch["image"]), dim=1), functional.normalize(y(batch["text"]), dim=1)
    logits, target = 20 * u @ v.T, torch.arange(16)
    by_hand = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
    assert row["loss"] == pytest.approx(by_hand.item(), rel=1e-12)


def test_alignment_and_uniformity_close_a_gap_that_was_put_in():
    """What it is for: two encoders whose embeddings lie apart, before and after, measured by the public metric."""
    image, text = linear(width=8)
    image.bias.data += 2.0
    text.bias.data -= 2.0
    batch = vectors(64)

    def gap():
        x, y = image(batch["image"]), text(batch["text"])
        return float(centroid_distance(normalize(x.detach()), normalize(y.detach())))

    before = gap()
    fit((image, text), method("cua", tau=0.1), [batch], 300, lr=0.05)
    assert before > 1.0
    assert gap() < 0.5 * before


def test_two_encoders_hand_mappings_over_as_keywords():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, ids, weight=1.0):
            return self.layer(ids) * weight

    towers = TwoEncoders(nn.Linear(8, 4), Named())
    x = torch.rand(3, 6)
    assert torch.equal(towers.encode_text({"ids": x, "weight": 2.0}), 2 * towers.encode_text(x))
    with pytest.raises(ValueError, match="towers: expected encoders that give tensors"):
        TwoEncoders(nn.LSTM(8, 4), Named()).encode_image(torch.rand(2, 8))
