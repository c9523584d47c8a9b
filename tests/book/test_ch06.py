"""Chapter 06: points on a circle, slopes in the parallel construction, and the configurations of its runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gaplib import geometry
from gaplib.book.chapters import ch06_uniformity
from gaplib.book.results import Recorder
from gaplib.stats import over_seeds
from gaplib.theory.parallel import lifted, world


def worlds(seed=0, n=32, d=16, noise=0.7):
    u, v = world(n, d, seed, noise=noise)
    return torch.from_numpy(u), torch.from_numpy(v)


def test_slopes_are_those_of_the_formulas_on_the_page():
    u, v = worlds()
    n, gamma, t = len(u), 0.4, 2.0
    between, within = torch.cdist(u, v).square(), torch.cdist(u, u).square()
    off = ~torch.eye(n, dtype=torch.bool)
    w = torch.softmax(-t * (1 - gamma**2) * between[off], dim=0)
    inside = [
        float(torch.softmax(-t * (1 - gamma**2) * d[off], dim=0) @ d[off]) for d in (within, torch.cdist(v, v) ** 2)
    ]
    slopes = ch06_uniformity.pull(u, v, gamma)
    assert slopes["alignment"] == pytest.approx(float((4 - between.diagonal()).mean()), rel=1e-10)
    assert slopes["cross_uniformity"] == pytest.approx(-t * float(w @ (4 - between[off])), rel=1e-10)
    assert slopes["uniformity"] == pytest.approx(t * np.mean(inside), rel=1e-10)
    assert slopes["centroid_uniformity"] == pytest.approx(0, abs=1e-10)
    total = slopes["contrastive"] + slopes["alignment"] + slopes["uniformity"]
    assert slopes["cua"] == pytest.approx(total)
    assert slopes["cuaxu"] == pytest.approx(total + slopes["cross_uniformity"])


def test_contrastive_slope_is_that_of_the_effective_scale():
    from gaplib.theory.dynamics import Matching

    u, v = worlds(1)
    gamma, tau = 0.5, 0.05
    slope = Matching.from_embeddings(u.numpy(), v.numpy()).slope((1 - gamma**2) / tau)
    assert ch06_uniformity.pull(u, v, gamma, tau)["contrastive"] == pytest.approx(-slope / tau, rel=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.95])
def test_slopes_against_finite_differences(gamma):
    u, v = worlds(2)
    h = 1e-6
    low, high = (np.sqrt(max(0.0, gamma**2 + s * h)) for s in (-1 if gamma else 0, 1))
    values = ch06_uniformity.values(u, v, [low, high])
    slopes = ch06_uniformity.pull(u, v, gamma)
    for name, pair in values.items():
        assert slopes[name] == pytest.approx((pair[1] - pair[0]) / (high**2 - low**2), rel=1e-3, abs=1e-5)


def test_cross_uniformity_is_least_at_opposite_poles_whatever_the_pairs():
    for seed in range(5):
        u, v = worlds(seed, noise=float("inf"))
        cross = ch06_uniformity.values(u, v, np.linspace(0, 0.9999, 21))["cross_uniformity"]
        assert (np.diff(cross) < 0).all()
        assert cross[-1] == pytest.approx(-8, abs=1e-2)


def test_strangers_are_pushed_twice_as_hard_as_alignment_pulls():
    # Every u equals every v: all distances are equal, so no weights enter.
    u = torch.zeros(6, 3, dtype=torch.float64)
    u[:, 0] = 1
    v = torch.zeros_like(u)
    v[:, 1] = 1
    slopes = ch06_uniformity.pull(u, v, 0.2)
    assert slopes["cross_uniformity"] == pytest.approx(-2 * slopes["alignment"])


def test_resting_gap():
    u, v = worlds(3, noise=3.0)  # hard pairs: a scale of 100 is too sharp for them, and a gap softens it
    assert ch06_uniformity.resting_gap_of_terms(u, v, "cross_uniformity") == 2
    assert ch06_uniformity.resting_gap_of_terms(u, v, "alignment") == 0
    gamma = ch06_uniformity.resting_gap_of_terms(u, v, "contrastive") / 2
    assert 0 < gamma < 1
    assert ch06_uniformity.pull(u, v, gamma)["contrastive"] == pytest.approx(0, abs=1e-6)


def test_terms_alone_move_points_on_the_circle_as_the_chapter_says():
    start = ch06_uniformity.circle()

    def after(term):
        x, y = ch06_uniformity.points(ch06_uniformity.descend(term, start)[-1])
        return float(geometry.centroid_distance(x, y)), float(geometry.alignment(x, y))

    gap_before, _ = (float(f(*ch06_uniformity.points(start))) for f in (geometry.centroid_distance, geometry.alignment))
    assert gap_before > 1
    assert after("alignment")[1] < 1e-4
    assert after("uniformity")[0] < 0.1
    assert after("cross-uniformity")[0] > 1.9
    assert after("alignment + uniformity")[0] < 0.05


def test_descent_lowers_the_loss_and_leaves_its_start_alone():
    start = ch06_uniformity.circle()
    kept = start.clone()
    path = ch06_uniformity.descend("uniformity", start, steps=50)
    assert path.shape == (51, 2, 8)
    assert torch.equal(start, kept)
    first, last = (np.mean([float(geometry.uniformity(z)) for z in ch06_uniformity.points(path[i])]) for i in (0, -1))
    assert last < first


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ch06_uniformity.descend("evenness", ch06_uniformity.circle()), "term"),
        (lambda: ch06_uniformity.pull(*worlds(), 1.0), "gamma"),
        (lambda: ch06_uniformity.pull(*worlds(), 0.5, tau=0), "tau"),
        (lambda: ch06_uniformity.circle(1), "n:"),
        (lambda: ch06_uniformity.trunk("cua", 0), "name"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_configurations():
    base = ch06_uniformity.scratch("clip", 5)
    tuned = ch06_uniformity.finetuned("cuaxu", 5)
    assert (base.tau, base.learn_tau, base.steps, base.seed) == (0.01, False, 300, 5)
    assert tuned.start == base
    assert (tuned.steps, tuned.tau, tuned.lr) == (ch06_uniformity.FINE_TUNING, 0.01, base.lr)
    assert {ch06_uniformity.trunk(name, 1).architecture for name in ch06_uniformity.SHARED} == {"transformer"}
    assert len({(ch06_uniformity.trunk(n, 1).tau, ch06_uniformity.trunk(n, 1).lr) for n in ch06_uniformity.SHARED}) == 1


def test_heights_are_those_of_the_parallel_model():
    u, v = worlds()
    x, y = lifted(u, v, 0.3)
    slopes = ch06_uniformity.pull(u, v, 0.3)
    nearer = lifted(u, v, float(np.sqrt(0.3**2 - 1e-5)))
    change = float(geometry.alignment(x, y) - geometry.alignment(*nearer))
    assert slopes["alignment"] * 1e-5 == pytest.approx(change, rel=1e-4)


def test_comparisons_are_paired_and_the_control_has_no_change():
    rng = np.random.default_rng(0)
    control = [{name: value for name, value in zip("ab", rng.normal(size=2), strict=True)} for _ in range(4)]
    rows = [{name: value + 1 + 0.1 * i for name, value in one.items()} for i, one in enumerate(control)]
    found = ch06_uniformity.compared(rows, control, names="ab")
    assert list(found) == ["a", "a_change", "b", "b_change"]
    assert found["a"].value == pytest.approx(np.mean([one["a"] for one in rows]))
    assert found["b_change"].samples == pytest.approx((1.0, 1.1, 1.2, 1.3))
    assert list(ch06_uniformity.compared(control, control, names="ab")) == ["a", "b"]


def test_the_table_shows_what_was_recorded():
    run = Recorder("06")
    run.record_all("scratch.cua", {"centroid_distance": over_seeds([0.5, 0.7]), "recall": 0.25})
    table = ch06_uniformity.table(run.estimates, {"CUA": "scratch.cua"}, ("centroid_distance", "recall"))
    assert table.loc["CUA"].to_dict() == {
        "centroid distance": str(over_seeds([0.5, 0.7])),
        "recall": str(run.estimates["scratch.cua.recall"]),
    }


def test_a_trained_state_is_the_nearest_parallel_model_of_its_pairs():
    u, v = worlds(n=40)
    pairs = lifted(u, v, 0.3)
    run = SimpleNamespace(pairs=lambda: pairs, gap=lambda: 0.6)
    found_u, found_v, gamma = ch06_uniformity.trained(run, n=32)
    assert gamma == 0.3
    assert found_u.shape == found_v.shape == (32, u.shape[1] + 1)
    np.testing.assert_allclose(found_u.norm(dim=1), 1)
    direction = geometry.gap_direction(*(z[:32] for z in pairs))
    np.testing.assert_allclose(found_u @ direction, 0, atol=1e-12)
