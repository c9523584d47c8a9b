"""``gaplib.measure``: the card of arrays and files, its intervals, places, advice, and what the command makes of it."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

import gaplib
from gaplib import geometry as g
from gaplib.__main__ import main
from gaplib.claims import CLAIMS
from gaplib.measuring import advice, models
from gaplib.measuring.card import HEADLINE, PLACED
from gaplib.stats import jackknife
from tools import measured as tool


def unit(n, d, seed=0, shift=0.0):
    x = np.random.default_rng(seed).standard_normal((n, d)) + shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


X = unit(200, 8, 0, 0.4)
Y = unit(200, 8, 1) + X
Y /= np.linalg.norm(Y, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def card():
    return gaplib.measure(X, Y, seed=3)


def test_the_report_is_gap_reports(card):
    expected = g.gap_report(X, Y, seed=3).to_dict()
    got = card.to_dict()
    for key, value in expected.items():
        if isinstance(value, float):
            assert got[key] == pytest.approx(value, rel=1e-12), key
    assert got["floors"].keys() == expected["floors"].keys()
    assert json.loads(json.dumps(got, allow_nan=False)) == got


@pytest.mark.parametrize(
    "key", ["centroid_distance", "relative_modality_gap", "alignment", "true_pair_cosine", "top5_coordinate_share"]
)
def test_intervals_are_the_jackknife(card, key):
    function = (lambda x, y: g.top_coordinate_share(x, y, 5)) if key.startswith("top5") else getattr(g, key)
    expected = jackknife(function, X, Y, seed=3)
    got = card.intervals[key]
    assert (got.low, got.high, got.se) == pytest.approx((expected.low, expected.high, expected.se), rel=1e-6)
    assert got.samples == pytest.approx(expected.samples, rel=1e-9)


def test_intervals_of_one_modality_and_of_shares(card):
    expected = jackknife(g.mean_cosine, Y, seed=3)
    assert card.intervals["mean_cosine_text"].samples == pytest.approx(expected.samples, rel=1e-9)
    share = card.intervals["text_to_image_at_1"]
    p, n, z = round(share.value * 200) / 200, 200, 1.959964  # Wilson (1927)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (share.low, share.high) == pytest.approx(
        ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)), rel=1e-4
    )
    assert card.intervals["linear_separability"].n == 40
    assert "uniformity_image" not in card.intervals


def test_few_items_have_no_jackknife():
    few = gaplib.measure(X[:30], Y[:30])
    assert set(few.intervals) == {"linear_separability", "image_to_text_at_1", "text_to_image_at_1"}


def test_pairs_are_the_image_repeated():
    index = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 4))
    card = gaplib.measure(X[:60], Y, pairs=index)
    expected = gaplib.measure(X[index], Y, groups=index)
    assert card.report.values == pytest.approx(expected.report.values, rel=1e-12, nan_ok=True)
    assert card.report.n_groups == 50
    assert card.notes == ("10 of 60 rows of image have no row of text and are left out",)
    assert {key: one.se for key, one in card.intervals.items()} == pytest.approx(
        {key: one.se for key, one in expected.intervals.items()}
    )


@pytest.mark.parametrize("form", ["numpy half", "torch", "bfloat16", "path", "mapped"])
def test_whatever_it_comes_as(card, tmp_path, form, monkeypatch):
    if form == "path":
        np.savez(tmp_path / "both.npz", image=3 * X, text=Y)
        given = (tmp_path / "both.npz",)
    elif form == "mapped":
        monkeypatch.setattr("gaplib.measuring.modalities.IN_MEMORY", 0)
        given = (X, Y)
    else:
        given = [
            {
                "numpy half": z.astype(np.float16),
                "torch": torch.from_numpy(z),
                "bfloat16": torch.from_numpy(z).bfloat16(),
            }[form]
            for z in (X, Y)
        ]
    got = gaplib.measure(*given, seed=3)
    half = form in ("numpy half", "bfloat16")
    assert got.report.centroid_distance == pytest.approx(card.report.centroid_distance, rel=0.02 if half else 1e-12)
    assert got.report.names == ("image", "text")
    assert got.intervals.keys() == card.intervals.keys()


def test_more_than_two_modalities_are_a_matrix():
    z = unit(150, 8, 7, -1.0)
    card = gaplib.measure({"image": X, "text": Y, "audio": np.vstack([z, z[:50]])})
    assert list(card.measured) == [("image", "text"), ("image", "audio"), ("text", "audio")]
    for key in HEADLINE:
        frame = card.matrix(key)
        assert frame.index.tolist() == frame.columns.tolist() == ["image", "text", "audio"]
        assert frame.isna().sum().sum() == 3
        assert frame.loc["image", "audio"] == frame.loc["audio", "image"]
    assert card.matrix("centroid_distance").loc["image", "text"] == pytest.approx(float(g.centroid_distance(X, Y)))
    assert card.to_dict()["matrix"]["centroid_distance"]["text"]["text"] is None
    json.dumps(card.to_dict(), allow_nan=False)
    for form in (str(card), card.to_html(), card._repr_html_()):
        assert f"{card.matrix('recall_at_1').loc['text', 'audio']:.3f}" in form
    with pytest.raises(ValueError, match="expected two modalities, got image, text, audio"):
        _ = card.report


def test_comparison_is_the_paired_difference(card):
    moved = Y - 0.5 * Y.mean(0)
    compared = gaplib.measure(X, Y, seed=3, compare=(X, moved))
    other = gaplib.measure(X, moved, seed=3)
    change = compared.differences["centroid_distance"]
    assert change.value == pytest.approx(other.report.centroid_distance - card.report.centroid_distance, rel=1e-9)

    def both(x, y, z):
        return g.centroid_distance(x, g.normalize(z)) - g.centroid_distance(x, y)

    expected = jackknife(both, X, Y, moved, seed=3)
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert compared.differences["uniformity_image"] == 0
    assert "other minus this" in str(compared)
    got = compared.to_dict()
    assert got["differences"]["centroid_distance"]["value"] == pytest.approx(change.value)
    fewer = gaplib.measure(X, Y, seed=3, compare=(X[:120], Y[:120])).differences["centroid_distance"]
    assert fewer.method == "independent samples"
    assert fewer.se > card.intervals["centroid_distance"].se


def test_rows_that_were_drawn_of_other_numbers_of_pairs_are_not_the_same_items():
    fewer = gaplib.measure(X, Y, seed=3, subsample=50, compare=(X[:120], Y[:120])).differences["centroid_distance"]
    assert fewer.method == "independent samples"
    same = gaplib.measure(X, Y, seed=3, subsample=50, compare=(X, Y)).differences["centroid_distance"]
    assert (same.value, same.low, same.high) == (0, 0, 0)  # item by item nothing differs


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_form_shows_the_numbers(card):
    frame = card.to_frame()
    assert frame.loc["centroid_distance", "low"] < frame.loc["centroid_distance", "value"]
    assert frame.loc["uniformity_image", "low"] is pd.NA
    assert set(frame.index[frame["place"] != ""]) == set(PLACED)
    named = gaplib.measure(X, Y, names=("<b>photo", "text & more"))
    for form in (named.to_html(), named._repr_html_()):
        tags = Tags()
        tags.feed(form)
        assert tags.open == []
        assert not {"b", "script", "img"} & set(tags.seen)
        assert f"{named.report.centroid_distance:.3f} [" in form
    assert str(card).count("Evidence: ") == len(card.advice) > 0


# --- places -----------------------------------------------------------------------------------------------------------


def test_the_table_of_models_has_the_schema_and_its_rows_are_measured():
    frame = models.read_rows()
    assert list(frame.columns) == list(models.COLUMNS)
    assert frame["model"].is_unique
    assert frame.loc[frame["trained"].astype(bool), list(PLACED)].notna().all(axis=None)
    expected = tool.glyph_row(trained=False)
    row = frame[frame["model"] == expected["model"]].iloc[0]
    for key in models.VALUES:
        # A few queries or rows may fall on the other side elsewhere.
        assert row[key] == pytest.approx(expected[key], rel=1e-3, abs=5e-3), key


def test_the_table_agrees_with_the_confirming_run():
    """The cone of the images of CLIP, as chapter 02 found it on the same embeddings."""
    content = json.loads((tool.MEASURED.parents[2] / "results/confirm/02.json").read_text())
    cosine = next(one for one in content["results"] if one["name"] == "L3.clip.image.mean_cosine")
    row = models.read_rows().set_index("model").loc["CLIP on COCO captions"]
    assert row["mean_cosine_image"] == pytest.approx(cosine["value"], abs=1e-4)


def test_rows_are_added_and_replaced(tmp_path, card):
    path = tmp_path / "mine.csv"
    models.write_rows(
        path, [models.row_of("A, b", "here", card.report), models.row_of("C", "here", card.report, False)]
    )
    models.write_rows(path, [{**models.row_of("A, b", "there", card.report), "recall@5": 0.5}])
    frame = models.read_rows(path)
    assert frame["model"].tolist() == ["C", "A, b"]
    assert frame["source"].tolist() == ["here", "there"]
    assert frame["recall@5"].isna().tolist() == [True, False]
    assert models.place("alignment", 0.0, frame).startswith("above 0 of 1; nearest A, b, ")
    placed = gaplib.measure(X, Y, among=path)
    assert set(placed.places) == set(PLACED)
    assert "nearest A, b" in str(placed)
    content = path.read_text()
    for old, new, message in (
        (",False,", ",no,", "mine.csv: expected True or False in the column trained"),
        (f",{frame['alignment'][0]:.6g},", ",high,", "mine.csv: expected numbers in the column alignment"),
    ):
        path.write_text(content.replace(old, new, 1))
        assert path.read_text() != content
        with pytest.raises(ValueError, match=message):
            gaplib.measure(X, Y, among=path)
    path.write_text("model,n\nA,3\n")
    with pytest.raises(ValueError, match=r"mine.csv: expected the columns of a table of measured models"):
        gaplib.measure(X, Y, among=path)


# --- advice -----------------------------------------------------------------------------------------------------------


def test_advice_stands_on_claims_and_promises_no_number():
    for rule in advice.RULES:
        assert rule.advice.claims
        assert set(rule.advice.claims) <= set(CLAIMS)
        assert not any(character.isdigit() for character in rule.advice.when + rule.advice.text)


def test_advice_follows_what_was_measured(card):
    none = gaplib.measure(unit(300, 8), unit(300, 8, 1))
    assert "nothing to close" in none.advice[0].text
    assert any("hardly more often than by chance" in one.when for one in none.advice)
    assert not any("centroids are apart" in one.when for one in none.advice)
    assert any("centroids are apart" in one.when for one in card.advice)
    thin = unit(300, 3) @ unit(3, 64, 5)
    assert any("Less than a quarter" in one.when for one in gaplib.measure(thin, thin + 1e-3 * unit(300, 64)).advice)


# --- bad input and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        ((X,), {}, "modalities: expected two or more"),
        ((X, Y[:100]), {}, r"text: expected as many rows as image \(200 pairs\), got 100; --pairs"),
        ((X, Y[:, :4]), {}, r"text: expected the dimension of image \(8\), got 4"),
        ((X, "no.npy"), {}, "no.npy: there is no such file"),
        ((X, [1.0]), {}, "text: expected a 2-d float array"),
        ((X, Y), dict(pairs=np.arange(200), groups=np.arange(200)), "pairs: expected None beside groups"),
        ((X, Y), dict(pairs=np.arange(200) + 1), r"pairs: expected rows of image, 0 to 199, got 200 in row 199"),
        ((X, Y), dict(pairs=np.arange(200.0)), "pairs: expected 200 integers"),
        ((X, Y), dict(names=("a", "a")), "names: expected different strings"),
        ((X, Y), dict(names="ab"), "names: expected a tuple of 2 strings, got 'ab'"),
        ((X, Y), dict(compare=(X,)), "compare: expected a tuple of two modalities, got 1 of them"),
        ((X, Y), dict(compare=5), "compare: expected a tuple of two modalities, got int"),
        (("both.npz",), dict(key="image"), "key: expected None with one file"),
        ((X, Y, X), {}, "names: expected a name for each"),
        ((X, Y), dict(groups=np.arange(200), paired=False), "groups: expected None"),
        ((X, Y), dict(subsample=1), "subsample: expected"),
    ],
)
def test_bad_arguments_are_named(arguments, given, message):
    with pytest.raises(ValueError, match=message):
        gaplib.measure(*arguments, **given)


def test_a_subsample_is_said():
    card = gaplib.measure(X, Y, subsample=90, seed=1)
    assert (card.report.n, card.report.n_text) == (90, 90)
    assert card.notes == ("measured on 90 rows of image (200) and text (200), drawn at random",)
    assert card.report.true_pair_cosine == pytest.approx(float(g.true_pair_cosine(X, Y)), abs=0.1)


def call(capsys, *arguments):
    status = main([str(one) for one in ("measure", *arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_takes_what_train_writes_pairs_and_two_models(tmp_path, capsys):
    from safetensors.numpy import save_file

    run = tmp_path / "embeddings.safetensors"
    index = np.arange(200) // 4
    save_file({"test_image": X, "test_text": Y, "dev_image": X[:9], "dev_text": Y[:9], "test_index": index}, run)
    status, out, err = call(capsys, run, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["names"] == ["image", "text"]
    status, out, err = call(capsys, f"{run}:dev_image", f"{run}:dev_text", "--json")
    assert json.loads(out)["n"] == 9
    np.save(tmp_path / "few.npy", X[:50])
    status, out, err = call(capsys, tmp_path / "few.npy", f"{run}:test_text")
    assert status == 2
    assert "(50 pairs), got 200; --pairs FILE" in err
    assert err.count("\n") == 1
    status, out, err = call(
        capsys,
        tmp_path / "few.npy",
        f"{run}:test_text",
        "--pairs",
        f"{run}:test_index",
        "--json",
        "--html",
        tmp_path / "a.html",
    )
    assert json.loads(out)["n_groups"] == 50
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    status, out, err = call(capsys, run, "--compare", f"{run}:test_image", f"{run}:test_image", "--json")
    assert json.loads(out)["differences"]["true_pair_cosine"]["value"] > 0
    for wrong in (("--unpaired", "--pairs", "x"), ("--groups", "x", "--pairs", "x")):
        assert call(capsys, run, *wrong)[0] == 2
    status, out, err = call(capsys, tmp_path / "few.npy")
    assert (status, "few.npy: expected a second file" in err) == (2, True)
    status, out, err = call(capsys, ".", tmp_path / "few.npy")
    assert (status, err[:39]) == (2, "gaplib: .: expected files of embeddings")
