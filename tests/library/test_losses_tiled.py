"""Every loss of all pairs in tiles: values and gradients of the dense form, at any chunk; when tiles are taken."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional

from gaplib import losses, tiled
from gaplib.pairs import PairedEmbeddings

DOUBLE = torch.float64
NAMES = (
    "image", "text", "image_view", "text_view",
    "image_private", "text_private", "image_private_view", "text_private_view",
)  # fmt: skip
SCALE = {"logit_scale": 9.0}
CASES = {
    "clip": (losses.clip_loss, SCALE),
    "clip_groups": (losses.clip_loss, SCALE),
    "siglip": (losses.siglip_loss, SCALE | {"bias": -3.0}),
    "uniformity": (losses.uniformity_loss, {}),
    "cross_uniformity": (losses.cross_uniformity_loss, {"t": 1.3}),
    "centroid_uniformity": (losses.centroid_uniformity_loss, {}),
    "in_modal": (losses.in_modal_loss, SCALE),
    "in_modal_printed": (losses.in_modal_loss, SCALE | {"denominator": "original"}),
    "feature_separation": (losses.deep_feature_separation_loss, SCALE),
    "intra_modality": (losses.intra_modality_separation_loss, SCALE),
}
cases = pytest.mark.parametrize("name", CASES)


def unit(n, d, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=generator, dtype=DOUBLE)).to(dtype)


def inputs(n, d, seed=0, dtype=DOUBLE):
    return [unit(n, d, seed + i, dtype).requires_grad_() for i in range(len(NAMES))]


def evaluate(name, embeddings, scalars=None, check=True, **more):
    """The loss; ``scalars`` are tensors in the place of the plain numbers."""
    loss, options = CASES[name]
    n = len(embeddings[0])
    generator = torch.Generator().manual_seed(n)
    similarity = torch.rand(n, n, generator=generator, dtype=DOUBLE)
    groups = torch.randint(0, max(1, n // 2), (n,), generator=generator) if name == "clip_groups" else None
    given = dict(zip(NAMES, embeddings, strict=True))
    pairs = PairedEmbeddings(**given, caption_similarity=similarity, groups=groups, check=check)
    return loss(pairs, **options | (scalars or {}) | more)


def learned(name, dtype=DOUBLE):
    keys = [key for key in ("logit_scale", "bias") if key in CASES[name][1]]
    return {key: torch.tensor(CASES[name][1][key], dtype=dtype, requires_grad=True) for key in keys}


def test_every_loss_that_takes_a_chunk_is_here():
    functions = {getattr(losses, name) for name in losses.__all__}
    assert {f for f in functions if "chunk_size" in inspect.signature(f).parameters} == {f for f, _ in CASES.values()}


@cases
@settings(max_examples=12, deadline=None)
@given(n=st.integers(2, 12), d=st.integers(2, 6), chunk=st.integers(1, 14), seed=st.integers(0, 10**6))
def test_tiles_are_the_dense_form(name, n, d, chunk, seed):
    results = []
    for chunk_size in (None, chunk):
        embeddings, scalars = inputs(n, d, seed), learned(name)
        value = evaluate(name, embeddings, scalars, chunk_size=chunk_size)
        wanted = (*embeddings, *scalars.values())
        grads = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
        results.append((value.detach(), *grads))
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-10)


@cases
@pytest.mark.parametrize("chunk", [1, 3])
def test_gradcheck(name, chunk):
    scalars = learned(name)

    def f(*values):
        given = dict(zip(scalars, values[len(NAMES) :], strict=True))
        zero = sum(z.sum() * 0 for z in values)
        return evaluate(name, values[: len(NAMES)], given, check=False, chunk_size=chunk) + zero

    assert gradcheck(f, (*inputs(4, 3), *scalars.values()))


@cases
def test_tiles_are_taken_by_size(name, monkeypatch):
    embeddings = inputs(9, 4)
    dense = evaluate(name, embeddings)
    made = []
    original = PairedEmbeddings.gram
    monkeypatch.setattr(PairedEmbeddings, "gram", lambda self, a, b: made.append((a, b)) or original(self, a, b))
    evaluate(name, embeddings)
    assert made
    made.clear()
    monkeypatch.setattr(tiled, "DENSE_ENTRIES", 80)
    monkeypatch.setattr(tiled, "DENSE_ENTRIES_SYMMETRIC", 80)
    torch.testing.assert_close(evaluate(name, embeddings), dense, rtol=1e-12, atol=1e-12)
    assert not made


def test_rows_a_tile_follow_memory(monkeypatch):
    x = torch.zeros(1, 1)
    assert tiled.tile_rows(4096, 4096, x, None) is None
    assert tiled.tile_rows(4096, 4096, x, None, symmetric=True) == 256
    for n in (2**14, 2**17, 2**20):
        rows = tiled.tile_rows(n, n, x, None)
        assert 1 <= rows * n * 4 <= tiled.TILE_BYTES["cpu"]
    assert tiled.tile_rows(2**14, 2**14, x.double(), None) == tiled.tile_rows(2**14, 2**14, x, None) / 2
    assert tiled.tile_rows(2**30, 2**30, x, None) == 1
    assert tiled.tile_rows(3, 3, x, 7) == 7


@cases
@pytest.mark.parametrize("bad", [0, -1, 2.0, True, "4", math.nan])
def test_a_bad_chunk_is_named(name, bad):
    with pytest.raises(ValueError, match=r"^chunk_size: expected a whole number in \[1, inf\]"):
        evaluate(name, inputs(4, 3), chunk_size=bad)


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_in_tiles_is_that_of_the_dense_form(name, dtype):
    embeddings = inputs(40, 16, dtype=dtype)
    exact = float(evaluate(name, [z.double() for z in embeddings], check=False).detach())
    value = evaluate(name, embeddings, chunk_size=7)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(exact, rel=max(2 * torch.finfo(dtype).eps, 1e-5))
    value.backward()
    assert all(z.grad is None or torch.isfinite(z.grad).all() for z in embeddings)


def test_autocast_does_not_round_the_tiles():
    embeddings = inputs(20, 16, dtype=torch.float32)
    for name in CASES:
        wanted = evaluate(name, embeddings, chunk_size=6)
        with torch.autocast("cpu", torch.bfloat16):
            got = evaluate(name, embeddings, chunk_size=6)
            got.backward()
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_pairs_that_are_all_but_certain_keep_their_digits_in_tiles():
    """Loss 2.4e-4 at logits of 100: log-sum-exp minus logit would be off by its rounding, 1e-5, in float32."""
    x = torch.eye(6)
    y = functional.normalize(x + 0.1 * unit(6, 6, 3, torch.float32))
    exact = float(losses.clip_loss(PairedEmbeddings(x.double(), y.double()), 14.0))
    assert 1e-7 < exact < 1e-4
    tiles = losses.clip_loss(PairedEmbeddings(x, y), 14.0, chunk_size=2)
    assert float(tiles) == pytest.approx(exact, rel=1e-5, abs=0)
    assert float(losses.clip_loss(PairedEmbeddings(x, x), 1e4, chunk_size=2)) == 0


def test_the_backward_pass_can_be_run_twice():
    embeddings = inputs(7, 4)
    for name in CASES:
        value = evaluate(name, embeddings, chunk_size=3)
        once, twice = (
            torch.autograd.grad(value, embeddings, retain_graph=True, allow_unused=True, materialize_grads=True)
            for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
