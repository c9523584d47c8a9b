"""Full runs of the papers' presets with a tiny model on a tiny COCO, and the table that chapters show of them."""

import io
import json
import re
from dataclasses import replace

import nbformat
import numpy as np
import open_clip
import outside_models
import pytest
import torch
from natural_files import coco_of_both, picture_bytes, simat
from outside_models import TINY
from PIL import Image

from gaplib.book import full_results
from gaplib.data import DataUnavailable
from gaplib.data.natural import open_data, picture
from gaplib.data.natural.classes import PROMPTS, Classified
from gaplib.data.natural.coco import coco as read_coco
from gaplib.evaluation.arithmetic import simat_score
from gaplib.stats import over_seeds
from gaplib.training import natural_presets
from gaplib.training.natural_presets import PRESETS, STATUS, full_rows, run_preset, settings_of, task_scores
from gaplib.training.outside import load

CHAPTERS = ("06_uniformity", "07_temperature_swapping", "08_latent_structure", "09_downstream")


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory):
    take_back = outside_models.register(tmp_path_factory.mktemp("configs"))
    yield
    take_back()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Rows and runs in a folder of the test's own; nothing in the environment names data."""
    monkeypatch.setenv("GAPLIB_FULL", str(tmp_path / "rows"))
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GAPLIB_NATURAL", raising=False)
    return tmp_path


def write_coco(folder):
    coco_of_both(folder)
    return tuple(read_coco(folder, part) for part in ("train", "val"))


