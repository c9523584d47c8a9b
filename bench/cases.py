"""What is compared: this book's forms and the usual ones, written anew from their descriptions.

A case is ``make(n, d) -> work``: ``work()`` is what is timed or whose memory is measured, ``n`` and ``d`` its size.
Slow libraries are imported where they are used: every measurement of memory is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gaplib import losses
from gaplib.methods import method
from gaplib.pairs import PairedEmbeddings

KS = (1, 5, 10)
CAPTIONS = 5  # texts an image
QUERIES = 64  # at a time, in the recipe with k nearest answers
SCALE = 20.0
T = 2.0  # of the Gaussian potential


def unit(rows: int, d: int, seed: int) -> Tensor:
    """(rows, d) random directions in float32."""
    return functional.normalize(torch.randn(rows, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def embeddings(n: int, d: int, noise: float = 2.0) -> tuple[Tensor, Tensor]:
    """Paired unit rows with true pairs that are alike, as leaves that want a gradient."""
    x = unit(n, d, 0)
    y = functional.normalize(x + noise * unit(n, d, 1), dim=1)
    return x.requires_grad_(), y.requires_grad_()


def cuaxu(x: Tensor, y: Tensor) -> Tensor:
    """The loss of the method cuaxu at a given temperature."""
    parts = method("cuaxu").build().parts_at(SCALE, PairedEmbeddings(x, y, check=False))
    return sum(parts.values())


def cuaxu_composed(x: Tensor, y: Tensor) -> Tensor:
    """The same from the parts that public code uses: open_clip's loss, ``pdist``, masked ``cdist``."""
    from open_clip.loss import ClipLoss

    contrastive = ClipLoss()(x, y, torch.tensor(SCALE))
    alignment = (x - y).norm(dim=1).pow(2).mean()
    uniformity = sum(torch.pdist(z).pow(2).mul(-T).exp().mean().log() for z in (x, y)) / 2
    others = ~torch.eye(len(x), dtype=torch.bool)
    cross = torch.masked_select(torch.cdist(x, y), others).pow(2).mul(-T).exp().mean().log()
    return contrastive + alignment + uniformity + cross


def cyclic(x: Tensor, y: Tensor) -> Tensor:
    """Both cyclic terms in closed form."""
    return losses.cyclic_loss(PairedEmbeddings(x, y, check=False))


def cyclic_composed(x: Tensor, y: Tensor) -> Tensor:
    """Both cyclic terms from the n x n matrices that define them."""
    cross = x @ y.T
    return ((x @ x.T - y @ y.T).square().sum() + (cross - cross.T).square().sum()) / len(x)


def _gallery(n: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n images, five texts each, and what belongs to what."""
    image = unit(n, d, 0)
    of = torch.arange(n).repeat_interleave(CAPTIONS)
    text = functional.normalize(image[of] + 3 * unit(len(of), d, 1), dim=1)
    return image, text, torch.arange(n), of


def retrieval_ours(image: Tensor, text: Tensor, image_groups: Tensor, text_groups: Tensor) -> dict[str, float]:
    """Recall by counting in chunks."""
    from gaplib.evaluation import retrieval

    found = retrieval(image, text, KS, image_groups, text_groups)
    return {name: float(value) for name, value in found.items()}


def retrieval_argsort(image: Tensor, text: Tensor, image_groups: Tensor, text_groups: Tensor) -> dict[str, float]:
    """Recall from the full order of all answers, both ways."""
    scores, out = image @ text.T, {}
    ways = {
        "image_to_text": (scores, image_groups, text_groups),
        "text_to_image": (scores.T, text_groups, image_groups),
    }
    for name, (table, queries, answers) in ways.items():
        order = table.argsort(dim=1, descending=True)
        for k in KS:
            out[f"{name}@{k}"] = float((answers[order[:, :k]] == queries[:, None]).any(dim=1).float().mean())
    return out


def retrieval_topk(image: Tensor, text: Tensor, image_groups: Tensor, text_groups: Tensor) -> dict[str, float]:
    """Recall as in CLIP_benchmark: per query the k best answers, as an indicator over all, times the positives."""
    scores, out = image @ text.T, {}
    ways = {
        "image_to_text": (scores, image_groups, text_groups),
        "text_to_image": (scores.T, text_groups, image_groups),
    }
    for name, (table, queries, answers) in ways.items():
        positive = queries[:, None] == answers[None, :]
        for k in KS:
            hits = []
            for rows in torch.arange(len(table)).split(QUERIES):
                chosen = functional.one_hot(table[rows].topk(k, dim=1).indices, len(answers))
                found = (chosen * positive[rows][:, None]).sum(dim=(1, 2)) / positive[rows].sum(dim=1)
                hits.append(found > 0)
            out[f"{name}@{k}"] = float(torch.cat(hits).float().mean())
    return out


def _forward_backward(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[int, int], Callable[[], Any]]:
    def make(n: int, d: int) -> Callable[[], Any]:
        x, y = embeddings(n, d)

        def work() -> tuple[float, Tensor]:
            x.grad = y.grad = None
            value = loss(x, y)
            value.backward()
            return value.item(), x.grad

        return work

    return make


def _search(score: Callable[..., dict[str, float]]) -> Callable[[int, int], Callable[[], Any]]:
    def make(n: int, d: int) -> Callable[[], Any]:
        gallery = _gallery(n, d)
        return lambda: score(*gallery)

    return make


CASES: dict[str, Callable[[int, int], Callable[[], Any]]] = {
    "cuaxu": _forward_backward(cuaxu),
    "cuaxu composed": _forward_backward(cuaxu_composed),
    "cyclic": _forward_backward(cyclic),
    "cyclic composed": _forward_backward(cyclic_composed),
    "retrieval": _search(retrieval_ours),
    "retrieval argsort": _search(retrieval_argsort),
    "retrieval topk": _search(retrieval_topk),
}
