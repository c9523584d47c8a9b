"""One batch from several processes: every loss of gaplib compares all pairs, and so it must see all of them.

    pairs = gather(PairedEmbeddings(x, y))      # in each process: the rows of all, in the order of the ranks
    objective(pairs, step, steps).backward()    # in each process: the loss of the joined batch, with its value

**Scaling.** Every process computes the same loss of the same joined batch, so that the gradient of its own rows is
known where it is needed and nothing is sent on the way back. It is multiplied by the number of processes W, because
``DistributedDataParallel`` (and Fabric, Lightning, accelerate, open_clip) *averages* the parameters' gradients: the sum
over the processes of what their own rows contribute is the gradient of one process on the joined batch. A parameter
that is used in the loss itself (logit scale, bias) has the whole gradient in every process, and the mean keeps it. So
the mean equals the single-process gradient for every parameter, however unequal the processes' batches are. Where
gradients are *summed*, pass ``factor=1`` and divide those of the loss's own parameters by W.

This holds for every loss, whatever way it reduces (``REDUCTIONS``), as long as all processes compute the same: random
draws, such as a swap of modalities, must come from the same seed. What does not become equal by gathering is a tower
that mixes rows itself: batch normalisation sees its own process's rows unless it is ``SyncBatchNorm``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from gaplib._autograd import apply
from gaplib.pairs import PairedEmbeddings

#: how a loss makes one number of n pairs -> what that means for a batch that lies in parts
WAYS: Mapping[str, str] = MappingProxyType(
    {
        "mean of rows": "each pair by itself: the mean over the parts, weighted by their sizes, is the whole",
        "mean of rows against all": "each pair is compared with every other: a part's rows need all columns",
        "sum over pairs of rows": "a sum over i, j, divided by n: parts lack the terms across them, which add up",
        "statistic of the batch": "a function of a sum over i, j: no sum of parts gives it",
    }
)
#: name of a loss in ``gaplib.losses`` -> one of ``WAYS``
REDUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "alignment_loss": "mean of rows",
        "inverse_square_alignment_loss": "mean of rows",
        "brownian_bridge_loss": "mean of rows",
        "clip_loss": "mean of rows against all",
        "in_modal_loss": "mean of rows against all",
        "intra_modality_separation_loss": "mean of rows against all",
        "siglip_loss": "sum over pairs of rows",
        "cyclic_loss": "sum over pairs of rows",
        "geometric_consistency_loss": "sum over pairs of rows",
        "uniformity_loss": "statistic of the batch",
        "cross_uniformity_loss": "statistic of the batch",
        "centroid_uniformity_loss": "statistic of the batch",
        # a mean of rows, one against all, and a log of a sum, added up
        "deep_feature_separation_loss": "statistic of the batch",
    }
)

_MATRICES = (
    "image", "text", "image_view", "text_view",
    "image_private", "text_private", "image_private_view", "text_private_view",
)  # fmt: skip
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def processes() -> int:
    """Number of processes that ``torch.distributed`` runs, 1 where it runs none.

    >>> processes()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; 0 where there is one.

    >>> rank()
    0
    """
    return dist.get_rank() if processes() > 1 else 0


def gather(
    pairs: PairedEmbeddings,
    *,
    caption_similarity: Tensor | None = None,
    factor: float | None = None,
    agree: int = 0,
    check: bool = True,
) -> PairedEmbeddings:
    """The pairs of all processes as one batch, the same in each of them: first those of process 0, and so on.

    To be called by all processes together. In one process the pairs come back as they are.

    Args:
        pairs: (n, d) and what they have besides, on each process; n may differ. All must bring the same fields, in the
            same type and width. Equal ids in ``groups`` mean the same group across processes.
        caption_similarity: (N, N) of the joined batch, for losses that need it: a process cannot know how alike its
            captions are to another's. Compute it of what all have, as in
            ``caption_similarity(gather_rows(tokens))``.
        factor: of the gradient that a process's own rows get; None is the number of processes, which is exact where
            gradients are averaged (see above). One is what open_clip's losses do without ``--gather-with-grad``.
        agree: any whole number below 2^63 that must be the same in all processes, such as a seed.
        check: ``False`` leaves out the exchange of sizes, fields and ``agree``, which reads from the device: all is
            known to be equal, the number of rows too.

    Returns:
        N = sum of n pairs, with gradient to this process's rows (once; it cannot be differentiated again).

    Raises:
        ValueError: in all processes alike, where they bring different fields, widths, types or ``agree``, or a
            ``caption_similarity`` inside the pairs; and for a joined one that is not (N, N).

    Example:
        >>> import torch
        >>> from gaplib.pairs import PairedEmbeddings
        >>> pairs = PairedEmbeddings(torch.eye(3), torch.eye(3))
        >>> gather(pairs) is pairs  # one process
        True
    """
    world = processes()
    if world == 1:
        return pairs if caption_similarity is None else replace(pairs, caption_similarity=caption_similarity)
    sizes = _sizes(pairs, agree) if check else [pairs.n] * world
    given = [name for name in _MATRICES if getattr(pairs, name) is not None]
    own = [getattr(pairs, name) for name in given]
    # One exchange for all matrices, side by side.
    joined = apply(_Joined, torch.cat(own, dim=1), sizes, float(world) if factor is None else float(factor))
    matrices = dict(zip(given, joined.split([z.shape[1] for z in own], dim=1), strict=True))
    groups = None if pairs.groups is None else _exchange(pairs.groups.long(), sizes)
    return PairedEmbeddings(**matrices, groups=groups, caption_similarity=caption_similarity, check=False)


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all processes, (sum of n, ...) from (n, ...) on each, any type, without gradient; n may differ.

    For what is not an embedding: the token ids that a caption similarity is computed of. Of all processes together.

    >>> gather_rows(torch.tensor([[3, 4]]))
    tensor([[3, 4]])
    """
    if processes() == 1:
        return x.detach()
    sizes = [row[0] for row in exchange_numbers([len(x)], x.device)]
    return _exchange(x.detach(), sizes)


