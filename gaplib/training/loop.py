"""One loop of gradient steps on a sum of named terms: no disk, no data set, no kind of model.

``gaplib.training.fit``, the runs on disk and in the cache, and the fusion model all stand on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._validate import check_choice, check_integer

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("32-true", "bf16-mixed")


class NonFiniteLoss(RuntimeError):
    """Training stopped: a loss or a weight became NaN or infinite. ``step``, ``term`` and ``checkpoint`` say where."""

    def __init__(self, step: int, term: str, checkpoint: Path | None = None):
        self.step, self.term, self.checkpoint = step, term, checkpoint
        last = f"last good checkpoint: {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(f"not finite at step {step}: {term}; {last}")


class Loop:
    """The state of a training: which step comes next, and what one step does.

    Args:
        model: holds the parameters that the optimizer steps; its gradients are clipped if ``clip_norm`` is given.
        terms: ``terms(step)`` gives the summands of the loss by name, each 0-d.
        optimizer: any of torch's (or Fabric's wrapper of one); the rates that its groups have are the peak rates.
        rate: ``rate(step)``, the share of the peak rate at a step.
        backward: what is called with the loss, in place of its own ``backward``.
        after_step: is called after each optimizer step.
        clip_norm: largest norm of all gradients together; None does not clip.
        first_step: number of the first step, for a training that goes on.

    ``step`` is the number of the step that comes next, ``checkpoint`` what the errors name as the last good one.
    """

    def __init__(
        self,
        model: nn.Module,
        terms: Callable[[int], Mapping[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        *,
        rate: Callable[[int], float] = lambda step: 1.0,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        after_step: Callable[[], Any] = lambda: None,
        clip_norm: float | None = None,
        first_step: int = 0,
    ):
        self.model, self.terms, self.optimizer = model, terms, optimizer
        self.rate, self.backward, self.after_step, self.clip_norm = rate, backward, after_step, clip_norm
        self.step = first_step
        self.checkpoint: Path | None = None
        for group in optimizer.param_groups:
            group.setdefault("peak_lr", group["lr"])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss at ``step``, 0-d, and its value and its terms' by name; ``NonFiniteLoss`` names the bad ones."""
        parts = self.terms(step)
        total = sum(parts.values())
        # One transfer from the device for all of them.
        values = torch.stack([total.detach(), *(part.detach().to(total.dtype) for part in parts.values())]).tolist()
        named = dict(zip(parts, values[1:], strict=True))
        if not math.isfinite(values[0]):
            bad = [name for name, value in named.items() if not math.isfinite(value)]
            raise NonFiniteLoss(step, f"loss ({', '.join(bad) or 'sum of its terms'})", self.checkpoint)
        return total, {**named, "loss": values[0]}

    def update(self) -> dict[str, float]:
        """One step; its row: ``step``, ``loss`` and each term, as they were before the parameters moved."""
        factor = self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        loss, values = self.loss(self.step)
        if not loss.requires_grad:
            raise ValueError("objective: expected a loss that depends on parameters, got a constant")
        self.optimizer.zero_grad()
        self.backward(loss)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.after_step()
        self.step += 1
        return {"step": self.step - 1, **values}

    def check_weights(self) -> None:
        """Raise ``NonFiniteLoss`` if a parameter is no longer finite."""
        for name, weight in self.model.named_parameters():
            if not bool(weight.isfinite().all()):
                raise NonFiniteLoss(self.step, f"weight {name}", self.checkpoint)


def rate_factor(step: int, steps: int, schedule: str = "constant", warmup: int = 0) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``: linear warm-up, then "constant" or "cosine" to zero."""
    check_choice(schedule, "schedule", SCHEDULES)
    if step < check_integer(warmup, "warmup", low=0):
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
