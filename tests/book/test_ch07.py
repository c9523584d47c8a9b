"""Chapter 07's settings and its theory of a swap, against enumeration, sampling and the runs of the other chapters."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from gaplib import geometry
from gaplib.book.chapters import ch07_temperature_swapping as chapter
from gaplib.losses import clip_loss
from gaplib.pairs import PairedEmbeddings
from gaplib.swapping import Swapping, hard_swap, soft_swap
from gaplib.training import presets


def configured(key, seed=100):
    one = chapter.SETTINGS[key]
    return presets.config(one.method, seed, "paper", **one.changes).resolved()


# --- settings ---


def test_settings_are_what_the_page_says_and_shared_with_other_chapters():
    assert len({str(configured(key).to_dict()) for key in chapter.SETTINGS}) == len(chapter.SETTINGS)
    for key, name in {
        "clip": "clip",
        "s3": "ts-s3",
        "tau004": "flt",
        "hs12": "hs",
        "ss5": "ss",
        "slrt": "slrt",
    }.items():
        assert configured(key) == presets.config(name, 100, "paper").resolved()
    for tau in chapter.TAUS:
        one = configured(chapter.key_of(tau))
        assert (one.tau, one.learn_tau) == (tau, False)
    swaps = {key: configured(key).swapping for key in chapter.SETTINGS if configured(key).swapping}
    shares = {"hs12": chapter.SWAPPED_STEPS / presets.STEPS, "hs30": 0.3, "hs100": 1.0}
    shares |= {"ss5": chapter.SOFT_SHARE, "ss100": 1.0}
    for key, one in swaps.items():
        name = next(name for name in reversed(shares) if key.startswith(name))
        how = key.removeprefix(name)
        assert one["p"] == pytest.approx(shares[name])
        assert one["renormalize"] != ("raw" in how)
        assert one["trigger"] == ("phase" if "phase" in how else "random")
        sharp = "sharp" in how or "phase" in how
        assert (configured(key).tau, configured(key).learn_tau) == ((0.02, False) if sharp else (0.07, True))
    families = [chapter.of_family(one) for one in chapter.FAMILIES]
    assert sorted(itertools.chain(*families)) == sorted(chapter.SETTINGS)
    assert chapter.SETTINGS["hs12sharp"].label == "hard swap, 12 steps (tau = .02)"
    assert len({one.label for one in chapter.SETTINGS.values()}) == len(chapter.SETTINGS)
    with pytest.raises(ValueError, match="family"):
        chapter.of_family("cold")


def test_a_short_run_is_trained_and_measured():
    runs = chapter.train("hs30", [3, 4, 5, 6], steps=2, batch_size=32)
    assert [run.config.seed for run in runs] == [3, 4]  # a side run
    values = chapter.measure(runs[0])
    x, y = runs[0].pairs()
    assert values["gap"] == pytest.approx(float(np.linalg.norm(x.mean(0) - y.mean(0))), abs=1e-9)
    assert values["cosine"] == pytest.approx(float((x * y).sum(1).mean()), abs=1e-9)
    assert values["recall"] == pytest.approx((values["image_recall"] + values["text_recall"]) / 2)
    assert values["image_recall"] == runs[0].metrics["text_to_image@1"]
    assert set(chapter.HEADINGS) == set(values) - {"recall"}
    assert chapter.share_of_way(runs[0], runs[0]) == 1.0
    with pytest.raises(ValueError, match="split"):
        chapter.measure(runs[0], "train")
    with pytest.raises(ValueError, match="key"):
        chapter.train("hs99", [3])


def test_planned_temperatures():
    s3 = chapter.planned("ts-s3", 300)
    assert s3.shape == (300,)
    assert s3[0] == pytest.approx(0.01)
    assert np.allclose(np.diff(s3), 0.04 / 300)
    assert chapter.planned("flt", 4) == pytest.approx([0.04] * 4)
    with pytest.raises(ValueError, match="learns it"):
        chapter.planned("clip")


def test_reading_off_a_curve():
    assert chapter.at_temperature(0.02, (0.04, 0.01), (3.0, 1.0)) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="tau"):
        chapter.at_temperature(0.05, (0.04, 0.01), (3.0, 1.0))


def toy(seeds=3):
    """Settings whose gap is tau's own reciprocal over 100, and one with a tenth less."""
    values = {chapter.key_of(tau): [{"tau": tau, "gap": 0.01 / tau, "recall": tau}] * seeds for tau in chapter.TAUS}
    values["clip"] = [{"tau": 0.04, "gap": 0.25 + 0.01 * i, "recall": 0.04} for i in range(seeds)]
    values["hs12"] = [{"tau": 0.04, "gap": 0.225 + 0.009 * i, "recall": 0.05 + 0.01 * i} for i in range(seeds)]
    values["hs30"] = values["hs12"][:2]
    return chapter.Measured(values)


