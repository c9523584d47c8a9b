"""Every loss of gaplib.losses and every method's objective, with something to compute it of."""

import inspect

import torch
from torch.nn import functional

from gaplib import losses
from gaplib.methods import METHODS, method
from gaplib.pairs import PairedEmbeddings

NAMES = (
    "image", "text", "image_view", "text_view",
    "image_private", "text_private", "image_private_view", "text_private_view",
)  # fmt: skip
SCALARS = {"logit_scale": 9.0, "bias": -3.0}
#: name -> the loss and its options; the last three are second forms of losses that stand above them
LOSSES = {name: (getattr(losses, name), {}) for name in losses.__all__} | {
    "clip_loss, groups": (losses.clip_loss, {}),
    "in_modal_loss, original": (losses.in_modal_loss, {"denominator": "original"}),
    "deep_feature_separation_loss, original": (losses.deep_feature_separation_loss, {"denominator": "original"}),
}
#: every loss dense, and in tiles where it has them
FORMS = [
    (name, chunk)
    for name, (loss, _) in LOSSES.items()
    for chunk in ((None, 5) if "chunk_size" in inspect.signature(loss).parameters else (None,))
]


class Loss(torch.nn.Module):
    """A loss as a module of all the embeddings; its scalars are parameters."""

    def __init__(self, name, chunk_size=None):
        super().__init__()
        self.name, self.chunk_size = name, chunk_size
        self.loss, self.options = LOSSES[name]
        taken = inspect.signature(self.loss).parameters
        self.scalars = torch.nn.ParameterDict(
            {key: torch.tensor(value) for key, value in SCALARS.items() if key in taken}
        )

    def forward(self, *embeddings):
        tiles = {} if self.chunk_size is None else {"chunk_size": self.chunk_size}
        pairs = make_pairs(embeddings, groups=self.name.endswith("groups"))
        return self.loss(pairs, **self.scalars, **self.options, **tiles)


class Method(torch.nn.Module):
    """A method's objective as a module of all the embeddings; one that swaps does so at every step."""

    def __init__(self, name):
        super().__init__()
        swaps = {"p": 1.0} if METHODS[name].swapping else None
        self.objective = method(name, swapping=swaps).build()

    def forward(self, *embeddings):
        return self.objective(make_pairs(embeddings), 1, 4)


def make_pairs(embeddings, groups=False):
    n = len(embeddings[0])
    similarity = torch.arange(n * n, dtype=torch.float64).reshape(n, n).sin().square()
    given = dict(zip(NAMES, embeddings, strict=True))
    groups = torch.arange(n) // 3 if groups else None
    # check=False: a numerical derivative leaves the sphere.
    return PairedEmbeddings(**given, caption_similarity=similarity, groups=groups, check=False)


def make_inputs(n, d, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    raw = torch.randn(len(NAMES), n, d, generator=generator, dtype=torch.float64)
    # A common direction, for cosines of true pairs that are not near zero.
    return [functional.normalize(z + 0.8, dim=1).to(dtype).requires_grad_() for z in raw]


def gradients(value, wanted, **options):
    return torch.autograd.grad(value, wanted, materialize_grads=True, **options)
