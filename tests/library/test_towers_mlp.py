"""The perceptrons, and the registry that they stand in: files, runs and the cache know them by one row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from gaplib import towers
from gaplib.towers import registry
from gaplib.towers.mlp import mlp_towers
from gaplib.training import RunConfig, cached_run
from gaplib.training.cache import Entry

TINY = {"architecture": "mlp", "dim": 8, "batch_size": 16, "eval_pairs": 16, "history_points": 2}


def test_embeddings_by_hand():
    model = mlp_towers(12, dim=4, image_size=6, width=5, seed=3)
    image = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    state = model.state_dict()
    first, last = (state[f"image_tower.{i}.weight"] for i in (1, 3))
    hidden = functional.gelu((image.reshape(2, 36) - 0.5) @ first.T + state["image_tower.1.bias"])
    torch.testing.assert_close(model.encode_image(image), hidden @ last.T + state["image_tower.3.bias"])
    words = torch.tensor([[2, 5, 0], [5, 2, 0]])
    x = model.encode_text(words)
    assert x.shape == (2, 4)
    torch.testing.assert_close(x[0], x[1])  # a bag has no order


def test_seeded_saved_and_loaded(tmp_path):
    one, again, other = (mlp_towers(12, dim=4, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.image_tower[1].weight, other.image_tower[1].weight)
    one.save(tmp_path / "m.safetensors")
    loaded = towers.load(tmp_path / "m.safetensors")
    assert torch.equal(loaded.image_tower[3].weight, one.image_tower[3].weight)
    for wrong in ({"vocabulary_size": 2}, {"dim": 1}, {"width": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: "):
            mlp_towers(**({"vocabulary_size": 12} | wrong))


def test_runs_train_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    run = cached_run(RunConfig(steps=40, **TINY | {"batch_size": 64}))
    assert run.history[-1]["loss"] < run.history[0]["loss"] - 0.2
    assert run.info["towers"]["kind"] == "mlp"
    assert isinstance(run.towers().image_tower[1], torch.nn.Linear)
    with pytest.raises(ValueError, match=r"architecture: expected 'conv' .*private heads.* for 'sep', got 'mlp'"):
        RunConfig("sep", **TINY)
    with pytest.raises(ValueError, match="architecture: expected one of transformer, got 'mlp'"):
        RunConfig("alignclip", **TINY)


# --- the registry -----------------------------------------------------------------------------------------------------


def from_outside(vocabulary_size, **options):
    model = mlp_towers(vocabulary_size, **options)
    model.recipe = {**model.recipe, "kind": "outside"}
    return model


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.setattr(registry, "_ROWS", dict(registry._ROWS))
    towers.register("outside", from_outside)


def test_an_architecture_from_outside_trains_and_is_in_the_key(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    config = RunConfig(steps=3, **TINY | {"architecture": "outside"}).resolved()
    run = cached_run(config)
    assert np.array_equal(cached_run(config).embeddings["test_image"], run.embeddings["test_image"])
    assert run.towers().recipe["kind"] == "outside"
    assert towers.architecture("outside").source.name == "test_towers_mlp.py"
    before = Entry.of(config, "data", "cpu").folder
    changed = tmp_path / "changed.py"
    changed.write_text("x = 1\n")
    monkeypatch.setattr(registry.Architecture, "source", property(lambda self: changed))
    assert Entry.of(config, "data", "cpu").folder != before


def test_registering_is_checked(outside):
    towers.register("outside", from_outside)  # again the same: nothing to say
    for wrong, match in (
        (("outside", mlp_towers), "kind: expected a name that is free, got 'outside'"),
        (("", mlp_towers), "kind: expected a name, got ''"),
        (("new", 3), "builder: expected a function"),
    ):
        with pytest.raises(ValueError, match=match):
            towers.register(*wrong)
    with pytest.raises(ValueError, match=r"architecture: expected one of .*mlp"):
        towers.architecture("mlq")
    with pytest.raises(ValueError, match="recipe: it does not say how its model was built"):
        towers.build({"kind": "nothing"})
    assert set(towers.architectures(runs=True)) >= {"tiny", "transformer", "mlp", "outside"}
    assert "open_clip" not in towers.architectures(runs=True)
    assert towers.architectures(shared_trunk=True) == ["transformer"]