# --- presets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_says_where_it_is_from(name):
    preset = PRESETS[name]
    for value, (word, _) in preset.status.items():
        assert word in STATUS, value
    set_here = {*preset.settings, "towers", "data", "epochs", "warmup_epochs"}
    set_here |= {"tau"} if any("tau" in fields for fields in preset.methods.values()) else set()
    assert set_here <= set(preset.status)
    left_to_defaults = {"dim", "betas", "captions", "augment", "distinct"} - set_here
    assert left_to_defaults <= set(preset.status)
    for label in preset.methods:
        settings = settings_of(name, label, train_pairs=100_000)
        assert settings.steps == preset.epochs * (100_000 // settings.batch_size)
        settings.configured_method()


def test_presets_are_the_papers_settings():
    fahim = settings_of("fahim", "clip", train_pairs=118_287)
    assert (fahim.lr, fahim.batch_size, fahim.weight_decay, fahim.betas) == (1e-6, 64, 0.1, (0.9, 0.99))
    assert fahim.configured_method().policy_text() == "fixed, tau = 0.01"
    assert fahim.steps == 9 * (118_287 // 64)
    yaras = settings_of("yaras", "ts-s3", train_pairs=118_287)
    assert (yaras.batch_size, yaras.steps, yaras.warmup) == (1024, 100 * 115, 20 * 115)
    assert PRESETS["yaras"].status["lr"][0] == PRESETS["jiang"].status["lr"][0] == "ours"
    with pytest.raises(ValueError, match="preset: expected one of fahim, yaras, jiang, got 'fahm'; did you mean fahim"):
        settings_of("fahm", "clip", 100)
    with pytest.raises(ValueError, match="method: expected one of clip, cua, cuaxu, got 'flt'"):
        settings_of("fahim", "flt", 100)


def test_a_preset_runs_to_a_row_and_goes_on_where_it_stopped(folders, monkeypatch):
    data = write_coco(folders / "coco")
    small = {"towers": f"open_clip:{TINY}", "epochs": 2, "batch_size": 8, "dim": 4}
    row = run_preset("fahim", "cua", data, folders / "work", seed=101, **small)
    assert row["changed"] == ["batch_size", "dim", "epochs", "towers"]
    assert (row["settings"]["steps"], row["settings"]["lr"], row["test_pairs"]) == (6, 1e-6, 12)
    assert set(row["before"]) == set(row["after"])
    assert full_rows() == [{name: value for name, value in row.items() if name != "sha256"}]
    assert full_rows("07") == []

    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(natural_presets.train_outside.__globals__["torch"].optim, "AdamW", refuse)
    assert run_preset("fahim", "cua", data, folders / "work", seed=101, **small)["after"] == row["after"]


def test_a_damaged_row_is_named(folders):
    data = write_coco(folders / "coco")
    small = {"towers": f"open_clip:{TINY}", "epochs": 1, "batch_size": 8}
    run_preset("yaras", "clip", data, folders / "work", warmup_epochs=0, **small)
    path = next((folders / "rows").iterdir())
    path.write_text(path.read_text().replace('"seed": 100', '"seed": 102', 1))
    with pytest.raises(ValueError, match=r"yaras\.clip\.100\.json: expected a row of a full run .changed"):
        full_rows("07")


def test_simat_is_scored_with_the_towers_own_embeddings(tmp_path):
    simat(tmp_path)
    data, model = open_data(f"simat:{tmp_path}"), load(f"open_clip:{TINY}", seed=3)
    with torch.no_grad():
        bank = model.towers.encode_image(torch.stack([model.image(picture(path)) for path, _ in data])).numpy()
        source, target = (model.towers.encode_text(model.text(side)).numpy() for side in (data.source, data.target))
    expected = simat_score(bank[data.own], source, target, bank, data.similarity, data.norm2, own=data.own)
    assert task_scores(model, {"simat": data}) == {"simat.score": pytest.approx(expected)}


def test_zero_shot_is_open_clips_own_classifier():

    pictures = [Image.open(io.BytesIO(picture_bytes(seed))) for seed in range(8)]
    names = ["apple", "maple tree", "ray"]
    label = np.array([seed % 3 for seed in range(8)])
    prompts = [[prompt.format(name) for prompt in PROMPTS] for name in names]
    data = Classified(pictures, label, names, prompts, "cifar100:x", "test")
    model = load(f"open_clip:{TINY}", seed=3)
    found = task_scores(model, {"cifar100": data})
    tokenizer = open_clip.get_tokenizer(TINY)
    classifier = open_clip.build_zero_shot_classifier(model.towers, tokenizer, names, PROMPTS)
    with torch.no_grad():
        features = model.towers.encode_image(torch.stack([model.image(one) for one in pictures]), normalize=True)
    expected = ((features @ classifier).argmax(dim=1).numpy() == label).mean()
    assert found == {"cifar100.accuracy@1": pytest.approx(float(expected))}
    with pytest.raises(ValueError, match="tasks: expected classes or SIMAT, got list for 'x'"):
        task_scores(model, {"x": []})


# --- what chapters show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", CHAPTERS)
def test_every_chapter_says_in_words_that_there_is_none(notebook, folders):
    cells = nbformat.read(f"notebooks/{notebook}.ipynb", as_version=4).cells
    lines = [cell.source for cell in cells if cell.cell_type == "code" and "full_results.table" in cell.source]
    assert lines == ["full_results.table(run.chapter, PROFILE, run.seeds, DEVICE)"]
    shown = full_results.table(notebook[:2])
    assert shown._repr_markdown_().startswith("There are no results of a full run on natural images here")
    assert "`make book PROFILE=full` makes them" in shown


def test_full_says_what_is_missing(folders, monkeypatch):
    assert "Not run: Fahim et al. 2024, It's Not a Modality Gap: natural images: GAPLIB_NATURAL names no folder" in str(
        full_results.table("06", "full")
    )
    monkeypatch.setenv("GAPLIB_NATURAL", str(folders / "data"))
    assert "which is no folder" in str(full_results.table("06", "full"))
    (folders / "data").mkdir()
    shown = str(full_results.table("09", "full"))
    assert len(re.findall("Not run: ", shown)) == 3
    assert "there is no folder" in shown
    assert "cc3m.csv (columns filepath and title)" in shown
    with pytest.raises(DataUnavailable, match="there is no folder"):
        natural_presets.natural_data("coco", 5)


def test_full_runs_where_the_files_are_and_only_once(folders, monkeypatch):
    write_coco(folders / "data" / "coco")
    monkeypatch.setenv("GAPLIB_NATURAL", str(folders / "data"))
    preset = PRESETS["fahim"]
    tiny = {"towers": f"open_clip:{TINY}", "epochs": 1, "settings": {**preset.settings, "batch_size": 8}}
    small = {"fahim": replace(preset, **tiny)}
    for module in (natural_presets, full_results):
        monkeypatch.setattr(module, "PRESETS", small)
    shown = full_results.table("06", "full", seeds=(100, 101))
    assert shown.caption == "Natural images, full runs."
    assert [row[:3] for row in shown.rows] == [(preset.source, label, "2") for label in ("clip", "cua", "cuaxu")]
    files = {path.name: path.stat().st_mtime_ns for path in (folders / "rows").iterdir()}
    assert len(files) == 6
    rows = [json.loads((folders / "rows" / f"fahim.cua.{seed}.json").read_text()) for seed in (100, 101)]
    assert shown.rows[1][4] == str(over_seeds([row["after"]["centroid_distance"] for row in rows]))
    assert all(row["changed"] == [] for row in rows)
    assert str(full_results.table("06", "full", seeds=(100, 101))) == str(shown)
    assert files == {path.name: path.stat().st_mtime_ns for path in (folders / "rows").iterdir()}
    assert "| experiment |" in str(full_results.table("06"))
