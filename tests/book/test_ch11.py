"""Chapter 11: the decision on tables whose answer is known, the kept leaderboard, the model and its collection."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gaplib import posthoc
from gaplib.book.chapters import ch11_decision as decision
from gaplib.book.chapters import ch11_model as own
from gaplib.book.chapters.ch09_rows import FIXED, METHODS, SETTINGS, SHARP, TREATMENTS
from gaplib.book.chapters.ch09_table import GAP, TASKS
from gaplib.data import DataUnavailable
from gaplib.geometry import normalize
from gaplib.methods import METHODS as TABLE
from gaplib.stats import over_seeds
from gaplib.towers import tiny_towers
from gaplib.training import presets
from tools import keep_leaderboard

RECALL = "recall.mean@1"
ROWS = [*METHODS, *FIXED, *(f"{SHARP} + {name}" for name in TREATMENTS)]


def table(seeds=6, **gains):
    """A leaderboard on which every row scores as the row that it replaces, but for the ``gains`` (row -> a seed's)."""
    rng = np.random.default_rng(0)
    base = rng.random(seeds)
    rows = []
    for name in ROWS:
        # All but noise that differs from row to row: none of them is told from another.
        score = base + gains.get(name, np.zeros(seeds)) + 1e-3 * rng.standard_normal(seeds)
        rows += [{"method": name, "seed": 100 + i, "tau": 0.05} | dict.fromkeys(TASKS, s) for i, s in enumerate(score)]
    return pd.DataFrame(rows)


def test_a_gain_that_is_there_is_found_with_its_size_and_its_row():
    one = decision.advise(table(br=0.1 * np.ones(6)), RECALL, "loss")
    assert (one.row, one.method, one.tied) == ("br", "br", 0)
    assert one.gain.value == pytest.approx(0.1, abs=0.005)
    assert one.shown
    assert one.memory == "activations of two views"
    shown = decision.decision_table([one]).rows[0]
    assert decision.NOTHING not in shown[2]
    assert shown[2].startswith("+10")


def test_a_lucky_seed_is_no_gain():
    """One row is far ahead on one seed only: best by its mean, and on the seed that did not choose it worth nothing."""
    one = decision.advise(table(cua=np.array([1.0, 0, 0, 0, 0, 0])), RECALL, "loss")
    assert one.row == "cua"
    assert not one.shown
    assert decision.decision_table([one]).rows[0][2].startswith(f"{decision.NOTHING}: ")


def test_what_may_be_changed_bounds_what_is_advised():
    gains = {"br": 0.3, "clip 0.1": 0.2, f"{SHARP} + mean-centring": 0.1, f"{SHARP} + trace-matched": 0.05}
    board = table(**{name: gain * np.ones(6) for name, gain in gains.items()})
    first = {option: decision.advise(board, RECALL, option).row for option in decision.OPTIONS}
    assert first == {
        "loss": "br",
        "temperature": "clip 0.1",
        "embeddings": f"{SHARP} + mean-centring",
        "queries": f"{SHARP} + trace-matched",
    }
    # A treatment is compared with what was treated, not with CLIP at its tuned temperature.
    moved = board.assign(**{RECALL: board[RECALL] + 5.0 * (board.method == "clip")})
    assert decision.advise(moved, RECALL, "embeddings").gain.value == pytest.approx(0.1, abs=0.005)
    assert decision.advise(moved, RECALL, "loss").gain.value < -4


def test_treatments_that_leave_the_images_are_those_that_do():
    x, y = (normalize(torch.randn(30, 5, generator=torch.Generator().manual_seed(i)).double() + i) for i in (0, 1))
    for name in ("mean-centring", "shift", "orthogonal-shift", "trace-matched"):
        assert decision.keeps_images(name) == torch.equal(posthoc.fit(name, x, y).image(x), x)
    assert not decision.keeps_images("shared-space")


def test_the_confirming_run_and_the_bench_are_taken_where_they_know_the_same():
    ten, centring = over_seeds(np.full(10, 0.25) + 0.01 * np.arange(10)), over_seeds([0.5, 0.6])
    known = {"decision.retrieval.gain": ten, "C2.mean_gain": centring}
    board = table(cua=np.ones(6), **{f"{SHARP} + mean-centring": np.ones(6)})
    one = decision.advise(board, RECALL, "loss", known, {"cua": 1.5})
    assert (one.gain, one.time) == (ten, 1.5)
    assert decision.advise(board, "mixed.mean", "embeddings", known).gain is centring
    assert decision.advise(board, RECALL, "embeddings", known).gain.n == 6
    assert decision.advise(board, RECALL, "temperature", known).time == 1.0
    times = [decision.advise(board, RECALL, option).time for option in ("loss", "embeddings")]
    assert times == [None, 0.0]
    assert [row[4] for row in decision.decision_table(decision.all_advice(board, "loss")).rows] == ["not measured"] * 9


def test_unknown_needs_and_options_are_named():
    with pytest.raises(ValueError, match=r"^metric"):
        decision.advise(table(), "recall", "loss")
    with pytest.raises(ValueError, match=r"^option"):
        decision.advise(table(), RECALL, "wish")


def test_every_row_that_may_be_advised_has_words_and_a_place():
    for option in decision.OPTIONS.values():
        for name in option.names:
            method = name.rpartition(" + ")[2]
            assert method in decision.WORDS
            assert method in TABLE or method in FIXED
    assert set(decision.NEEDS) == set(TASKS)


# --- the kept leaderboard --------------------------------------------------------------------------------------------


def build(folder, commit="a" * 40):
    """A build folder with a leaderboard and the notebook that made it."""
    board = table().assign(**{GAP: 0.3, "setting": "tuned", "steps": 300, "seconds": 9.0, "run": "abc", "other": 1.0})
    (folder / "results").mkdir(parents=True)
    (folder / "executed").mkdir()
    board.to_csv(folder / "results" / "leaderboard.csv", index=False)
    facts = {"commit": commit, "date": "2026-01-01 00:00 UTC", "versions": {"torch": "2"}}
    (folder / "executed" / keep_leaderboard.NOTEBOOK).write_text(json.dumps({"metadata": {"gaplib": facts}}))
    return board


def test_a_leaderboard_is_kept_with_where_it_comes_from_and_an_edit_is_noticed(tmp_path):
    board = build(tmp_path / "build")
    into = tmp_path / "results"
    into.mkdir()
    assert keep_leaderboard.main(["--build", str(tmp_path / "build"), "--into", str(into)]) == 0
    kept = decision.board(into)
    assert tuple(kept.columns) == decision.COLUMNS
    np.testing.assert_allclose(kept[RECALL], board[RECALL], rtol=1e-5)
    assert (kept.attrs["commit"], kept.attrs["seeds"]) == ("a" * 40, list(range(100, 106)))
    file = into / "leaderboard.csv"
    file.write_text(file.read_text().replace("tuned", "paper", 1))
    with pytest.raises(ValueError, match="not the table that was kept"):
        decision.board(into)
    file.unlink()
    with pytest.raises(ValueError, match=r"leaderboard\.csv: expected"):
        decision.board(into)


def test_a_leaderboard_of_uncommitted_code_is_not_kept(tmp_path, capsys):
    build(tmp_path / "build", commit="abc-dirty")
    for folder in ("build", "no build"):
        assert keep_leaderboard.main(["--build", str(tmp_path / folder), "--into", str(tmp_path)]) == 1
        assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "leaderboard.csv").exists()


