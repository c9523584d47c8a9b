"""Retrieval against enumeration of all tie-breaks, another library and closed forms; chunks, memory, bad input."""

import itertools
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_hit_rate

from gaplib.evaluation.retrieval import mean_recall, retrieval

KS = (1, 2, 3, 10)


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def cosines(x, y):
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    return np.round(x @ y.T, 9)


def enumerated(scores, queries, answers, k):
    """Mean hit over the queries and over every order in which level candidates may come."""
    hits = []
    for row, group in zip(scores, queries, strict=True):
        for order in itertools.permutations(range(len(answers))):
            ranked = sorted(order, key=lambda j: -row[j])
            hits.append(any(answers[j] == group for j in ranked[:k]))
    return np.mean(hits)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), m=st.integers(1, 5), chunk=st.sampled_from([None, 1, 2, 3]))
def test_ties_and_many_right_answers_are_those_of_enumeration(seed, n, m, chunk):
    rng = np.random.default_rng(seed)
    corners = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b], dtype=float)
    x, y = corners[rng.integers(len(corners), size=n)], corners[rng.integers(len(corners), size=m)]
    groups = rng.integers(2, size=n)
    answers = np.concatenate([np.unique(groups), rng.choice(groups, size=m)])[:m]
    groups = np.where(np.isin(groups, answers), groups, answers[0])
    answers = np.where(np.isin(answers, groups), answers, groups[0])
    got = retrieval(x, y, KS, image_groups=groups, text_groups=answers, chunk_size=chunk)
    scores = cosines(x, y)
    for k in KS:
        assert float(got[f"image_to_text@{k}"]) == pytest.approx(enumerated(scores, groups, answers, k), abs=1e-12)
        assert float(got[f"text_to_image@{k}"]) == pytest.approx(enumerated(scores.T, answers, groups, k), abs=1e-12)


def test_hit_rates_of_torchmetrics():
    x = gaussian(40, 8)
    y = np.repeat(x, 3, axis=0) + gaussian(120, 8, 1)
    groups = np.repeat(np.arange(40), 3)
    got = retrieval(x, y, KS, text_groups=groups)
    # Shifted to be positive: there a score of zero or less makes a candidate irrelevant.
    scores = torch.from_numpy(cosines(x, y)) + 2
    right = torch.from_numpy(np.arange(40)[:, None] == groups)
    for k in KS:
        forth = np.mean([float(retrieval_hit_rate(s, r, top_k=k)) for s, r in zip(scores, right, strict=True)])
        back = np.mean([float(retrieval_hit_rate(s, r, top_k=k)) for s, r in zip(scores.T, right.T, strict=True)])
        assert float(got[f"image_to_text@{k}"]) == pytest.approx(forth)
        assert float(got[f"text_to_image@{k}"]) == pytest.approx(back)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(7, 3), (100, 64), (333, 257)])
def test_constant_embeddings_give_exactly_k_over_n(n, d, dtype):
    row = gaussian(1, d).astype(dtype)
    for scale in (1, 3):  # equal directions of another length are level, too
        x = np.repeat(row, n, axis=0)
        x[: n // 2] *= scale
        for chunk in (None, 1, 64):
            got = retrieval(x, x[::-1], KS, chunk_size=chunk)
            for k in KS:
                assert float(got[f"image_to_text@{k}"]) == pytest.approx(min(1, k / n), abs=1e-12)
                assert float(got[f"text_to_image@{k}"]) == pytest.approx(min(1, k / n), abs=1e-12)


def test_random_embeddings_give_about_k_over_n():
    n, m = 400, 2000
    got = retrieval(gaussian(n, 64), gaussian(m, 64, 1), (1, 10), text_groups=np.repeat(np.arange(n), 5))
    for k in (1, 10):
        # Five right answers in 2,000 for an image, one in 400 for a text; four standard errors around each.
        for key, p, queries in ((f"image_to_text@{k}", 5 * k / m, n), (f"text_to_image@{k}", k / n, m)):
            assert abs(float(got[key]) - p) < 4 * np.sqrt(p / queries) + 1e-3


def test_perfect_and_reversed():
    x = gaussian(50, 20)
    assert all(float(v) == 1 for v in retrieval(x, 5 * x).values())
    assert float(retrieval(x, -x)["image_to_text@1"]) == 0


def test_a_duplicate_in_the_gallery_halves_the_hit():
    x = np.eye(4)
    y = np.eye(4)[[0, 0, 2, 3]]
    assert float(retrieval(x, y, (1,))["image_to_text@1"]) == pytest.approx((0.5 + 0 + 1 + 1) / 4 + 0.25 / 4)


@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 1000])
def test_chunks_and_order_change_nothing(chunk):
    x, y = gaussian(50, 6).astype(np.float32), (gaussian(50, 6) + 0.5 * gaussian(50, 6, 1)).astype(np.float32)
    groups = np.random.default_rng(0).integers(20, size=50)
    whole = retrieval(x, y, KS, image_groups=groups, text_groups=groups)
    order = np.random.default_rng(1).permutation(50)
    other = retrieval(x[order], y, KS, image_groups=groups[order], text_groups=groups, chunk_size=chunk)
    assert whole.keys() == other.keys()
    for key, value in whole.items():
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert float(other[key]) == pytest.approx(float(value), abs=1e-12)


