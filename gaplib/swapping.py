"""Modality swapping (Yaras et al. 2024, Sec. 4): break the parallel modalities by mixing paired coordinates.

The paper's text that we could read leaves open when a swap happens, whether the mixed rows are normalised again, and
how the second modality is mixed. Our choices, each a parameter: every step swaps with probability ``p``; rows are
normalised again (hard swapping changes the norms too); the text gets the complementary mix, so that nothing is lost or
doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch.nn.functional import normalize

from gaplib._devices import has_float64
from gaplib._validate import check_choice, check_number, check_pair


def hard_swap(
    x: torch.Tensor, y: torch.Tensor, generator: torch.Generator | None = None, renormalize: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exchange ``x[i, j]`` and ``y[i, j]`` for each sample i and coordinate j independently with probability one half.

    Args:
        x, y: (n, d) float tensors, row i a pair.
        generator: source of randomness, on any device; what it draws is moved to that of ``x``.
        renormalize: scale the mixed rows back to unit norm.

    Returns:
        the two mixed (n, d) tensors; before normalisation their coordinates are those of x and y, rearranged.
    """
    check_pair(x, y)
    take = (_random(x.shape, generator) < 0.5).to(x.device)
    return _finish(torch.where(take, y, x), torch.where(take, x, y), renormalize)


def soft_swap(
    x: torch.Tensor, y: torch.Tensor, generator: torch.Generator | None = None, renormalize: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix ``lam x + (1 - lam) y`` and its complement, ``lam[i, j]`` uniform in [0, 1]; arguments as :func:`hard_swap`.

    Before normalisation the two results sum to ``x + y``.
    """
    check_pair(x, y)
    lam = _random(x.shape, generator).to(x.dtype).to(x.device)
    return _finish(lam * x + (1 - lam) * y, (1 - lam) * x + lam * y, renormalize)


def _random(shape: Sequence[int], generator: torch.Generator | None) -> torch.Tensor:
    """Uniform in [0, 1), on the generator's device: the same numbers wherever the embeddings lie."""
    source = torch.device("cpu") if generator is None else generator.device
    precision = torch.float64 if has_float64(source) else torch.float32
    return torch.rand(shape, generator=generator, device=source, dtype=precision)


def _finish(x: torch.Tensor, y: torch.Tensor, renormalize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return (normalize(x, dim=1), normalize(y, dim=1)) if renormalize else (x, y)


@dataclass(frozen=True)
class Swapping:
    """When and how a training step swaps: ``Swapping("hard", p=1e-3)`` is the paper's HS, ``("soft", 5e-2)`` its SS.

    Attributes:
        kind: "hard" or "soft".
        p: share of training steps that swap, in [0, 1].
        trigger: "random" swaps at each step with probability p; "phase" swaps in the first share p of the training.
        renormalize: see :func:`hard_swap`.

    Raises:
        ValueError: on another kind or trigger, or ``p`` outside [0, 1].
    """

    kind: str
    p: float
    trigger: str = "random"
    renormalize: bool = True

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind", ("hard", "soft"))
        check_choice(self.trigger, "trigger", ("random", "phase"))
        check_number(self.p, "p", low=0, high=1)
        if self.renormalize not in (True, False):
            raise ValueError(f"renormalize: expected True or False, got {self.renormalize!r}")

    def __str__(self) -> str:
        raw = "" if self.renormalize else ", not renormalised"
        return f"{self.kind} swap, {self.trigger}, p = {self.p:g}{raw}"

    def configured(self, changes: Mapping[str, Any]) -> Swapping:
        """The same with some fields changed; ``ValueError`` for an unknown field or a value out of its range."""
        for name in changes:
            check_choice(name, "swapping", [one.name for one in fields(self)])
        return replace(self, **changes)

    def __call__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        step: int = 0,
        total_steps: int = 1,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair as the loss should see it at this step: swapped, or ``x`` and ``y`` themselves."""
        swap = step < self.p * total_steps if self.trigger == "phase" else _random((), generator).item() < self.p
        if not swap:
            return x, y
        return (hard_swap if self.kind == "hard" else soft_swap)(x, y, generator, self.renormalize)
