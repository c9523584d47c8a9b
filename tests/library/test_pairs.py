"""PairedEmbeddings: what it accepts; its Gram matrices are right, shared, and never stale in their gradients."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from gaplib.losses import clip_loss, uniformity_loss
from gaplib.pairs import PairedEmbeddings

OPTIONAL = ["image_view", "text_view", "image_private", "text_private", "image_private_view", "text_private_view"]


def unit(n, d, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype)


def test_gram_matrices_and_sizes():
    x, y = unit(5, 3), unit(5, 3, 1)
    pairs = PairedEmbeddings(x, y)
    assert (pairs.n, pairs.dim, pairs.dtype) == (5, 3, torch.float64)
    for got, (a, b) in {"image_image": (x, x), "text_text": (y, y), "image_text": (x, y)}.items():
        for i in range(5):
            for j in range(5):
                assert float(getattr(pairs, got)[i, j]) == pytest.approx(float((a[i] * b[j]).sum()), abs=1e-15)
        assert getattr(pairs, got) is getattr(pairs, got)


def test_any_two_matrices_share_their_products():
    matrices = {name: unit(5, 3, seed) for seed, name in enumerate(["image", "text", *OPTIONAL])}
    pairs = PairedEmbeddings(**matrices)
    for a, b in (("image", "image_view"), ("image_private", "image_private_view"), ("text_view", "text_view")):
        torch.testing.assert_close(pairs.gram(a, b), matrices[a] @ matrices[b].T)
        assert pairs.gram(a, b) is pairs.gram(a, b)


def test_caption_similarity_comes_in_as_a_constant_of_the_computing_type():
    similarity = torch.rand(4, 4, dtype=torch.float64, requires_grad=True)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        pairs = PairedEmbeddings(unit(4, 3, 0, dtype), unit(4, 3, 1, dtype), caption_similarity=similarity)
        assert pairs.caption_similarity.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert not pairs.caption_similarity.requires_grad
        torch.testing.assert_close(pairs.caption_similarity.double(), similarity.detach(), rtol=1e-6, atol=0)
    assert "caption_similarity" in repr(pairs)
    assert PairedEmbeddings(unit(4, 3), unit(4, 3), caption_similarity=np.eye(4)).caption_similarity.trace() == 4
    with pytest.raises(TypeError):
        PairedEmbeddings(*[unit(4, 3)] * 8, similarity)


def test_what_a_loss_needs_is_handed_over_or_named():
    pairs = PairedEmbeddings(unit(4, 3), unit(4, 3, 1), image_view=unit(4, 3, 2))
    assert pairs.needed("a loss", "image_view", "text") == (pairs.image_view, pairs.text)
    with pytest.raises(
        ValueError, match=r"^text_view: expected a matrix, which a loss needs, got None .*given: image, "
    ):
        pairs.needed("a loss", "image_view", "text_view")


def test_numpy_comes_in_too():
    assert PairedEmbeddings(unit(3, 2).numpy(), unit(3, 2, 1).numpy()).image_text.shape == (3, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_multiply_in_float32(dtype):
    x, y = unit(40, 64, 0, dtype), unit(40, 64, 1, dtype)
    got = PairedEmbeddings(x, y).image_text
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), x.double() @ y.double().T, atol=1e-6, rtol=0)


def test_autocast_does_not_round_the_products():
    x, y = unit(40, 64, 0, torch.float32), unit(40, 64, 1, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = PairedEmbeddings(x, y).image_text
    assert torch.equal(inside, x @ y.T)


def test_a_matrix_read_without_gradient_does_not_cut_a_later_loss_off():
    x, y = unit(4, 3).requires_grad_(), unit(4, 3, 1).requires_grad_()
    pairs = PairedEmbeddings(x, y)
    with torch.no_grad():
        before = (clip_loss(pairs, 10), uniformity_loss(pairs))
    loss = clip_loss(pairs, 10) + uniformity_loss(pairs)
    loss.backward()
    assert loss.item() == pytest.approx(float(sum(before)))
    assert x.grad.abs().sum() > 0
    assert y.grad.abs().sum() > 0


def test_terms_share_one_product(monkeypatch):
    products = []
    original = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: products.append(a.shape) or original(a, b))
    pairs = PairedEmbeddings(unit(4, 3), unit(4, 3, 1))
    assert products == []
    for _ in range(3):
        clip_loss(pairs, 10)
        uniformity_loss(pairs)
    assert len(products) == 3


@pytest.mark.parametrize("name", ["image", "text", *OPTIONAL])
@pytest.mark.parametrize(
    ("spoil", "say"),
    [
        (lambda z: z[:3], "rows"),
        (lambda z: 2 * z, "L2-normalised"),
        (lambda z: z.index_fill(0, torch.tensor([1]), float("nan")), "finite"),
        (lambda z: z.index_fill(0, torch.tensor([1]), 0.0), "L2-normalised"),
        (lambda z: z.int(), "float"),
        (lambda z: z[0], "float"),
        (lambda z: z[:0], "at least one row"),
    ],
)
def test_a_bad_matrix_is_named(name, spoil, say):
    good = {key: unit(4, 3, seed) for seed, key in enumerate(["image", "text", *OPTIONAL])}
    PairedEmbeddings(**good)
    with pytest.raises(ValueError, match=say) as error:
        PairedEmbeddings(**good | {name: spoil(good[name])})
    # Where the first matrix is the short one, it is the second that does not fit it.
    assert str(error.value).startswith("text: " if name == "image" and say == "rows" else f"{name}: ")


def test_misfits():
    x, y = unit(4, 3), unit(4, 3, 1)
    with pytest.raises(ValueError, match=r"^text: expected the dimension of image"):
        PairedEmbeddings(x, unit(4, 2))
    with pytest.raises(ValueError, match=r"^text: expected the type and device"):
        PairedEmbeddings(x, y.float())
    with pytest.raises(ValueError, match=r"^text_private: expected the dimension of image_private"):
        PairedEmbeddings(x, y, image_private=unit(4, 2), text_private=unit(4, 5))
    assert PairedEmbeddings(x, y, image_private=unit(4, 2), text_private=unit(4, 2)).dim == 3
    with pytest.raises(ValueError, match=r"^text: expected a 2-d float"):
        PairedEmbeddings(x, None)


def test_without_checks_values_pass_and_shapes_do_not():
    assert PairedEmbeddings(2 * unit(4, 3), unit(4, 3, 1), check=False).n == 4
    with pytest.raises(ValueError, match=r"^text: "):
        PairedEmbeddings(unit(4, 3), unit(3, 3), check=False)


def test_frozen_and_copied_cleanly():
    pairs = PairedEmbeddings(unit(4, 3), unit(4, 3, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        pairs.image = unit(4, 3)
    old = pairs.image_text
    changed = dataclasses.replace(pairs, text=unit(4, 3, 2), check=True)
    assert not torch.equal(changed.image_text, old)
    assert torch.equal(pickle.loads(pickle.dumps(pairs)).image_text, old)
    assert "image, text" in repr(pairs)
    assert np.isfinite(old.numpy()).all()
