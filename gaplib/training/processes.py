"""``fit`` in several processes, however they were started: torchrun, ``fabric run``, Fabric's own launcher, or by hand.

Each process gives its own batches; the loss is that of the joined batch (:mod:`gaplib.distributed`), and torch's
``DistributedDataParallel`` makes the mean of the gradients. None of this is touched where one process trains.
"""

from __future__ import annotations

import atexit
import os
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

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


def joined(module: nn.Module, device: torch.device, **agreed: int | str | None) -> nn.Module:
    """``module`` on ``device``, with process 0's parameters, which it keeps in step with all the others' (DDP).

    Raises:
        ValueError: in all processes, if ``agreed`` (what each was called with) differs between them.
    """
    for name, value in agreed.items():
        number = value if isinstance(value, int) else zlib.crc32(str(value).encode())
        found = [row[0] for row in exchange_numbers([number], device)]
        if len(set(found)) > 1:
            shown = found if isinstance(value, int) else "others"
            raise ValueError(f"{name}: expected the same in all processes, got {shown} (process {rank()} has {value})")
    ids = [device.index] if device.type == "cuda" else None
    # Towers may bring a logit scale that an objective of the table replaces.
    return DistributedDataParallel(module.to(device), device_ids=ids, find_unused_parameters=True)


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
    """Each gradient becomes its mean over the processes, for a backward pass that DDP did not see; in one exchange a
    type. A parameter without a gradient must be without one in all processes."""
    if processes() == 1:
        return
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_type.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= processes()
        for gradient, mean in zip(gradients, flat.split([z.numel() for z in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