def test_comparisons_are_paired_and_side_runs_take_the_seeds_that_both_have():
    found = toy()
    assert found.cut("hs12").samples == pytest.approx((0.1, 0.1, 0.1))
    assert found.change("hs12", "recall").samples == pytest.approx((0.01, 0.02, 0.03))
    assert found.change("hs30", "recall").n == 2
    assert found.off_the_curve("hs12", "gap").samples == pytest.approx((-0.025, -0.016, -0.007))
    assert found.mean("tau04", "gap") == pytest.approx(0.025)
    both = found.estimates("hs12", ("gap", "recall"))
    assert {name: one.samples for name, one in both.items()} == {
        "gap": pytest.approx((0.225, 0.234, 0.243)),
        "recall": pytest.approx((0.05, 0.06, 0.07)),
    }
    points = found.plane("tau", "recall", skip=["hs30"])
    assert points["fixed temperature"] == (pytest.approx(list(chapter.TAUS)), pytest.approx(list(chapter.TAUS)))
    assert points["hard swap, learned"] == ([0.04], [pytest.approx(0.06)])
    assert points["schedules"] == ([], [])
    table = found.tests(("hs12",))
    raw = ttest_rel([0.05, 0.06, 0.07], [0.04] * 3).pvalue  # the larger of the two: Holm leaves it as it is
    assert float(table["p"][1]) == pytest.approx(raw, abs=6e-4)
    frame = found.frame({"gap": "gap"})
    assert frame.loc["hard swap, 90 steps *", "gap"] == "0.230"
    assert "±" in frame.loc["learned", "gap"]


# --- a swap on a handful of pairs ---


@pytest.fixture
def pairs():
    return chapter.handful(3, seed=1)


def all_hard_swaps(x, y):
    """Every outcome of a fair coordinate swap of (n, d) pairs, each as likely as the others."""
    for mask in itertools.product([False, True], repeat=x.numel()):
        take = torch.tensor(mask).reshape(x.shape)
        yield torch.where(take, y, x), torch.where(take, x, y)


def test_handful_is_a_gap_of_unit_rows():
    x, y = chapter.handful()
    assert torch.allclose(x.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(y.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert float(geometry.centroid_distance(x, y)) > 0.8


def test_a_hard_swap_by_enumeration(pairs):
    x, y = pairs
    outcomes = list(all_hard_swaps(x, y))
    gaps = torch.stack([(a - b).mean(0) for a, b in outcomes])
    assert torch.allclose(gaps.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    mean_square = float(gaps.square().sum(1).mean())
    assert chapter.expected_squared_gap(x, y, "hard") == pytest.approx(mean_square, rel=1e-12)
    logits = torch.stack([a @ b.T for a, b in outcomes]).mean(0)
    assert torch.allclose(chapter.expected_similarities(x, y, "hard"), logits, atol=1e-12)
    # also with normalised rows the two modalities are exchangeable
    unit = torch.stack([(geometry.normalize(a) - geometry.normalize(b)).mean(0) for a, b in outcomes])
    assert torch.allclose(unit.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)


def test_a_soft_swap_by_sampling(pairs):
    x, y = pairs
    generator = torch.Generator().manual_seed(0)
    draws = [soft_swap(x, y, generator, renormalize=False) for _ in range(4_000)]
    gaps = torch.stack([(a - b).mean(0) for a, b in draws])
    assert chapter.expected_squared_gap(x, y, "soft") == pytest.approx(float(gaps.square().sum(1).mean()), rel=0.06)
    logits = torch.stack([a @ b.T for a, b in draws]).mean(0)
    assert torch.allclose(chapter.expected_similarities(x, y, "soft"), logits, atol=0.02)


def test_a_raw_hard_swap_leaves_the_true_similarity_as_it_is(pairs):
    x, y = pairs
    a, b = hard_swap(x, y, torch.Generator().manual_seed(3), renormalize=False)
    assert torch.allclose((a * b).sum(1), (x * y).sum(1))


def test_the_constant_of_the_parallel_model_no_longer_drops_out():
    rows = geometry.normalize(torch.randn(24, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    heights = np.array([0.0, 0.3, 0.6])
    plain = chapter.height_curve(rows, rows, heights, 30.0, None)
    swapped = chapter.height_curve(rows, rows, heights, 30.0, Swapping("hard", 1.0, renormalize=False))
    for loss, height in zip(plain, heights, strict=True):  # only the effective scale is left of the height
        expected = float(clip_loss(PairedEmbeddings(rows, rows, check=False), 30.0 * (1 - height**2)))
        assert loss == pytest.approx(expected, rel=1e-9)
    assert np.all(np.diff(swapped) > 10 * np.diff(plain))
    x, y = chapter.lifted(rows, rows, 0.6)
    assert float(geometry.centroid_distance(x, y)) == pytest.approx(1.2)
    assert torch.allclose(x.norm(dim=1), torch.ones(24, dtype=torch.float64))


@pytest.mark.parametrize("call", [
    lambda x: chapter.expected_similarities(x, x, "medium"),
    lambda x: chapter.expected_similarities(2 * x, x, "hard"),
    lambda x: chapter.expected_squared_gap(x, x, "medium"),
    lambda x: chapter.lifted(x, x, 1.5),
    lambda x: chapter.handful(1),
    lambda x: chapter.height_curve(x, x, [0.1], 1.0, None, repeats=0),
    lambda x: chapter.at_temperature(math.nan, (1.0, 2.0), (1.0, 2.0)),
])  # fmt: skip
def test_bad_input_is_named(pairs, call):
    with pytest.raises(ValueError, match="expected"):
        call(pairs[0])