def exchange_numbers(numbers: Sequence[int], device: torch.device | str = "cpu") -> list[list[int]]:
    """The whole numbers of each process, by rank; all must give as many, on a device that their backend takes.

    >>> exchange_numbers([4, 2])
    [[4, 2]]
    """
    if processes() == 1:
        return [list(numbers)]
    own = torch.tensor(list(numbers), dtype=torch.int64, device=device)
    found = [torch.empty_like(own) for _ in range(processes())]
    dist.all_gather(found, own)
    return torch.stack(found).tolist()


def _sizes(pairs: PairedEmbeddings, agree: int) -> list[int]:
    """Rows of each process, after the tests that all of them fail together."""
    fields = (*_MATRICES, "groups", "caption_similarity")
    mask = sum(2**i for i, name in enumerate(fields) if getattr(pairs, name) is not None)
    width = 0 if pairs.image_private is None else pairs.image_private.shape[1]
    own = [pairs.n, mask, pairs.dim, width, _TYPES.index(pairs.dtype), agree]
    found = exchange_numbers(own, pairs.device)
    if any(row[1] & 2 ** fields.index("caption_similarity") for row in found):
        raise ValueError(
            "caption_similarity: expected that of the joined batch (N, N), as an argument of gather, where several "
            "processes train; got one of a process's own pairs, which cannot say how alike they are to the others'"
        )
    what = {1: "fields", 2: "dimension", 3: "private dimension", 4: "float type", 5: "number to agree on (a seed)"}
    for i, name in what.items():
        values = [row[i] for row in found]
        if len(set(values)) > 1:
            shown = [_shown(value, i, fields) for value in values]
            raise ValueError(f"pairs: expected the same {name} in all processes, got {shown} by rank")
    return [row[0] for row in found]


def _shown(value: int, which: int, fields: Sequence[str]) -> int | str:
    if which == 1:
        return " ".join(name for i, name in enumerate(fields) if value & 2**i)
    return str(_TYPES[value]) if which == 4 else value


def _exchange(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows of all processes, one block after the other, which are ``sizes`` long."""
    longest = max(sizes)
    if min(sizes) < longest:  # the backends want blocks of one size
        own = torch.cat([own, own.new_zeros(longest - len(own), *own.shape[1:])])
    # As bytes: not every backend knows every type.
    flat = own.contiguous().view(-1).view(torch.uint8)
    blocks = [torch.empty_like(flat) for _ in sizes]
    dist.all_gather(blocks, flat)
    shaped = (block.view(own.dtype).view(own.shape)[:size] for block, size in zip(blocks, sizes, strict=True))
    return torch.cat(list(shaped))


class _Joined(torch.autograd.Function):
    """The exchange, and back: this process's block of the gradient, times a factor."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: Sequence[int], factor: float) -> Tensor:
        start = sum(sizes[: rank()])
        ctx.rows, ctx.factor = slice(start, start + len(own)), factor
        return _exchange(own, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rows] * ctx.factor, None, None
