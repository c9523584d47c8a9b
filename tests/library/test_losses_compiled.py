"""Compiled losses: values and gradients of every loss and every method's objective are those of the uncompiled ones."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loss_cases import FORMS, Loss, Method, gradients, make_inputs

from gaplib import as_open_clip_loss, losses, tiled
from gaplib.methods import METHODS
from gaplib.pairs import PairedEmbeddings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # says where a graph breaks


def check_compiled(module, backend, embeddings, rtol=1e-9):
    wanted = [*embeddings, *module.parameters()]
    compiled = torch.compile(module, backend=backend)
    for _ in range(2):  # a second call runs what the first one compiled
        found = []
        for form in (compiled, module):
            value = form(*embeddings)
            found.append((value.detach(), *gradients(value, wanted)))
        torch.testing.assert_close(*found, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("name", "chunk"), FORMS)
def test_every_loss(name, chunk):
    check_compiled(Loss(name, chunk).double(), "eager", make_inputs(16, 6))


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.trained == name])
def test_every_method(name):
    check_compiled(Method(name).double(), "eager", make_inputs(16, 6))


class OpenClip(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.loss = as_open_clip_loss(name)
        self.scale, self.bias = (torch.nn.Parameter(torch.tensor(z)) for z in (14.0, -3.0))

    def forward(self, x, y):
        return self.loss(x, y, self.scale, self.bias)


@pytest.mark.parametrize("name", ["cuaxu", "siglip", "slrt"])
def test_loss_of_open_clip(name):
    check_compiled(OpenClip(name).double(), "eager", make_inputs(16, 6)[:2])


@pytest.mark.parametrize(("name", "chunk"), [("uniformity_loss", None), ("clip_loss", 5)])
def test_other_backends(name, chunk):
    check_compiled(Loss(name, chunk).double(), "aot_eager", make_inputs(16, 6))


def test_more_pairs_than_the_dense_form_takes(monkeypatch):
    monkeypatch.setattr(tiled, "DENSE_ENTRIES", 100)
    monkeypatch.setattr(tiled, "DENSE_ENTRIES_SYMMETRIC", 100)
    check_compiled(OpenClip("cua").double(), "aot_eager", make_inputs(16, 6)[:2])


def test_pairs_that_were_used_before():
    """A Gram matrix that the uncompiled loss left is the compiled one's, and the other way round."""
    x, y = make_inputs(16, 6)[:2]
    compiled = torch.compile(losses.uniformity_loss, backend="eager")
    used, fresh = PairedEmbeddings(x, y), PairedEmbeddings(x, y)
    total = losses.uniformity_loss(used) + 2 * compiled(used) + 4 * losses.uniformity_loss(used)
    wanted = 7 * losses.uniformity_loss(fresh)
    torch.testing.assert_close(gradients(total, (x, y)), gradients(wanted, (x, y)), rtol=1e-10, atol=1e-12)


def test_second_derivatives_of_a_compiled_loss_are_right_or_refused():
    x, y = make_inputs(16, 6)[:2]
    (want,) = gradients(losses.uniformity_loss(PairedEmbeddings(x, y)), x, create_graph=True)
    (want,) = gradients(want.square().sum(), x)

    def compiled(backend):
        torch._dynamo.reset()
        loss = torch.compile(lambda x, y: losses.uniformity_loss(PairedEmbeddings(x, y)), backend=backend)
        (first,) = gradients(loss(x, y), x, create_graph=True)
        return gradients(first.square().sum(), x)[0]

    torch.testing.assert_close(compiled("eager"), want, rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="double backward"):
        compiled("aot_eager")


def test_the_compiler_is_not_loaded_for_an_uncompiled_loss():
    code = (
        "import sys, torch; from gaplib import losses; from gaplib.pairs import PairedEmbeddings as Pairs\n"
        "x = torch.eye(3).requires_grad_(); losses.uniformity_loss(Pairs(x, x)).backward()\n"
        "losses.clip_loss(Pairs(x, x), 9.0, chunk_size=2).backward(); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
