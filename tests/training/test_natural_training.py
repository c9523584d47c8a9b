"""Models of open_clip and transformers, tiny and at random weights, trained on tiny data sets of natural form."""

import io
import json
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import open_clip
import outside_models
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from natural_files import coco_of_both, csv, image, picture_bytes, shard, shards
from outside_models import RESNET, TINY
from PIL import Image
from safetensors.numpy import load_file
from torch.nn import functional

from gaplib.__main__ import main
from gaplib.data.natural import open_data
from gaplib.training import NonFiniteLoss, RunFolderError
from gaplib.training.loop import Loop
from gaplib.training.natural import Settings, train_and_test, train_outside
from gaplib.training.natural_batches import PairBatches, StreamBatches, encode_texts, encoded, second_text
from gaplib.training.outside import load, reinitialize_projections


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    take_back = outside_models.register(folder)
    yield
    take_back()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return outside_models.hugging_face_clip(tmp_path_factory.mktemp("hub") / "clip")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    coco_of_both(folder)
    return f"coco:{folder}"


@pytest.fixture
def specs(hub):
    return {"vit": f"open_clip:{TINY}", "resnet": f"open_clip:{RESNET}", "hf": f"hf:{hub}"}


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vit", "resnet", "hf"])
def test_a_run_writes_its_files_and_its_model_comes_back(kind, specs, data, tmp_path):
    settings = Settings("cua", data, specs[kind], steps=3, batch_size=8, lr=1e-3, dim=8)
    run = train_outside(settings, tmp_path / "run")
    folder = tmp_path / "run"
    assert run == json.loads((folder / "run.json").read_text())
    assert (run["train_pairs"], run["test_pairs"], run["device"]) == (24, 12, "cpu")
    assert run["settings"] == settings.to_dict()
    history = pd.read_csv(folder / "history.csv")
    assert history["step"].tolist() == [0, 1, 2]
    assert np.allclose(history["loss"], history[["clip", "uniformity", "alignment"]].sum(axis=1), atol=1e-5)
    assert not (folder / "checkpoints").exists()

    found = load_file(folder / "embeddings.safetensors")
    x, y = (found[f"test_{side}"].astype(np.float64) for side in ("image", "text"))
    assert x.shape == y.shape == (12, 8)
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert run["after"]["centroid_distance"] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), abs=1e-5)
    ranks = (x @ y.T > np.diag(x @ y.T)[:, None] + 1e-6).sum(axis=1)
    assert run["after"]["image_to_text@5"] == pytest.approx((ranks < 5).mean(), abs=0.1)
    assert run["before"] != run["after"]

    again = load(f"hf:{folder / 'model'}" if kind == "hf" else f"open_clip:local-dir:{folder}")
    for one, other in zip(encoded(again, open_data(data)), (x, y), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_the_first_loss_is_open_clips_own(data, tmp_path):
    settings = Settings(
        "clip", data, f"open_clip:{TINY}", 1, 8, tau=0.05, temperature="fixed", captions="first", augment=False
    )
    train_outside(settings, tmp_path / "run")
    model, _, preprocess = open_clip.create_model_and_transforms(TINY, load_weights=False, pretrained_text=False)
    ours = load(f"open_clip:{TINY}", seed=settings.seed)
    model.load_state_dict(ours.towers.state_dict())
    pairs = open_data(data, "train")
    rows = PairBatches(pairs, ours, 8, settings.seed).rows(0)
    images = torch.stack([preprocess(Image.open(pairs[row][0])) for row in rows])
    texts = open_clip.get_tokenizer(TINY)([pairs[row][1][0] for row in rows])
    with torch.no_grad():
        features = model.encode_image(images, normalize=True), model.encode_text(texts, normalize=True)
        expected = open_clip.ClipLoss()(*features, torch.tensor(1 / 0.05))
    assert pd.read_csv(tmp_path / "run" / "history.csv")["loss"][0] == pytest.approx(float(expected), rel=1e-4)


def test_a_resumed_run_is_an_uninterrupted_one(data, tmp_path, monkeypatch):
    settings = Settings("gc", data, f"open_clip:{TINY}", steps=5, batch_size=8, lr=1e-3, warmup=2)
    whole = train_outside(settings, tmp_path / "whole")
    update, steps = Loop.update, []

    def until_killed(loop):
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(loop.step)
        return update(loop)

    monkeypatch.setattr(Loop, "update", until_killed)
    with pytest.raises(KeyboardInterrupt):
        train_outside(settings, tmp_path / "part", checkpoint_every=2)
    monkeypatch.setattr(Loop, "update", update)
    assert {path.name for path in (tmp_path / "part").iterdir()} - {".lock"} == {"checkpoints", "config.json"}
    with pytest.raises(RunFolderError, match="already holds a run"):
        train_outside(settings, tmp_path / "part")
    with pytest.raises(RunFolderError, match=r"another configuration .lr: there 0\.001, here 0\.01"):
        train_outside(replace(settings, lr=1e-2), tmp_path / "part", resume=True)
    part = train_outside(settings, tmp_path / "part", resume=True)
    for name in ("before", "after"):
        assert part[name] == whole[name]
    assert (tmp_path / "part/history.csv").read_text() == (tmp_path / "whole/history.csv").read_text()
    assert train_outside(settings, tmp_path / "part", resume=True) == part


def test_a_run_that_diverges_says_where(data, tmp_path):
    settings = Settings("clip", data, f"open_clip:{TINY}", steps=4, batch_size=8, lr=1e30)
    with pytest.raises(NonFiniteLoss, match="not finite at step"):
        train_outside(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vit", "resnet", "hf"])
def test_new_projections_leave_the_backbone_alone(kind, specs):
    before, after = load(specs[kind]), load(specs[kind], seed=0, dim=6)
    old, new = before.towers.state_dict(), after.towers.state_dict()
    changed = {name for name in new if name not in old or not torch.equal(old[name], new[name])}
    assert len({name for name in changed if not name.endswith("bias")}) == 2
    assert all("proj" in name for name in changed)
    assert {tuple(z.shape)[-1] for z in encoded(after, [(picture(1), ["a cat"])])} == {6}
    weights = torch.cat([new[name].flatten() for name in changed])
    wide = load(specs[kind], seed=0, dim=400).towers.state_dict()
    for name in changed - {name for name in changed if name.endswith("bias")}:
        width = min(wide[name].shape)
        assert float(wide[name].std()) == pytest.approx(width**-0.5, rel=0.1)
    other = load(specs[kind], seed=0, dim=6).towers.state_dict()
    assert torch.equal(weights, torch.cat([other[name].flatten() for name in changed]))


def picture(seed):
    return Image.open(io.BytesIO(picture_bytes(seed)))


def test_open_clips_weights_from_a_file(tmp_path):
    model = open_clip.create_model(TINY, load_weights=False, pretrained_text=False)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = load(f"open_clip:{TINY}:{tmp_path / 'weights.pt'}")
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in again.towers.state_dict().items())


def test_weights_of_another_model_are_no_missing_network(tmp_path):
    torch.save({"state_dict": {"visual.proj": torch.zeros(3, 3)}}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"cannot load .*weights.pt .*Missing key"):
        load(f"open_clip:{TINY}:{tmp_path / 'weights.pt'}")


def test_transformers_agree_with_their_own_features(hub):
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(hub), AutoProcessor.from_pretrained(hub)
    texts, pictures = ["a cat", "three dogs and a bird"], [picture(1), picture(2)]
    inputs = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(**inputs)
    x, y = encoded(load(f"hf:{hub}"), list(zip(pictures, [[text] for text in texts], strict=True)))
    assert torch.allclose(x, found.image_embeds, atol=1e-5)
    assert torch.allclose(y, found.text_embeds, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("openclip:RN50", ValueError, "expected one of open_clip, hf, got 'openclip'; did you mean open_clip"),
        ("open_clip:", ValueError, "expected open_clip:NAME"),
        ("open_clip:ViT-B-23", ValueError, "did you mean .*ViT-B-32"),
        ("open_clip:RN50:opanai", ValueError, "expected for RN50 one of openai.*or a checkpoint file"),
        ("open_clip:local-dir:/no/such/folder", ValueError, "no open_clip_config.json in the folder"),
        ("hf:/no/such/folder", ValueError, "there is no folder"),
    ],
)
def test_towers_that_are_not_there(spec, error, message):
    with pytest.raises(error, match=message):
        load(spec)


