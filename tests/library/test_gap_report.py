"""The report card: its values are the metrics, its floors permutation floors, its page one a browser can read."""

import importlib
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from gaplib import geometry as g
from gaplib._validate import check_matrix
from gaplib.evaluation import retrieval
from gaplib.geometry.metrics import METRICS
from gaplib.stats import permutation_floor
from gaplib.training.history import measure


def unit(n, d, seed=0, shift=0.0):
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[:, 0] += shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pair():
    x = unit(60, 8, shift=1)
    y = x + 0.5 * unit(60, 8, 1)
    y[:, 3] += 1
    return x, y / np.linalg.norm(y, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def report(pair):
    return g.gap_report(*pair, seed=3)


def test_values_are_those_of_the_metrics(pair, report):
    x, y = pair
    found = retrieval(x, y, (1,))
    expected = {
        "centroid_distance": g.centroid_distance(x, y),
        "relative_modality_gap": g.relative_modality_gap(x, y),
        "linear_separability": g.linear_separability(x, y, seed=3),
        "top5_coordinate_share": g.top_coordinate_share(x, y, 5),
        "alignment": g.alignment(x, y),
        "true_pair_cosine": g.true_pair_cosine(x, y),
        "image_to_text_at_1": found["image_to_text@1"],
        "text_to_image_at_1": found["text_to_image@1"],
        "uniformity_image": g.uniformity(x),
        "uniformity_text": g.uniformity(y),
        "cross_uniformity": g.cross_uniformity(x, y),
        "wasserstein_uniformity": g.wasserstein_uniformity(x, y),
        "mean_cosine_image": g.mean_cosine(x),
        "mean_cosine_text": g.mean_cosine(y),
        "effective_rank_image": g.effective_rank(x),
        "effective_rank_text": g.effective_rank(y),
    }
    got = report.to_dict()
    assert {key: got[key] for key in expected} == {key: float(value) for key, value in expected.items()}
    assert [row.key for row in report.rows() if row.key in expected] == list(expected)
    assert {key: getattr(report, key) for key in report.values} == report.values
    assert (got["n"], got["n_text"], got["d"], got["paired"], got["seed"]) == (60, 60, 8, True, 3)


@pytest.mark.parametrize("name", ["centroid_distance", "relative_modality_gap", "linear_separability"])
def test_floors_are_the_permutation_floors(pair, report, name):
    ours = report.floors[name]
    metric = getattr(g, name)
    statistic = (lambda x, y: metric(x, y, seed=3)) if name == "linear_separability" else metric
    theirs = permutation_floor(statistic, *pair, repeats=ours.repeats, seed=3)
    assert ours.samples == pytest.approx(theirs.samples, rel=1e-9, abs=1e-12)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high), rel=1e-9)


def test_the_coordinates_floor_is_the_rotation_null(pair, report):
    assert report.floors["top5_coordinate_share"].samples == pytest.approx(
        g.rotation_null(*pair, 5, repeats=200, seed=3).tolist()
    )


def test_a_real_gap_stands_out_and_no_gap_does_not(report):
    assert report.centroid_distance > report.floors["centroid_distance"].high
    assert report.linear_separability > report.floors["linear_separability"].high
    x, y = unit(400, 8), unit(400, 8, 1)
    none = g.gap_report(x, y)
    floor = none.floors["centroid_distance"]
    assert 0.5 * floor.low < none.centroid_distance < 1.5 * floor.high


def test_forms_hold_the_same(report):
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    frame = report.to_frame()
    for key, value in frame["value"].items():
        assert value == values[key]
    assert frame.loc["centroid_distance", "floor_high"] == values["floors"]["centroid_distance"]["high"]
    assert frame.loc["alignment", "floor"] is pd.NA
    text = str(report)
    assert f"{report.centroid_distance:.3f}" in text
    assert "60 pairs, 8 dimensions" in text
    assert max(map(len, text.splitlines()[:-1])) < 120


def test_columns_line_up(report):
    lines = [line for line in str(report).splitlines() if line.startswith("  ")]
    ends = {line.index("value") + 5 for line in lines if "value" in line}
    values = [row.label for row in report.rows()]
    for label, line in zip(values, [line for line in lines if "value" not in line], strict=True):
        assert line.startswith(f"  {label}")
        assert {len(line[: min(ends)].rstrip())} == ends


