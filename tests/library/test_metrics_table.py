"""The table of the metrics: the report card, the history of a run and the glyph suite have what it has, no more."""

import copy
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gaplib import geometry as g
from gaplib.book.chapters import ch01_measures
from gaplib.geometry import metrics
from gaplib.geometry.inputs import Embeddings, read_two
from gaplib.geometry.metrics import METRICS, Metric
from gaplib.glyph_tasks import suite
from gaplib.training.history import measure


def unit(n, d, seed=0, shift=0.0):
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[:, 0] += shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


X, Y = unit(40, 6), unit(40, 6, 1, 1)


def in_history():
    return measure(torch.from_numpy(X), torch.from_numpy(Y), np.arange(40))


def in_suite():
    tasks = SimpleNamespace(pairs_image=np.arange(40), pairs_text=np.arange(40), pairs_answer=np.arange(40))
    return suite.score(SimpleNamespace(image=X, text=Y, tasks=tasks), only=["gap", "uniformity"])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_core_and_the_public_function_agree(metric):
    data = Embeddings(*read_two(X, Y))
    given = data.directions() if metric.directions else data
    k = {"k": 5} if metric.name == "top5_coordinate_share" else {}
    if metric.one_modality:
        assert [metric.of(given.x), metric.of(given.y)] == [float(metric.function(X)), float(metric.function(Y))]
    else:
        assert metric.of(given) == float(metric.function(X, Y, **k))
    if metric.seeded:
        assert metric.of(given, 3) == float(metric.function(X, Y, seed=3))


def test_geometry_exports_the_public_functions():
    own_module = {"distribution_gap"}  # its name is its module's
    assert set(metrics.__all__) == {metric.function.__name__ for metric in METRICS.values()} - own_module
    for name in metrics.__all__:
        assert getattr(g, name) is getattr(metrics, name)
    assert set(metrics.__all__) <= set(g.__all__) <= set(dir(g))
    assert len(set(g.__all__)) == len(g.__all__)


def test_names_that_results_have_stay():
    history = "centroid_distance linear_separability relative_modality_gap true_pair_cosine alignment uniformity_image"
    history += " uniformity_text cross_uniformity mean_cosine_image mean_cosine_text image_to_text@1 text_to_image@1"
    assert set(history.split()) <= set(in_history())
    gap = "centroid_distance linear_separability relative true_pair_cosine distribution centred_relative"
    uniformity = "image text mean cross effective_rank_image effective_rank_text"
    names = {f"gap.{name}" for name in f"{gap} centred_distance centred_separability".split()}
    assert names | {f"uniformity.{name}" for name in uniformity.split()} <= set(in_suite())
    drawn = "centroid distance,linear separability,relative modality gap,true-pair cosine,alignment"
    drawn += ",uniformity (images),cross-uniformity,Wasserstein uniformity,mean cosine (images),effective rank (images)"
    assert list(ch01_measures.METRICS) == drawn.split(",")


def test_the_suites_table_has_its_gap_metrics():
    found = {name for name in suite.METRICS if name.startswith("gap.")}
    assert found <= set(in_suite())
    assert suite.METRICS["gap.linear_separability"] == ("Accuracy of telling the modalities apart", 0.5, 0)


def row(core, **keywords):
    given = dict(label="first entry", reading="-1 to 1", meaning="The first entry", section="True pairs")
    return Metric(name="first_entry", function=None, core=core, **{**given, **keywords})


def test_a_row_more_is_in_every_form_of_the_report_in_the_history_and_in_the_suite(monkeypatch):
    monkeypatch.setitem(METRICS, "first_entry", row(lambda data: data.x[0, 0]))
    first = float(X[0, 0])
    report = g.gap_report(X, Y)
    assert report.first_entry == report.values["first_entry"] == first
    assert json.loads(json.dumps(report.to_dict()))["first_entry"] == first
    assert report.to_frame().loc["first_entry", "value"] == first
    sections = [one.section for one in report.rows()]
    assert sections == sorted(sections, key=metrics.SECTIONS.index)
    (line,) = (line for line in str(report).splitlines() if "first entry" in line)
    assert line.split() == ["first", "entry", f"{first:.3f}", "-1", "to", "1"]
    assert '<th scope="row">first entry</th>' in report.to_html()
    assert in_history()["first_entry"] == pytest.approx(first)
    assert in_suite()["gap.first_entry"] == first


def test_a_row_of_one_modality_has_a_value_for_each(monkeypatch):
    monkeypatch.setitem(METRICS, "first_entry", row(lambda rows: rows[0, 0], one_modality=True))
    report = g.gap_report(X, Y, names=("photo", "words"))
    assert (report.first_entry_image, report.first_entry_text) == (X[0, 0], Y[0, 0])
    assert {"first entry, photo", "first entry, words"} <= {one.label for one in report.rows()}
    assert in_suite()["gap.first_entry_text"] == Y[0, 0]


def test_what_does_not_apply_is_none_in_the_report_and_left_out_elsewhere(monkeypatch):
    monkeypatch.setitem(METRICS, "first_entry", row(lambda data: None))
    assert g.gap_report(X, Y).first_entry is None
    assert not [name for name in (*in_history(), *in_suite()) if "first_entry" in name]


def test_what_needs_pairs_is_not_asked_without(monkeypatch):
    monkeypatch.setitem(METRICS, "first_entry", row(lambda data: 1 / 0, needs_pairs=True))
    assert g.gap_report(X, Y[:30], paired=False).first_entry is None


def test_a_report_has_its_values_as_attributes_and_no_others():
    report = g.gap_report(X, Y)
    for one in (report, copy.copy(report), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert one.alignment == report.values["alignment"]
        assert set(report.values) <= set(dir(one))
        with pytest.raises(AttributeError, match="'GapReport' object has no attribute 'aligment'"):
            one.aligment  # noqa: B018
