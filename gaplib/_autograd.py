"""What the autograd functions of the losses share: how they are called, and their gradient where it is to be
differentiated again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_untraced: Callable[..., Any] | None = None


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply(*arguments)``, by torch.compile run as it stands and not traced.

    Traced, such a function may lose a gradient without a word (torch 2.11 keeps one of two that go to one tensor), and
    its work in place does not compile.
    """
    global _untraced
    if torch.compiler.is_dynamo_compiling():
        # Made here, not at import: the first use of torch.compiler loads the compiler, which takes seconds.
        if _untraced is None:
            _untraced = torch.compiler.disable(_apply, reason="gaplib's own gradients are not to be traced")
        return _untraced(function, *arguments)
    return _apply(function, *arguments)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)


def differentiable_gradients(
    plain: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of ``plain(*inputs)``, a function of torch's own operations, that can be differentiated themselves.

    For a backward pass under ``create_graph=True``, which is when gradients are enabled in it. ``grads`` are those of
    the outputs; None stands where a gradient is not needed.
    """
    # Views, so that a tensor that is passed twice has a gradient in each of its places.
    inputs = [z.view_as(z) if need and z is not None else z for z, need in zip(inputs, needed, strict=True)]
    wanted = [z for z, need in zip(inputs, needed, strict=True) if need and z is not None]
    with torch.autocast(grads[0].device.type, enabled=False):
        found = iter(torch.autograd.grad(plain(*inputs), wanted, grads, create_graph=True, materialize_grads=True))
    return [next(found) if need else None for need in needed]
