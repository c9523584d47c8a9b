"""The losses inside other people's training loops: every example runs, and its first loss is what a formula says."""

import importlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import open_clip
import open_clip_train
import pytest
import torch
from natural_files import csv, picture_bytes, shard
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from gaplib import as_open_clip_loss
from gaplib.methods import method

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 24, "layers": 1, "width": 32, "head_width": 16, "patch_size": 12},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def example(name):
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[0]


def cua(x, y, scale):
    """CLIP plus uniformity plus alignment, from distances."""
    logits, target = scale * x @ y.T, torch.arange(len(x))
    clip = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    uniformity = sum(torch.pdist(z).square().mul(-2).exp().mean().log() for z in (x, y)) / 2
    return float(clip + uniformity + (x - y).square().sum(dim=1).mean())


# --- open_clip's own program -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen pictures with captions, as CSV and as a webdataset of two shards, and a tiny model's config."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "configs").mkdir()
    (folder / "configs" / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "configs")
    rows, parts = [], [[], []]
    for i in range(16):
        picture, words = picture_bytes(i, 24, "PNG"), f"word {i}"
        (folder / f"{i}.png").write_bytes(picture)
        rows.append((str(folder / f"{i}.png"), words))
        parts[i % 2] += [(f"{i:04}.png", picture), (f"{i:04}.txt", words.encode())]
    csv(folder / "pairs.csv", rows)
    for i, samples in enumerate(parts):
        shard(folder / f"part-{i}.tar", samples)
    return folder


def options(folder, name, data):
    source = {
        "csv": f"--dataset-type csv --train-data {folder}/pairs.csv",
        "webdataset": f"--dataset-type webdataset --train-data {folder}/part-{{0..1}}.tar --train-num-samples 16",
    }[data]
    return (
        f"--model tiny-clip --batch-size 4 --workers 0 --lr 1e-2 --warmup 0 --device cpu --epochs 1 {source} "
        f"--logs {folder}/logs --name {name} --log-every-n-steps 1 --precision amp_bf16"
    ).split()


