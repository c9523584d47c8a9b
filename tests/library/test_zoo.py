"""The zoo table: rows, what is passed over, what fails, and how the file grows."""

import natural_files
import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch

from gaplib import geometry, zoo
from gaplib.__main__ import main
from gaplib.embedding import EmbeddedPairs, embed
from gaplib.towers import from_open_clip


class Data:
    """What ``gaplib.data.natural.open_data`` gives: a length, and (image, captions) at each place."""

    def __len__(self):
        return 12

    def __getitem__(self, place):
        return tiny_models.images(12)[place], [f"a photo of {place}", f"the {place} dog"][: 1 + place % 2]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Names of three models that can be measured."""
    made = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("open_clip")
        tiny_models.open_clip_folder(folder, seed)
        made.append(f"open_clip:local-dir:{folder}")
    model, processor = tiny_models.transformers_model("clip")
    folder = tmp_path_factory.mktemp("hub")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return [*made, f"hf:{folder}"]


@pytest.fixture
def opened(monkeypatch):
    """``open_data`` with the data above; the specifications that it was asked for."""
    asked = []
    monkeypatch.setattr("gaplib.data.natural.open_data", lambda spec: asked.append(spec) or Data())
    return asked


def test_a_row_is_what_the_library_measures(models, tmp_path):
    frame = zoo.zoo(models, Data(), tmp_path / "zoo.csv", data_name="fake")
    assert tuple(frame) == zoo.COLUMNS
    assert frame["model"].tolist() == models
    assert frame["source"].tolist() == ["open_clip", "open_clip", "hf"]
    assert frame["trained"].all()
    assert set(frame["n"]) == {12}
    assert set(frame["n_text"]) == {18}
    assert frame["d"].tolist() == [16, 16, 12]
    assert frame.notna().all().all()
    found = embed(from_open_clip(models[1].removeprefix("open_clip:")), Data())
    x, y = found.image[found.pairs], found.text
    row = frame.iloc[1]
    assert row["centroid_distance"] == pytest.approx(float(geometry.centroid_distance(x, y)), rel=1e-5)
    assert row["true_pair_cosine"] == pytest.approx(float((x * y).sum(1).mean()), rel=1e-4)
    scores = (found.image @ found.text.T).numpy()
    hits = found.pairs.numpy()[scores.argmax(1)] == np.arange(12)
    assert row["image_to_text_at_1"] == pytest.approx(hits.mean(), rel=1e-5)
    assert row["text_to_image_at_1"] == pytest.approx((scores.argmax(0) == found.pairs.numpy()).mean(), rel=1e-5)
    pd.testing.assert_frame_equal(zoo.read(tmp_path / "zoo.csv"), frame)


def test_retrieval_counts_each_image_once():
    """Of four images and their two captions each, one caption is nearest to a wrong image."""
    image = torch.eye(4)
    text = image.repeat_interleave(2, dim=0).clone()
    text[0] = image[1]
    found = zoo.measurements(EmbeddedPairs(image, text, torch.arange(8) // 2))
    assert found["text_to_image_at_1"] == pytest.approx(7 / 8)
    # Image 1 has three level answers, two of them right.
    assert found["image_to_text_at_1"] == pytest.approx((3 + 2 / 3) / 4)


def test_a_model_that_has_its_row_is_passed_over(models, tmp_path, monkeypatch):
    out, said = tmp_path / "zoo.csv", []
    before = zoo.zoo(models[:1], Data(), out, data_name="fake")
    monkeypatch.setattr(zoo, "embed", lambda *args, **options: pytest.fail("it was measured again"))
    after = zoo.zoo(models[:1], Data(), out, data_name="fake", note=said.append)
    pd.testing.assert_frame_equal(before, after)
    assert said == [f"{models[0]}: has its row"]


def test_other_data_are_another_row(models, tmp_path):
    for name in ("fake", "other"):
        frame = zoo.zoo(models[:1], Data(), tmp_path / "zoo.csv", data_name=name)
    assert frame["data"].tolist() == ["fake", "other"]


def test_random_weights_are_said_to_be_random(tmp_path, monkeypatch):
    import open_clip

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny-For-Tests", tiny_models.OPEN_CLIP)
    frame = zoo.zoo(["open_clip:Tiny-For-Tests"], Data(), tmp_path / "zoo.csv", data_name="fake")
    assert not frame["trained"].any()


def test_a_failing_model_says_why_and_the_others_go_on(models, tmp_path):
    (tmp_path / "empty").mkdir()
    bad = f"hf:{tmp_path}/empty"
    said = []
    with pytest.raises(
        zoo.ZooFailed, match=r"^1 of the models could not be measured: hf:.*transformers cannot load"
    ) as failed:
        zoo.zoo([models[0], bad, models[1]], Data(), tmp_path / "zoo.csv", data_name="fake", note=said.append)
    assert list(failed.value.errors) == [bad]
    assert failed.value.frame["model"].tolist() == models[:2]
    assert any(one.startswith(f"{bad}: name: transformers cannot load") for one in said)


def test_a_write_that_fails_leaves_the_old_table(models, tmp_path, monkeypatch):
    out = tmp_path / "zoo.csv"
    zoo.zoo(models[:1], Data(), out, data_name="fake")
    before = out.read_bytes()

    def fail(*names):
        raise OSError("disk full")

    monkeypatch.setattr("gaplib._atomic.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        zoo.zoo(models[1:2], Data(), out, data_name="fake")
    assert out.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["zoo.csv"]


def test_a_table_of_another_version_keeps_its_columns(models, tmp_path):
    out = tmp_path / "zoo.csv"
    old = {"model": ["m"], "data": ["fake"], "n": [12]} | {name: [0.5] for name in zoo.SHOWN} | {"retired": [0.25]}
    pd.DataFrame(old).to_csv(out, index=False)
    frame = zoo.zoo(models[:1], Data(), out, data_name="fake")
    assert frame["model"].tolist() == ["m", models[0]]
    assert frame["retired"][0] == 0.25
    assert frame["effective_rank_image"].isna().tolist() == [True, False]


# --- looking at a table ----------------------------------------------------------------------------------------------


@pytest.fixture
def frame():
    rows = {"model": ["far<b>", "near", "middle"], "data": ["coco"] * 3, "n": [5000.0] * 3}
    rows |= {name: [0.9, 0.1, 0.5] for name in zoo.SHOWN}
    rows["text_to_image_at_1"] = [0.9, float("nan"), 0.5]
    return pd.DataFrame(rows)


def test_the_table_in_order(frame):
    lines = str(zoo.table(frame)).splitlines()
    assert lines[0].split()[:2] == ["model", "data,"]
    assert [line.split()[0] for line in lines[1:]] == ["near", "middle", "far<b>"]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].endswith("\N{EN DASH}")
    html = zoo.table(frame, order="true_pair_cosine").to_html()
    assert "far&lt;b&gt;" in html
    assert html.count("<tr>") == 4
    assert html.count('scope="col"') == 2 + len(zoo.SHOWN)
    with pytest.raises(ValueError, match=r"^order: expected one of centroid_distance"):
        zoo.table(frame, order="model")


def test_the_place_of_new_values(frame):
    values = {"centroid_distance": 0.5, "text_to_image_at_1": 0.1, "uniformity_image": -3.0, "true_pair_cosine": None}
    assert zoo.place(frame, values) == {"centroid_distance": (2, 4), "text_to_image_at_1": (1, 3)}
    assert zoo.place(frame, {"centroid_distance": 2.0}) == {"centroid_distance": (4, 4)}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("open_clip:RN50", ("open_clip", "RN50", None, False)),
        ("open_clip:RN50:openai", ("open_clip", "RN50", "openai", True)),
        ("open_clip:hf-hub:org/name", ("open_clip", "hf-hub:org/name", None, True)),
        ("hf:org/name", ("hf", "org/name", None, True)),
        ("st:clip-ViT-B-32", ("st", "clip-ViT-B-32", None, True)),
    ],
)
def test_names_of_models(text, wanted):
    spec = zoo.parse(text)
    assert (spec.library, spec.name, spec.pretrained, spec.trained) == wanted


@pytest.mark.parametrize("text", ["", "RN50", "hf:", "tf:name"])
def test_names_that_are_none(text):
    with pytest.raises(ValueError, match=r"^models: expected open_clip:NAME"):
        zoo.parse(text)


def call(*arguments):
    return main(["zoo", *(str(one) for one in arguments)])


def test_the_command_prints_the_table_and_adds_rows(models, opened, tmp_path, capsys):
    assert call("--models", ",".join(models[:2]), "--data", "coco:here", "--out", tmp_path / "zoo.csv") == 0
    out, err = capsys.readouterr()
    assert opened == ["coco:here"]
    assert "coco, 12" in out
    assert err.count("12 images") == 2
    assert zoo.read(tmp_path / "zoo.csv")["data"].tolist() == ["coco", "coco"]  # and not the reader's folder


def test_parts_of_one_data_set_with_as_many_images_are_two_rows(models, tmp_path, capsys):
    folder, out = tmp_path / "coco", tmp_path / "zoo.csv"
    natural_files.coco(folder, n=8, captions=2)
    assert call("--models", models[0], "--data", f"coco:{folder}", "--out", out) == 0
    natural_files.karpathy(folder, ["test"] * 8 + ["train"])
    assert call("--models", models[0], "--data", f"coco:{folder}", "--out", out) == 0
    frame = zoo.read(out)
    assert frame[["data", "n", "n_text"]].to_numpy().tolist() == [["coco val", 8, 16], ["coco test", 8, 40]]
    assert "has its row" not in capsys.readouterr().err


def test_data_without_a_length_are_refused(models, tmp_path, capsys):
    pattern = natural_files.shards(tmp_path / "shards")
    assert call("--models", models[0], "--data", f"webdataset:{pattern}", "--out", tmp_path / "zoo.csv") == 2
    assert "data: expected pictures that can be counted, got 'webdataset:" in capsys.readouterr().err


def test_the_command_ends_with_1_where_a_model_failed(models, opened, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    both = f"hf:{tmp_path}/empty,{models[0]}"
    assert call("--models", both, "--data", "coco:here", "--out", tmp_path / "zoo.csv") == 1
    out, err = capsys.readouterr()
    assert models[0] in out
    assert err.splitlines()[-1].startswith("gaplib: 1 of the models could not be measured: hf:")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--models": "open_clip:ViT-B-33"}, "open_clip lists no model 'ViT-B-33'; did you mean"),
        ({"--models": "open_clip:ViT-B-32:openia"}, "did you mean openai"),
        ({"--models": ","}, "models: expected at least one"),
        ({"--models": "nonsense"}, "models: expected open_clip:NAME"),
        ({"--device": "cuda:99"}, "device: this machine has no cuda:99"),
        ({"--batch-size": "0"}, "batch_size: expected"),
        ({"--out": "no/such/folder.csv"}, "out: expected a CSV file in a folder that is there"),
        ({"--out": "."}, "out: expected a CSV file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(opened, tmp_path, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    options = {"--models": "open_clip:RN50", "--data": "coco:here", "--out": "zoo.csv"} | change
    assert call(*(part for pair in options.items() for part in pair)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "model,data,n\nm,coco,1\n", '"', "model\n\xff"])
def test_files_that_are_no_table(opened, tmp_path, capsys, content):
    file = tmp_path / "zoo.csv"
    file.write_bytes(content.encode("latin-1"))
    assert call("--models", "open_clip:RN50", "--data", "coco:here", "--out", file) == 2
    assert "gaplib: out: " in capsys.readouterr().err
    assert file.read_bytes() == content.encode("latin-1")


def test_a_table_with_words_for_numbers(frame, tmp_path):
    frame["centroid_distance"] = "wide"
    frame.to_csv(tmp_path / "zoo.csv", index=False)
    with pytest.raises(ValueError, match=r"^out: expected numbers in the column 'centroid_distance'"):
        zoo.read(tmp_path / "zoo.csv")


def test_data_need_a_name(models, tmp_path):
    with pytest.raises(ValueError, match=r"^data: expected the name of a data set"):
        zoo.zoo(models[:1], Data(), tmp_path / "zoo.csv")
