"""``fit`` in several processes, however they were started: torchrun, ``fabric run``, Fabric's own launcher, or by hand.

Each process gives its own batches; the loss is that of the joined batch (:mod:`gaplib.distributed`), and the gradients
are averaged after the backward pass: at once and not while it runs, as ``DistributedDataParallel`` would, but whatever
parameters a method leaves out, and after a pass in chunks too. None of this is touched where one process trains.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from gaplib.distributed import exchange_numbers, processes, rank


def started() -> int:
    """Number of processes that train together: those of ``torch.distributed``, or what torchrun says to come."""
    if processes() > 1 or not (dist.is_available() and dist.is_torchelastic_launched()):
        return processes()
    return int(os.environ.get("WORLD_SIZE", "1"))


def one_process(who: str) -> None:
    """Raise ``ValueError`` where several processes were started, as ``who`` makes sense in one."""
    if started() > 1:
        raise ValueError(f"{who}: expected one process, got {started()}: gaplib.training.fit trains in several")


def own_device(kind: str, index: int | None) -> tuple[str, int | None]:
    """The device of this process, once its process group runs; ``ValueError`` for one device that all would share."""
    if started() == 1:
        return kind, index
    if index is not None:
        raise ValueError(f"device: expected {kind} where several processes train, each on its own, got {kind}:{index}")
    if kind == "mps":
        raise ValueError("device: expected cpu or cuda where several processes train, got mps")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        atexit.register(_leave)
    if kind == "cuda":
        index = int(os.environ.get("LOCAL_RANK", rank() % torch.cuda.device_count()))
        torch.cuda.set_device(index)
    return kind, index


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def check_agreed(device: torch.device, **numbers: int) -> None:
    """Raise ``ValueError``, in all processes, if one of ``numbers`` differs between them."""
    for name, *values in zip(numbers, *exchange_numbers(list(numbers.values()), device), strict=True):
        if len(set(values)) > 1:
            raise ValueError(f"{name}: expected the same in all processes, got {values} by rank")


@torch.no_grad()
def make_alike(module: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0."""
    if processes() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor, 0)


def drawn_by_all(draw: Callable[[int], Any], device: torch.device) -> Callable[[int], Any]:
    """``draw`` on every process, or an error on every process: none waits for one that has no batch."""

    def drawn(step: int) -> Any:
        batch, error = None, None
        try:
            batch = draw(step)
        except Exception as caught:
            error = caught
        failed = [process for process, (bad,) in enumerate(exchange_numbers([error is not None], device)) if bad]
        if error is not None:
            raise error
        if failed:
            raise ValueError(
                f"batches: expected one from every process, got none from process {failed[0]} of {processes()} at "
                f"step {step} (its own error says why)"
            )
        return batch

    return drawn


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes its mean over the processes, in one exchange for each type of parameter.

    A parameter that no process has a gradient of keeps none, so that an optimizer leaves it alone.
    """
    by_type: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            by_type.setdefault(parameter.dtype, []).append(parameter)
    for group in by_type.values():
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        has = gradients[0].new_tensor([float(p.grad is not None) for p in group])
        flat = torch.cat([has, *(gradient.reshape(-1) for gradient in gradients)])
        dist.all_reduce(flat)
        anywhere, *means = (flat / processes()).split([len(group), *(p.numel() for p in group)])
        for parameter, mean, used in zip(group, means, anywhere.tolist(), strict=True):
            parameter.grad = mean.view_as(parameter) if used else None