def test_projections_need_a_place():
    with pytest.raises(ValueError, match="linear last projections, got Linear"):
        reinitialize_projections(torch.nn.Linear(3, 3), 2)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_an_epoch_sees_every_pair_once_and_workers_change_nothing(data):
    model, pairs = load(f"open_clip:{TINY}"), open_data(data, "train")
    batches = PairBatches(pairs, model, 6, seed=3, views=True)
    for epoch in range(2):
        rows = np.concatenate([batches.rows(4 * epoch + i) for i in range(4)])
        assert sorted(rows) == list(range(24))
    alone, helped = (list(batches.from_step(3, 7, workers)) for workers in (0, 1))
    assert len(alone) == 4
    for one, other in zip(alone, helped, strict=True):
        assert set(one) == {"image", "text", "image_view", "text_view"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(alone[1]["image"], batches[4]["image"])
    assert not torch.equal(batches[0]["image"], PairBatches(pairs, model, 6, seed=4)[0]["image"])


def test_captions_first_random_and_distinct(tmp_path):
    rows = [(f"{i}.jpg", f"caption {'even' if i % 2 == 0 else i}") for i in range(8)]
    for name, _ in rows:
        image(tmp_path / name)
    rows += [(name, "another") for name, _ in rows]
    pairs, model = open_data(f"csv:{csv(tmp_path / 'x.csv', rows)}"), load(f"open_clip:{TINY}")
    seen = []

    def texts(batches, step):
        seen.clear()
        batches.collate([pairs[row] for row in batches.rows(step)], step)
        return list(seen)

    def text(captions):
        seen.extend(captions)
        return torch.zeros(len(captions), 16, dtype=torch.int64)

    model = replace(model, text=text)
    first = texts(PairBatches(pairs, model, 8, captions="first"), 0)
    assert Counter(first)["caption even"] == 4
    assert "another" not in first
    distinct = texts(PairBatches(pairs, model, 8, captions="first", distinct=True), 0)
    assert sorted(distinct) == sorted(set(first))
    assert 0 < sum(texts(PairBatches(pairs, model, 8), step).count("another") for step in range(20)) < 160
    with pytest.raises(ValueError, match="batch_size: expected at most the 8 pictures"):
        PairBatches(pairs, model, 9)
    with pytest.raises(ValueError, match="captions: expected one of first, random"):
        PairBatches(pairs, model, 4, captions="second")


def test_a_stream_goes_through_the_shards_again_and_again(tmp_path):
    data, model = open_data(f"webdataset:{shards(tmp_path, n=2, per_shard=4)}"), load(f"open_clip:{TINY}")
    words = []
    model = replace(model, text=lambda texts: words.extend(texts) or torch.zeros(len(texts), 16))
    stream = StreamBatches(data, model, 4, seed=1).from_step(0, 4)
    assert [next(stream)["image"].shape for _ in range(4)] == [(4, 3, 32, 32)] * 4
    assert sorted(words[:8]) == sorted(words[8:16]) == sorted(f"picture number {i}" for i in range(8))
    assert words[:8] != words[8:16]
    with pytest.raises(ValueError, match="batch_size: expected at most the samples"):
        next(StreamBatches(data, model, 99).from_step(0, 1))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_a_second_text_has_words_of_the_first(words, seed):
    found = second_text(" ".join(words), np.random.default_rng(seed)).split()
    assert found
    assert not Counter(found) - Counter(words)
    assert found == second_text(" ".join(words), np.random.default_rng(seed)).split()


def test_what_is_held_out_is_not_trained_on(data, tmp_path):
    rows = [(str(image(tmp_path / f"{i}.jpg", seed=i)), f"caption {i}") for i in range(30)]
    settings = Settings("clip", f"csv:{csv(tmp_path / 'x.csv', rows)}", "")
    train, test = train_and_test(settings)
    assert (len(train), len(test)) == (27, 3)
    assert not {path for path, _ in train} & {path for path, _ in test}
    train, test = train_and_test(replace(settings, data=data, eval_pairs=5))
    assert (train.split, test.split, len(train), len(test)) == ("train", "val", 24, 5)
    train, test = train_and_test(replace(settings, data=f"webdataset:{shards(tmp_path / 'w', n=3)}"))
    assert ([path.name for path in train.shards], len(test)) == (["00000.tar", "00001.tar"], 5)
    assert test[0][1] == ["picture number 10"]
    with pytest.raises(ValueError, match="at least 20 pictures"):
        train_and_test(replace(settings, data=f"csv:{csv(tmp_path / 'y.csv', rows[:19])}"))


# --- the command -----------------------------------------------------------------------------------------------------


def call(*arguments):
    return main(["train", *(str(one) for one in arguments)])


@pytest.mark.parametrize("kind", ["csv", "webdataset", "coco"])
def test_the_command_trains(kind, data, tmp_path, capsys):
    rows = [(str(image(tmp_path / f"{i}.jpg", seed=i)), f"caption {i}") for i in range(30)]
    where = {
        "csv": f"csv:{csv(tmp_path / 'x.csv', rows)}",
        "webdataset": f"webdataset:{shards(tmp_path / 'w', n=3, per_shard=8)}",
        "coco": data,
    }
    common = ("--towers", f"open_clip:{TINY}", "--steps", 2, "--batch-size", 4, "--lr", 1e-4, "--seed", 3)
    assert call("clip", "--data", where[kind], "--out", tmp_path / "run", *common) == 0
    out, _ = capsys.readouterr()
    assert "before" in out
    assert "centroid_distance" in out
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["settings"]["lr"], run["settings"]["seed"], run["settings"]["steps"]) == (1e-4, 3, 2)
    again = call("clip", "--data", where[kind], "--out", tmp_path / "run", *common, "--resume")
    err = capsys.readouterr().err
    assert (again, "a webdataset, which starts at its beginning" in err) == (
        (2, True) if kind == "webdataset" else (0, False)
    )


