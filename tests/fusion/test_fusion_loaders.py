"""The loaders of VQA v2, NLVR2 and SNLI-VE, on tiny files in the publishers' formats."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaplib.fusion import loaders


def picture(path: Path, colour: tuple[int, int, int], kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path, format=kind)


@pytest.fixture
def vqa(tmp_path):
    given = ["net"] * 5 + ["netting"] * 2 + ["mesh", "a net", "white"]
    questions = {
        "info": {"year": 2017, "version": "2.0"},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "data_subtype": "train2014",
        "license": {},
        "questions": [
            {"image_id": 123456, "question": "What hangs in front of the goal?", "question_id": 123456000},
            {"image_id": 9, "question": "Is it day?", "question_id": 9001},
        ],
    }
    annotations = {
        "info": {},
        "data_subtype": "train2014",
        "annotations": [
            {
                "question_type": kind,
                "multiple_choice_answer": answers[0],
                "answers": [
                    {"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, start=1)
                ],
                "image_id": image,
                "answer_type": "other",
                "question_id": question,
            }
            for kind, answers, image, question in (
                ("is it", ["yes"] * 10, 9, 9001),  # another order than the questions'
                ("what is this", given, 123456, 123456000),
            )
        ],
    }
    picture(tmp_path / "train2014" / "COCO_train2014_000000123456.jpg", (255, 0, 0))
    picture(tmp_path / "train2014" / "COCO_train2014_000000000009.jpg", (0, 0, 255))
    return tmp_path, questions, annotations


def load_vqa(folder, questions, annotations):
    (folder / "q.json").write_text(json.dumps(questions))
    (folder / "a.json").write_text(json.dumps(annotations))
    return loaders.vqa_v2(folder / "q.json", folder / "train2014", folder / "a.json")


def test_vqa_reads_questions_pictures_and_soft_scores(vqa):
    found = load_vqa(*vqa)
    assert [e.identifier for e in found] == ["123456000", "9001"]
    assert found[0].text == "What hangs in front of the goal?"
    assert found[0].answer == "net"
    expected = {"net": 1.0, "netting": 2 / 3, "mesh": 1 / 3, "a net": 1 / 3, "white": 1 / 3}
    assert found[0].scores == pytest.approx(expected)
    assert found[1].scores == {"yes": 1.0}
    images = found.images([0, 1], size=8)
    assert images.shape == (2, 1, 3, 8, 8)
    assert images.dtype == torch.float32
    assert np.allclose(images[:, 0].mean(dim=(2, 3)), [[1, 0, 0], [0, 0, 1]], atol=0.02)  # JPEG rounds
    assert found.answers() == ("net", "yes")
    assert len(found[:1]) == 1
    assert torch.allclose(found.targets(["yes", "netting", "net"]), torch.tensor([[0, 2 / 3, 1], [1, 0, 0]]))


def test_vqa_unknown_answers_are_an_error_or_zeros(vqa):
    found = load_vqa(*vqa)
    with pytest.raises(ValueError, match=r"questions\[1\]: expected a listed answer, got yes"):
        found.targets(["net"])
    assert found.targets(["net"], unknown="zero").tolist() == [[1.0], [0.0]]


def test_vqa_test_splits_have_no_answers(vqa):
    folder, questions, _ = vqa
    questions["data_subtype"] = "test-dev2015"  # asks about pictures of test2015
    questions["questions"] = questions["questions"][1:]
    (folder / "q.json").write_text(json.dumps(questions))
    picture(folder / "test2015" / "COCO_test2015_000000000009.jpg", (9, 9, 9))
    found = loaders.vqa_v2(folder / "q.json", folder / "test2015")
    assert found[0].scores == {}
    with pytest.raises(ValueError, match="this split holds none"):
        _ = found[0].answer


def _drop(key):
    return lambda q, a: q["questions"][1].pop(key)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (_drop("question"), ValueError, r"q\.json, questions\[1\]: expected a field 'question'"),
        (_drop("image_id"), ValueError, r"q\.json, questions\[1\]: expected a field 'image_id'"),
        (lambda q, a: q["questions"][0].update(question=" "), ValueError, r"questions\[0\]: question: .* empty"),
        (lambda q, a: q["questions"][0].update(image_id="9"), ValueError, r"questions\[0\]: image_id: expected int"),
        (lambda q, a: q["questions"][1].update(question_id=5), ValueError, "annotation of question_id 5 in .*a.json"),
        (lambda q, a: q["questions"][1].update(image_id=123456), ValueError, "expected image_id 9 as in"),
        (lambda q, a: a["annotations"][1].pop("answers"), ValueError, r"a\.json, annotations\[1\]: .*'answers'"),
        (lambda q, a: a["annotations"][0].update(answers=[]), ValueError, r"annotations\[0\]: .* empty list"),
        (lambda q, a: a["annotations"][0]["answers"][3].pop("answer"), ValueError, r"answers\[3\]: .* 'answer'"),
        (lambda q, a: q.update(questions=[]), ValueError, "at least one entry"),
        (lambda q, a: q.pop("data_subtype"), ValueError, "'data_subtype'"),
        (lambda q, a: q.update(data_subtype="val2014"), FileNotFoundError, "COCO_val2014_000000123456.jpg"),
    ],
)
def test_vqa_damage_is_named_with_its_place(vqa, damage, error, words):
    folder, questions, annotations = vqa
    damage(questions, annotations)
    with pytest.raises(error, match=words):
        load_vqa(folder, questions, annotations)


def test_broken_json_and_pictures_are_named(vqa):
    folder, _questions, _annotations = vqa
    found = load_vqa(*vqa)
    (folder / "q.json").write_text('{"data_subtype": "train2014",\n "questions": [}')
    with pytest.raises(ValueError, match=r"q\.json, line 2: expected JSON"):
        loaders.vqa_v2(folder / "q.json", folder / "train2014")
    (folder / "q.json").write_bytes(b'{"data_subtype": "\xff"}')
    with pytest.raises(ValueError, match=r"q\.json: expected text in UTF-8"):
        loaders.vqa_v2(folder / "q.json", folder / "train2014")
    found[0].images[0].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"COCO_train2014_000000123456\.jpg: expected a picture"):
        found.images([0])
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        loaders.vqa_v2(folder / "a.json", folder / "nowhere")


@pytest.fixture
def nlvr(tmp_path):
    entries = [
        {
            "validation": {"123": "True"},
            "sentence": "Both images show a box of crayons.",
            "left_url": "an address",
            "writer": "56",
            "label": label,
            "synset": "crayon box",
            "query": "crayon box3",
            "identifier": f"train-17-2-{i}",
            "right_url": "an address",
            "directory": 63,
        }
        for i, label in enumerate(("False", "True"))
    ]
    picture(tmp_path / "train" / "63" / "train-17-2-img0.png", (255, 0, 0), "JPEG")  # as the publisher's may be
    picture(tmp_path / "train" / "63" / "train-17-2-img1.png", (0, 255, 0))
    return tmp_path, entries


def load_lines(folder, entries, loader, images):
    (folder / "data.json").write_text("".join(json.dumps(e) + "\n" for e in entries))
    return loader(folder / "data.json", folder / images)


def test_nlvr2_reads_left_before_right(nlvr):
    found = load_lines(*nlvr, loaders.nlvr2, "train")
    assert [e.answer for e in found] == ["false", "true"]
    images = found.images([1], size=5)
    assert images.shape == (1, 2, 3, 5, 5)
    assert np.allclose(images[0].mean(dim=(2, 3)), [[1, 0, 0], [0, 1, 0]], atol=0.02)


def test_nlvr2_reads_pictures_of_one_folder(nlvr):
    folder, entries = nlvr
    for entry in entries:
        entry.pop("directory")  # dev and test have none
    assert len(load_lines(folder, entries, loaders.nlvr2, "train/63")) == 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"label": "maybe"}, ValueError, "line 2: label: expected True or False, got 'maybe'"),
        ({"sentence": ""}, ValueError, "line 2: sentence: .* empty"),
        ({"identifier": "x"}, ValueError, "line 2: identifier"),
        ({"identifier": "dev-1-0-0"}, FileNotFoundError, r"line 2: expected the picture dev-1-0-img0\.png"),
    ],
)
def test_nlvr2_damage_is_named_with_its_line(nlvr, change, error, words):
    folder, entries = nlvr
    entries[1].update(change)
    with pytest.raises(error, match=words):
        load_lines(folder, entries, loaders.nlvr2, "train")


@pytest.mark.parametrize("field", ["Flickr30K_ID", "Flikr30kID"])
def test_snli_ve_reads_the_publishers_spellings(tmp_path, field):
    picture(tmp_path / "flickr" / "1234567890.jpg", (0, 0, 255))
    entries = [
        {
            "annotator_labels": [label],
            "captionID": "1234567890.jpg#2",
            field: "1234567890" + (".jpg" if i else ""),
            "gold_label": label,
            "pairID": f"1234567890.jpg#2r1{i}",
            "sentence1": "Two people stand on a pier.",
            "sentence2": "The people hold nets.",
        }
        for i, label in enumerate(("entailment", "neutral", "contradiction"))
    ]
    found = load_lines(tmp_path, entries, loaders.snli_ve, "flickr")
    assert [e.answer for e in found] == ["entailed", "neutral", "contradicted"]
    assert found[0].text == "The people hold nets."
    assert found[0].identifier == "1234567890.jpg#2r10"
    assert found.images([0, 2], size=3).shape == (2, 1, 3, 3, 3)
    for change, error, words in (
        ({"gold_label": "-"}, ValueError, "line 3: gold_label: expected one of entailment.* got '-'"),
        ({"sentence2": "  "}, ValueError, "line 3: sentence2: .* empty"),
        ({field: "1"}, FileNotFoundError, r"line 3: expected the picture 1\.jpg in .*flickr"),
    ):
        with pytest.raises(error, match=words):
            load_lines(tmp_path, [*entries[:2], entries[2] | change], loaders.snli_ve, "flickr")
    with pytest.raises(ValueError, match="line 1: expected a field 'Flickr30K_ID'"):
        load_lines(tmp_path, [{"gold_label": "neutral", "sentence2": "x"}], loaders.snli_ve, "flickr")
    with pytest.raises(ValueError, match="line 1: expected a JSON object, got list"):
        load_lines(tmp_path, [[]], loaders.snli_ve, "flickr")
    good = json.dumps(entries[0])
    for damaged, words in (
        (b"{", "line 2: expected JSON"),
        (b'{"sentence2": "\xe9"}', "line 2: expected text in UTF-8"),
    ):
        (tmp_path / "data.json").write_bytes(good.encode() + b"\n" + damaged)
        with pytest.raises(ValueError, match=words):
            loaders.snli_ve(tmp_path / "data.json", tmp_path / "flickr")
