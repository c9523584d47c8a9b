"""Private heads: they change nothing else, read the same features, and survive a file."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gaplib.towers import image_pair_towers, load, tiny_towers, transformer_towers


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 1, 24, 24, generator=generator), torch.randint(0, 50, (5, 7), generator=generator)


def by_hand(seed: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The towers of the first chapters, layer by layer in the order in which they have drawn their weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolutions = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((1, 16), (16, 32), (32, 64))]
        image = nn.Sequential(
            *(layer for one in convolutions for layer in (one, nn.GELU())), nn.Flatten(), nn.Linear(576, 64)
        )
        embedding = nn.EmbeddingBag(50, 128, mode="mean", padding_idx=0)
        return image, embedding, nn.Sequential(nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 64))


@pytest.mark.parametrize("private_dim", [None, 8])
def test_the_shared_part_starts_bit_for_bit_as_it_always_did(batch, private_dim):
    images, tokens = batch
    towers = tiny_towers(50, seed=3, private_dim=private_dim)
    image, embedding, head = by_hand(3)
    assert torch.equal(towers.encode_image(images), image(images))
    assert torch.equal(towers.encode_text(tokens), head(embedding(tokens)))
    plain = tiny_towers(50, seed=3).state_dict()
    state = towers.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.items())
    names = {f"{modality}_private.{kind}" for modality in ("image", "text") for kind in ("weight", "bias")}
    assert set(state) - set(plain) == (names if private_dim else set())
    assert set(tiny_towers(50).recipe) == {"kind", "vocabulary_size", "dim", "image_size", "init_logit_scale"}


def test_one_pass_gives_shared_and_private_features(batch):
    images, tokens = batch
    towers = tiny_towers(50, dim=16, private_dim=8, seed=1)
    read = {}
    towers.image_tower[-1].register_forward_pre_hook(lambda _, inputs: read.update(image=inputs[0]))
    towers.text_tower.head[-1].register_forward_pre_hook(lambda _, inputs: read.update(text=inputs[0]))
    passes = []
    towers.image_tower[0].register_forward_pre_hook(lambda *_: passes.append("image"))
    towers.text_tower.embedding.register_forward_pre_hook(lambda *_: passes.append("text"))
    for name, inputs, features, shared, private in (
        ("image", images, towers.image_features, towers.encode_image, towers.encode_image_private),
        ("text", tokens, towers.text_features, towers.encode_text, towers.encode_text_private),
    ):
        passes.clear()
        both = features(inputs)
        assert passes == [name]
        assert both[0].shape == (5, 16)
        assert both[1].shape == (5, 8)
        torch.testing.assert_close(both[0], shared(inputs))
        torch.testing.assert_close(both[1], private(inputs))
        torch.testing.assert_close(functional.normalize(both[1], dim=1), private(inputs, normalize=True))
        head = getattr(towers, f"{name}_private")
        torch.testing.assert_close(both[1], read[name] @ head.weight.T + head.bias)


def test_gradients_reach_both_heads_and_what_is_below(batch):
    towers = tiny_towers(50, private_dim=8)
    images, tokens = batch
    _, private = towers.image_features(images)
    (private.sum() + towers.encode_text_private(tokens).sum()).backward()
    with_gradient = {name for name, p in towers.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"image_private.weight", "text_private.weight", "image_tower.0.weight", "text_tower.head.0.weight"} <= (
        with_gradient
    )
    assert not {"image_tower.7.weight", "text_tower.head.2.weight"} & with_gradient


def test_private_heads_survive_a_file(tmp_path, batch):
    towers = tiny_towers(50, dim=8, private_dim=6, seed=2)
    with torch.no_grad():
        towers.image_private.weight.add_(1)
    towers.save(tmp_path / "towers.safetensors")
    back = load(tmp_path / "towers.safetensors")
    assert back.recipe == towers.recipe
    torch.testing.assert_close(back.encode_image_private(batch[0]), towers.encode_image_private(batch[0]))


@pytest.mark.parametrize("build", [tiny_towers, transformer_towers, image_pair_towers])
def test_towers_without_private_heads(batch, build):
    towers = build(50)
    texts = batch[0] if build is image_pair_towers else batch[1].clamp(min=1)
    for features, encode, private, given in (
        (towers.image_features, towers.encode_image, towers.encode_image_private, batch[0]),
        (towers.text_features, towers.encode_text, towers.encode_text_private, texts),
    ):
        shared, nothing = features(given)
        assert nothing is None
        torch.testing.assert_close(shared, encode(given))
        with pytest.raises(ValueError, match=r"^private_dim: expected towers built with private heads"):
            private(given)


def test_bad_input(batch):
    for private_dim in (1, 0, -3, 2.5, "8"):
        with pytest.raises(ValueError, match=r"^private_dim: expected"):
            tiny_towers(50, private_dim=private_dim)
    towers = tiny_towers(50, private_dim=4)
    with pytest.raises(ValueError, match=r"^images: expected"):
        towers.image_features(batch[0][:, :, :12])
    with pytest.raises(ValueError, match=r"^tokens: expected"):
        towers.text_features(batch[1] + 50)
