"""Chapter 05: the ledger's identity, the weakened bound, the alphabet as a world, the style probe."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs

from gaplib.book.chapters import ch05_runs, ch05_worlds
from gaplib.data import glyphs
from gaplib.data.worlds import block_world, random_world
from gaplib.information import common_part, mutual_information

# --- worlds ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_cost_less_gap_is_what_the_poorer_modality_adds_and_hides(seed):
    found = ch05_worlds.ledger(ch05_worlds.random_block_world(seed))
    assert found.slack == pytest.approx(found.complement + found.private, abs=1e-12)
    assert min(found.complement, found.private, found.slack) > -1e-12
    assert 0 <= found.common <= found.both + 1e-12


def test_random_block_worlds_have_a_common_part_and_reach_near_and_far():
    worlds = [ch05_worlds.random_block_world(seed) for seed in range(200)]
    assert all(ch05_worlds.parts(world) >= 2 for world in worlds)
    slack = np.array([ch05_worlds.ledger(world).slack for world in worlds])
    assert slack.min() < 1e-3
    assert slack.max() > 0.3
    np.testing.assert_array_equal(worlds[7], ch05_worlds.random_block_world(7))


def test_textbook_ledgers():
    bits = {name: ch05_worlds.ledger(w) for name, w in ch05_worlds.textbook_worlds().items()}
    #                                            text image both common, in coin flips
    for found, expected in zip(bits.values(), [(1, 1, 1, 1), (2, 1, 2, 1), (2, 2, 3, 1), (1, 1, 2, 0), (0, 0, 1, 0)],
                               strict=True):  # fmt: skip
        got = np.array([found.text, found.image, found.both, found.common]) / math.log(2)
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_nats_drop_the_round_off_and_its_sign():
    assert str(ch05_worlds.nats(-3e-17)) == "0.0"
    assert ch05_worlds.nats(np.float64(0.1234567891)) == 0.123456789


def test_the_adversary_reaches_the_wall_and_does_not_pass_it():
    search = ch05_worlds.adversary(3, least_gap=0.5, steps=300)
    gap, cost = search.path[-1]
    assert search.smallest_slack > -1e-12
    assert gap > 0.49
    assert cost - gap < 0.02
    assert cost - gap < (search.path[0, 1] - search.path[0, 0]) / 5


def test_an_adversary_with_a_broken_cost_is_noticed(monkeypatch):
    """A cost that let aligned features keep all that the richer modality knows would not survive the search."""

    def too_cheap(joint):
        return mutual_information(joint) - max(mutual_information(joint.sum(k)) for k in (0, 1))

    monkeypatch.setattr(ch05_worlds, "aligned_excess_cross_entropy", too_cheap)
    assert ch05_worlds.adversary(3, least_gap=0.3, steps=100).smallest_slack < -0.1


@given(st.integers(0, 10_000), st.floats(0.3, 1), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_the_weakened_bound_holds_for_nearly_aligned_features(seed, support, symbols):
    world = random_world(3, 3, 3, seed=seed, support=support)
    found = ch05_worlds.nearly_aligned([world], [0, 0.02, 0.1, 0.3, 0.7, 1], symbols)
    assert found.slack.min() > -1e-10


def test_fano_is_the_largest_entropy_of_an_error():
    for k in (2, 3, 5):
        for m in (0.0, 0.1, 0.4):
            error = np.full(k, m / (k - 1))
            error[0] = 1 - m
            entropy = -sum(p * math.log(p) for p in error if p > 0)
            assert float(ch05_worlds.fano(m, k)) == pytest.approx(entropy, abs=1e-12)
        curve = ch05_worlds.fano(np.linspace(0, 1, 101), k)
        assert (np.diff(curve) >= -1e-12).all()
        assert curve[-1] == pytest.approx(math.log(k))


def test_without_the_weakening_nearly_aligned_features_pass_the_wall():
    leaky = ch05_worlds.leaky_world(0.2)
    found = ch05_worlds.nearly_aligned([leaky], [0.0, 0.1], symbols=2)
    assert found.cost[0, 0] > found.gap[0]
    assert found.cost[0, 1] < found.gap[0] - 0.3
    assert found.slack[0, 1] == pytest.approx(0, abs=1e-9)  # and there Fano's term is exact


def test_the_alphabet_equals_a_dense_world_on_a_small_part():
    data = glyphs.load()
    twins = np.flatnonzero(data.positive_id == np.bincount(data.positive_id).argmax())[:3]
    names = np.unique(np.concatenate([twins, np.arange(20)]))
    rows = np.flatnonzero(np.isin(data.name_of_image, names))
    place = {int(name): i for i, name in enumerate(names)}
    pictures = {one.tobytes(): None for one in data.images[rows]}
    column = {key: i for i, key in enumerate(pictures)}
    joint = np.zeros((len(names), len(column), len(names)))
    for row in rows:
        i = place[int(data.name_of_image[row])]
        joint[i, column[data.images[row].tobytes()], i] += 1
    joint /= joint.sum((1, 2), keepdims=True) * len(names)

    class Part:
        pass

    part = Part()
    part.images, part.names = data.images[rows], [data.names[i] for i in names]
    part.name_of_image = np.array([place[int(i)] for i in data.name_of_image[rows]])
    found, dense = ch05_worlds.alphabet_world(part), ch05_worlds.ledger(joint)
    for field in ("text", "image", "both", "common"):
        assert getattr(found.name, field) == pytest.approx(getattr(dense, field), abs=1e-9)
    np.testing.assert_array_equal(found.part_of_name, common_part(joint)[0])


def test_the_alphabets_common_part_is_its_answer_classes():
    data = glyphs.load()
    found = ch05_worlds.alphabet_world(data)
    assert len(set(zip(found.part_of_name.tolist(), data.positive_id.tolist(), strict=True))) == found.parts
    assert found.parts == len(np.unique(data.positive_id))
    assert found.name.slack > 0


# --- glyphs ----------------------------------------------------------------------------------------------------------


def test_style_pairs_are_balanced_and_split_by_character():
    names = {split: set(ch05_runs.style_pairs(split).index.tolist()) for split in glyphs.SPLITS}
    assert not names["train"] & names["test"] | names["train"] & names["dev"] | names["dev"] & names["test"]
    for split in glyphs.SPLITS:
        face = ch05_runs.style_labels()[split]
        np.testing.assert_array_equal(face, np.tile(np.arange(5), len(names[split])))


def blobs(scale=1.0, noise=1.0, dim=6):
    x, label = make_blobs(900, dim, centers=5, cluster_std=noise, random_state=0)
    cut = {"train": slice(0, 500), "dev": slice(500, 700), "test": slice(700, 900)}
    return {k: x[v] * scale for k, v in cut.items()}, {k: label[v] for k, v in cut.items()}


def test_the_probe_reads_blobs_at_any_scale_and_nothing_from_noise():
    features, labels = blobs()
    found = ch05_runs.probe(features, labels)
    assert found.accuracy > 0.95
    tiny = ch05_runs.probe(blobs(scale=1e-6)[0], labels)
    assert tiny.accuracy == pytest.approx(found.accuracy, abs=0.01)
    rng = np.random.default_rng(0)
    nothing = ch05_runs.probe({k: rng.normal(size=v.shape) for k, v in features.items()}, labels)
    assert abs(nothing.accuracy - 0.2) < 0.1
    assert nothing.cross_entropy > math.log(5) - 0.05
    assert nothing.C <= 0.1


def test_the_probe_does_not_look_at_the_test_labels():
    features, labels = blobs(noise=4)
    wrong = {**labels, "test": np.roll(labels["test"], 1)}
    assert ch05_runs.probe(features, labels).C == ch05_runs.probe(features, wrong).C
    with pytest.raises(ValueError, match="features: expected one of"):
        ch05_runs.probe({"train": features["train"]}, labels)
    with pytest.raises(ValueError, match="features: expected finite values"):
        ch05_runs.probe({**features, "dev": features["dev"] * np.nan}, labels)


def test_the_precision_bound_holds_where_the_readable_information_is_known():
    """Z_V = +a or -a in one dimension, Z_T = 0: no more is readable than the bound says, by numerical integral."""
    grid = np.linspace(-12, 12, 4001)
    for a in (0.1, 0.5, 1.0, 3.0):
        density = np.stack([np.exp(-((grid - s * a) ** 2) / 2) for s in (-1, 1)], axis=1)
        readable = mutual_information(density / density.sum())
        bound = ch05_runs.readable_bound(a**2, noise=1.0, dim=1)
        assert readable <= bound + 1e-9
    assert ch05_runs.readable_bound(0.0) == 0


def test_a_style_is_a_row_of_a_table():
    exact, noisy = ch05_runs.Reading(0.6, 1.0, 0.1), ch05_runs.Reading(0.3, 1.5, 1.0)
    assert ch05_runs.Style(exact, noisy, face_share=0.2, alignment=0.05).row() == {
        "style": 0.6,
        "noisy": 0.3,
        "cross_entropy": 1.0,
        "noisy_cross_entropy": 1.5,
        "face_share": 0.2,
        "distance": 0.05,
    }


def test_measure_counts_flips_and_gaps_of_known_embeddings():
    x = torch.eye(20, dtype=torch.float64)
    y = x.clone()
    y[:5] *= -1
    found = ch05_runs.measure(x, y, np.arange(20))
    assert found["negative"] == 0.25
    assert found["cosine"] == pytest.approx(0.5)
    assert found["recall"] < 1
    same = ch05_runs.measure(x, x, np.arange(20))
    assert (same["recall"], same["gap"], same["negative"]) == (1, 0, 0)
    assert same["spread"] == pytest.approx(1 - 1 / 20)


def test_configurations_share_what_they_can_and_refuse_the_rest():
    assert ch05_runs.config(0, 3).to_dict() != ch05_runs.config(0, 3, learned=True).to_dict()
    assert ch05_runs.config(2, 3, style_words=4).style_words == 4
    with pytest.raises(ValueError, match="row: expected one of"):
        ch05_runs.config(1, 3, row="clip")
    with pytest.raises(ValueError, match="weight of alignment"):
        ch05_runs.config(-1, 3)


def test_the_leaky_world_joins_its_components():
    assert [ch05_worlds.parts(ch05_worlds.leaky_world(e)) for e in (0, 1e-9, 1)] == [2, 1, 1]
    assert ch05_worlds.parts(block_world(3, 1, 1, lambda c, a, b: c)) == 3
