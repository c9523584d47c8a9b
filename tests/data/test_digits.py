"""The digits with their words: a data set of ten captions, and a run on it from the registry's row to recall."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gaplib.data import digits
from gaplib.glyph_tasks import suite
from gaplib.training import RunConfig, cached_run

SMALL = {"data": "digits", "dim": 16, "batch_size": 64, "eval_pairs": 64, "history_points": 2}


def test_images_words_and_split():
    data = digits.load()
    assert np.array_equal(data.positive_id, load_digits().target)
    shares = {split: len(data.index(split)) / 1797 for split in ("train", "dev", "test")}
    assert shares == pytest.approx({"train": 0.7, "dev": 0.15, "test": 0.15}, abs=0.002)
    assert set(data.positive_id[data.index("test")].tolist()) == set(range(10))
    pairs = data.sample("dev", 20, seed=3)
    assert [data.vocabulary[t] for t in pairs.tokens[:, 0]] == [data.names[i] for i in pairs.index]
    assert pairs.images.shape == (20, 1, 24, 24)
    assert torch.equal(pairs.images, data.sample("dev", 20, seed=3).images)


def test_batches_are_epochs_of_the_split():
    data = digits.load()
    batch = data.batches("train", 100, seed=0)
    epoch = torch.cat([batch(step).index for step in range(12)])
    assert len(epoch.unique()) == 1200
    assert not set(epoch.tolist()) - set(data.index("train").tolist())
    assert not torch.equal(batch(0).index, batch(12).index)
    assert torch.equal(batch(5).index, data.batches("train", 100, seed=0)(5).index)
    for wrong in (lambda: data.index("val"), lambda: data.sample("dev", 0), lambda: data.batches("dev", 10**6, 0)):
        with pytest.raises(ValueError, match="expected"):
            wrong()


def test_a_run_learns_the_words(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    run = cached_run(RunConfig(steps=60, multi_positive=True, **SMALL))
    first, last = run.history[0], run.history[-1]
    assert last["image_to_text@1"] > 0.8 > 0.3 > first["image_to_text@1"]
    assert last["loss"] < first["loss"] - 0.5
    again = cached_run(RunConfig(steps=60, multi_positive=True, **SMALL))
    assert (again.history, again.metrics) == (run.history, run.metrics)
    with pytest.raises(ValueError, match="towers: expected a run on glyphs, got one on 'digits'"):
        suite.evaluate(run)


def test_what_the_words_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"data: expected one with second views for 'br' \(glyphs\), got 'digits'"):
        RunConfig("br", data="digits")
    with pytest.raises(ValueError, match=r"data: expected one of glyphs, digits"):
        RunConfig(data="digit")