@pytest.fixture
def program(monkeypatch):
    """The example with open_clip's program as it is on disk, whatever another test put in its place."""
    for module in ("open_clip_train.main", "open_clip_train.data", "open_clip_main"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr(open_clip_train, "main", raising=False)
    monkeypatch.delattr(open_clip_train, "data", raising=False)
    made = example("open_clip_main")
    monkeypatch.setattr(made.program, "setup_logging", lambda *_: None)  # it takes over every logger of the process
    return made


@pytest.mark.parametrize(
    ("name", "data", "more", "calls"),
    [
        ("siglip", "csv", "--siglip --accum-freq 2", [8, 8, 8, 8]),
        ("cuaxu+slrt", "webdataset", "", [4, 4, 4, 4]),
    ],
)
def test_open_clips_program_takes_the_loss(name, data, more, calls, folder, program, monkeypatch):
    seen = []
    make = as_open_clip_loss

    def watched(*args, **kwargs):
        loss = make(*args, **kwargs)
        loss.register_forward_hook(lambda module, inputs, kept, out: seen.append((kept, out)), with_kwargs=True)
        return loss

    monkeypatch.setattr(program.gaplib, "as_open_clip_loss", watched)
    program.main(name, *options(folder, f"one-{data}", data), *more.split())
    assert [len(kept["image_features"]) for kept, _ in seen] == calls
    assert all(value.isfinite() for _, out in seen for value in out.values())
    assert len(seen[0][1]) - 1 == 1 + len(method(name).terms)  # open_clip adds the sum
    state = torch.load(folder / "logs" / f"one-{data}" / "checkpoints" / "epoch_1.pt", weights_only=True)["state_dict"]
    start = 10.0 if name == "siglip" else 1 / 0.07
    assert float(state["logit_scale"].exp()) != pytest.approx(start, rel=1e-6)
    assert float(state["logit_scale"].exp()) == pytest.approx(start, rel=0.2)


def test_open_clips_program_in_two_processes(folder):
    run = folder / "run.py"
    run.write_text(
        "import runpy, sys, open_clip\n"
        f"open_clip.add_model_config({str(folder / 'configs')!r})\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'open_clip_main.py')!r}, run_name='__main__')\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--", str(run)]
    command = [*launch, "cuaxu+slrt", *options(folder, "two", "csv"), "--local-loss", "--gather-with-grad"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    log = (folder / "logs" / "two" / "out.log").read_text()
    steps = [line for line in log.splitlines() if "Train Epoch: 0" in line]
    assert len(steps) == 2  # 16 pairs, four in each process
    assert all(f"{term}_loss:" in steps[-1] for term in ("Contrastive", "Uniformity", "Alignment", "Cross_uniformity"))
    state = torch.load(folder / "logs" / "two" / "checkpoints" / "epoch_1.pt", weights_only=True)["state_dict"]
    assert float(state["module.logit_scale"].exp()) != pytest.approx(1 / 0.07, rel=1e-6)


class CLIPTask(nn.Module):
    """As open_clip's main branch has it: what is called ``..._loss`` is summed."""

    def __init__(self, model, *, loss):
        super().__init__()
        self.trainable_module, self.loss = model, loss

    def forward(self, images, texts):
        out = self.trainable_module(images, texts)
        losses = self.loss(**out, output_dict=True)
        losses["loss"] = sum(value for key, value in losses.items() if key.endswith("_loss"))
        losses["logit_scale"] = out["logit_scale"]
        return losses


def test_task_of_open_clips_main_branch(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.task", types.SimpleNamespace(CLIPTask=CLIPTask))
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False, output_dict=True)
    images, texts = torch.rand(8, 3, 24, 24), torch.randint(1, 49000, (8, 8))
    with torch.no_grad():
        out = model(images, texts)
    rows = example("open_clip_task").main(model, [(images, texts)] * 10)
    assert set(rows[0]) == {"contrastive_loss", "uniformity_loss", "alignment_loss", "loss"}
    assert rows[0]["loss"] == pytest.approx(cua(out["image_features"], out["text_features"], 1 / 0.07), rel=1e-4)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1


# --- other loops -----------------------------------------------------------------------------------------------------


def test_hugging_face_trainer():
    module = example("hugging_face_trainer")
    losses = module.main(steps=6)
    with torch.no_grad():
        batch = [torch.stack(z) for z in zip(*(one.values() for one in module.pairs(32)), strict=True)]
        out = module.tiny_model()(pixel_values=batch[0], input_ids=batch[1])
        halves = torch.arange(32).split(16)
        near = [cua(out.image_embeds[i], out.text_embeds[i], out.logits_per_image.new_tensor(1 / 0.07)) for i in halves]
    # which sixteen come first is the Trainer's to draw
    assert losses[0] == pytest.approx(sum(near) / 2, rel=0.1)
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 1


def test_sentence_transformers_trainer():
    module = example("sentence_transformers_loss")
    model = module.tiny_model([*module.ENGLISH, *module.GERMAN])
    columns = [model.preprocess(words) for words in (module.ENGLISH, module.GERMAN)]
    with torch.no_grad():
        x, y = (normalize(model(dict(z))["sentence_embedding"], dim=1) for z in columns)
    losses = module.main("cua", steps=6)
    assert losses[0] == pytest.approx(cua(x, y, 10.0), rel=1e-3)  # all twelve pairs are one batch
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5


def test_lightning_module():
    losses = example("lightning_module").main(steps=12)
    draw = torch.Generator().manual_seed(0)
    text = torch.randn(64, 16, generator=draw)
    image = text + 0.5 * torch.randn(64, 16, generator=draw)
    torch.manual_seed(0)
    towers = nn.Linear(16, 8), nn.Linear(16, 8)
    x, y = (normalize(tower(z[:32]), dim=1).detach() for tower, z in zip(towers, (image, text), strict=True))
    assert losses[0] == pytest.approx(cua(x, y, 10.0), rel=1e-4)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 1
