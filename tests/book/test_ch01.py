"""Chapter 01's experiments: each measurement against brute force or a case whose answer is known."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaplib import geometry
from gaplib.book.chapters import ch01_measures as m
from gaplib.book.chapters import ch01_samples
from gaplib.data import DataUnavailable, glyphs, published
from gaplib.evaluation.retrieval import mean_recall
from gaplib.stats import jackknife
from gaplib.theory.parallel import toy_pairs
from gaplib.training import RunConfig
from gaplib.training.untrained import untrained_pairs


def sphere(n, d, seed=0):
    return geometry.normalize(torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))))


# --- pairs that share a row ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_shared_rows_joins_exactly_the_pairs_connected_by_equal_rows(pairs):
    x = np.array([[float(a), 1.0] for a, _ in pairs])
    y = np.array([[float(b), 1.0] for _, b in pairs])
    reach = {i: {j for j in range(len(pairs)) if pairs[i][0] == pairs[j][0] or pairs[i][1] == pairs[j][1]}
             for i in range(len(pairs))}  # fmt: skip
    for _ in pairs:
        reach = {i: set().union(*(reach[j] for j in reach[i])) for i in reach}
    found = m.shared_rows(x, y)
    for i in reach:
        assert set(np.flatnonzero(found == found[i])) == reach[i]


def test_fold_separability_reads_half_without_a_gap_and_one_with_it():
    x, y = toy_pairs(300, 16, noise=1.0, seed=1)
    without, with_gap = m.fold_separability(x, y), m.fold_separability(*toy_pairs(300, 16, gap=0.7, seed=1))
    assert without.low < 0.5 < without.high
    assert with_gap.value == 1.0
    assert 0.98 < with_gap.low < 1.0
    assert with_gap.n == 300


def test_fold_separability_does_not_score_copies_of_what_it_fitted():
    """Distinct random images and texts have no gap; copies of each pair make a naive split read one."""
    x, y = sphere(60, 256, 1).repeat(20, 1), sphere(60, 256, 2).repeat(20, 1)
    naive = m.fold_separability(x, y, groups=np.arange(1200))
    assert naive.value > 0.9
    assert abs(m.fold_separability(x, y).value - 0.5) < 0.15


@pytest.mark.parametrize("groups", [np.zeros(20, int), np.arange(19)])
def test_fold_separability_refuses_groups_that_do_not_fit(groups):
    with pytest.raises(ValueError, match="groups"):
        m.fold_separability(sphere(20, 4), sphere(20, 4, 1), groups=groups)


def test_distance_above_floor_is_zero_without_a_gap_and_the_gap_with_one():
    distance, floor, excess = m.distance_above_floor(*toy_pairs(200, 16, noise=3.0), repeats=60)
    assert floor.low <= distance.value <= floor.high * 1.2
    assert abs(excess.value) < 0.05
    assert excess.high - excess.low == pytest.approx(distance.high - distance.low)
    distance, floor, excess = m.distance_above_floor(*toy_pairs(200, 16, gap=0.4), repeats=60)
    assert distance.value == pytest.approx(0.8)
    assert floor.mean < 0.2
    assert excess.value == pytest.approx(distance.value - floor.mean)


def test_trained_less_untrained_is_the_difference_of_the_distances():
    a, b = toy_pairs(80, 8, gap=0.5), toy_pairs(80, 8, gap=0.2, seed=3)
    found = m.trained_less_untrained(a, b, repeats=20)
    assert found.value == pytest.approx(1.0 - 0.4)
    assert found.low <= found.value <= found.high


# --- coordinates -----------------------------------------------------------------------------------------------------


def test_rotation_floor_in_two_dimensions_is_one_half_plus_one_over_pi():
    floor = m.rotation_floor(2, 1, repeats=40_000)
    assert floor.mean == pytest.approx(0.5 + 1 / math.pi, abs=0.005)  # E max(cos², sin²)
    assert m.rotation_floor(7, 7, repeats=5).mean == pytest.approx(1.0)


def test_rotation_floor_is_what_rotating_the_embeddings_gives():
    x, y = toy_pairs(50, 12, gap=0.6)  # the gap is one coordinate
    assert float(geometry.top_coordinate_share(x, y, 5)) == pytest.approx(1.0)
    rng, shares = np.random.default_rng(0), []
    for _ in range(300):
        q = torch.from_numpy(np.linalg.qr(rng.standard_normal((12, 12)))[0])
        shares.append(float(geometry.top_coordinate_share(x @ q, y @ q, 5)))
    assert m.rotation_floor(12, 5).mean == pytest.approx(np.mean(shares), abs=0.02)


def test_coordinate_shares():
    np.testing.assert_allclose(m.coordinate_shares([1.0, -2.0, 2.0, 0.0]), [4 / 9, 8 / 9, 1, 1])
    with pytest.raises(ValueError, match="gap"):
        m.coordinate_shares([0.0, 0.0])


# --- one constant vector? --------------------------------------------------------------------------------------------


def test_agreement_against_loops():
    gaps = np.random.default_rng(0).standard_normal((4, 3)) + 2
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(gaps) for b in gaps[i + 1 :]]
    lengths = [math.sqrt((g**2).sum()) for g in gaps]
    mean = sum(lengths) / 4
    spread = math.sqrt(sum((v - mean) ** 2 for v in lengths) / 3) / mean
    np.testing.assert_allclose(m.direction_cosines(gaps), cosines)
    assert m.agreement(gaps) == pytest.approx((np.mean(cosines), spread))
    with pytest.raises(ValueError, match="two groups"):
        m.agreement(gaps[:1])


def test_random_groups_of_a_constant_gap_agree_and_too_large_groups_are_refused():
    assert m.random_groups(*toy_pairs(60, 8, gap=0.5), size=20) == pytest.approx((1.0, 0.0), abs=1e-12)
    with pytest.raises(ValueError, match="size"):
        m.random_groups(*toy_pairs(60, 8, gap=0.5), size=31)


def test_lean_is_the_variance_share_along_the_gap_of_the_other_half():
    x, y = sphere(40, 5, 1), sphere(40, 5, 2)
    y = geometry.normalize(y + torch.tensor([1.0, 0, 0, 0, 0]))
    order = np.random.default_rng(3).permutation(40)
    a, b = order[:20], order[20:]
    gap = (x[a].mean(0) - y[a].mean(0)).numpy()
    gap /= np.linalg.norm(gap)
    for z, found in zip((x, y), m.lean(x, y, splits=1, seed=3), strict=True):
        z = z.numpy()[b]
        above = sum(((z[i] - z[j]) @ gap) ** 2 for i in range(20) for j in range(20))
        below = sum(((z[i] - z[j]) ** 2).sum() for i in range(20) for j in range(20))
        assert found == pytest.approx(math.sqrt(above / below))


def test_lean_is_zero_for_a_parallel_gap_and_one_for_a_random_direction():
    assert max(m.lean(*toy_pairs(100, 8, gap=0.5))) < 1e-12
    x, y = sphere(3000, 20, 1), sphere(3000, 20, 2)  # no gap: its direction is sampling noise
    assert m.lean_ratios(x, y, splits=100) == pytest.approx((1.0, 1.0), abs=0.1)


def test_sign_flips_tell_a_gap_that_depends_on_content_from_a_constant_one():
    labels = np.repeat([0, 1, 2], 100)
    noise = 0.4 * torch.from_numpy(np.random.default_rng(0).standard_normal((2, 300, 10)))
    gap = torch.zeros(300, 10, dtype=torch.float64)
    gap[:, 0] = 2.0
    constant = geometry.normalize(noise[0] + gap), geometry.normalize(noise[1] - gap)
    moved = gap.clone()
    moved[torch.arange(300), torch.from_numpy(labels + 1)] += 1.0
    dependent = geometry.normalize(noise[0] + moved), geometry.normalize(noise[1] - moved)
    for pair, inside in ((constant, True), (dependent, False)):
        floor = m.sign_flip_floor(*pair, labels, repeats=100)
        observed = m.agreement(m.group_gaps(*pair, labels))[0]
        assert (observed >= floor.low) is inside


def test_content_labels_find_planted_topics():
    rng = np.random.default_rng(0)
    topic, planted = rng.standard_normal((5, 32)), np.repeat(np.arange(5), 20)
    x, y = (geometry.normalize(torch.from_numpy(3 * topic[planted] + rng.standard_normal((100, 32)))) for _ in "xy")
    found = m.content_labels(x, y)
    assert all(len(set(found[planted == k])) == 1 for k in range(5))
    assert len(set(found)) == 5


# --- conformity ------------------------------------------------------------------------------------------------------


def test_conformity_against_loops():
    x = sphere(9, 4)
    for i, found in enumerate(m.conformity(3 * x)):
        assert float(found) == pytest.approx(np.mean([float(x[i] @ x[j]) for j in range(9) if j != i]))


def test_conformity_is_an_identity_on_one_set_and_says_something_across_halves():
    noise = sphere(400, 64)
    assert m.conformity_correlation(noise) == pytest.approx(1.0, abs=1e-12)  # even for pure noise
    assert abs(m.split_conformity_correlation(noise)) < 0.2
    varied = geometry.normalize(noise + torch.linspace(0, 2, 400)[:, None] * torch.eye(64)[0])
    assert m.split_conformity_correlation(varied) > 0.99


def test_halves_travel_with_their_rows():
    x, halves = sphere(50, 6) + torch.eye(6)[0], m.random_halves(50, splits=8)
    assert halves.sum(dim=0).tolist() == [25] * 8
    order = torch.from_numpy(np.random.default_rng(1).permutation(50))
    one = m.split_conformity_correlation(x, halves)
    assert m.split_conformity_correlation(x[order], halves[order]) == pytest.approx(one)
    estimate = jackknife(m.split_conformity_correlation, x, halves, blocks=5)
    assert estimate.value == pytest.approx(one)


# --- toy pairs -------------------------------------------------------------------------------------------------------


@given(gap=st.floats(0, 0.99), cone=st.floats(0, 3), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_toy_pairs_have_the_stated_gap(gap, cone, seed):
    x, y = toy_pairs(20, 6, gap=gap, cone=cone, seed=seed)
    assert torch.allclose(x.norm(dim=1), torch.ones(20).double())
    assert torch.allclose(y.norm(dim=1), x.norm(dim=1))
    assert float(geometry.centroid_distance(x, y)) == pytest.approx(2 * gap, abs=1e-9)
    assert float(geometry.true_pair_cosine(x, y)) == pytest.approx(1 - 2 * gap**2)
    for name, metric in m.METRICS.items():
        assert math.isfinite(float(metric(x, y))), name


def test_stranger_share_against_loops_and_at_its_ends():
    x, y = sphere(8, 3, 1), sphere(8, 3, 2)
    worse = [
        (x[i] @ y[j] > x[i] @ y[i]).item() + (x[j] @ y[i] > x[i] @ y[i]).item()
        for i in range(8)
        for j in range(8)
        if i != j
    ]
    assert m.stranger_share(x, y) == pytest.approx(sum(worse) / (2 * 8 * 7))
    assert m.stranger_share(x, x) == 0.0
    assert m.stranger_share(x[:1].repeat(5, 1), y[:1].repeat(5, 1)) == pytest.approx(0.5)


def test_plane_keeps_what_two_components_hold():
    x, y = toy_pairs(60, 3, gap=0.9)
    one, other, share = m.plane(x, y)
    pooled = torch.cat([x, y]).numpy()
    values = np.linalg.eigvalsh(np.cov(pooled.T, bias=True))
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    assert np.concatenate([one, other]).var(axis=0) == pytest.approx(values[:-3:-1])
    assert one[:, 0].mean() <= other[:, 0].mean()


def test_prose_names_exactly_the_published_numbers_that_a_build_without_them_fills_in():
    path = Path(__file__).resolve().parents[2] / "notebooks" / "01_meet_the_gap.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    roles = re.findall(r"\{glue:text\}`([^`]+)`", text)
    own = ("own.", "glyphs.", "trap.", "C3.glyphs.", "S2.glyphs.", "L2.open_clip.", "E1.noise.")
    published_keys = {role for role in roles if not role.startswith(own)}
    assert published_keys == {f"{name}.ci" for name in ch01_samples.PUBLISHED_NUMBERS}


# --- samples and towers ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not published.available(), reason="published embeddings cannot be had here")
def test_published_samples():
    samples, reason = ch01_samples.load_samples()
    assert reason == ""
    assert list(samples) == list(ch01_samples.TRAINED)
    for trained, untrained in samples.values():
        assert trained.trained
        assert trained.real
        assert not untrained.trained
        assert not untrained.retrieves
        for z in (trained.x, trained.y, untrained.x, untrained.y):
            assert z.dtype == torch.float64
            assert torch.allclose(z.norm(dim=1), torch.ones(len(z)).double())
    assert [name for name, (one, _) in samples.items() if one.retrieves] == ["clip", "videoclip"]
    raw = published.load("convirt")
    assert len(set(m.shared_rows(raw.x, raw.y))) <= len(np.unique(raw.y.numpy(), axis=0)) < len(raw.y)


@pytest.fixture
def short_runs(monkeypatch):
    original = ch01_samples.glyph_config
    monkeypatch.setattr(
        ch01_samples, "glyph_config",
        lambda key, seed: replace(original(key, seed), steps=3, batch_size=32, dim=8, eval_pairs=32, history_points=2),
    )  # fmt: skip


def test_stand_ins_when_the_published_embeddings_cannot_be_had(monkeypatch, short_runs):
    def refuse(name):
        raise DataUnavailable("there is no network")

    monkeypatch.setattr(published, "load", refuse)
    samples, reason = ch01_samples.load_samples(seed=1)
    assert reason == "there is no network"
    assert list(samples) == ["glyphs_sharp", "glyphs_learned"]
    for trained, untrained in samples.values():
        assert not trained.real
        assert not untrained.real
        assert trained.x.shape == untrained.x.shape == untrained.y.shape
        assert not torch.allclose(trained.x, untrained.x)


def test_glyph_measurements(short_runs):
    run = ch01_samples.train_glyphs("sharp", 2)
    x, y = run.pairs()
    found = ch01_samples.glyph_measurements(run)
    assert set(found) >= {"top5_excess", "direction_cosine", "length_spread", "script_cosine", "image_lean_ratio"}
    assert found["centroid_distance"] == pytest.approx(float((x.mean(0) - y.mean(0)).norm()))
    assert found["tau"] == pytest.approx(0.01)
    assert run.config.tau == 0.01
    labels, scripts = ch01_samples.script_labels(run)
    known = glyphs.load().names
    names = [known[i] for i in run.embeddings["test_index"]]
    assert "LATIN" in scripts
    for name, label in zip(names, labels, strict=True):
        assert label == (scripts.index(name.split()[0]) if name.split()[0] in scripts else -1)
    estimates = ch01_samples.over_runs([found, {k: v + 1 for k, v in found.items()}])
    assert estimates["recall"].value == pytest.approx(found["recall"] + 0.5)


def test_untrained_pairs_are_the_towers_before_the_first_step(short_runs):
    config = ch01_samples.glyph_config("learned", 4)
    x, _y = untrained_pairs(config)
    run = ch01_samples.train_glyphs("learned", 4)
    dev = glyphs.load().sample("dev", config.eval_pairs, seed=0)
    assert run.history[0]["step"] == 0
    assert len(x) == len(run.embeddings["test_image"])
    from gaplib.towers import tiny_towers
    from gaplib.towers.encode import encode

    towers = tiny_towers(len(glyphs.load().vocabulary), dim=8, seed=4)
    assert float(geometry.centroid_distance(*encode(towers, dev))) == pytest.approx(
        run.history[0]["centroid_distance"], abs=1e-6
    )


def test_shuffled_recall_is_near_chance_where_recall_is_one():
    x, answer = sphere(200, 16), np.arange(200)
    assert mean_recall(x, x, groups=answer) == 1.0
    assert ch01_samples.shuffled_recall(x, x, answer) < 0.03


def test_open_clip_pairs_depend_on_the_seed_alone():
    x, y = ch01_samples.open_clip_pairs(0, n=2)
    assert x.shape == y.shape == (2, 256)
    assert x.dtype == torch.float64
    assert torch.allclose(x.norm(dim=1), torch.ones(2).double())
    again, _ = ch01_samples.open_clip_pairs(0, n=2)
    assert torch.equal(x, again)
    assert not torch.allclose(x, ch01_samples.open_clip_pairs(1, n=2)[0])


def test_configurations_differ_in_the_temperature_only():
    one, other = (ch01_samples.glyph_config(key, 7).to_dict() for key in ch01_samples.TEMPERATURES)
    assert {k for k in one if one[k] != other[k]} == {"tau", "learn_tau"}
    assert RunConfig.from_dict(one).seed == 7
