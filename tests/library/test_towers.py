"""Towers: their interface, their seeds, their files, and the architectures that are random here and real elsewhere."""

import logging
import math
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gaplib import towers as towers_module
from gaplib.data import DataUnavailable, glyphs
from gaplib.towers import load, open_clip_towers, tiny_towers, torchvision_image_tower, two_tower
from gaplib.towers.encode import Inputs, encode

SMALL = "ViT-S-32-alt"  # the smallest model that open_clip lists


@pytest.fixture(scope="module")
def small():
    return open_clip_towers(SMALL, seed=1)


@pytest.fixture
def state():
    """Checks that a test leaves torch's and numpy's global random state as they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- tiny towers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 24, 25, 32])
def test_shapes_and_normalisation(size, state):
    towers = tiny_towers(50, dim=16, image_size=size)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, size, size, generator=generator)
    tokens = torch.randint(0, 50, (5, 7), generator=generator)
    for raw, unit in (
        (towers.encode_image(images), towers.encode_image(images, normalize=True)),
        (towers.encode_text(tokens), towers.encode_text(tokens, normalize=True)),
    ):
        assert raw.shape == unit.shape == (5, 16)
        torch.testing.assert_close(unit, raw / raw.norm(dim=1, keepdim=True))
        assert (raw.norm(dim=1) - 1).abs().max() > 1e-3


def test_logit_scale_is_the_logarithm(state):
    assert tiny_towers(10).logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert tiny_towers(10, init_logit_scale=0).logit_scale.item() == 0
    assert tiny_towers(10).logit_scale.requires_grad


def test_seeds(state):
    assert same(tiny_towers(30, seed=4), tiny_towers(30, seed=4))
    assert not same(tiny_towers(30, seed=4), tiny_towers(30, seed=5))
    torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert same(tiny_towers(30, seed=0), tiny_towers(30))


def test_text_is_the_mean_of_its_tokens_without_padding(state):
    towers = tiny_towers(30, dim=8)
    short = torch.tensor([[3, 9, 4]])
    padded = torch.tensor([[3, 9, 4, 0, 0, 0, 0]])
    turned = torch.tensor([[4, 3, 9]])
    torch.testing.assert_close(towers.encode_text(short), towers.encode_text(padded))
    torch.testing.assert_close(towers.encode_text(short), towers.encode_text(turned))
    table = towers.text_tower.embedding.weight
    by_hand = towers.text_tower.head(table[[3, 9, 4]].mean(0, keepdim=True))
    torch.testing.assert_close(towers.encode_text(padded), by_hand)
    assert torch.isfinite(towers.encode_text(torch.zeros(1, 4, dtype=torch.int64))).all()


def test_padding_gets_no_gradient_and_everything_else_does(state):
    towers = tiny_towers(12, dim=8)
    tokens = torch.arange(12).reshape(2, 6)
    loss = towers.encode_text(tokens).square().sum() + towers.encode_image(torch.ones(2, 1, 24, 24)).square().sum()
    (loss * towers.logit_scale.exp()).backward()
    gradient = towers.text_tower.embedding.weight.grad
    assert (gradient[0] == 0).all()
    assert (gradient[1:].abs().sum(1) > 0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in towers.parameters())


def test_they_learn_unseen_glyphs_in_seconds(state):
    """120 steps of plain CLIP training: unseen characters are found many times more often than by chance."""
    data = glyphs.build()
    towers = tiny_towers(len(data.vocabulary), seed=0)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=2e-3)
    batch, target = data.batches("train", 128, 0), torch.arange(128)
    for step in range(120):
        pairs = batch(step)
        x, y = towers.encode_image(pairs.images, normalize=True), towers.encode_text(pairs.tokens, normalize=True)
        logits = towers.logit_scale.exp() * x @ y.T
        loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = data.sample("test")
    with torch.no_grad():
        found = (towers.encode_image(test.images) @ towers.encode_text(test.tokens, normalize=True).T).argmax(1)
    assert (test.positive_id[found] == test.positive_id).double().mean() > 30 / len(test)


# --- files -----------------------------------------------------------------------------------------------------------


def test_saved_towers_come_back(tmp_path, state):
    towers = tiny_towers(30, dim=8, image_size=12, seed=3, init_logit_scale=1.0)
    with torch.no_grad():
        towers.logit_scale.fill_(2.0)
    towers.save(tmp_path / "towers.safetensors")
    back = load(tmp_path / "towers.safetensors")
    assert same(towers, back)
    assert not back.training
    assert back.logit_scale.item() == 2
    assert [file.name for file in tmp_path.iterdir()] == ["towers.safetensors"]


def test_saved_open_clip_towers_come_back(tmp_path, small, state):
    small.save(tmp_path / "small.safetensors")
    assert same(small, load(tmp_path / "small.safetensors"))


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "text", "foreign", "folder", "other sizes"])
def test_files_that_hold_no_towers(tmp_path, how):
    path = tmp_path / "towers.safetensors"
    towers = tiny_towers(30, dim=8)
    towers.save(path)
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "folder":
        path = tmp_path
    elif how == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    elif how == "other sizes":
        towers.recipe["dim"] = 9
        towers.save(path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"weights" * 99}[how])
    with pytest.raises(ValueError, match=r"^path: expected a file written by TwoTower.save"):
        load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    towers, path = tiny_towers(30), tmp_path / "towers.safetensors"
    towers.save(path)
    before = path.read_bytes()

    def fail(weights, file, metadata):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(two_tower, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        towers.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# --- open_clip -------------------------------------------------------------------------------------------------------


def test_open_clip_offline_at_random_initialisation(small, state, capfd):
    again = open_clip_towers(SMALL, seed=1)
    other = open_clip_towers(SMALL, seed=2)
    assert same(small, again)
    assert not same(small, other)
    assert not small.training
    assert capfd.readouterr() == ("", "")
    assert small.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert small.logit_scale is small.model.logit_scale
    assert small.logit_bias is None


def test_open_clip_encoders_are_open_clips_own(small, state):
    images = torch.rand(2, 3, small.image_size, small.image_size, generator=torch.Generator().manual_seed(0))
    tokens = small.tokenize(["LATIN SMALL LETTER A", "a photo of a cat"])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (2, 77)
    with torch.no_grad():
        reference = small.model(images, tokens)  # open_clip's forward: normalised features
        torch.testing.assert_close(small.encode_image(images, normalize=True), reference[0])
        torch.testing.assert_close(small.encode_text(tokens, normalize=True), reference[1])
        raw, private = small.text_features(tokens)
        assert private is None
        assert small.image_features(images)[1] is None
    torch.testing.assert_close(functional.normalize(raw, dim=1), reference[1])
    with pytest.raises(ValueError, match=r"^private_dim: expected towers built with private heads"):
        small.encode_text_private(tokens)


def test_root_logger_is_as_before(state):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with pytest.raises(RuntimeError, match="x"), towers_module.quiet():
        raise RuntimeError("x")
    assert (root.level, root.handlers) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-33"}, r"^name: open_clip lists no model 'ViT-B-33'; did you mean .*ViT-B-32.{0,150}$"),
        ({"name": "vit-b-32"}, r"did you mean ViT-B-32,"),
        ({"name": ""}, "^name: expected a name that open_clip lists"),
        ({"name": None}, "^name: expected a name that open_clip lists"),
        ({"name": "local-dir:nowhere"}, r"^name: there is no open_clip_config\.json in the folder nowhere"),
        ({"name": "hf-hub:org/name", "pretrained": "openai"}, "^pretrained: hf-hub:org/name brings its own weights"),
        (
            {"name": "ViT-B-32", "pretrained": "openia"},
            r"^pretrained: expected for ViT-B-32 one of .*did you mean openai",
        ),
        ({"name": "ViT-B-32", "pretrained": "missing.pt"}, "^pretrained: there is no file missing.pt"),
        ({"name": SMALL, "pretrained": "openai"}, "^pretrained: expected for ViT-S-32-alt no tag"),
        ({"name": SMALL, "device": "cuda:99"}, "^device: this machine has no cuda:99$"),
        ({"name": SMALL, "seed": -1}, "^seed: expected"),
        ({"name": SMALL, "seed": 1.5}, "^seed: expected"),
    ],
)
def test_open_clip_bad_input(arguments, message, state):
    with pytest.raises(ValueError, match=message):
        open_clip_towers(**arguments)


def test_weights_that_cannot_be_had_say_so_soon(no_network, state, capfd):
    started = time.perf_counter()
    with pytest.raises(
        DataUnavailable, match=r"^the weights 'yfcc15m' of 'RN50' cannot be had here .*HF_HOME.*pretrained=FILE"
    ):
        open_clip_towers("RN50", pretrained="yfcc15m")
    assert time.perf_counter() - started < 20  # the hub alone would retry for most of a minute
    assert "Retrying" not in capfd.readouterr().err
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE is False


def test_tokens_are_checked_against_the_model(small):
    with pytest.raises(ValueError, match=r"^tokens: expected ids in \[0, 49407\]"):
        small.encode_text(torch.full((1, 77), 60000))
    with pytest.raises(ValueError, match=r"^tokens: expected at most 77"):
        small.encode_text(torch.ones(1, 78, dtype=torch.int64))
    for texts in ("a", [], [1]):
        with pytest.raises(ValueError, match=r"^texts: expected"):
            small.tokenize(texts)


# --- torchvision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("vit_b_32", 768), ("mobilenet_v3_small", 1024)])
def test_torchvision_features_are_what_the_head_reads(name, dim, state):
    """The full classifier with the same weights, its head put back by hand, sees exactly these features."""
    import torchvision

    tower = torchvision_image_tower(name, seed=2)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = tower(images)
    assert features.shape == (2, tower.dim) == (2, dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        full = torchvision.models.get_model(name, weights=None).eval()
    seen = []
    head = [m for m in full.modules() if isinstance(m, nn.Linear)][-1]
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        full(images)
    torch.testing.assert_close(features, seen[0])


def test_torchvision_seeds_and_modes(state):
    one, same_seed, other = (torchvision_image_tower("resnet18", seed=s) for s in (0, 0, 1))
    assert same(one, same_seed)
    assert not same(one, other)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch_mode = torchvision_image_tower("resnet18", seed=0, mode="train")
    before = {name: value.clone() for name, value in batch_mode.state_dict().items() if "running" in name}
    with torch.no_grad():
        by_batch, again, by_running = batch_mode(images), batch_mode(images), one(images)
    torch.testing.assert_close(by_batch, again)  # a pass changes nothing
    assert all(torch.equal(batch_mode.state_dict()[name], value) for name, value in before.items())
    assert not torch.allclose(by_batch, by_running, rtol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, r"^name: expected one of (?s:.*)did you mean resnet18"),
        ({"name": "squeezenet1_0"}, "^name: expected a network with a linear classification head"),
        ({"name": "resnet18", "mode": "test"}, "^mode: expected one of eval, train"),
        ({"name": "resnet18", "seed": -3}, "^seed: expected"),
    ],
)
def test_torchvision_bad_input(arguments, message, state):
    with pytest.raises(ValueError, match=message):
        torchvision_image_tower(**arguments)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"vocabulary_size": 2}, "vocabulary_size"),
        ({"vocabulary_size": 9.5}, "vocabulary_size"),
        ({"vocabulary_size": 9, "dim": 1}, "dim"),
        ({"vocabulary_size": 9, "image_size": 8}, "image_size"),
        ({"vocabulary_size": 9, "seed": -1}, "seed"),
        ({"vocabulary_size": 9, "init_logit_scale": math.nan}, "init_logit_scale"),
        ({"vocabulary_size": 9, "init_logit_scale": "big"}, "init_logit_scale"),
    ],
)
def test_tiny_bad_input(arguments, argument, state):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        tiny_towers(**arguments)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 24, 24), np.float32),
        torch.zeros(2, 1, 24, 24, dtype=torch.uint8),
        torch.zeros(2, 24, 24),
        torch.zeros(2, 3, 24, 24),
        torch.zeros(2, 1, 24, 25),
        torch.zeros(0, 1, 24, 24),
        torch.full((2, 1, 24, 24), torch.nan),
        torch.full((2, 1, 24, 24), torch.inf),
        None,
    ],
)
def test_bad_images(images):
    with pytest.raises(ValueError, match=r"^images: expected"):
        tiny_towers(9).encode_image(images)


@pytest.mark.parametrize(
    "tokens",
    [
        torch.zeros(2, 3),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(0, 3, dtype=torch.int64),
        torch.zeros(3, 0, dtype=torch.int64),
        torch.full((1, 3), 9),
        torch.full((1, 3), -1),
        [[1, 2]],
        None,
    ],
)
def test_bad_tokens(tokens):
    with pytest.raises(ValueError, match=r"^tokens: expected"):
        tiny_towers(9).encode_text(tokens)


def test_towers_without_a_recipe_cannot_be_saved(tmp_path):
    towers = tiny_towers(9)
    towers.recipe = None
    with pytest.raises(ValueError, match=r"^towers: "):
        towers.save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_encoding_in_chunks_is_encoding_at_once_and_keeps_the_mode():
    towers = tiny_towers(20, dim=8, seed=1).train()
    pixels = torch.randint(0, 256, (7, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(1, 20, (5, 4), generator=torch.Generator().manual_seed(1))
    image, text = encode(towers, Inputs(pixels, tokens), chunk=3)
    assert towers.training
    assert not image.requires_grad
    towers.eval()
    torch.testing.assert_close(image, towers.encode_image(pixels / 255, normalize=True).detach())
    torch.testing.assert_close(text, towers.encode_text(tokens, normalize=True).detach())
    towers.train()
    with pytest.raises(ValueError, match="images"):
        encode(towers, Inputs(pixels[:, :, 1:], tokens))
    assert towers.training
