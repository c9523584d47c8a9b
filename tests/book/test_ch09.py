"""Chapter 09: what the table says, on tables whose answer is known; the causal handles on points."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr, ttest_1samp
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from gaplib import geometry
from gaplib._store import Store
from gaplib.book import kept
from gaplib.book.chapters import ch09_causal as causal
from gaplib.book.chapters import ch09_rows as dr
from gaplib.book.chapters import ch09_table as ds


def table(scores, metric="recall.mean@1"):
    """Rows of a leaderboard: method -> scores, one a seed, given in a shuffled order of seeds."""
    rows = [
        {"method": name, "seed": 100 + i, "tau": 0.05, metric: score}
        for name, values in scores.items()
        for i, score in enumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_values_come_in_the_order_of_seeds_and_gaps_in_the_table_are_refused():
    found = table({"clip": [0.1, 0.2, 0.3], "cua": [0.2, 0.1, 0.5]})
    np.testing.assert_array_equal(ds.values(found, "cua", "recall.mean@1"), [0.2, 0.1, 0.5])
    np.testing.assert_allclose(ds.gain(found, "cua", "recall.mean@1").samples, [0.1, -0.1, 0.2])
    with pytest.raises(ValueError, match="name"):
        ds.values(found, "nobody", "recall.mean@1")
    with pytest.raises(ValueError, match="metric"):
        ds.values(found, "cua", "recalled")


def test_board_writes_points_and_leaves_out_what_a_row_does_not_have():
    found = table({"clip": [0.1, 0.2, 0.3], "untrained": [0.01, 0.02, 0.03]})
    for metric in (ds.GAP, *ds.TASKS):
        if metric not in found:
            found[metric] = np.nan
    board = ds.board(found, {"trained": ["clip"], "control": ["untrained"]})
    assert board.columns.tolist() == ["", "method", "tau", "gap", *ds.TASKS.values()]
    half = 10 * student.ppf(0.975, 2) / np.sqrt(3)  # the standard deviation of the three scores is 10 points
    assert board.loc[0, ["", "method", "tau", "retrieval"]].tolist() == [
        "trained",
        "clip",
        "0.050",
        f"20.0 ± {half:.1f}",
    ]
    assert board.loc[1, ["tau", "retrieval"]].tolist() == ["", f"2.0 ± {half / 10:.1f}"]
    assert set(board[["gap", "few-shot"]].to_numpy().ravel()) == {""}


def test_against_clip_corrects_over_all_comparisons():
    rng = np.random.default_rng(1)
    base = rng.standard_normal(6)
    found = table(
        {name: base + shift + 0.1 * rng.standard_normal(6) for name, shift in [("clip", 0), ("a", 1), ("b", 0)]}
    )
    tests = ds.against_clip(found, ["a", "b"], ["recall.mean@1"])
    differences = [ds.values(found, n, "recall.mean@1") - ds.values(found, "clip", "recall.mean@1") for n in "ab"]
    p = [ttest_1samp(d, 0).pvalue for d in differences]
    np.testing.assert_allclose(tests.p, p, rtol=1e-9)
    np.testing.assert_allclose(tests.adjusted, multipletests(p, method="holm")[1], rtol=1e-9)
    assert tests.sign.tolist()[0] == 1


def test_partial_rank_correlation_against_two_regressions():
    rng = np.random.default_rng(2)
    t = rng.standard_normal(60)
    a, b = t + rng.standard_normal(60), t**3 + rng.standard_normal(60)
    assert ds.partial_rank_correlation(a, b) == pytest.approx(spearmanr(a, b)[0])
    ranks = [rankdata(z) for z in (a, b, t)]
    left = [z - np.polyval(np.polyfit(ranks[2], z, 1), ranks[2]) for z in ranks[:2]]
    assert ds.partial_rank_correlation(a, b, t) == pytest.approx(pearsonr(*left)[0])
    assert ds.partial_rank_correlation(t, b, t) == 0.0
    with pytest.raises(ValueError, match="lengths"):
        ds.partial_rank_correlation(a, b[:-1])


def test_strength_difference_finds_the_driver_behind_a_confounder():
    rng = np.random.default_rng(3)
    tau = rng.standard_normal(40)
    means = pd.DataFrame({"log_tau": tau, "u": tau + rng.standard_normal(40), "g": tau + rng.standard_normal(40)})
    means["score"] = -means.u + 0.2 * rng.standard_normal(40)
    assert ds.strength_difference(means, "score", "u", "g").low > 0.3
    assert ds.correlation(means, "score", "u").high < -0.8
    assert abs(ds.correlation(means, "score", "g").value) < 0.5


def test_r2_difference_on_a_table_where_one_gap_decides():
    rng = np.random.default_rng(4)
    rows = []
    for name in "abcdefgh":
        left, gap = rng.random(2)
        for seed in range(3):
            tasks = dict.fromkeys(ds.TASKS, 1 - left + 0.01 * rng.standard_normal())
            rows.append({"method": name, "seed": seed, "tau": 0.1, ds.LEFT: left, ds.GAP: gap, **tasks})
    found = ds.r2_difference(pd.DataFrame(rows), list("abcdefgh"))
    assert found["distribution"].value > 0.95
    assert found["difference"].value == pytest.approx(found["distribution"].value - found["centroid"].value)


def test_winners_are_scored_on_the_seed_that_did_not_choose_them():
    found = table({"clip": [0, 0, 0], "lucky": [9, 0, 0], "good": [2, 2, 2]})
    one = ds.winners(found, ["clip", "lucky", "good"], ["recall.mean@1"]).iloc[0]
    assert one.best == "lucky"
    # Without seed 0 "good" is best (2 on it); without the others "lucky" is, which has nothing there.
    assert sorted(one.gain.samples) == [0, 0, 2]
    assert "good" in one.tied


def test_rows_of_the_chapter_can_be_planned():
    runs = set()
    for name, one in dr.SETTINGS.items():
        plan, method = dr._plan(one)
        (spec,) = plan.rows([method], [0])
        runs.add((spec.run_key, spec.treatment))
        assert spec.config.steps == 300, name
    assert len(runs) == len(dr.SETTINGS)  # no two settings are the same row
    assert dr.SETTINGS[dr.EQUAL].changes["tau"] == 0.03
    assert set(ds.POINTS) == {*dr.METHODS, *dr.FIXED}


def test_the_best_shift_is_chosen_on_dev():
    def sweep(scores):
        return {share: {"zero_shot.scripts": s} for share, s in zip((-1.0, 0.0, 0.5, 1.0), scores, strict=True)}

    found = causal.chosen_and_doubled(sweep([0.1, 0.3, 0.5, 0.4]), sweep([0.2, 0.6, 0.5, 0.9]), "zero_shot.scripts")
    assert found == {"chosen_gain": pytest.approx(-0.1), "doubled_loss": pytest.approx(0.4), "share": 0.5}
    level = causal.chosen_and_doubled(sweep([0.3] * 4), sweep([0.2, 0.6, 0.5, 0.9]), "zero_shot.scripts")
    assert level["share"] == 0
    assert level["chosen_gain"] == 0
    with pytest.raises(ValueError, match="shares"):
        causal.chosen_and_doubled({0.0: {}}, sweep([0, 0, 0, 0]), "zero_shot.scripts")


def test_centring_removes_a_constant_gap_on_pairs_it_was_not_fitted_to():
    rng = np.random.default_rng(5)
    u = rng.standard_normal((200, 16))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (u + 2 * np.eye(16)[0], u - 2 * np.eye(16)[0]))
    half = causal.halves(200, 4)
    assert (half.sum(axis=0) == 100).all()
    found = causal.centring(x, y, half)
    assert found["excess_distance"] < 0.05
    assert found["recall_after"] > found["recall_before"]


def test_trained_centring_is_that_of_the_runs_test_pairs():
    rng = np.random.default_rng(6)
    x, y = (geometry.normalize(torch.from_numpy(rng.standard_normal((60, 8)))) for _ in range(2))
    run = SimpleNamespace(pairs=lambda: (x, y), embeddings={"test_answer": list(range(60))})
    found = causal.trained_centring(run)
    assert found == causal.centring(x, y, causal.halves(60), causal.KS)  # every pair its own answer
    run.embeddings["test_answer"] = [0] * 60
    assert causal.trained_centring(run)["recall_after"] == 1.0  # all are right answers to each other


def test_jackknifed_values_share_their_subsets():
    calls = []

    def measure(z):
        calls.append(len(z))
        return {"mean": z.mean(), "first": z[0]}

    z = np.arange(40.0)
    found = causal._jackknifed(measure, (z,), ("mean", "first"))
    assert len(calls) == 21
    assert found["mean"].value == z.mean()
    assert found["first"].value == 0
    # The delete-a-block jackknife of a mean is its usual standard error, up to the blocks.
    assert found["mean"].se == pytest.approx(z.std(ddof=1) / np.sqrt(40), rel=0.4)


# --- kept results ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept_file(tmp_path, monkeypatch):
    """The path at which kept results are looked for; nothing is there yet, and nothing of it is remembered after."""
    path = tmp_path / "kept.json"
    monkeypatch.setattr(kept, "file", lambda: path)
    kept._read.cache_clear()
    yield path
    kept._read.cache_clear()


def test_kept_results_are_laid_out_by_key_and_an_edit_is_noticed(kept_file, tmp_path):
    store = Store(tmp_path / "rows")
    assert kept.lay_out(store, ["a"]) == 0  # there is no file
    kept._read.cache_clear()
    kept.keep({"a": {"x": 1.5}, "b": {"x": 2.5}}, {"commit": "c", "date": "d", "versions": {}}, kept_file)
    store.write("b", {}, {"x": 9.0})
    assert kept.lay_out(store, ["a", "b", "z"]) == 1
    assert store.read("a")[1] == {"x": 1.5}
    assert store.read("b")[1] == {"x": 9.0}  # what the build made itself stays
    assert store.stored_keys() == ["a", "b"]
    kept_file.write_text(kept_file.read_text().replace("1.5", "1.6"))
    kept._read.cache_clear()
    with pytest.raises(ValueError, match=r"kept\.json: not the file that was kept"):
        kept.lay_out(store, ["a"])


def test_a_setting_whose_row_is_kept_is_not_trained(kept_file, tmp_path, monkeypatch):
    plan, method = dr._plan(dr.SETTINGS[dr.EQUAL])
    (spec,) = plan.rows([method], [7])
    row = {"method": "clip", "seed": 7, "setting": "paper", "device": "cpu", "metrics": {"recall.mean@1": 0.25}}
    kept.keep({spec.key: row}, {"commit": "c", "date": "d", "versions": {}}, kept_file)
    asked = []
    monkeypatch.setattr(dr.processes, "results", lambda work, jobs: asked.extend(work) or iter(()))
    found = dr.setting_rows([7], tmp_path / "out", settings={dr.EQUAL: dr.SETTINGS[dr.EQUAL]})
    assert asked == []
    assert found["recall.mean@1"].tolist() == [0.25]
    assert found["method"].tolist() == [dr.EQUAL]
    monkeypatch.setattr(kept, "file", lambda: tmp_path / "none.json")
    dr.setting_rows([7], tmp_path / "other", settings={dr.EQUAL: dr.SETTINGS[dr.EQUAL]})
    assert [one.specs for one in asked] == [(spec,)]


def test_centring_is_stored_under_the_run_and_its_own_code(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    runs = []
    monkeypatch.setattr(dr, "trained", lambda *what: runs.append(what))
    monkeypatch.setattr(dr, "trained_centring", lambda run: {"excess_distance": 0.125})
    monkeypatch.setattr(dr, "_centring_code", lambda: "code")
    assert dr.held_out_centring("clip", 7) == dr.held_out_centring("clip", 7) == {"excess_distance": 0.125}
    assert runs == [("clip", 7, "cpu")]
    dr.held_out_centring(dr.SHARP, 7)
    monkeypatch.setattr(dr, "_centring_code", lambda: "another")
    dr.held_out_centring("clip", 7)
    assert len(runs) == 3
