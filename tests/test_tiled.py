"""The tiled log-sum-exp against its dense form: values, gradients, memory."""

import subprocess
import sys

import pytest
import torch

from gaplib.tiled import gaussian_potential_lse, row_lse


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


@pytest.mark.parametrize("chunk", [None, 4])
def test_gaussian_potential_equals_distances(chunk):
    x, y, _ = _inputs(11, 11, 4, seed=1)
    distances = (x[:, None] - y[None]).square().sum(-1)
    want = (-2.0 * distances).masked_fill(torch.eye(11, dtype=torch.bool), -torch.inf).logsumexp(1)
    got = gaussian_potential_lse(x, y, 2.0, exclude_diagonal=True, chunk_size=chunk)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    for g, w in zip(torch.autograd.grad(got.sum(), (x, y)), torch.autograd.grad(want.sum(), (x, y)), strict=True):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)


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
        "t": lambda: gaussian_potential_lse(x, y, 0.0, exclude_diagonal=False),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
    with pytest.raises(ValueError, match=r"^y:"):
        row_lse(x[:1], x[:1], exclude_diagonal=True)
