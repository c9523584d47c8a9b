"""Temperature policies: how the inverse temperature of a contrastive loss is set, step by step.

A policy is a small ``torch.nn.Module`` that owns its parameters, if it has any. ``scale(step, total_steps)`` is the
exponentiated logit scale 1 / tau, a 0-d tensor, as a function of how far training is; ``after_step()`` is called once
after every optimizer step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._validate import check_choice, check_integer, check_number

MAX_SCALE = 100.0  # the usual ceiling of CLIP training: tau = .01


class Temperature(nn.Module, ABC):
    """What every policy has in common; subclasses say what ``_scale`` is."""

    #: factor on the learning rate of the policy's own parameters
    learning_rate_factor = 1.0
    #: ceiling of the scale
    max_scale = math.inf
    #: an optimizer was given the parameters: set by whoever hands them out
    handed_out = False

    def scale(self, step: int = 0, total_steps: int = 1) -> Tensor:
        """Exponentiated logit scale 1 / tau as a 0-d tensor, at ``step`` (from 0) of ``total_steps``."""
        total_steps = check_integer(total_steps, "total_steps", low=1)
        return self._scale(check_integer(step, "step", low=0, high=total_steps), total_steps)

    @abstractmethod
    def _scale(self, step: int, total_steps: int) -> Tensor:
        """The scale at a checked step."""

    def after_step(self) -> None:
        """Bring the parameters back into their range; nothing to do for most policies."""

    def restart(self, scale: float) -> None:
        """Go on from this scale > 0, as read from a checkpoint; nothing to do for a policy without parameters."""

    def at_one_rate(self) -> Temperature:
        """This policy for a loop that sets one learning rate for all parameters: itself, if it asks for no other."""
        return self


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
        tau = _check_start(tau, self.max_scale)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau)))

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return self.log_scale.exp()

    def after_step(self) -> None:
        self.log_scale.data.clamp_(max=math.log(self.max_scale))

    def restart(self, scale: float) -> None:
        self.log_scale.data.fill_(math.log(scale))

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale:g}"


class SlowLearnable(Learnable):
    """``Learnable`` with a tenth of the learning rate: SLRT, x0.1 (Yaras et al. 2024, Sec. 4)."""

    learning_rate_factor = 0.1

    def at_one_rate(self) -> Temperature:
        s = 1 / self.learning_rate_factor
        slow = SlowAtOneRate(1 / self.max_scale, s, self.max_scale)
        slow.log_scale = nn.Parameter(self.log_scale.detach() * s)
        return slow


class ScaledExponential(Learnable):
    """``scale = exp(nu / s)`` with s > 1: reparameterisation TR (Yaras et al. 2024, Sec. 4 and App. C); s = 2 is ours.

    Under gradient flow this is ``Learnable`` with the temperature's rate times 1 / s²; an optimizer such as Adam, which
    normalises the gradient, makes it 1 / s.
    """

    def __init__(self, tau: float, s: float = 2.0, max_scale: float = MAX_SCALE):
        super().__init__(tau, max_scale)
        self.s = float(check_number(s, "s", low=0, low_open=True))
        self.log_scale.data.mul_(self.s)  # holds nu

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return (self.log_scale / self.s).exp()

    def after_step(self) -> None:
        self.log_scale.data.clamp_(max=self.s * math.log(self.max_scale))

    def restart(self, scale: float) -> None:
        self.log_scale.data.fill_(self.s * math.log(scale))

    def extra_repr(self) -> str:
        return f"s={self.s:g}, max_scale={self.max_scale:g}"


class SlowAtOneRate(ScaledExponential):
    """``Learnable`` at 1 / s of the learning rate that its optimizer uses: ``SlowLearnable.at_one_rate``.

    ``scale = exp(nu / s)``, where nu gets the gradient of the log scale whole: whatever the optimizer makes of it (SGD
    and Adam alike), the log scale moves by 1 / s of what it would have moved as a parameter.
    """

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return _DividedWholeGradient.apply(self.log_scale, self.s).exp()


class _DividedWholeGradient(torch.autograd.Function):
    """x / s, with the gradient of the result handed to x as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, s: float) -> Tensor:
        return x / s

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Softplus(Temperature):
    """``scale = log(1 + exp(nu))``, held at or under ``max_scale`` (TR; Yaras et al. 2024, Sec. 4 and App. C)."""

    def __init__(self, tau: float, max_scale: float = MAX_SCALE):
        super().__init__()
        self.max_scale = float(check_number(max_scale, "max_scale", low=0, low_open=True))
        self.nu = nn.Parameter(torch.tensor(_inverse_softplus(1.0 / _check_start(tau, self.max_scale))))

    def _scale(self, step: int, total_steps: int) -> Tensor:
        return nn.functional.softplus(self.nu)

    def after_step(self) -> None:
        self.nu.data.clamp_(max=_inverse_softplus(self.max_scale))

    def restart(self, scale: float) -> None:
        self.nu.data.fill_(_inverse_softplus(scale))

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale:g}"


class LinearSchedule(Temperature):
    """tau rises linearly from ``tau`` to ``ratio * tau`` over training: TS (Yaras et al. 2024, Sec. 4; S0 to S3 are
    0.01 times 2, 3, 4, 5). It has no parameter."""

    def __init__(self, tau: float, ratio: float):
        super().__init__()
        self.tau = check_tau(tau)
        self.ratio = float(check_number(ratio, "ratio", low=0, low_open=True))

    def _scale(self, step: int, total_steps: int) -> Tensor:
        tau = self.tau * (1.0 + (self.ratio - 1.0) * step / total_steps)
        return torch.tensor(1.0 / tau, dtype=torch.float64)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, ratio={self.ratio:g}"


def _check_start(tau: float, max_scale: float) -> float:
    """``tau`` if it is a temperature that a policy with this ceiling can start from."""
    tau = check_tau(tau)
    if 1.0 / tau > max_scale * (1 + 1e-9):
        raise ValueError(f"tau: expected at least {1 / max_scale:g} (1 / max_scale) to start from, got {tau:g}")
    return tau


def _inverse_softplus(scale: float) -> float:
    """nu with log(1 + exp(nu)) = scale > 0; for a large scale the two are equal to the last bit."""
    return scale + math.log(-math.expm1(-scale))


#: names of the policies that must be told how far training is
SCHEDULES = tuple(f"linear-x{ratio}" for ratio in (2, 3, 4, 5))
#: name -> policy; each is built from one number, the temperature it starts from.
POLICIES: dict[str, Callable[[float], Temperature]] = {
    "fixed": Fixed,
    "learnable": Learnable,
    "learnable-slow": SlowLearnable,
    "softplus": Softplus,
    "scaled-exp": ScaledExponential,
    **{name: partial(LinearSchedule, ratio=float(name.removeprefix("linear-x"))) for name in SCHEDULES},
}


def policy(name: str, tau: float) -> Temperature:
    """The policy ``name`` starting from the temperature ``tau``; ``ValueError`` for an unknown name or tau <= 0."""
    return POLICIES[check_choice(name, "temperature", POLICIES)](tau)


def check_tau(tau: float) -> float:
    """Return ``tau`` as a float if it is a finite number above zero."""
    return float(check_number(tau, "tau", low=0, low_open=True))
