"""Chapter 08: points on the sphere, the gap that consistency rewards, views and runs of the regularisers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from gaplib import geometry, losses
from gaplib.book import measured
from gaplib.book.chapters import ch08_points, ch08_runs
from gaplib.pairs import PairedEmbeddings
from gaplib.stats import over_seeds
from gaplib.theory.parallel import flattened, lifted, world
from gaplib.training import RunConfig, presets, train


def some_views(seed=0, n=24, d=8):
    u, v = (torch.from_numpy(z) for z in world(n, d, seed, noise=0.6))
    moved = [geometry.normalize(z + 0.4 * ch08_points.sphere(n, d, seed + 1 + i)) for i, z in enumerate((u, v))]
    return {"u": u, "v": v, "u_view": moved[0], "v_view": moved[1]}


# --- what consistency asks of a gap ----------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(0, 0.999))
@settings(max_examples=40, deadline=None)
def test_consistency_falls_as_the_square_of_one_less_gamma_squared(seed, gamma):
    found = ch08_points.consistency_by_gap(some_views(seed), [0.0, gamma])
    for values in found.values():
        assert values[1] == pytest.approx((1 - gamma**2) ** 2 * values[0], rel=1e-9, abs=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_both_cyclic_terms_are_products_of_differences_and_sums(seed):
    x, y = ch08_points.sphere(7, 5, seed), ch08_points.sphere(7, 5, seed + 1)
    pairs = PairedEmbeddings(x, y)
    assert ch08_points.mixed_products(x, y) == pytest.approx(float(losses.cyclic_loss(pairs)), rel=1e-10)
    within = (x @ x.T - y @ y.T).square().sum() / 7
    across = (x @ y.T - y @ x.T).square().sum() / 7
    assert ch08_points.mixed_products(x, y) == pytest.approx(float(within + across), rel=1e-10)


def test_a_constant_gap_across_everything_costs_nothing():
    u = ch08_points.sphere(16, 6, 0)
    assert ch08_points.mixed_products(*lifted(u, u, 0.7)) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize(("scale", "weight"), [(20, 0.02), (20, 0.3), (50, 0.1), (10, 1.0)])
def test_the_rewarded_gap_is_the_least_of_the_losses_themselves(scale, weight):
    views = some_views(3, n=48, d=12)
    found = ch08_points.rewarded_gap(views["u"], views["v"], scale, weight)

    def total(gamma):
        pairs = PairedEmbeddings(*lifted(views["u"], views["v"], gamma))
        return float(losses.clip_loss(pairs, scale) + weight * losses.cyclic_loss(pairs))

    grid = np.linspace(0, 0.999, 1000)
    assert found == pytest.approx(2 * grid[np.argmin([total(float(gamma)) for gamma in grid])], abs=0.004)
    assert found > 0


def test_no_reward_no_gap_and_perfect_pairs_earn_none():
    views = some_views(5)
    u = torch.from_numpy(world(24, 8, 5)[0])
    assert ch08_points.rewarded_gap(views["u"], views["v"], 5, 0) == 0
    assert ch08_points.rewarded_gap(u, u, 5, 10.0) == 0
    with pytest.raises(ValueError, match="weight"):
        ch08_points.rewarded_gap(u, u, 5, -1.0)


def test_embeddings_without_their_gap_keep_the_rest():
    views = some_views(2)
    u, v = flattened(*lifted(views["u"], views["u"], 0.6))
    torch.testing.assert_close(u[:, :-1], views["u"])
    torch.testing.assert_close(v[:, :-1], views["u"])
    table = ch08_points.reward_table([lifted(views["u"], views["v"], 0.5)] * 2, [10, 20], (0, 0.5), batch=16)
    assert list(table) == [0.0, 0.5]
    assert all(len(gaps) == 2 for gaps in table.values())


# --- points ----------------------------------------------------------------------------------------------------------


def test_descents_stay_on_the_sphere_and_go_down():
    found = ch08_points.separation_descent(steps=400)
    assert found.loss[-1] < found.loss[0]
    assert found.points["image"].shape == (5, 3)  # shared features stay: one snapshot is all there is
    norms = np.linalg.norm(found.points["image_private"], axis=2)
    np.testing.assert_allclose(norms, 1, atol=1e-12)
    overlap = (found.points["image"] * found.points["image_private"]).sum(axis=2)
    assert np.square(overlap[-1]).mean() < np.square(overlap[0]).mean() / 2


def test_consistency_is_content_with_a_gap_that_alignment_closes():
    kept, cyclic = ch08_points.consistency_descent(pull=False, steps=200)
    closed, _ = ch08_points.consistency_descent(pull=True, steps=200)
    assert cyclic.loss[-1] < 0.01 * cyclic.loss[0]
    assert kept[-1] > kept[0] > 0.9
    assert closed[-1] < 0.05


def test_the_bridge_leans_to_the_text_and_the_printed_line_is_another_loss():
    views = some_views(1)
    pairs = PairedEmbeddings(views["u"], views["v"], views["u_view"], views["v_view"])
    three = ch08_points.bridge_three_ways(pairs)
    assert three["first"] == pytest.approx(three["worked_out"], rel=1e-12)
    assert abs(three["printed"] - three["first"]) > 0.1
    mean = ch08_points.bridge_mean(pairs.image, pairs.text)
    assert ((mean * pairs.text).sum(1) > (mean * pairs.image).sum(1)).all()
    torch.testing.assert_close(ch08_points.bridge_mean(pairs.image, pairs.text, t=1.0), pairs.image)
    # Views on the mean: the loss is zero, while the printed line is not least there.
    there = PairedEmbeddings(pairs.image, pairs.text, mean, pairs.text)
    assert ch08_points.bridge_three_ways(there)["first"] == pytest.approx(0, abs=1e-12)
    assert ch08_points.bridge_three_ways(there)["printed"] > three["printed"]


def test_seen_from_the_side_the_gap_is_the_first_axis():
    u, v = (torch.from_numpy(z) for z in world(40, 6, seed=2, noise=0.4))
    x, y = lifted(u, v, 0.5)
    images, names = ch08_points.along_and_across(x, y)
    # The centroids lie half a gap to either side of the middle.
    assert images[:, 0].mean() - names[:, 0].mean() == pytest.approx(float(geometry.centroid_distance(x, y)))
    assert images.mean(axis=0) == pytest.approx(-names.mean(axis=0), abs=1e-9)
    # Across it lies the first principal component of what is orthogonal to the gap.
    pooled = torch.cat([x, y]).numpy()
    g = geometry.gap_direction(x, y).numpy()
    flat = (pooled - pooled.mean(axis=0)) @ (np.eye(len(g)) - np.outer(g, g))
    largest = np.linalg.eigvalsh(flat.T @ flat)[-1]
    assert (np.concatenate([images, names])[:, 1] ** 2).sum() == pytest.approx(largest)


# --- views and runs --------------------------------------------------------------------------------------------------


def test_view_examples_name_what_they_show():
    rows = ch08_runs.view_examples(views=2, seed=1)
    assert [row["name"] for row in rows] == list(ch08_runs.EXAMPLES)
    for row in rows:
        assert len(row["views"]) == len(row["texts"]) == 2
        assert all(view.shape == (24, 24) and view.max() > 0 for view in row["views"])
        assert all(row["texts"])
    with pytest.raises(ValueError, match="names"):
        ch08_runs.view_examples(["LATIN SMALL LETTER Q WITH A HAT ON"])


def test_the_ablation_is_the_control_but_for_its_denominator():
    own = ch08_runs.train_denominator(7, "view", steps=3).state_dict()
    other = ch08_runs.train_denominator(7, "original", steps=3).state_dict()
    run = train(presets.config("clip-views", 7, steps=3))
    assert all(torch.allclose(own[name], weight, atol=1e-6) for name, weight in run.weights.items())
    assert not all(torch.allclose(other[name], weight, atol=1e-3) for name, weight in run.weights.items())


def test_private_features_are_probed_beside_the_shared_ones():
    run = train(RunConfig(method="sep", steps=1, batch_size=16, history_points=2, eval_pairs=16, seed=3))
    assert 0 < ch08_runs.private_overlap(run, "dev") < 0.6
    plain = train(RunConfig(steps=1, batch_size=16, history_points=2, eval_pairs=16, seed=3))
    with pytest.raises(ValueError, match="private"):
        ch08_runs.probe_by_features(plain, "dev")


def test_every_column_has_a_label_and_a_run():
    assert set(ch08_runs.LABELS) == set(ch08_runs.COLUMNS)
    configs = [presets.config(name, 0, setting) for name, setting in ch08_runs.COLUMNS.values()]
    assert len({str(config.to_dict()) for config in configs}) >= 6


def test_tries_say_how_strong_they_were():
    strengths = [one["strength"] for one in ch08_runs.tries("gc")]
    assert len(strengths) == 6
    assert max(strengths) == 1
    weights = [one["changes"]["weights"]["geometric_consistency"] for one in ch08_runs.tries("gc")]
    np.testing.assert_allclose(strengths, np.divide(weights, max(weights)))
    assert [one["strength"] for one in ch08_runs.tries("clip")] == [None] * 6
    gaps = [one["gap"] for one in ch08_runs.tries("br")]
    assert gaps == sorted(gaps)


def test_table_writes_means_with_half_widths():
    estimates = {f"towers.{row}.recall": over_seeds([0.1, 0.2, 0.3]) for row in ch08_runs.LABELS}
    found = ch08_runs.table(estimates, {"recall": "recall at 1"})
    half = 0.1 * student.ppf(0.975, 2) / np.sqrt(3)
    assert found.index.tolist() == list(ch08_runs.LABELS.values())
    assert set(found["recall at 1"]) == {f"0.200 ± {half:.3f}"}
    one = ch08_runs.table({"features.both.mean": over_seeds([0.5, 0.5])}, {"mean": "mean"}, {"both": "all"}, "features")
    assert one.loc["all", "mean"] == "0.500 ± 0.000"


def test_gains_are_paired_by_seed():
    a, b = [{"probe.mean": 0.5}, {"probe.mean": 0.9}], [{"probe.mean": 0.4}, {"probe.mean": 0.8}]
    found = measured.gain(a, b, "probe.mean")
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
