"""Second derivatives of every loss, dense and in tiles, and of every method's objective: Hessian-vector products
against central differences of the gradient and, for some losses, against their definition written out."""

import pytest
import torch
from loss_cases import FORMS, Loss, Method, gradients, make_inputs
from torch.autograd import gradgradcheck
from torch.nn import functional

from gaplib import losses, tiled
from gaplib.methods import METHODS
from gaplib.pairs import PairedEmbeddings

STEP = 1e-5


def check_hessian_vector_products(module):
    module = module.double()
    wanted = [*make_inputs(12, 6), *module.parameters()]
    embeddings = wanted[:8]
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(z.shape, generator=generator, dtype=torch.float64) for z in wanted]

    def gradient_at(step):
        with torch.no_grad():
            for z, v in zip(wanted, direction, strict=True):
                z += step * v
        found = gradients(module(*embeddings), wanted)
        with torch.no_grad():
            for z, v in zip(wanted, direction, strict=True):
                z -= step * v
        return found

    plain = gradient_at(0)
    first = gradients(module(*embeddings), wanted, create_graph=True)
    for got, want in zip(first, plain, strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=1e-10, atol=1e-12)
    products = gradients(sum((g * v).sum() for g, v in zip(first, direction, strict=True)), wanted)
    numerical = [(a - b) / (2 * STEP) for a, b in zip(gradient_at(STEP), gradient_at(-STEP), strict=True)]
    size = max(float(z.abs().max()) for z in numerical)
    for got, want in zip(products, numerical, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize(("name", "chunk"), FORMS)
def test_of_every_loss(name, chunk):
    check_hessian_vector_products(Loss(name, chunk))


@pytest.mark.parametrize("name", METHODS)
def test_of_every_method(name):
    check_hessian_vector_products(Method(name))


@pytest.mark.parametrize("chunk", [None, 5])
def test_of_losses_written_out(chunk):
    x, y = make_inputs(11, 4)[:2]
    scale, bias = (torch.tensor(z, dtype=torch.float64, requires_grad=True) for z in (7.0, -2.0))
    pairs = PairedEmbeddings(x, y)
    logits, away = scale * x @ y.T, ~torch.eye(11, dtype=torch.bool)
    squared = [(a[:, None] - b[None]).square().sum(dim=2)[away] for a, b in ((x, x), (y, y), (x, y))]
    inside, outside, across = ((-2 * z).exp().mean().log() for z in squared)
    sign = 1 - 2 * away.double()
    both = ((
        losses.uniformity_loss(pairs, chunk_size=chunk), (inside + outside) / 2,
    ), (
        losses.cross_uniformity_loss(pairs, chunk_size=chunk), across,
    ), (
        losses.clip_loss(pairs, scale, chunk_size=chunk),
        -(logits.log_softmax(dim=1).diag() + logits.log_softmax(dim=0).diag()).mean() / 2,
    ), (
        losses.siglip_loss(pairs, scale, bias, chunk_size=chunk),
        (1 + (-sign * (logits + bias)).exp()).log().sum() / 11,
    ))  # fmt: skip
    wanted = (x, y, scale, bias)
    for values in both:
        found = []
        for value in values:
            # A gradient penalty, as training has it: of one input, differentiated with respect to all.
            first = gradients(value, wanted, create_graph=True)
            second = gradients(first[0].square().sum(), wanted, create_graph=True)
            third = gradients(second[0].square().sum() + second[2], wanted, create_graph=True)
            found.append([z.detach() for z in (value, *first, *second, *third)])
        torch.testing.assert_close(*found, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("reduced", ["rows", "both", "gaussian", "gaussian within"])
def test_of_the_primitives_in_every_argument(reduced):
    x, y = (z.detach().clone().requires_grad_() for z in make_inputs(4, 2)[:2])
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    functions = {
        "rows": lambda x, y, s: tiled.row_lse(x, y, s, discount=torch.eye(4) / 2, chunk_size=3),
        "both": lambda x, y, s: tiled.two_way_lse(x, y, s, exclude_diagonal=True, chunk_size=3),
        "gaussian": lambda x, y, s: s * tiled.gaussian_lse(x, y, 1.3, chunk_size=3),
        "gaussian within": lambda x, y, s: s * tiled.gaussian_lse(x + y, None, 1.3, chunk_size=3),
    }
    assert gradgradcheck(functions[reduced], (x, y, scale))


def test_a_tensor_in_two_places_has_the_gradient_of_both():
    (x,) = make_inputs(9, 4)[:1]
    got, want = tiled.row_lse(x, x, 3.0, chunk_size=4), (3 * x @ x.T).logsumexp(dim=1)
    first = [gradients(z.square().sum(), x, create_graph=True)[0] for z in (got, want)]
    torch.testing.assert_close(*first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(gradients(z.pow(3).sum(), x)[0] for z in first), rtol=1e-10, atol=1e-10)


def test_large_batches_go_on_being_right(monkeypatch):
    """Where the tiles begin by themselves, which was where clip's second derivatives went wrong."""
    x, y = (functional.normalize(z.detach(), dim=1).requires_grad_() for z in make_inputs(20, 5)[:2])
    found = []
    for entries in (20 * 20, 20 * 20 - 1):
        monkeypatch.setattr(tiled, "DENSE_ENTRIES", entries)
        (first,) = gradients(losses.clip_loss(PairedEmbeddings(x, y), 9.0), x, create_graph=True)
        found.append(gradients(first.square().sum(), (x, y)))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)
