"""Natural images with captions or classes, from tiny files in the true on-disk formats, written here."""

import hashlib
import io
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from natural_files import coco, csv, image, karpathy, picture_bytes, shard, shards, simat
from PIL import Image

from gaplib._extras import MissingExtra
from gaplib.data import DataUnavailable
from gaplib.data.natural import Captioned, open_data, picture
from gaplib.data.natural.classes import PROMPTS
from gaplib.data.natural.shards import Shards
from gaplib.evaluation.arithmetic import simat_score

# --- COCO and Flickr30k ----------------------------------------------------------------------------------------------


def test_coco_in_the_order_of_ids_with_five_captions(tmp_path):
    content = coco(tmp_path, n=4)
    data = open_data(f"coco:{tmp_path}")
    assert len(data) == 4
    assert (data.name, data.split) == (f"coco:{tmp_path}", "val")
    by_name = {entry["file_name"]: entry["id"] for entry in content["images"]}
    ids = [by_name[path.name] for path, _ in data]
    assert ids == sorted(by_name.values())
    for (path, captions), number in zip(data, ids, strict=True):
        assert captions == [one["caption"] for one in content["annotations"] if one["image_id"] == number]
        assert len(captions) == 5
        assert picture(path).size == (40, 40)
    assert [path for path, _ in data[1:3]] == [data[1][0], data[2][0]]
    assert [captions for _, captions in data.sample(2, seed=1)] == [captions for _, captions in data.sample(2, seed=1)]
    assert len(data.sample(9)) == 4


def test_coco_takes_karpathys_split_where_it_is(tmp_path):
    karpathy(tmp_path, ["train", "restval", "val", "test", "test"])
    sizes = {split: len(open_data(f"coco:{tmp_path}", split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 2, "val": 1, "test": 2}
    assert open_data(f"coco:{tmp_path}").split == "test"
    assert open_data(f"coco:{tmp_path}", "val")[0][1][3] == "Sentence 3 of 2."


def test_coco_of_2014_and_pictures_in_a_folder_of_their_own(tmp_path):
    coco(tmp_path, part="train", year="2014")
    (tmp_path / "images").mkdir()
    (tmp_path / "train2014").rename(tmp_path / "images" / "train2014")
    data = open_data(f"coco:{tmp_path}", "train")
    assert data[0][0].parent == tmp_path / "images" / "train2014"


def test_missing_pictures_are_counted_and_the_first_is_named(tmp_path):
    coco(tmp_path, n=6)
    lost = sorted((tmp_path / "val2017").iterdir())[1:4]
    for path in lost:
        path.unlink()
    with pytest.raises(DataUnavailable, match=rf"captions_val2017.json: 3 of 6 pictures are missing, .*{lost[0].name}"):
        open_data(f"coco:{tmp_path}")


def test_missing_annotations_say_which_and_who_has_them(tmp_path):
    with pytest.raises(DataUnavailable, match=r"no .*captions_val2017.json .or .*val2014.json.; cocodataset.org"):
        open_data(f"coco:{tmp_path}")
    coco(tmp_path)
    with pytest.raises(DataUnavailable, match=r"dataset_coco.json.*split 'test' is Karpathy's"):
        open_data(f"coco:{tmp_path}", "test")
    with pytest.raises(DataUnavailable, match="there is no folder"):
        open_data(f"coco:{tmp_path / 'elsewhere'}")
    with pytest.raises(ValueError, match="split: expected one of train, val, test, got 'dev'"):
        open_data(f"coco:{tmp_path}", "dev")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "..\\secret.jpg", "C:/secret.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    content = coco(tmp_path, n=2)
    image(tmp_path / "secret.jpg")
    content["images"][0]["file_name"] = name
    (tmp_path / "annotations/captions_val2017.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a name inside"):
        open_data(f"coco:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 1, "caption": "x"}]}, r"annotations\[0\]: expected the id of an image.*got .*1"),
        ({"annotations": []}, "expected at least one picture with a caption"),
        ({"images": {}}, "images: expected list"),
        ({"images": [{"id": "1", "file_name": "x"}]}, r"images\[0\]: id: expected int, got '1'"),
        ({"annotations": [{"image_id": 100, "caption": " "}]}, "caption: expected at least one word"),
    ],
)
def test_annotations_that_are_not_cocos(tmp_path, change, message):
    content = coco(tmp_path, n=2)
    (tmp_path / "annotations/captions_val2017.json").write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=message):
        open_data(f"coco:{tmp_path}")


