"""Linear probe and few-shot: against scikit-learn step by step, chance on shuffled labels, bad input."""

import time
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gaplib.evaluation import few_shot, linear_probe

SIZES = {"train": 300, "dev": 200, "test": 400}


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def cloud(n, c=5, d=12, noise=1.5, seed=0):
    labels = np.arange(n) % c
    return gaussian(c, d, 99)[labels] + noise * gaussian(n, d, seed), labels


def splits(seed=0, **options):
    made = {split: cloud(n, seed=seed + i, **options) for i, (split, n) in enumerate(SIZES.items())}
    return {split: one[0] for split, one in made.items()}, {split: one[1] for split, one in made.items()}


# --- linear probe ----------------------------------------------------------------------------------------------------


def test_the_probe_of_scikit_learn():
    x, y = splits()
    Cs = (0.001, 0.1, 10.0)
    got = linear_probe(x, y, Cs=Cs, max_iter=500)
    readings = {}
    for C in Cs:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000, tol=1e-6))
        model.fit(x["train"], y["train"])
        losses = [log_loss(y[split], model.predict_proba(x[split])) for split in ("dev", "test")]
        readings[C] = (*losses, model.score(x["test"], y["test"]))
    C = min(readings, key=lambda one: readings[one][0])
    assert got["C"] == C
    assert got["cross_entropy"] == pytest.approx(readings[C][1], rel=5e-3)
    assert got["accuracy"] == pytest.approx(readings[C][2], abs=0.01)
    assert got["class_mean_accuracy"] == pytest.approx(got["accuracy"])  # as many of each class
    assert all(type(value) is float for value in got.values())


def test_test_labels_choose_nothing():
    """Whatever test says, C and the fit stay; were C chosen on test, the reversed labels would move it."""
    x, y = splits(noise=3)
    wrong = y | {"test": (y["test"] + 1) % 5}
    one, other = linear_probe(x, y), linear_probe(x, wrong)
    assert (one["C"], one["dev_accuracy"]) == (other["C"], other["dev_accuracy"])
    assert one["accuracy"] > 0.4
    assert other["accuracy"] < 0.3
    # On dev, another choice is made: labels of noise ask for the strongest penalty.
    noise = y | {"dev": np.random.default_rng(0).permutation(y["dev"])}
    assert linear_probe(x, noise)["C"] < one["C"]


def test_shuffled_labels_stay_at_chance():
    x, y = splits()
    rng = np.random.default_rng(3)
    shuffled = {split: rng.permutation(labels) for split, labels in y.items()}
    got = linear_probe(x, shuffled)
    assert abs(got["accuracy"] - 0.2) < 4 * np.sqrt(0.2 * 0.8 / SIZES["test"])
    assert got["cross_entropy"] > np.log(5) - 0.05


def test_random_and_constant_embeddings_stay_at_chance():
    _, y = splits()
    random = {split: gaussian(n, 12, i) for i, (split, n) in enumerate(SIZES.items())}
    constant = {split: np.full((n, 12), 0.3) for split, n in SIZES.items()}
    for x in (random, constant):
        assert abs(linear_probe(x, y)["accuracy"] - 0.2) < 4 * np.sqrt(0.2 * 0.8 / SIZES["test"])


def test_scale_shift_and_order_change_nothing():
    x, y = splits()
    whole = linear_probe(x, y)
    scales = 10.0 ** np.random.default_rng(0).integers(-3, 4, size=12)
    moved = {split: 7 + one * scales for split, one in x.items()}
    assert linear_probe(moved, y) == pytest.approx(whole, abs=2e-3)
    for factor in (1e-200, 1e200):
        assert linear_probe({split: factor * one for split, one in x.items()}, y) == pytest.approx(whole, abs=2e-3)
    orders = {split: np.random.default_rng(1).permutation(n) for split, n in SIZES.items()}
    mixed = linear_probe({s: x[s][o] for s, o in orders.items()}, {s: y[s][o] for s, o in orders.items()})
    assert mixed == pytest.approx(whole, abs=5e-3)


def test_no_warning_when_the_solver_stops_early():
    x, y = splits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0.2 < linear_probe(x, y, max_iter=1)["accuracy"] <= 1


