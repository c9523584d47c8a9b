"""Arithmetic, mixed search and fine-grained pairs: exact spaces, scikit-learn, enumeration, chance, bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from gaplib.evaluation.arithmetic import arithmetic, arithmetic_hits, choose_step, mean_directions, simat_score
from gaplib.evaluation.fine_grained import fine_grained
from gaplib.evaluation.mixed_search import dip, mixed_search, ndcg, sag


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def additive(letters=30, changes=6, d=64, gap=1.0, seed=0):
    """Every letter bare and with each change, row change * letters + letter; texts differ by one vector, the gap."""
    rng = np.random.default_rng(seed)
    base, change = rng.standard_normal((letters, d)), 0.8 * rng.standard_normal((changes, 1, d))
    image = (base + np.concatenate([np.zeros((1, 1, d)), change])).reshape(-1, d)
    return image, image + gap * rng.standard_normal(d)


@pytest.mark.parametrize("gap", [0.0, 5.0])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_exactly_additive_space_is_solved_and_a_constant_gap_does_not_matter(gap, kind):
    image, text = additive(gap=gap)
    rows = np.arange(7 * 30).reshape(7, 30)
    bare, changed, labels = np.tile(rows[0], 6), rows[1:].ravel(), np.arange(rows.size)
    kinds = np.repeat([f"change {i}" for i in range(6)], 30)
    train, test = np.arange(180) % 30 < 10, np.arange(180) % 30 >= 10
    found = mean_directions(kind(text), bare[train], changed[train], kinds[train])
    direction = np.stack([found[one] for one in kinds[test]])
    here, there = bare[test], changed[test]
    assert arithmetic(kind(image[here]), kind(direction), kind(image), there, labels, own=here) == 1.0
    assert arithmetic(kind(image[there]), kind(-direction), kind(image), here, labels, own=there) == 1.0
    # Neither half of the query does it alone.
    forwards = {"image": image[here], "direction": direction, "bank": image, "answer": there, "bank_answer": labels}
    assert arithmetic(**forwards, own=here, step=0) < 0.4
    assert arithmetic(**forwards, own=here, step=math.inf) < 0.2
    assert choose_step(**forwards, own=here, steps=(4, 1, 0)) == 1.0
    # One direction for all rows is the same as one each.
    one = kinds[test] == "change 0"
    assert arithmetic(image[here[one]], found["change 0"], image, there[one], labels, own=here[one]) == 1.0


def test_the_query_is_skipped_and_every_twin_counts():
    bank = np.eye(4)
    bank[3] = bank[1]
    hit = lambda own, answers: arithmetic(bank[:1], np.zeros(4), bank, [0], answers, own=own)  # noqa: E731
    assert hit(None, [0, 1, 1, 1]) == 1.0
    with pytest.raises(ValueError, match="besides the query itself"):
        hit([0], [0, 1, 1, 1])
    # The three that are left are level: one or two of them are right.
    assert hit([0], [0, 1, 0, 1]) == pytest.approx(1 / 3)
    assert hit([0], [0, 0, 1, 0]) == pytest.approx(2 / 3)
    assert hit([-1], [0, 0, 1, 0]) == 1.0


def test_a_direction_of_length_zero_finds_nothing_without_the_image():
    hits = arithmetic_hits(np.eye(4), np.zeros(4), np.eye(4), [0, 0, 1, 1], [0, 0, 1, 1], step=math.inf)
    assert hits.tolist() == [0.5] * 4


def test_random_embeddings_give_chance():
    rng = np.random.default_rng(0)
    bank, query = rng.standard_normal((50, 16)), rng.standard_normal((2000, 16))
    labels = np.arange(50) // 5
    hits = arithmetic_hits(query, rng.standard_normal((2000, 16)), bank, rng.integers(10, size=2000), labels)
    assert hits.mean() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 2000))


def test_simat_is_its_recipe_spelt_out():
    rng = np.random.default_rng(3)
    image, source, target, bank = (rng.standard_normal((n, 8)) for n in (12, 12, 12, 40))
    own = rng.permutation(40)[:12]
    bank[own] = image
    similarity, norm2 = rng.random((12, 40)), rng.integers(1, 9, 12)
    total = weights = 0.0
    for i in range(12):
        query = unit(image)[i] + 1.5 * (unit(target)[i] - unit(source)[i])
        best = next(j for j in np.argsort(-(unit(bank) @ query)) if j != own[i])
        total += (similarity[i, best] > 0.5) / math.sqrt(norm2[i])
        weights += 1 / math.sqrt(norm2[i])
    got = simat_score(image, source, target, 3 * bank, similarity, norm2, own=own, step=1.5)
    assert got == pytest.approx(100 * total / weights)
    assert simat_score(image, source, target, bank, np.ones((12, 40)), norm2) == 100.0
    assert simat_score(image, source, target, bank, np.full((12, 40), 0.5), norm2) == 0.0


def test_bad_arguments_of_arithmetic_are_named():
    x, bank = np.eye(3), np.eye(3)
    for change, name in (
        ({"direction": np.zeros(4)}, "direction"),
        ({"direction": np.zeros((2, 3))}, "direction"),
        ({"bank": np.eye(4)}, "bank"),
        ({"answer": [0, 1]}, "answer"),
        ({"answer": [0, 1, 7]}, "answer"),
        ({"answer": list("abc")}, "bank_answer"),
        ({"own": [0, 1, 3]}, "own"),
        ({"step": -1.0}, "step"),
        ({"step": math.nan}, "step"),
        ({"direction": -x}, "image \\+ step"),
        ({"image": np.full((3, 3), np.nan)}, "image"),
    ):
        arguments = {"image": x, "direction": np.zeros(3), "bank": bank, "answer": [0, 1, 2], "bank_answer": [0, 1, 2]}
        with pytest.raises(ValueError, match=name):
            arithmetic(**(arguments | change))
    with pytest.raises(ValueError, match="target"):
        mean_directions(x, [0, 1], [1], ["a", "a"])
    with pytest.raises(ValueError, match="source"):
        mean_directions(x, [3], [1], ["a"])
    with pytest.raises(ValueError, match="steps"):
        choose_step(x, np.zeros(3), bank, [0, 1, 2], [0, 1, 2], steps=())
    with pytest.raises(ValueError, match="similarity"):
        simat_score(x, x, x, bank, np.zeros((3, 2)), [1, 1, 1])
    with pytest.raises(ValueError, match="norm2"):
        simat_score(x, x, x, bank, np.zeros((3, 3)), [1, 1, 0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 15), k=st.integers(1, 17), levels=st.integers(1, 6))
def test_ndcg_is_that_of_scikit_learn_also_with_ties(seed, n, k, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(4, n)).astype(float)
    relevant = rng.random((4, n)) < 0.3
    relevant[np.arange(4), rng.integers(n, size=4)] = True
    expected = [ndcg_score(r[None].astype(float), s[None], k=k) for r, s in zip(relevant, scores, strict=True)]
    assert ndcg(scores, relevant, k) == pytest.approx(expected, abs=1e-12)


def test_mixed_search_is_scikit_learns_score_of_the_mixed_list():
    rng = np.random.default_rng(0)
    image, text, query = (unit(rng.standard_normal((n, 6))) for n in (20, 20, 9))
    answer, asked = np.arange(20) // 2, np.arange(9)
    got = mixed_search(query, image, text, asked, answer, shares=(0, 0.5, 1), draws=40)
    relevant = (asked[:, None] == answer[None]).astype(float)
    assert list(got) == [0.0, 0.5, 1.0]
    assert got[0.0] == pytest.approx(ndcg_score(relevant, query @ image.T, k=10))
    assert got[1.0] == pytest.approx(ndcg_score(relevant, query @ text.T, k=10))
    # Between: an independent estimate over other draws.
    values = []
    for _ in range(400):
        is_text = np.isin(np.arange(20), rng.permutation(20)[:10])
        values.append(ndcg_score(relevant, query @ np.where(is_text[:, None], text, image).T, k=10))
    error = np.std(values) * math.sqrt(1 / 40 + 1 / 400)
    assert got[0.5] == pytest.approx(np.mean(values), abs=4 * error)
    assert got == mixed_search(query, image, text, asked, answer, shares=(0, 0.5, 1), draws=40)


def test_a_gap_makes_a_dip_and_none_makes_none():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((200, 32))
    query, text = (image + 0.5 * rng.standard_normal((200, 32)) for _ in range(2))
    shift = np.zeros(32)
    shift[0] = 15.0
    rows = np.arange(200)
    near = mixed_search(query, image, text, rows, rows)
    far = mixed_search(query + shift, image + shift, text - shift, rows, rows)
    assert dip(near) < 0.02
    assert dip(far) > 0.2


def test_sag_is_the_greatest_depth_below_the_chord():
    assert sag({0.0: 0.2, 0.25: 0.3, 0.5: 0.1, 1.0: 0.6}) == pytest.approx(0.3)  # at the middle the chord is at 0.4
    on_the_chord = {0.0: 0.2, 0.25: 0.3, 1.0: 0.6}
    assert sag(on_the_chord) == pytest.approx(0)
    assert dip(on_the_chord) == pytest.approx(0.1)
    assert sag({0.0: 0.2, 0.5: 0.9, 1.0: 0.6}) == 0
    with pytest.raises(ValueError, match="by_share"):
        sag({0.0: 0.2, 1.0: 0.6})


def test_permuting_the_items_changes_no_end_of_the_sweep():
    rng = np.random.default_rng(2)
    query, image, text = (rng.standard_normal((n, 5)) for n in (7, 11, 11))
    asked, answer, order = np.arange(7), np.arange(11), rng.permutation(11)
    ends = {"shares": (0, 1)}
    got = mixed_search(query, image[order], text[order], asked, answer[order], **ends)
    assert got == pytest.approx(mixed_search(query, image, text, asked, answer, **ends))


def test_bad_arguments_of_the_mixed_search_are_named():
    x, rows = np.eye(4), np.arange(4)
    for change, name in (
        ({"text": np.eye(3)}, "text"),
        ({"query": np.eye(3)}, "image"),
        ({"query_answer": rows[:3]}, "query_answer"),
        ({"query_answer": rows + 1}, "query_answer"),
        ({"answer": list("abcd")}, "answer"),
        ({"shares": (0, 1.5)}, "shares"),
        ({"shares": ()}, "shares"),
        ({"draws": 0}, "draws"),
        ({"k": 0}, "k"),
        ({"image": np.zeros((4, 4))}, "image"),
    ):
        arguments = {"query": x, "image": x, "text": x, "query_answer": rows, "answer": rows}
        with pytest.raises(ValueError, match=name):
            mixed_search(**(arguments | change))
    with pytest.raises(ValueError, match="relevant"):
        ndcg(np.ones((2, 3)), np.array([[True, False, False], [False, False, False]]))
    with pytest.raises(ValueError, match="by_share"):
        dip({0.0: 1.0, 1.0: 1.0})


def test_fine_grained_is_enumeration_and_chance_is_a_quarter():
    rng = np.random.default_rng(0)
    a, b, s, t = (unit(rng.standard_normal((3000, 8))) for _ in range(4))
    got = fine_grained(a, b, s, t)
    by_hand = np.mean([(a[i] @ s[i] > a[i] @ t[i]) and (b[i] @ t[i] > b[i] @ s[i]) for i in range(3000)])
    assert got["both"] == pytest.approx(by_hand)
    error = 4 * math.sqrt(0.25 * 0.75 / 3000)
    assert got["both"] == pytest.approx(0.25, abs=error)
    assert got["both_texts"] == pytest.approx(0.25, abs=error)
    assert got["one"] == pytest.approx(0.5, abs=error)
    perfect = fine_grained(a, b, a, b)
    assert set(perfect.values()) == {1.0}
    swapped = fine_grained(a, b, b, a)
    assert set(swapped.values()) == {0.0}


def test_constant_embeddings_are_ties_and_score_chance():
    one = np.ones((5, 3))
    assert fine_grained(one, one, one, one) == {"both": 0.25, "both_texts": 0.25, "one": 0.5}
    # A modality that says nothing: each image ties.
    for x, y in itertools.product((one, np.eye(3)[[0, 1, 2, 0, 1]]), repeat=2):
        got = fine_grained(x, y, one, one)
        assert got["both"] == 0.25
        assert got["one"] == 0.5
    with pytest.raises(ValueError, match="text_b"):
        fine_grained(one, one, one, one[:4])
    with pytest.raises(ValueError, match="image_a"):
        fine_grained(0 * one, one, one, one)