def test_flickr30k_by_token_file_and_by_karpathys(tmp_path):
    lines = []
    for number in (20, 3):
        image(tmp_path / "flickr30k-images" / f"{number}.jpg", seed=number)
        lines += [f"{number}.jpg#{i}\tA caption , number {i} of {number} ." for i in range(5)]
    token = tmp_path / "results_20130124.token"
    token.write_text("\n".join(lines) + "\n")
    data = open_data(f"flickr30k:{tmp_path}")
    assert [(path.name, captions[4]) for path, captions in data] == [
        ("20.jpg", "A caption , number 4 of 20 ."),
        ("3.jpg", "A caption , number 4 of 3 ."),
    ]
    with pytest.raises(DataUnavailable, match=r"dataset_flickr30k.json"):
        open_data(f"flickr30k:{tmp_path}", "test")
    token.write_text("20.jpg#0 no tab\n")
    with pytest.raises(ValueError, match="expected lines of NAME#NUMBER, a tab and a caption"):
        open_data(f"flickr30k:{tmp_path}")
    karpathy(tmp_path, ["train", "test"], "flickr30k")
    assert open_data(f"flickr30k:{tmp_path}")[0][1][0] == "Sentence 0 of 1."


# --- csv -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", ","])
def test_csv_joins_the_captions_of_a_picture(tmp_path, separator):
    for i in range(2):
        image(tmp_path / "pictures" / f"{i}.png", seed=i, kind="PNG")
    rows = [("pictures/1.png", "one"), (str(tmp_path / "pictures/0.png"), "nan"), ("pictures/1.png", "another")]
    data = open_data(f"csv:{csv(tmp_path / 'pairs.csv', rows, separator)}")
    assert [(path.name, captions) for path, captions in data] == [("1.png", ["one", "another"]), ("0.png", ["nan"])]
    assert all(picture(path).size == (40, 40) for path, _ in data)


def test_csv_agrees_with_open_clips_own_reader(tmp_path, monkeypatch):
    from open_clip_train.data import CsvDataset

    monkeypatch.chdir(tmp_path)
    rows = [(str(image(Path("pictures") / f"{i}.jpg", seed=i)), f"caption {i}") for i in range(3)]
    file = csv(tmp_path / "pairs.tsv", rows)
    theirs = CsvDataset(file, np.asarray, "filepath", "title", tokenizer=lambda texts: texts)
    for (path, captions), (pixels, caption) in zip(open_data(f"csv:{file}"), theirs, strict=False):
        assert captions == [caption]
        assert np.array_equal(np.asarray(picture(path)), pixels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,title\na.jpg,b\n", "column: expected one of path, title, got 'filepath'"),
        ("filepath,title\n", "at least one row"),
        ("", "expected a table"),
        ("filepath,title\na.jpg,b\na.jpg,\n", "expected a title in every row, got none in 1, first 2"),
        ("filepath,title\na.jpg,b\na.jpg,b,c\n", "expected a table"),
    ],
)
def test_csv_of_another_form(tmp_path, text, message):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_data(f"csv:{tmp_path / 'pairs.csv'}")


def test_csv_and_its_pictures_must_be_there(tmp_path):
    with pytest.raises(DataUnavailable, match="there is no file"):
        open_data(f"csv:{tmp_path / 'pairs.csv'}")
    file = csv(tmp_path / "pairs.csv", [("a.jpg", "x"), ("b.jpg", "y"), ("a.jpg", "z")])
    with pytest.raises(DataUnavailable, match=r"2 of 2 pictures are missing, the first is .*a\.jpg"):
        open_data(f"csv:{file}")


# --- webdataset ------------------------------------------------------------------------------------------------------


def test_webdataset_in_order_shuffled_and_by_glob(tmp_path):
    pattern = shards(tmp_path, n=2, per_shard=5)
    data = open_data(f"webdataset:{pattern}")
    captions = [captions for _, captions in data]
    assert captions == [[f"picture number {i}"] for i in range(10)]
    assert [captions for _, captions in data] == captions  # again from the start
    first, _ = next(iter(data))
    assert np.array_equal(np.asarray(first), np.asarray(Image.open(io.BytesIO(picture_bytes(0)))))
    shuffled = [text for _, text in data.read(seed=3)]
    assert shuffled != captions
    assert sorted(shuffled) == sorted(captions)
    assert shuffled == [text for _, text in data.read(seed=3)]
    assert shuffled != [text for _, text in data.read(seed=4)]
    assert len(list(Shards(str(tmp_path / "*.tar")))) == 10
    with pytest.raises(TypeError):
        len(data)


def test_webdataset_passes_over_what_is_incomplete_and_unpickles_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    bomb = pickle.dumps(Bomb())
    samples = [("a.jpg", picture_bytes(1)), ("b.txt", b"no picture"), ("c.png", picture_bytes(2, kind="PNG"))]
    samples += [("c.txt", b"a caption"), ("c.pkl", bomb), ("c.pyd", bomb), ("c.cls", b"3")]
    data = Shards(str(shard(tmp_path / "x.tar", samples)))
    assert [captions for _, captions in data] == [["a caption"]]
    assert not (tmp_path / "exploded").exists()


