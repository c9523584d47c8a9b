"""Chapter 03: the runs that it asks for, and what is read off them, against independent computations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from gaplib import geometry
from gaplib.book.chapters import ch03_runs as same
from gaplib.book.chapters import ch03_sphere
from gaplib.book.chapters import ch03_subspaces as shared
from gaplib.data import glyphs
from gaplib.towers import image_pair_towers
from gaplib.towers.encode import encode
from gaplib.training import train


@pytest.fixture(scope="module")
def start():
    return train(same.before(same.same(3, dim=16)), progress=False)


# --- the runs --------------------------------------------------------------------------------------------------------


def test_before_is_the_untrained_pair_turned_by_scipy_s_procrustes(start):
    # the same map, made here from towers without it
    data = glyphs.load()
    towers = image_pair_towers(dim=16, image_size=24, seed=3)
    fit = data.sample("train", 2048, seed=3)
    first, second = (z.double().numpy() for z in encode(towers, fit, second=fit.images))
    turn, _ = orthogonal_procrustes(second, first)
    test = data.sample("test", None, seed=0)
    x, y = (z.double().numpy() for z in encode(towers, test, second=test.images))
    got = start.pairs()
    np.testing.assert_allclose(got[0], x, atol=1e-5)
    np.testing.assert_allclose(got[1], y @ turn, atol=1e-5)
    # the gap that the map removed is there without it
    assert np.linalg.norm(x.mean(0) - y.mean(0)) > 0.3
    assert float(geometry.centroid_distance(*got)) < 0.05


def test_before_moves_no_weight(start):
    assert start.history[0]["centroid_distance"] == start.history[1]["centroid_distance"]
    assert start.history[0]["true_pair_cosine"] == start.history[1]["true_pair_cosine"]


def test_equal_samples_are_equal():
    for size in same.BATCHES:
        assert size * same.at_equal_samples(size) == same.BATCH * same.SWEEP_STEPS
    with pytest.raises(ValueError, match="batch_size: expected a divisor"):
        same.at_equal_samples(7)


def test_configurations_differ_in_what_they_are_asked_to():
    a, b = same.same(0), same.same(0, dim=8)
    assert {k for k, v in a.to_dict().items() if v != b.to_dict()[k]} == {"dim"}
    assert (same.mixed(1).modalities, same.mixed(1).procrustes) == ("image-text", False)
    assert same.by_optimiser("sgd", 2).optimizer == "sgd"
    with pytest.raises(ValueError, match="name: expected"):
        same.by_optimiser("lion", 2)


# --- readings --------------------------------------------------------------------------------------------------------


def test_readings_of_a_run(start):
    row = same.readings(start, probes=True)
    x, y = (z.numpy() for z in start.pairs())
    assert row["centroid_distance"] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), abs=1e-12)
    assert 0 <= row["centroid_distance"] - row["excess_distance"] < 0.05
    assert row["separability_weak"] >= row["separability"]
    hits = (x @ y.T).argmax(1)
    answer = start.embeddings["test_answer"]
    forward = np.mean(answer[hits] == answer)
    assert row["recall"] == pytest.approx((forward + np.mean(answer[(x @ y.T).argmax(0)] == answer)) / 2, abs=0.01)


def test_path_and_late_fall(start):
    steps, values = same.path([start, start], "loss")
    assert steps.tolist() == [0, 1]
    assert values.shape == (2, 2)

    losses = ((0, 4.0), (40, 2.0), (75, 0.5), (90, 0.4), (100, 0.3))
    run = SimpleNamespace(config=same.same(0, steps=100), history=[{"step": s, "loss": loss} for s, loss in losses])
    assert same.late_fall(run) == pytest.approx(0.2)


def test_opening_of_a_run_that_opens_closes_and_opens_again():
    gaps = {0: 0.0, 1: 0.3, 4: 0.9, 75: 0.1, 90: 0.05, 100: 0.2}
    losses = {0: 4.0, 1: 3.5, 4: 2.0, 75: 0.5, 90: 0.4, 100: 0.3}
    history = [{"step": step, "loss": losses[step], "centroid_distance": gap} for step, gap in gaps.items()]
    row = same.opening(SimpleNamespace(config=same.same(0, steps=100), history=history))
    expected = {"peak_distance": 0.9, "peak_step": 4, "first_step_distance": 0.3, "late_rise": 0.15, "late_fall": 0.2}
    assert row == pytest.approx(expected)


def test_slope_of_an_exact_law():
    sizes = (8, 16, 64, 256)
    distances = np.array([[0.1 + 0.07 * math.log2(s) for s in sizes], [0.3 + 0.05 * math.log2(s) for s in sizes]])
    estimate = same.slope_per_doubling(sizes, distances)
    assert estimate.samples == pytest.approx((0.07, 0.05))
    with pytest.raises(ValueError, match="distances"):
        same.slope_per_doubling(sizes, distances[:, :3])
    with pytest.raises(ValueError, match="different sizes"):
        same.slope_per_doubling((8, 8), distances[:, :2])


@pytest.mark.parametrize("opposite", [False, True])
def test_side_view_shows_the_gap_at_full_length(opposite):
    rng = np.random.default_rng(4)
    x = geometry.normalize(torch.tensor(rng.normal((2, 1, 0), 1, (50, 3))))
    y = -x if opposite else geometry.normalize(torch.tensor(rng.normal((0, 1, 2), 1, (60, 3))))
    axes = same.side_view(x, y)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    gap = (x.mean(0) - y.mean(0)).numpy() @ axes
    np.testing.assert_allclose(gap, [float(geometry.centroid_distance(x, y, paired=False)), 0, 0], atol=1e-12)
    with pytest.raises(ValueError, match="3 dimensions"):
        same.side_view(x[:, :2], y[:, :2])


def test_sphere_and_turntable_show_the_same_points_in_the_same_view():
    rng = np.random.default_rng(5)
    clouds = [geometry.normalize(torch.tensor(rng.normal(size=(300, 3)))) for _ in range(2)]
    view = ortho_group.rvs(3, random_state=1)
    drawn = ch03_sphere.sphere(clouds, view)().axes[0].collections
    film = {0: clouds, 8: clouds[::-1]}
    turned = ch03_sphere.turntable(film, view, opens_at=8)
    for i, cloud in enumerate(clouds):
        far, near = (np.asarray(half.get_offsets()) for half in drawn[2 * i : 2 * i + 2])
        all_points = cloud.numpy() @ view
        assert len(far) + len(near) == ch03_sphere.SHOWN < len(all_points)
        for half, front in ((far, False), (near, True)):  # every drawn point is one of its half
            there = all_points[(all_points[:, 2] >= 0) == front, :2]
            assert np.abs(half[:, None] - there).sum(axis=2).min(axis=1).max() < 1e-12
        trace = np.stack([turned.data[i][axis] for axis in "xyz"], axis=1)
        assert {*map(tuple, np.round(np.concatenate([far, near]), 3))} == {*map(tuple, trace[:, :2])}
    assert drawn[0].get_alpha() < drawn[1].get_alpha()
    assert [trace.visible for trace in turned.data] == [False, False, True, True]
    slider = turned.layout.sliders[0]
    assert slider.active == 1
    assert [one.args[0]["visible"] for one in slider.steps] == [[True, True, False, False], [False, False, True, True]]
    with pytest.raises(ValueError, match="opens_at: expected"):
        ch03_sphere.turntable(film, view, opens_at=3)
    with pytest.raises(ValueError, match="clouds, view: expected"):
        ch03_sphere.sphere([clouds[0], clouds[1][:9]], view)


def test_frames_of_the_film_are_one_run():
    short, long = (train(same.same(1, dim=3, steps=n, history_points=2), progress=False) for n in (2, 3))
    again = train(same.same(1, dim=3, steps=3, history_points=4), progress=False)
    at_two = next(row for row in again.history if row["step"] == 2)
    assert short.history[-1]["centroid_distance"] == at_two["centroid_distance"]
    assert long.metrics == again.metrics


# --- the space -------------------------------------------------------------------------------------------------------


def test_usage_of_uniform_points_is_that_of_uniform_points():
    row = shared.usage(shared.uniform_points(3000, 16, seed=1))
    assert abs(row["first_eighth_excess"]) < 0.01
    assert row["rank_ratio"] == pytest.approx(1, abs=0.01)
    assert row["first_eighth"] == pytest.approx(2 / 16, abs=0.02)


def test_components_for_counts_axes():
    x = np.concatenate([np.eye(4), -np.eye(4)]) * [2, 1, 1, 1]  # variances 4 : 1 : 1 : 1
    assert [shared.components_for(x, share) for share in (0.5, 4 / 7, 0.6, 1.0)] == [1, 1, 2, 4]
    assert shared.first_eighth(x) == pytest.approx(4 / 7)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 30.0, 90.0, 180.0])
def test_centre_angle(angle):
    a = torch.tensor([[1.0, 0, 0]] * 3, dtype=torch.float64)
    b = torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle)), 0]] * 3, dtype=torch.float64)
    assert shared.centre_angle(a, b) == pytest.approx(angle, abs=1e-9)


def tilted(n, angle, seed, private=0.6):
    """Pairs that share three directions; each has a private one, the two at ``angle`` degrees, that makes the gap."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, 3)) / 3**0.5
    gap, basis = math.radians(angle), ortho_group.rvs(8, random_state=0)
    x, y = np.zeros((2, n, 8))
    x[:, :3], y[:, :3] = content, content
    x[:, 3] = private
    y[:, 3], y[:, 4] = private * math.cos(gap), private * math.sin(gap)
    return tuple(geometry.normalize(torch.tensor(z @ basis)) for z in (x, y))