def test_directions_swap_with_the_arguments():
    x, y = gaussian(30, 5), gaussian(30, 5, 1)
    a, b = retrieval(x, y, (3,)), retrieval(y, x, (3,))
    assert float(a["image_to_text@3"]) == float(b["text_to_image@3"])


@pytest.mark.parametrize("k", [1, 5])
def test_mean_recall_is_the_mean_of_hit_rates_counted_by_hand(k):
    x, y = gaussian(40, 6), gaussian(40, 6, seed=1)
    groups = np.arange(40) // 2
    hits = []
    for scores in (cosines(x, y), cosines(x, y).T):
        best = np.argsort(-np.asarray(scores), axis=1)[:, :k]
        hits.append((groups[best] == groups[:, None]).any(axis=1).mean())
    assert mean_recall(x, y, k, groups) == pytest.approx(np.mean(hits), abs=1e-12)
    assert mean_recall(x, x) == 1.0


def test_groups_as_strings_lists_and_tensors():
    x, y = gaussian(4, 5), gaussian(4, 5, 1)
    expected = retrieval(x, y, (1,), image_groups=[3, 1, 1, 2], text_groups=[1, 2, 3, 3])
    for kind in (torch.tensor, lambda g: [f"g{i}" for i in g], lambda g: np.array(g, dtype=np.uint8)):
        assert retrieval(x, y, (1,), image_groups=kind([3, 1, 1, 2]), text_groups=kind([1, 2, 3, 3])) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_finds_the_same(dtype):
    x = torch.from_numpy(gaussian(80, 32))
    y = x + torch.from_numpy(gaussian(80, 32, 1))
    low_x, low_y = x.to(dtype), y.to(dtype)
    got, exact = retrieval(low_x, low_y, KS), retrieval(low_x.double(), low_y.double(), KS)
    for key in exact:
        assert float(got[key]) == pytest.approx(float(exact[key]), abs=1e-6)


def test_inputs_and_generators_are_left_alone():
    x, y = torch.from_numpy(gaussian(9, 4)).requires_grad_(), gaussian(9, 4, 1)
    y.flags.writeable = False
    before, state = (x.detach().clone(), y.copy()), torch.get_rng_state()
    assert not retrieval(x, y)["image_to_text@1"].requires_grad
    assert torch.equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_one_pair_is_always_found():
    assert all(float(v) == 1 for v in retrieval(gaussian(1, 4), gaussian(1, 4, 1)).values())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(x=np.zeros((3, 2))), "x"),
        (dict(y=np.array([[1.0, 0], [0, 0], [0, 1]])), "y"),
        (dict(x=np.full((3, 2), np.nan)), "x"),
        (dict(y=np.ones((4, 2))), "y"),
        (dict(y=np.ones((3, 5))), "y"),
        (dict(x=np.ones((3, 2), dtype=int)), "x"),
        (dict(x=np.ones(3)), "x"),
        (dict(x=np.ones((0, 2))), "x"),
        (dict(ks=()), "ks"),
        (dict(ks=(0,)), "ks"),
        (dict(ks=(1.5,)), "ks"),
        (dict(ks="1"), "ks"),
        (dict(ks=3), "ks"),
        (dict(chunk_size=0), "chunk_size"),
        (dict(image_groups=[0, 1]), "image_groups"),
        (dict(image_groups=[0.0, 1.0, 2.0]), "image_groups"),
        (dict(text_groups=[[0, 1, 2]]), "text_groups"),
        (dict(text_groups=["0", "1", "2"]), "text_groups"),
        (dict(text_groups=[0, 0, 0]), "image_groups"),
        (dict(image_groups=[0, 1, 1]), "text_groups"),
    ],
)
def test_bad_input_is_named(arguments, name):
    good = dict(x=gaussian(3, 2), y=gaussian(3, 2, 1))
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        retrieval(**good | arguments)


def test_a_large_gallery_is_never_scored_whole():
    """4,000 x 20,000 scores take 305 MiB in float32; time is the benchmark's business, memory repeats exactly."""
    script = """
        import json, resource
        import numpy as np, torch
        from gaplib.evaluation.retrieval import mean_recall, retrieval
        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((4000, 16), dtype=np.float32)
        y = np.repeat(x, 5, axis=0) + 1.5 * rng.standard_normal((20000, 16), dtype=np.float32)
        retrieval(x[:10], y[:50], text_groups=np.repeat(np.arange(10), 5))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = retrieval(x, y, text_groups=np.repeat(np.arange(4000), 5))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"grown": grown, "found": float(found["text_to_image@1"])}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    # The unit of ru_maxrss is a kibibyte on Linux, a byte on macOS.
    assert result["grown"] / (2**20 if sys.platform == "darwin" else 2**10) < 150
    assert 0.05 < result["found"] < 0.95
