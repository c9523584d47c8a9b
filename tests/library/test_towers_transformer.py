"""Transformer towers: padding does not count, a shared trunk is one set of weights, seeds, files, cost, learning."""

import time

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from gaplib.data import glyphs
from gaplib.towers import build, load, tiny_towers, transformer_towers
from gaplib.towers.transformer import CONTEXT


@pytest.fixture
def state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (6, 7), generator=generator)
    length = torch.tensor([7, 1, 3, 4, 2, 6])
    return torch.rand(6, 1, 24, 24, generator=generator), tokens * (torch.arange(7) < length[:, None])


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_shapes_normalisation_and_modes(batch, shared, layers, state):
    images, tokens = batch
    towers = transformer_towers(50, dim=16, shared=shared, layers=layers)
    for encode, inputs in ((towers.encode_image, images), (towers.encode_text, tokens)):
        raw = encode(inputs)
        assert raw.shape == (6, 16)
        torch.testing.assert_close(encode(inputs, normalize=True), raw / raw.norm(dim=1, keepdim=True))
        towers.eval()
        with torch.no_grad():  # torch has a fast path for this mode
            torch.testing.assert_close(encode(inputs), raw, atol=1e-5, rtol=1e-5)
        towers.train()


@pytest.mark.parametrize("train", [True, False])
def test_padding_changes_nothing(batch, train, state):
    tokens = batch[1]
    towers = transformer_towers(50, dim=16, layers=2).train(train)
    with torch.set_grad_enabled(train):
        together = towers.encode_text(tokens)
        padded = towers.encode_text(functional.pad(tokens, (0, CONTEXT - 7)))
        alone = torch.cat([towers.encode_text(row[row != 0][None]) for row in tokens])
    torch.testing.assert_close(padded, together)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # and neither does what stands in the padding's row of the table
        towers.text_tower.embedding.weight[0] = 1e3
    with torch.set_grad_enabled(train):
        torch.testing.assert_close(towers.encode_text(tokens), together)


def test_a_pass_by_hand(batch, state):
    """One layer, norm first, written out with matrices: attention, perceptron, mean over real tokens, projection."""
    tokens = batch[1]
    towers = transformer_towers(50, dim=16, width=8, heads=2, layers=1, seed=5)
    trunk = towers.trunks["text"]
    layer = trunk.encoder.layers[0]
    with torch.no_grad():
        for row, expected in zip(tokens, towers.encode_text(tokens), strict=True):
            row = row[row != 0]
            x = towers.text_tower.embedding.weight[row] + towers.text_tower.place[: len(row)]
            h = functional.layer_norm(x, (8,), layer.norm1.weight, layer.norm1.bias)
            qkv = h @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias
            q, k, v = (part.reshape(len(row), 2, 4).transpose(0, 1) for part in qkv.split(8, dim=1))
            mixed = ((q @ k.transpose(1, 2)) / 2).softmax(dim=2) @ v
            x = x + layer.self_attn.out_proj(mixed.transpose(0, 1).reshape(len(row), 8))
            h = functional.layer_norm(x, (8,), layer.norm2.weight, layer.norm2.bias)
            x = x + layer.linear2(functional.gelu(layer.linear1(h)))
            z = functional.layer_norm(x.mean(0), (8,), trunk.norm.weight, trunk.norm.bias) @ trunk.projection.weight.T
            torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-5)


def test_patches_are_seen_and_have_a_place(state):
    """A change in any patch changes the embedding, and the same ink elsewhere is another image."""
    towers = transformer_towers(50)
    corner = torch.zeros(9, 1, 24, 24)
    for i in range(9):
        row, column = divmod(i, 3)
        corner[i, 0, 8 * row + 2 : 8 * row + 6, 8 * column + 2 : 8 * column + 6] = 1
    with torch.no_grad():
        z = towers.encode_image(torch.cat([corner, torch.zeros(1, 1, 24, 24)]), normalize=True)
    assert torch.pdist(z).min() > 1e-3


def test_word_order_is_seen(batch, state):
    towers = transformer_towers(50)
    one, other = torch.tensor([[5, 9, 7]]), torch.tensor([[7, 9, 5]])
    assert not torch.allclose(towers.encode_text(one), towers.encode_text(other), atol=1e-3)


def test_a_shared_trunk_is_one_set_of_weights(batch, state):
    images, tokens = batch
    shared, apart = (transformer_towers(50, shared=one, seed=4) for one in (True, False))
    count = [sum(p.numel() for p in towers.parameters()) for towers in (shared, apart)]
    trunk = sum(p.numel() for p in apart.trunks["text"].parameters())
    assert count[1] - count[0] == trunk > 0
    pointers = [value.data_ptr() for value in shared.state_dict().values()]
    assert len(set(pointers)) == len(pointers)  # a file may not hold a tensor twice
    shared.encode_text(tokens).sum().backward()
    assert all(p.grad is not None for p in shared.trunks["shared"].parameters())
    assert all(p.grad is None for p in shared.image_tower.parameters())
    apart.encode_text(tokens).sum().backward()
    assert all(p.grad is None for p in apart.trunks["image"].parameters())
    # What both have starts alike: a comparison sees the sharing alone.
    torch.testing.assert_close(shared.encode_image(images), apart.encode_image(images))
    assert not same(apart.trunks["image"], apart.trunks["text"])


