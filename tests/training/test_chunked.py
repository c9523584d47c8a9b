"""Gradient caching: a step in chunks is the plain step, to the last digits, for every parameter."""

from __future__ import annotations

import processes_worker as worker
import pytest
import torch
from processes_worker import SIDE, TRAINED, WORDS, objective_of
from torch import nn

from gaplib.methods import METHODS
from gaplib.training import fit
from gaplib.training.fitting import PairedTowers, prepare

N = 10


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    similar = torch.rand(N, N, generator=generator, dtype=torch.float64)
    return {
        "image": torch.rand(N, 1, SIDE, SIDE, generator=generator, dtype=torch.float64),
        "text": torch.randint(1, WORDS, (N, 5), generator=generator),
        "image_view": torch.rand(N, 1, SIDE, SIDE, generator=generator, dtype=torch.float64),
        "text_view": torch.randint(1, WORDS, (N, 5), generator=generator),
        "caption_similarity": (similar + similar.T) / 2,
    }


class Dropping(nn.Module):
    """Towers with dropout on what goes in and on what comes out."""

    def __init__(self, towers: nn.Module):
        super().__init__()
        self.towers, self.dropout = towers, nn.Dropout(0.3)
        if getattr(towers, "image_private", None) is not None:
            self.image_private, self.text_private = towers.image_private, towers.text_private
        self.recipe = towers.recipe

    def image_features(self, images):
        return self._dropped(self.towers.image_features(self.dropout(images)))

    def text_features(self, tokens):
        return self._dropped(self.towers.text_features(tokens))

    def encode_image(self, images):
        return self.image_features(images)[0]

    def encode_text(self, tokens):
        return self.text_features(tokens)[0]

    def _dropped(self, both):
        return tuple(None if z is None else self.dropout(z) for z in both)


def towers_of(name: str) -> nn.Module:
    return Dropping(worker.towers_of(name)).train()


def by_hand(name: str, chunk: int) -> dict[str, torch.Tensor]:
    """One graph over all chunks, of which each draws its own dropout in turn, and plain autograd."""
    paired, inputs = PairedTowers(towers_of(name), objective_of(name)), batch()
    torch.manual_seed(0)
    fields = ["image", "text", *(["image_view", "text_view"] if "views" in METHODS[name].requires else [])]
    parts = [paired.features({key: inputs[key][i : i + chunk] for key in fields}) for i in range(0, N, chunk)]
    features = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    loss = sum(paired.parts(features, inputs, 1, 4, torch.Generator().manual_seed(1)).values())
    loss.backward()
    return {key: p.grad for key, p in paired.named_parameters() if p.grad is not None} | {"loss": loss.detach()}


def in_chunks(name: str, chunk: int | None) -> dict[str, torch.Tensor]:
    loop = prepare(towers_of(name), objective_of(name), [batch()], 4, optimizer="sgd", chunk=chunk)
    torch.manual_seed(0)
    loss, _ = loop.loss(1)
    loop.backward(loss)
    return {key: p.grad for key, p in loop.model.named_parameters() if p.grad is not None} | {"loss": loss.detach()}


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_are_those_of_one_graph_dropout_and_all(name):
    wanted = by_hand(name, 4)
    got = in_chunks(name, 4)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10, msg=f"{name}, {key}")


@pytest.mark.parametrize("name", ["cua", "sep"])
def test_one_chunk_is_the_plain_step(name):
    wanted, got = in_chunks(name, None), in_chunks(name, N + 1)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10)


def test_training_in_chunks_goes_where_the_plain_one_goes():
    ends = []
    for chunk in (None, 3):
        pair = tuple(nn.Linear(n, 4, dtype=torch.float64) for n in (8, 6))
        for module in pair:
            for weight in module.parameters():
                weight.data = torch.linspace(-1, 1, weight.numel(), dtype=torch.float64).sin().reshape(weight.shape)
        draw = torch.Generator().manual_seed(0)
        data = {key: torch.randn(10, n, generator=draw, dtype=torch.float64) for key, n in (("image", 8), ("text", 6))}
        # mappings, as a processor of transformers makes them, are cut too
        before = torch.get_rng_state()
        given = {"image": {"input": data["image"]}, "text": {"input": data["text"]}} if chunk else data
        history = fit(pair, "cua", [given], 5, lr=0.01, clip_norm=1.0, chunk=chunk)
        assert torch.equal(before, torch.get_rng_state())
        ends.append([*(p.detach() for module in pair for p in module.parameters()), history[-1]["loss"]])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_a_frozen_tower_stays_out_of_it():
    pair = nn.Linear(8, 4), nn.Linear(6, 4)
    pair[0].requires_grad_(False)
    start = [module.weight.clone() for module in pair]
    fit(pair, "clip", [(torch.randn(6, 8), torch.randn(6, 6))], 1, chunk=4)
    assert torch.equal(pair[0].weight, start[0])
    assert not torch.equal(pair[1].weight, start[1])


def test_what_cannot_be_cut_is_refused():
    mixed = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)), nn.Linear(6, 4)
    data = torch.randn(6, 8), torch.randn(6, 6)
    with pytest.raises(ValueError, match=r"chunk: expected towers .* got image_encoder.1 \(BatchNorm1d\) in training"):
        fit(mixed, "clip", [data], 1, chunk=4)
    with pytest.raises(ValueError, match="chunk: expected a whole number"):
        fit((nn.Linear(8, 4), nn.Linear(6, 4)), "clip", [data], 1, chunk=0)
    with pytest.raises(ValueError, match=r"batch: expected as many rows in every field, got \{'image': 6, 'text': 5\}"):
        fit((nn.Linear(8, 4), nn.Linear(6, 4)), "clip", [(data[0], data[1][:5])], 1, chunk=4)
