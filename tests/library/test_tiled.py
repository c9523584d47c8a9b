"""The tiled log-sum-exp against its dense form: values, gradients, memory."""

import subprocess
import sys

import pytest
import torch

from gaplib.tiled import gaussian_lse, row_lse, two_way_lse


def _inputs(n=37, m=29, d=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64).requires_grad_()
    y = torch.randn(m, d, generator=g, dtype=torch.float64).requires_grad_()
    return x, y, torch.tensor(3.0, dtype=torch.float64, requires_grad=True)


def _dense(x, y, scale, exclude):
    logits = scale * x @ y.T
    if exclude:
        logits = logits.masked_fill(torch.eye(len(x), len(y), dtype=torch.bool), -torch.inf)
    return logits.logsumexp(1)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("shape", [(37, 29), (29, 37), (20, 20), (1, 2)])
@pytest.mark.parametrize("chunk", [None, 1, 7, 20, 1000])
def test_equals_dense_with_gradients(exclude, shape, chunk):
    x, y, scale = _inputs(*shape)
    weights = torch.linspace(0.5, 2, len(x), dtype=torch.float64)
    want = _dense(x, y, scale, exclude)
    want_grads = torch.autograd.grad(want @ weights, (x, y, scale))
    got = row_lse(x, y, scale, exclude_diagonal=exclude, chunk_size=chunk)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for g, w in zip(torch.autograd.grad(got @ weights, (x, y, scale)), want_grads, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("exclude", [False, True])
def test_gradcheck(exclude):
    x, y, scale = _inputs(6, 5, 3)
    assert torch.autograd.gradcheck(
        lambda a, b, s: row_lse(a, b, s, exclude_diagonal=exclude, chunk_size=2), (x, y, scale)
    )


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("shape", [(37, 29), (29, 37), (20, 20), (2, 2)])
@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
def test_two_ways_are_one_way_and_its_transpose(exclude, shape, chunk):
    x, y, scale = _inputs(*shape)
    want = _dense(x, y, scale, exclude), _dense(y, x, scale, exclude)
    got = two_way_lse(x, y, scale, exclude_diagonal=exclude, chunk_size=chunk)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    weights = [torch.linspace(0.5, 2, n, dtype=torch.float64) for n in shape]
    grads = [
        torch.autograd.grad(sum(a @ w for a, w in zip(both, weights, strict=True)), (x, y, scale))
        for both in (got, want)
    ]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [None, 2, 100])
def test_discounted_products(chunk):
    x, y, scale = _inputs(7, 9)
    discount = torch.rand(7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    want = (scale * (x @ y.T) * (1 - discount)).logsumexp(1)
    got = row_lse(x, y, scale, discount=discount, chunk_size=chunk)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(z.square().sum(), (x, y, scale)) for z in (got, want)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"^discount: expected shape \(7, 9\), got \(9, 7\)"):
        row_lse(x, y, scale, discount=discount.T, chunk_size=chunk)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 4, 11])
def test_gaussian_sum_is_that_of_distances(chunk, same, exclude):
    x, y, _ = _inputs(11, 11, 4, seed=1)
    other = x if same else y
    away = ~torch.eye(11, dtype=torch.bool) if exclude else torch.ones(11, 11, dtype=torch.bool)
    want = (-0.3 * (x[:, None] - other[None]).square().sum(-1))[away].logsumexp(0)
    got = gaussian_lse(x, None if same else y, 0.3, exclude_diagonal=exclude, chunk_size=chunk)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    wanted = (x,) if same else (x, y)
    grads = [torch.autograd.grad(z, wanted) for z in (got, want)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-10)


def test_one_sided_gradients():
    x, y, scale = _inputs(9, 9)
    for fixed in range(3):
        given = [z.detach() if i == fixed else z for i, z in enumerate((x, y, scale))]
        free = [z for z in given if z.requires_grad]
        rows, columns = two_way_lse(*given, chunk_size=4)
        want = _dense(*given, False).sum() + _dense(given[1], given[0], given[2], False).sum()
        grads = [torch.autograd.grad(z, free) for z in (rows.sum() + columns.sum(), want)]
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_one_direction_alone_of_two_has_its_own_gradient():
    x, y, scale = _inputs(9, 6)
    for side, want in enumerate((_dense(x, y, scale, False), _dense(y, x, scale, False))):
        got = two_way_lse(x, y, scale, chunk_size=4)[side]
        grads = [torch.autograd.grad(z.sum(), (x, y, scale)) for z in (got, want)]
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_large_logits_do_not_overflow():
    x = torch.nn.functional.normalize(torch.ones(4, 3), dim=1).requires_grad_()
    out = row_lse(x, x, 1e4, chunk_size=2)
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert torch.isfinite(x.grad).all()


MEMORY = """
import resource, sys, torch
from gaplib.tiled import row_lse
torch.set_num_threads(1)
n = int(sys.argv[1])
x = torch.nn.functional.normalize(torch.randn(n, 64), dim=1).requires_grad_()
row_lse(x[:600], x[:600], 100.0, chunk_size=64).sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
row_lse(x, x, 100.0, exclude_diagonal=True, chunk_size=64).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // (1 if sys.platform == "linux" else 1024))
"""


def test_memory_is_far_below_the_matrix():
    """At n = 8,192 the matrix alone takes 256 MiB, and the dense form several of them."""
    run = subprocess.run([sys.executable, "-c", MEMORY, "8192"], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 100 * 1024


def test_bad_input_is_named():
    x, y, _ = _inputs()
    for name, call in {
        "x": lambda: row_lse(x[0], y),
        "y": lambda: row_lse(x, y[:, :2]),
        "chunk_size": lambda: row_lse(x, y, chunk_size=0),
        "t": lambda: gaussian_lse(x, y, 0.0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
    for call in (row_lse, two_way_lse):
        with pytest.raises(ValueError, match=r"^y:"):
            call(x[:1], x[:1], exclude_diagonal=True)
    with pytest.raises(ValueError, match=r"^y:"):
        gaussian_lse(x[:1], None, 2.0, exclude_diagonal=True)
    with pytest.raises(ValueError, match=r"^x:"):
        two_way_lse(x[:1], x[:2], exclude_diagonal=True)