def test_two_classes_strings_booleans_and_tensors():
    x, y = splits(c=2)
    whole = linear_probe(x, y)
    tensors = {split: torch.from_numpy(one) for split, one in x.items()}
    assert linear_probe(tensors, {split: torch.from_numpy(one) for split, one in y.items()}) == whole
    assert linear_probe(x, {split: np.array(["no", "yes"])[one] for split, one in y.items()}) == whole
    assert linear_probe(x, {split: one == 1 for split, one in y.items()}) == whole


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x, y: x.pop("dev"), "embeddings"),
        (lambda x, y: y.pop("test"), "labels"),
        (lambda x, y: x.update(extra=x["dev"]), "embeddings"),
        (lambda x, y: x.update(dev=np.full((200, 12), np.nan)), r"embeddings\['dev'\]"),
        (lambda x, y: x.update(test=np.ones((400, 11))), r"embeddings\['test'\]"),
        (lambda x, y: y.update(dev=y["dev"][:-1]), r"labels\['dev'\]"),
        (lambda x, y: y.update(train=y["train"] * 0.5), r"labels\['train'\]"),
        (lambda x, y: y.update(test=y["test"].astype(str)), "labels"),
        (lambda x, y: y.update({split: np.zeros(n, dtype=int) for split, n in SIZES.items()}), "labels"),
    ],
)
def test_bad_splits_are_named(change, name):
    x, y = splits()
    change(x, y)
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        linear_probe(x, y)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_class_missing_from_a_split_is_named(split):
    x, y = splits()
    y[split] = np.where(y[split] == 3, 1, y[split])
    with pytest.raises(ValueError, match=rf"^labels: expected every class in every split, got none of 3 in '{split}'"):
        linear_probe(x, y)


@pytest.mark.parametrize("options", [dict(Cs=()), dict(Cs=(0,)), dict(Cs=1.0), dict(Cs=(np.nan,)), dict(max_iter=0)])
def test_bad_options_of_the_probe(options):
    with pytest.raises(ValueError, match=rf"^{next(iter(options))}: expected"):
        linear_probe(*splits(), **options)


# --- few-shot --------------------------------------------------------------------------------------------------------


def drawn(x, y, shots, most, seed, draw):
    rng = np.random.default_rng([seed, draw])
    return np.concatenate([rng.permutation(np.flatnonzero(y == one))[:most][:shots] for one in np.unique(y)])


@pytest.mark.parametrize("classifier", ["ridge", "mean", "logistic"])
def test_the_classifiers_of_scikit_learn(classifier):
    """On the same draws; centring and one scale change neither nearest means nor what a rescaled penalty does."""
    x, y = cloud(200)
    test_x, test_y = cloud(500, seed=1)
    got = few_shot(x, y, test_x, test_y, shots=(2, 8), draws=3, seed=5, classifier=classifier, penalty=0.5)
    for shots in (2, 8):
        scores = []
        for draw in range(3):
            rows = drawn(x, y, shots, 8, 5, draw)
            square = np.square(x[rows] - x[rows].mean(0)).sum(1).mean()  # the penalty's unit
            model = {
                "ridge": RidgeClassifier(alpha=0.5 * square),
                "mean": NearestCentroid(),
                "logistic": LogisticRegression(C=2 / square, max_iter=5000, tol=1e-8),
            }[classifier]
            scores.append(model.fit(x[rows], y[rows]).score(test_x, test_y))
        tolerance = 0.005 if classifier == "logistic" else 1e-9
        assert got[f"{shots}_shot"] == pytest.approx(np.mean(scores), abs=tolerance)
        assert got[f"{shots}_shot_sd"] == pytest.approx(np.std(scores, ddof=1), abs=tolerance)
    assert got["mean"] == pytest.approx((got["2_shot"] + got["8_shot"]) / 2)