@pytest.mark.parametrize(
    ("method", "spec", "towers", "message"),
    [
        ("clip", "coco:{data}", None, "needs --towers open_clip:NAME[:PRETRAINED] or hf:NAME"),
        ("clip", "glyphs", "open_clip:RN50", "--towers needs --data csv:FILE"),
        ("clip", "coco:{tmp}/none", "open_clip:RN50", "there is no folder"),
        ("clip", "cocoa:{data}", "open_clip:RN50", "did you mean coco?"),
        ("clip", "coco:{data}", "open_clip:RN05", "did you mean"),
        ("sep", "coco:{data}", "open_clip:RN50", "'sep' requires heads for private features"),
        ("alignclip", "coco:{data}", "open_clip:RN50", "'alignclip' requires one trunk for both modalities"),
        ("shift", "coco:{data}", "open_clip:RN50", "a treatment after training"),
        ("clip", "webdataset:{tmp}/escape.tar", f"open_clip:{TINY}", "at least two shards"),
        ("clip", "webdataset:{tmp}/{{escape,good}}.tar", f"open_clip:{TINY}", "leads out of the archive's folder"),
        ("clip", "csv:{tmp}/lost.csv", f"open_clip:{TINY}", "2 of 2 pictures are missing, the first is"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(method, spec, towers, message, data, tmp_path, capsys):
    shard(tmp_path / "escape.tar", [("a.jpg", picture_bytes(1)), ("a.txt", b"x"), ("../b.jpg", b"x")])
    shards(tmp_path, n=1)
    (tmp_path / "00000.tar").rename(tmp_path / "good.tar")
    csv(tmp_path / "lost.csv", [("a.jpg", "x"), ("b.jpg", "y")])
    before = sorted(tmp_path.iterdir())
    spec = spec.format(data=data.removeprefix("coco:"), tmp=tmp_path)
    arguments = ("--towers", towers) if towers else ()
    assert call(method, "--data", spec, "--out", tmp_path / "run", *arguments, "--steps", 1, "--batch-size", 2) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gaplib: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_leaves_the_folders_of_others_alone(data, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = ("clip", "--data", data, "--towers", f"open_clip:{TINY}", "--steps", 1)
    assert call(*arguments, "--out", tmp_path) == 2
    assert "with other files in it" in capsys.readouterr().err
    assert call(*arguments, "--out", tmp_path / "notes.txt") == 2
    assert "got the file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_texts_in_chunks_are_texts(hub):
    model = load(f"hf:{hub}")
    texts = ["a", "two words", "three words here"] * 4
    assert torch.allclose(encode_texts(model, texts, chunk=5), encode_texts(model, texts), atol=1e-6)
    assert functional.normalize(encode_texts(model, texts)).norm(dim=1).tolist() == pytest.approx([1] * 12, abs=1e-5)


def test_a_missing_library_is_named_with_its_command(monkeypatch, data, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert call("clip", "--data", data, "--towers", "hf:x", "--out", tmp_path / "run") == 2
    assert "needs transformers: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