def test_webdataset_that_escapes_is_damaged_missing_or_empty(tmp_path):
    good = [("a.jpg", picture_bytes(1)), ("a.txt", b"fine")]
    for name in ("../escaped.jpg", "/escaped.jpg", "x/../../escaped.jpg"):
        path = shard(tmp_path / "bad.tar", [*good, (name, picture_bytes(2))])
        with pytest.raises(ValueError, match=r"bad\.tar: .*leads out of the archive's folder"):
            list(Shards(str(path)))
        assert not list(tmp_path.rglob("escaped*"))
    whole = shard(tmp_path / "cut.tar", good).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    with pytest.raises(ValueError, match=r"cut\.tar: expected a tar file"):
        list(Shards(str(tmp_path / "cut.tar")))
    with pytest.raises(ValueError, match="expected at least one sample"):
        list(Shards(str(shard(tmp_path / "none.tar", good[:1]))))
    with pytest.raises(ValueError, match=r"broken\.tar, a: expected a picture"):
        list(Shards(str(shard(tmp_path / "broken.tar", [("a.jpg", b"no picture"), good[1]]))))
    shard(tmp_path / "s" / "00000.tar", good)
    with pytest.raises(DataUnavailable, match=r"2 of 3 shards are missing, first .*00001"):
        Shards(str(tmp_path / "s" / "{00000..00002}.tar"))
    with pytest.raises(DataUnavailable, match="there is no file"):
        Shards(str(tmp_path / "q*.tar"))
    for pattern in ("pipe:cat x.tar", "https://example.org/x.tar"):
        with pytest.raises(ValueError, match="expected local tar files"):
            Shards(pattern)


# --- classes ---------------------------------------------------------------------------------------------------------


def cifar_binary(folder, files, names, classes, label_bytes, n=3):
    """The binary version: labels, then red, green and blue planes, a record; returns the pixels by file."""
    folder.mkdir(parents=True)
    (folder / names).write_text("\n".join(classes) + "\n")
    made = {}
    for k, file in enumerate(files):
        draw = np.random.default_rng(k)
        pixels = draw.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        labels = [(k + i) % len(classes) for i in range(n)]
        records = [
            bytes([7] * (label_bytes - 1) + [one]) + rows.tobytes() for one, rows in zip(labels, pixels, strict=True)
        ]
        (folder / file).write_bytes(b"".join(records))
        made[file] = pixels.transpose(0, 2, 3, 1), labels
    return made


def test_cifar_from_the_binary_version(tmp_path):
    batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
    classes = ["airplane", "automobile"]
    made = cifar_binary(tmp_path / "cifar-10-batches-bin", [*batches, "test_batch.bin"], "batches.meta.txt", classes, 1)
    test, train = open_data(f"cifar10:{tmp_path}"), open_data(f"cifar10:{tmp_path}", "train")
    assert (len(test), len(train)) == (3, 15)
    pixels, labels = made["test_batch.bin"]
    assert test.label.tolist() == labels
    assert np.array_equal(np.asarray(test[2][0]), pixels[2])
    assert np.array_equal(np.asarray(train[14][0]), made[batches[4]][0][2])
    assert test[0][1] == test.prompts[labels[0]]
    assert test.subset([2, 0]).label.tolist() == [labels[2], labels[0]]
    names = ["apple", "aquarium_fish", "pickup_truck"]
    made = cifar_binary(tmp_path / "cifar-100-binary", ["train.bin", "test.bin"], "fine_label_names.txt", names, 2)
    hundred = open_data(f"cifar100:{tmp_path}")
    assert hundred.label.tolist() == made["test.bin"][1]  # the fine label, not the coarse one before it
    assert hundred.classes == ["apple", "aquarium fish", "pickup truck"]
    assert "a blurry photo of the aquarium fish." in hundred.prompts[1]
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(b"short")
    with pytest.raises(DataUnavailable, match="expected records of 3074 bytes, got 5"):
        open_data(f"cifar100:{tmp_path}")