def test_the_committed_leaderboard_holds_every_row_that_may_be_advised():
    board = decision.board()
    for option in decision.OPTIONS.values():
        assert {*option.names, option.over} <= set(board.method)
    assert len(board.attrs["seeds"]) >= 3
    assert board[list(TASKS)][board.method.isin(ROWS)].notna().all(axis=None)


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def towers():
    """Towers of the book's kind, untrained."""
    from gaplib.data import glyphs

    return tiny_towers(len(glyphs.load().vocabulary) + 2, dim=8, seed=0)


def test_queries_of_a_collection_are_its_items_in_another_typeface(towers):
    found = own.Collection.of(towers, "dev")
    assert len(found.query) == len(found.query_answer) > 100
    assert set(found.query_answer.tolist()) <= set(found.answer.tolist())
    places = {a: i for i, a in enumerate(found.answer.tolist())}
    own_document = found.image[[places[a] for a in found.query_answer.tolist()]]
    assert float((own_document - found.query).norm(dim=1).median()) > 1e-3
    np.testing.assert_allclose(found.image.norm(dim=1), 1, rtol=1e-12)


def test_scores_of_a_collection_that_is_perfect_until_it_is_shifted():
    points = torch.eye(12, dtype=torch.float64)
    ids = np.arange(12)
    perfect = own.Collection(points, points, points, ids, ids)
    assert perfect.scores() == pytest.approx({"gap": 0, "recall": 1, "mixed": 1})
    offset = torch.zeros(12, dtype=torch.float64)
    offset[0] = 3.0
    apart = own.Collection(normalize(points + offset), normalize(points - offset), normalize(points + offset), ids, ids)
    treated = apart.treated(posthoc.fit("mean-centring", apart.image, apart.text))
    assert apart.scores()["gap"] > 1.5
    assert treated.scores()["gap"] < 0.2
    assert treated.scores()["mixed"] > apart.scores()["mixed"] + 0.05


