"""A step on a batch whose towers do not fit into memory: gradient caching, exact for every parameter.

Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup* (GradCache): the embeddings
of all chunks are computed without a graph; the loss of the whole batch, by tiles where it is large, gives the gradient
of each embedding; then every chunk is run again, with its graph and the random state that it had, and its part of that
gradient is sent back. Memory for activations is that of one chunk, time that of a forward pass more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gaplib._validate import check_integer


class ChunkedStep:
    """``terms`` and ``backward`` of a step that runs the towers ``chunk`` rows at a time.

    Args:
        paired: a ``gaplib.training.fitting.PairedTowers``.
        chunk: rows a time, at least 1.
        fabric: gives the precision of the towers, and the backward pass.

    What the towers draw (dropout) is drawn chunk by chunk, so that a run depends on ``chunk``; without, only rounding
    does. ``ValueError`` at a step where a tower normalises over the batch in training mode: its output would be another
    in chunks.
    """

    def __init__(self, paired: Any, chunk: int, fabric: Any):
        self.paired, self.fabric = paired, fabric
        self.chunk = check_integer(chunk, "chunk", low=1)
        self._inputs: list[dict[str, Any]] = []
        self._states: list[list[Tensor]] = []
        self._leaves: dict[str, Tensor] = {}

    def terms(self, inputs: Mapping[str, Any], *schedule: Any) -> Mapping[str, Tensor]:
        """The summands of the loss; their gradient ends at the embeddings until ``backward``."""
        self._check_towers()
        fields = {name: inputs[name] for name in ("image", "text", "image_view", "text_view") if name in inputs}
        sizes = {name: _length(value) for name, value in fields.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"batch: expected as many rows in every field, got {sizes}")
        starts = range(0, sizes["image"], self.chunk)
        self._inputs = [{name: _rows(z, i, i + self.chunk) for name, z in fields.items()} for i in starts]
        self._states, found = [], []
        with torch.no_grad():
            for part in self._inputs:
                self._states.append(self._random_state())
                found.append(self._features(part))
        self._leaves = {name: torch.cat([part[name] for part in found]).requires_grad_() for name in found[0]}
        return self.paired.parts(self._leaves, inputs, *schedule)

    def backward(self, loss: Tensor) -> None:
        """Gradients of all parameters: the objective's own at once, the towers' chunk by chunk."""
        self.fabric.backward(loss)
        drawn = self._random_state()
        start = 0
        for part, state in zip(self._inputs, self._states, strict=True):
            self._set_random_state(state)
            features = self._features(part)
            stop = start + len(features["image"])
            sent = {
                name: leaf.grad[start:stop]
                for name, leaf in self._leaves.items()
                if leaf.grad is not None and features[name].requires_grad
            }
            torch.autograd.backward([features[name] for name in sent], list(sent.values()))
            start = stop
        self._set_random_state(drawn)
        self._inputs, self._states, self._leaves = [], [], {}

    def _features(self, part: Mapping[str, Any]) -> dict[str, Tensor]:
        with self.fabric.autocast():
            return self.paired.features(part)

    def _check_towers(self) -> None:
        for name, module in self.paired.towers.named_modules():
            if isinstance(module, _BatchNorm) and module.training:
                raise ValueError(
                    f"chunk: expected towers whose output for a row does not depend on the others, got {name} "
                    f"({type(module).__name__}) in training mode; put it into evaluation mode, or leave chunk out"
                )

    def _random_state(self) -> list[Tensor]:
        device = self.fabric.device
        own = [] if device.type == "cpu" else [torch.get_device_module(device).get_rng_state()]
        return [torch.get_rng_state(), *own]

    def _set_random_state(self, state: Sequence[Tensor]) -> None:
        torch.set_rng_state(state[0])
        for own in state[1:]:
            torch.get_device_module(self.fabric.device).set_rng_state(own)


def _length(value: Any) -> int:
    """Rows of what an encoder takes: a tensor or a sequence, or a mapping of such."""
    if isinstance(value, Mapping):
        return next((_length(one) for one in value.values() if hasattr(one, "__len__")), 0)
    return len(value)


def _rows(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _rows(one, start, stop) for name, one in value.items()}
    has_rows = (
        hasattr(value, "__getitem__")
        and not isinstance(value, str)
        and not (isinstance(value, Tensor) and value.ndim == 0)
    )
    return value[start:stop] if has_rows else value