def test_seeds_and_layers(state):
    assert same(transformer_towers(30, seed=4), transformer_towers(30, seed=4))
    assert not same(transformer_towers(30, seed=4), transformer_towers(30, seed=5))
    first, second = transformer_towers(30, layers=2).trunks["image"].encoder.layers
    for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"):
        assert not torch.equal(first.get_parameter(name), second.get_parameter(name))


@pytest.mark.parametrize("shared", [False, True])
def test_they_survive_a_file(tmp_path, batch, shared, state):
    towers = transformer_towers(50, dim=8, shared=shared, seed=3, width=24, heads=3, patch=6, layers=2)
    with torch.no_grad():
        towers.logit_scale.fill_(2.0)
    towers.save(tmp_path / "towers.safetensors")
    back = load(tmp_path / "towers.safetensors")
    assert same(towers, back)
    assert back.recipe == towers.recipe
    assert not back.training
    assert same(build({**towers.recipe, "seed": 3}).trunks, towers.trunks)
    torch.testing.assert_close(back.encode_text(batch[1]), towers.encode_text(batch[1]), atol=1e-5, rtol=1e-5)
    # The way of checkpoints: the plain state, tensors not cloned.
    safetensors.torch.save_file(towers.state_dict(), tmp_path / "state.safetensors")


@pytest.mark.parametrize(("shared", "steps"), [(False, 60), (True, 120)])
def test_they_learn_unseen_glyphs(shared, steps, state):
    data = glyphs.load()
    towers = transformer_towers(len(data.vocabulary), shared=shared, seed=0)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=3e-3)
    draw, target = data.batches("train", 128, 0), torch.arange(128)
    for step in range(steps):
        pairs = draw(step)
        x, y = towers.encode_image(pairs.images, normalize=True), towers.encode_text(pairs.tokens, normalize=True)
        logits = towers.logit_scale.exp() * x @ y.T
        loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = data.sample("test")
    with torch.no_grad():
        found = (towers.encode_image(test.images) @ towers.encode_text(test.tokens, normalize=True).T).argmax(1)
    assert (test.positive_id[found] == test.positive_id).double().mean() > 10 / len(test)  # ten times chance


def test_a_step_costs_about_as_much_as_one_of_the_small_towers(state):
    """Both timed in this process: a bound in milliseconds would measure the machine."""
    data = glyphs.load()
    pairs = data.sample("train", 256)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spent = {}
        for name, towers in (("tiny", tiny_towers(2000)), ("transformer", transformer_towers(2000))):
            times = []
            for _ in range(9):
                started = time.process_time()
                towers.zero_grad()
                (towers.encode_image(pairs.images) * towers.encode_text(pairs.tokens)).sum().backward()
                times.append(time.process_time() - started)
            spent[name] = np.median(times)
    finally:
        torch.set_num_threads(threads)
    assert spent["transformer"] < 4 * spent["tiny"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"vocabulary_size": 2}, "vocabulary_size"),
        ({"dim": 1}, "dim"),
        ({"image_size": 8}, "image_size"),
        ({"image_size": 25}, "patch"),
        ({"patch": 5}, "patch"),
        ({"patch": 0}, "patch"),
        ({"width": 50, "heads": 4}, "heads"),
        ({"heads": 0}, "heads"),
        ({"layers": 0}, "layers"),
        ({"shared": 1}, "shared"),
        ({"shared": "yes"}, "shared"),
        ({"seed": -1}, "seed"),
        ({"init_logit_scale": float("nan")}, "init_logit_scale"),
    ],
)
def test_bad_options(options, name, state):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        transformer_towers(**{"vocabulary_size": 50, **options})


@pytest.mark.parametrize(
    "tokens",
    [
        torch.tensor([[3, 4], [0, 0]]),
        torch.full((1, 3), 50),
        torch.full((1, 3), -1),
        torch.ones(1, CONTEXT + 1, dtype=torch.int64),
        torch.zeros(0, 3, dtype=torch.int64),
        torch.ones(2, 3),
        None,
    ],
)
def test_bad_tokens(tokens):
    with pytest.raises(ValueError, match=r"^tokens: expected"):
        transformer_towers(50).encode_text(tokens)


def test_bad_images():
    for images in (torch.zeros(2, 1, 24, 25), torch.full((1, 1, 24, 24), torch.nan), None):
        with pytest.raises(ValueError, match=r"^images: expected"):
            transformer_towers(50).encode_image(images)