def test_recall_of_products_lets_long_rows_win():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    assert own.recall_of_products(image, image, np.arange(2)) == 1.0
    long = image * torch.tensor([[1.0], [0.1]]).double() + torch.tensor([[0.0, 5.0], [0.0, 0.0]]).double()
    assert own.recall_of_products(image, long, np.arange(2)) == 0.5


def test_pictures_are_what_a_model_of_images_takes():
    (picture, captions), *_ = own.captioned_pictures(3)
    assert picture.size == (64, 64)
    assert captions == [captions[0], f"a drawing of the {captions[0]}"]
    assert 0 < (np.asarray(picture) < 128).mean() < 0.5  # black on white


def test_files_say_whose_they_are_where_the_published_embeddings_cannot_be_had(tmp_path, monkeypatch):
    def unavailable(name):
        raise DataUnavailable("no network")

    monkeypatch.setattr(own.published, "load", unavailable)
    run = SimpleNamespace(pairs=lambda: (torch.eye(3), torch.eye(3).flip(0)))
    assert own.write_files(tmp_path, run) == "glyph towers, in the place of CLIP"
    np.testing.assert_array_equal(np.load(tmp_path / "text.npy"), np.eye(3)[::-1])


def test_training_on_leaves_the_towers_it_was_given_and_keeps_the_temperature(towers):
    weights = {name: value.clone() for name, value in towers.state_dict().items()}
    after = own.trained_on(towers, "cua", seed=0, steps=2)
    assert all(torch.equal(value, weights[name]) for name, value in towers.state_dict().items())
    assert any(not torch.equal(value, weights[name]) for name, value in after.state_dict().items())
    assert float(after.logit_scale.detach().exp()) == pytest.approx(1 / own.TAU)


def test_script_and_number_choose_training_pairs(towers):
    every, greek = own.training_pairs(towers), own.training_pairs(towers, script="GREEK")
    assert 30 < len(greek[0]) < len(every[0]) / 5
    assert [len(z) for z in own.training_pairs(towers, n=7)] == [7, 7]


def test_the_model_is_chapter_nines_sharp_row():
    config = presets.config("flt", 100, "paper", tau=own.TAU)
    sharp = SETTINGS[SHARP]
    assert config == presets.config(sharp.method, 100, "paper", **sharp.changes)