def test_prompts_are_those_that_openai_published():
    plain = ["", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good "]
    expected = {f"a {one}photo of {the} {{}}." for one in plain for the in ("a", "the")}
    expected |= {f"a photo of {the} {size} {{}}." for size in ("small", "big") for the in ("a", "the")}
    assert len(PROMPTS) == 18
    assert set(PROMPTS) == expected


def test_cifars_pickles_are_not_opened_unless_they_are_the_publishers(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataUnavailable, match=r"data_batch_1: missing, or not the publisher's .*it was not opened"):
        open_data(f"cifar10:{tmp_path}")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(DataUnavailable, match=r"no .*cifar-100-binary .nor .*cifar-100-python.*cs.toronto.edu"):
        open_data(f"cifar100:{tmp_path}")


def test_cifars_python_version_through_torchvision(tmp_path, monkeypatch):
    """Files of our own, whose MD5 torchvision is told for this test."""
    from torchvision import datasets

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    contents = {
        "train": {"data": pixels, "fine_labels": [0, 1]},
        "test": {"data": pixels[::-1].copy(), "fine_labels": [1, 0]},
        "meta": {"fine_label_names": ["apple", "maple_tree"]},
    }
    md5 = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": md5["meta"]})
    data = open_data(f"cifar100:{tmp_path}")
    assert data.label.tolist() == [1, 0]
    assert data.classes == ["apple", "maple tree"]
    assert np.array_equal(np.asarray(data[0][0]), pixels[1].reshape(3, 32, 32).transpose(1, 2, 0))


def test_emnist_has_the_characters_names(tmp_path):
    from test_emnist import BALANCED, bars, write

    write(tmp_path, "balanced", bars(3)[1], [BALANCED.index(one) for one in "7aC"])
    data = open_data(f"emnist:{tmp_path}")
    assert [captions for _, captions in data] == [
        ["digit seven"],
        ["latin small letter a"],
        ["latin capital letter c", "latin small letter c"],
    ]
    assert picture(data[0][0]).size == (24, 24)
    with pytest.raises(DataUnavailable, match="no readable files"):
        open_data(f"emnist:{tmp_path / 'elsewhere'}")


# --- SIMAT -----------------------------------------------------------------------------------------------------------


def test_simat_scores_as_its_authors_do(tmp_path):
    scores = simat(tmp_path)
    data = open_data(f"simat:{tmp_path}")
    assert (len(data), data.own.tolist(), data.source, data.target) == (5, [0, 1], ["cat", "dog"], ["dog", "cat"])
    assert data[2][1] == ["A cat sitting on a bed"]
    assert np.allclose(data.similarity, scores[:, [1, 0]].T)
    draw = np.random.default_rng(0)
    bank, word = draw.normal(size=(5, 6)), dict(zip(("cat", "dog"), draw.normal(size=(2, 6)), strict=True))
    found = simat_score(
        bank[data.own],
        np.stack([word[one] for one in data.source]),
        np.stack([word[one] for one in data.target]),
        bank,
        data.similarity,
        data.norm2,
        own=data.own,
    )
    # the authors' loop, on their own arrays
    unit = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    word = {name: value / np.linalg.norm(value) for name, value in word.items()}
    hits = []
    for own, source, target, column in zip([0, 1], ["cat", "dog"], ["dog", "cat"], [1, 0], strict=True):
        nearest = np.argsort(-(unit @ (unit[own] + word[target] - word[source])))[:5]
        nearest = nearest[0] if nearest[0] != own else nearest[1]
        hits.append(float(scores[nearest, column]) > 0.5)
    assert found == pytest.approx(100 * np.average(hits, weights=1 / np.sqrt([4, 16])))
    assert open_data(f"simat:{tmp_path}", "test").own.tolist() == [2]


def test_simat_says_what_is_missing(tmp_path):
    simat(tmp_path)
    db = tmp_path / "simat_db"
    next((db / "images").rglob("98.jpg")).unlink()
    with pytest.raises(DataUnavailable, match=r"1 of 5 pictures are missing, .*98\.jpg"):
        open_data(f"simat:{tmp_path}")
    image(db / "images" / "A cat sitting on a bed" / "98.jpg")
    torch.save(torch.zeros(4, 3), db / "oscar_similarity_matrix.pt")
    with pytest.raises(ValueError, match=r"expected \(5, captions\)"):
        open_data(f"simat:{tmp_path}")
    (db / "oscar_similarity_matrix.pt").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ValueError, match="expected a matrix saved by torch"):
        open_data(f"simat:{tmp_path}")
    (db / "oscar_similarity_matrix.pt").unlink()
    with pytest.raises(DataUnavailable, match=r"no .*oscar_similarity_matrix.pt; it comes with github"):
        open_data(f"simat:{tmp_path}")


# --- what all share --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["coco", "coco:", "cocoa:/data", ""])
def test_a_specification_that_is_none(spec):
    with pytest.raises(ValueError, match=r"data: expected (KIND:WHERE with )?one of .*coco, flickr30k, csv"):
        open_data(spec)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"GIF89a but no more")
    with pytest.raises(ValueError, match=r"x\.jpg: expected a picture"):
        picture(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="captions: expected one list a picture"):
        Captioned(["a"], [], "x")


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MissingExtra, match="pip install webdataset"):
        open_data("webdataset:x.tar")