def test_unpaired_leaves_out_what_needs_pairs():
    report = g.gap_report(unit(30, 5), unit(50, 5, 1, 1), paired=False)
    missing = {key for key, value in report.to_dict().items() if value is None}
    needs_pairs = {row.name for row in METRICS.values() if row.report and row.needs_pairs}
    assert missing == needs_pairs | {
        "relative_modality_gap",
        "alignment",
        "true_pair_cosine",
        "cross_uniformity",
        "image_to_text_at_1",
        "text_to_image_at_1",
        "retrieval_chance",
        "n_groups",
    }
    assert set(report.floors) == {"centroid_distance", "linear_separability", "top5_coordinate_share"}
    assert str(report).count("\N{EN DASH}") == len(needs_pairs) + 2
    assert "nan" not in str(report).lower()
    assert report.to_frame()["value"].isna().sum() == len(needs_pairs) + 2


@pytest.mark.filterwarnings("error")
def test_edges_hold_no_nan():
    point = np.tile(unit(1, 3), (4, 1))
    for x, y in (
        (unit(2, 3), unit(2, 3, 1)),
        (unit(4, 1), unit(4, 1, 1)),
        (point, point),
        (point, -point),
        (unit(9, 4), unit(9, 4)),
    ):
        values = g.gap_report(x, y).to_dict()
        json.dumps(values, allow_nan=False)
        same = np.allclose(x.mean(0), y.mean(0))
        assert (values["top5_coordinate_share"] is None) == same


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision(pair, report, dtype):
    x, y = (torch.from_numpy(z).to(dtype) for z in pair)
    got = g.gap_report(x, y, seed=3)
    assert got.centroid_distance == pytest.approx(report.centroid_distance, rel=4 * torch.finfo(dtype).eps)


