"""Temperature policies: how the inverse temperature of a contrastive loss is set, step by step.

A policy is a small ``torch.nn.Module`` that owns its parameters, if it has any. ``scale(step, total_steps)`` is the
exponentiated logit scale 1 / tau, a 0-d tensor, as a function of how far training is; ``after_step()`` is called once
after every optimizer step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gaplib._validate import check_choice, check_integer, check_number

MAX_SCALE = 100.0  # the usual ceiling of CLIP training: tau = .01


class Temperature(nn.Module, ABC):
    """What every policy has in common; subclasses say what ``_scale`` is."""

    #: factor on the learning rate of the policy's own parameters
    learning_rate_factor = 1.0

    def scale(self, step: int = 0, total_steps: int = 1) -> Tensor:
        """Exponentiated logit scale 1 / tau as a 0-d tensor, at ``step`` (from 0) of ``total_steps``."""
        total_steps = check_integer(total_steps, "total_steps", low=1)
        return self._scale(check_integer(step, "step", low=0, high=total_steps), total_steps)

    @abstractmethod
    def _scale(self, step: int, total_steps: int) -> Tensor:
        """The scale at a checked step."""

    def after_step(self) -> None:
        """Bring the parameters back into their range; nothing to do for most policies."""


class Fixed(Temperature):
    """A constant temperature ``tau`` > 0; it has no parameter."""

    def __init__(self, tau: float):
        super().__init__()
        self.tau = check_tau(tau)

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return torch.tensor(1.0 / self.tau, dtype=torch.float64)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"


class Learnable(Temperature):
    """``scale = exp(log_scale)``, a parameter that starts at ``-log(tau)`` (Radford et al. 2021, Sec. 2.3 and 2.5).

    The scale is held at or under ``max_scale`` on the data after each optimizer step: a clamp inside the graph would
    have no gradient at the wall. It may fall below one, tau > 1, which some public training code forbids.
    """

    def __init__(self, tau: float, max_scale: float = MAX_SCALE):
        super().__init__()
        self.max_scale = float(check_number(max_scale, "max_scale", low=0, low_open=True))
        tau = check_tau(tau)
        if 1.0 / tau > self.max_scale * (1 + 1e-9):
            raise ValueError(
                f"tau: expected at least {1 / self.max_scale:g} (1 / max_scale) to start from, got {tau:g}"
            )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau)))

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return self.log_scale.exp()

    def after_step(self) -> None:
        self.log_scale.data.clamp_(max=math.log(self.max_scale))

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale:g}"


#: name -> policy; each is built from one number, the temperature it starts from.
POLICIES: dict[str, type[Temperature]] = {"fixed": Fixed, "learnable": Learnable}


def policy(name: str, tau: float) -> Temperature:
    """The policy ``name`` starting from the temperature ``tau``; ``ValueError`` for an unknown name or tau <= 0."""
    return POLICIES[check_choice(name, "temperature", POLICIES)](tau)


def check_tau(tau: float) -> float:
    """Return ``tau`` as a float if it is a finite number above zero."""
    return float(check_number(tau, "tau", low=0, low_open=True))