@pytest.mark.parametrize("classifier", ["ridge", "mean", "logistic"])
def test_more_shots_help_and_chance_stays_chance(classifier):
    x, y = cloud(200)
    test_x, test_y = cloud(500, seed=1)
    options = dict(draws=20, classifier=classifier)
    got = few_shot(x, y, test_x, test_y, **options)
    curve = [got[f"{s}_shot"] for s in (1, 2, 4, 8, 16)]
    assert curve == sorted(curve)
    assert curve[-1] > curve[0] + 0.15
    shuffled = np.random.default_rng(0).permutation(test_y)
    error = 4 * np.sqrt(0.2 * 0.8 / 500)
    assert abs(few_shot(x, y, test_x, shuffled, **options)["mean"] - 0.2) < error
    assert abs(few_shot(gaussian(200, 9), y, gaussian(500, 9, 1), test_y, **options)["mean"] - 0.2) < error
    for value in (0.3, 1e-3, 0.1 + 0.2):
        constant = few_shot(np.full((200, 7), value), y, np.full((500, 7), value), test_y, **options)
        assert constant["mean"] == pytest.approx(0.2, abs=1e-12)
        assert constant["16_shot_sd"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("classifier", ["ridge", "mean", "logistic"])
def test_a_narrow_cone_order_of_test_items_and_names_of_classes(classifier):
    x, y = cloud(100)
    test_x, test_y = cloud(200, seed=1)
    options = dict(shots=(4,), classifier=classifier)
    whole = few_shot(x, y, test_x, test_y, **options)
    cone = few_shot(5 + 0.01 * x, y, 5 + 0.01 * test_x, test_y, **options)
    assert cone == pytest.approx(whole, abs=5e-3 if classifier == "logistic" else 1e-9)
    for factor in (1e-200, 1e200):
        assert few_shot(factor * x, y, factor * test_x, test_y, **options) == pytest.approx(whole, abs=5e-3)
    order = np.random.default_rng(0).permutation(200)
    assert few_shot(x, y, test_x[order], test_y[order], **options) == pytest.approx(whole)
    names = np.array(list("abcde"))
    assert few_shot(torch.from_numpy(x), names[y], test_x, list(names[test_y]), **options) == pytest.approx(whole)


def test_draws_follow_the_seed_and_nothing_else():
    x, y = cloud(200)
    test_x, test_y = cloud(200, seed=1)
    np.random.seed(0)  # noqa: NPY002 - that the global generator is not touched is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one = few_shot(x, y, test_x, test_y, shots=(1, 2), draws=4, seed=1)
    assert one == few_shot(x, y, test_x, test_y, shots=(2, 1), draws=4, seed=1)
    assert one != few_shot(x, y, test_x, test_y, shots=(1, 2), draws=4, seed=2)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert few_shot(x, y, test_x, test_y, shots=(1,), draws=1)["1_shot_sd"] == 0


def test_five_shots_ten_draws_take_under_a_second():
    x, y = cloud(400, c=10, d=64)
    test_x, test_y = cloud(1000, c=10, d=64, seed=1)
    for classifier in ("ridge", "mean", "logistic"):
        start = time.process_time()
        few_shot(x, y, test_x, test_y, classifier=classifier)
        assert time.process_time() - start < 1


def test_fewer_examples_than_shots():
    x, y = cloud(30)
    y[:30] = np.where(np.arange(30) < 3, 4, np.arange(30) % 4)
    with pytest.raises(ValueError, match=r"^shots: expected at most the 3 examples of class 4, got 4"):
        few_shot(x, y, x, y, shots=(1, 4))
    few_shot(x, y, x, y, shots=(1, 3), draws=2)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.full((20, 3), np.nan)), "x"),
        (dict(test_x=np.ones((10, 4))), "test_x"),
        (dict(labels=np.arange(19) % 2), "labels"),
        (dict(test_labels=np.arange(11) % 2), "test_labels"),
        (dict(test_labels=np.zeros(10, dtype=int)), "labels"),
        (dict(test_labels=np.arange(10) % 3), "labels"),
        (dict(test_labels=["a"] * 5 + ["b"] * 5), "labels"),
        (dict(labels=np.zeros(20, int), test_labels=np.zeros(10, int)), "labels"),
        (dict(shots=()), "shots"),
        (dict(shots=(0,)), "shots"),
        (dict(shots=4), "shots"),
        (dict(draws=0), "draws"),
        (dict(seed=-1), "seed"),
        (dict(classifier="svm"), "classifier"),
        (dict(penalty=0), "penalty"),
    ],
)
def test_bad_input_is_named(arguments, name):
    good = dict(x=gaussian(20, 3), labels=np.arange(20) % 2, test_x=gaussian(10, 3), test_labels=np.arange(10) % 2)
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        few_shot(**good | dict(shots=(1, 2)) | arguments)