def test_same_seed_same_report(pair):
    assert g.gap_report(*pair).to_dict() == g.gap_report(*pair).to_dict()
    assert g.gap_report(*pair, seed=1).floors != g.gap_report(*pair, seed=2).floors


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        (dict(seed=-1), "seed"),
        (dict(paired="no"), "paired"),
        (dict(names=("a",)), "names"),
        (dict(names=("a", "a")), "names"),
        (dict(names=("a", 2)), "names"),
    ],
)
def test_bad_arguments_are_named(pair, keywords, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        g.gap_report(*pair, **keywords)


# --- groups: several captions an image --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captions():
    """40 images, image i with 1 + i % 4 captions near it: (image, text, group of each text)."""
    image, rng = unit(40, 6), np.random.default_rng(5)
    group = np.repeat(np.arange(40), 1 + np.arange(40) % 4)
    text = image[group] + 0.25 * rng.standard_normal((len(group), 6)) - 0.4
    return image, text / np.linalg.norm(text, axis=1, keepdims=True), group


def test_groups_give_the_retrieval_and_spread_of_the_images_unrepeated(captions):
    image, text, group = captions
    got = g.gap_report(image[group], text, groups=group)
    found = retrieval(image, text, (1,), text_groups=group)
    assert 0.1 < float(found["text_to_image@1"]) < 0.9
    assert got.image_to_text_at_1 == pytest.approx(float(found["image_to_text@1"]), abs=1e-12)
    assert got.text_to_image_at_1 == pytest.approx(float(found["text_to_image@1"]), abs=1e-12)
    for name in ("uniformity", "mean_cosine", "effective_rank"):
        assert getattr(got, f"{name}_image") == pytest.approx(float(getattr(g, name)(image)), rel=1e-12)
        assert getattr(got, f"{name}_text") == pytest.approx(float(getattr(g, name)(text)), rel=1e-12)
    kernel = np.exp(-2 * ((image[:, None] - text) ** 2).sum(axis=2))
    wrong = np.arange(40)[:, None] != group
    assert got.cross_uniformity == pytest.approx(np.log(kernel[wrong].mean()), rel=1e-11)
    assert (got.n_groups, got.notes) == (40, ())
    assert "100 pairs in 40 groups" in str(got)


def test_chance_of_retrieval_with_groups_is_that_of_random_ranks(captions):
    image, text, group = captions
    report = g.gap_report(image[group], text, groups=group)
    # Constant embeddings are ranked at random.
    chance = retrieval(np.ones((40, 2)), np.ones((100, 2)), (1,), text_groups=group)
    assert report.retrieval_chance == pytest.approx(float(chance["text_to_image@1"]), rel=1e-12)
    assert report.retrieval_chance == pytest.approx(float(chance["image_to_text@1"]), rel=1e-12)


def test_a_group_is_never_split_nor_exchanged_in_part():
    copies = np.repeat(np.arange(40), 25)
    x, y = (
        z / np.linalg.norm(z, axis=1, keepdims=True)
        for z in (unit(40, 64, seed)[copies] + 0.02 * unit(1000, 64, seed + 2) for seed in (0, 1))
    )
    alone, grouped = g.gap_report(x, y), g.gap_report(x, y, groups=copies)
    assert alone.linear_separability > alone.floors["linear_separability"].high + 0.2
    floor = grouped.floors["linear_separability"]
    assert grouped.linear_separability == float(g.linear_separability(x, y, groups=copies))
    assert grouped.linear_separability < floor.high
    for name in ("centroid_distance", "relative_modality_gap"):
        ours, metric = grouped.floors[name], getattr(g, name)
        # The 40 groups exchanged as wholes, here by hand.
        rng, by_hand = np.random.default_rng(0), []
        for _ in range(20):
            swap = (rng.random(40) < 0.5)[copies, None]
            by_hand.append(float(metric(np.where(swap, y, x), np.where(swap, x, y))))
        assert ours.samples[:20] == pytest.approx(by_hand, rel=1e-9)
        assert alone.floors[name].high < ours.high


@pytest.mark.parametrize(
    "kind",
    [
        list,
        torch.from_numpy,
        pd.Series,
        lambda group: [f"{one}.jpg" for one in group],
        lambda group: pd.Series([f"{one}.jpg" for one in group], dtype=object),
        lambda group: pd.Series([f"{one}.jpg" for one in group], dtype="string"),
        lambda group: np.array([f"{one}.jpg" for one in group], dtype=object),
        lambda group: pd.Series(group, dtype="Int64", index=range(len(group), 0, -1)),
    ],
)
def test_groups_of_every_kind_are_the_same(captions, kind):
    image, text, group = captions
    expected = g.gap_report(image[group], text, groups=group)
    assert g.gap_report(image[group], text, groups=kind(group)).image_to_text_at_1 == expected.image_to_text_at_1


@pytest.mark.parametrize(
    ("groups", "paired"),
    [
        ([0, 1], True),
        ([0] * 60, True),
        ([0.5] * 60, True),
        ([[0]] * 60, True),
        ([0, "1"] * 30, True),
        (pd.Series(["a", None] * 30, dtype=object), True),
        (np.arange(60), False),
    ],
)
def test_bad_groups_are_named(pair, groups, paired):
    with pytest.raises(ValueError, match=r"^groups: expected"):
        g.gap_report(*pair, paired=paired, groups=groups)


def test_copies_without_groups_are_noted_in_every_form(captions):
    image, text, group = captions
    report = g.gap_report(image[group], text, names=("photo", "words"))
    (note,) = report.notes
    assert note.startswith("photo: 60 of 100 rows are copies")
    assert json.loads(json.dumps(report.to_dict()))["notes"] == [note]
    for form in (" ".join(str(report).split()), report.to_html(), report._repr_html_()):
        assert f"Note: {note}" in form
    assert max(map(len, str(report).splitlines()[:-1])) < 120
    (unpaired,) = g.gap_report(image[group], text, paired=False).notes
    assert unpaired.startswith("image: 60 of 100 rows are copies")
    assert g.gap_report(image[group][::-1], image, paired=False).notes[0].startswith("image: 60 of 100")
    assert g.gap_report(image, image).notes == ()


# --- read once, and many rows -----------------------------------------------------------------------------------------


def test_each_matrix_is_checked_once(pair, monkeypatch):
    """Not by every metric again, and not in the floors' repeats."""
    names = []

    def spy(x, name, **keywords):
        names.append(name)
        return check_matrix(x, name, **keywords)

    for module in ("_validate", "geometry.inputs", "geometry.separability", "evaluation.retrieval"):
        monkeypatch.setattr(importlib.import_module(f"gaplib.{module}"), "check_matrix", spy)
    g.gap_report(*pair)
    assert names == ["x", "y"]
    names.clear()
    measure(*map(torch.from_numpy, pair), np.arange(60))
    assert names == ["x", "x"]  # normalize, of either modality


@pytest.fixture
def few(monkeypatch):
    """As if 300 pairs were many."""
    module = importlib.import_module("gaplib.geometry.report")
    for name, value in dict(
        UNIFORMITY_ROWS=200, SEPARABILITY_PAIRS=100, RETRIEVAL_SCORES=60_000, LEAST_QUERIES=10
    ).items():
        monkeypatch.setattr(module, name, value)
    for name in ("inputs", "distance", "spread"):
        monkeypatch.setattr(f"gaplib.geometry.{name}.ROWS_AT_A_TIME", 64)


def test_many_rows_are_sampled_with_a_note_and_closed_forms_are_not(few, monkeypatch):
    image = unit(300, 6)
    text = image + 0.5 * unit(300, 6, 1) + 0.5
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    report = g.gap_report(image, text)
    (note,) = report.notes
    for size in ("from 200 rows of each modality", "from 100 pairs", "from 100 queries a direction among all"):
        assert size in note
    monkeypatch.undo()
    whole = g.gap_report(image, text)
    assert whole.notes == ()
    sampled = {key for metric in METRICS.values() if metric.sample != "all" for key in metric.keys}
    assert sampled >= {"uniformity_image", "uniformity_text", "cross_uniformity", "linear_separability"}
    sampled |= {"image_to_text_at_1", "text_to_image_at_1"}
    for row, expected in zip(report.rows(), whole.rows(), strict=True):
        if row.key in sampled:
            assert row.value != expected.value
            assert row.value == pytest.approx(expected.value, abs=0.15), row.key
        else:
            assert row.value == pytest.approx(expected.value, rel=1e-10), row.key
    for name in ("centroid_distance", "relative_modality_gap"):
        assert report.floors[name].samples == pytest.approx(whole.floors[name].samples, rel=1e-10)


def test_a_sample_of_queries_has_all_candidates(few):
    """With copies of one row as wrong answers, a hit's chance is one in 300, as many as there are candidates."""
    point = np.tile(unit(1, 3), (300, 1))
    report = g.gap_report(point, point)
    assert report.image_to_text_at_1 == pytest.approx(1 / 300, rel=1e-12)
    assert report.text_to_image_at_1 == pytest.approx(1 / 300, rel=1e-12)


def test_a_sample_keeps_groups_whole_in_the_split_and_finds_the_small_one(few):
    copies = np.repeat(np.arange(10), 30)
    x, y = (unit(10, 32, seed)[copies] for seed in (0, 1))
    report = g.gap_report(x, y, groups=copies)
    assert report.linear_separability < 0.8  # with a copy on either side of the split it would be 1
    assert g.gap_report(x, y).linear_separability == 1
    for lonely in range(0, 300, 60):
        groups = np.zeros(300, dtype=int)
        groups[lonely] = 1
        values = g.gap_report(unit(300, 4), unit(300, 4, 1), groups=groups).to_dict()
        json.dumps(values, allow_nan=False)
        assert -8 <= values["cross_uniformity"] <= 0


class Outline(HTMLParser):
    """What a reader's software sees: balanced tags, and the cells of every row."""

    VOID = ("meta", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.rows, self.attributes = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((dict(attrs).get("scope"), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag in self.open):
            scope, text = self.rows[-1][-1]
            self.rows[-1][-1] = (scope, text + data)


@pytest.mark.parametrize("paired", [True, False])
def test_the_page_is_whole_and_labelled(pair, paired):
    report = g.gap_report(*pair, paired=paired, names=("<b>photo</b>", "text & more"))
    page = report.to_html()
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert page.startswith("<!DOCTYPE html>")
    assert outline.attributes["html"] == [{"lang": "en"}]
    for tag in ("title", "main", "h1", "caption", "thead"):
        assert outline.tags.count(tag) == 1, tag
    assert not {"b", "script", "link", "img"} & set(outline.tags)
    assert [scope for scope, _ in outline.rows[0]] == ["col"] * 4
    data = [row for row in outline.rows[1:] if len(row) > 1]
    assert len(data) == len(report.rows())
    for cells, row in zip(data, report.rows(), strict=True):
        assert cells[0] == ("row", row.label)
        assert cells[1][1] == ("\N{EN DASH}" if row.value is None else cells[1][1])
        if row.value is not None:
            assert float(cells[1][1]) == pytest.approx(row.value, abs=0.05 if abs(row.value) >= 100 else 5e-4)
    without_pairs = sum(metric.needs_pairs for metric in METRICS.values()) + 2  # and retrieval both ways
    assert page.count('aria-label="not applicable"') == (0 if paired else without_pairs)
    fragment = Outline()
    fragment.feed(report._repr_html_())
    assert fragment.tags[0] == "table"
    assert fragment.open == []