def test_the_projection_removes_a_gap_that_lies_outside_the_shared_space():
    fit, test = tilted(400, 80, 0), tilted(300, 80, 1)
    found = shared.angles(*test)
    assert (found["dims_image"], found["dims_text"], found["room"]) == (4, 4, 0)
    assert found["smallest"] == pytest.approx(0, abs=1e-5)  # the shared content, not the gap
    assert found["difference"] == pytest.approx(found["centre"], abs=1e-5)
    assert found["smallest"] == shared.smallest_angle(*test)
    row = shared.projected(fit, test)
    assert row["dims"] == 3
    assert row["distance_before"] > 0.6
    assert row["distance_after"] < 1e-6
    assert row["recall_after"] == 1.0
    assert row["recall_change"] == row["recall_after"] - row["recall_before"]


def test_a_projection_that_has_nothing_to_share_says_so():
    clouds = np.random.default_rng(0).normal(size=(2, 50, 2))
    x, y = (np.zeros((50, 4)) for _ in range(2))
    x[:, :2], y[:, 2:] = clouds
    x, y = (geometry.normalize(torch.tensor(z)) for z in (x, y))
    assert shared.projected((x, y), (x, y)) is None
    assert shared.frontier((x, y), (x, y)) == {}
    with pytest.raises(ValueError, match="tolerance"):
        shared.projected_between_halves(x, y, shared.split_halves(50), "cut", 1e-3)
    with pytest.raises(ValueError, match="dimension"):
        shared.projected(tilted(60, 80, 0), (x, y))


def test_halves_are_fitted_and_tested_apart():
    x, y = tilted(200, 70, 2)
    half = shared.split_halves(200, seed=5)
    assert np.bincount(half).tolist() == [100, 100]
    one, other = ([z[torch.from_numpy(half == side)] for z in (x, y)] for side in (0, 1))
    expected = (shared.projected(one, other, 0.05)["dims"] + shared.projected(other, one, 0.05)["dims"]) / 2
    assert shared.projected_between_halves(x, y, half, "dims", 0.05) == expected
