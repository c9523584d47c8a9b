"""A temperature policy inside open_clip's model, so that its optimizer, checkpoints and evaluation know of it.

The model's ``logit_scale`` is then computed from the policy, whose parameter is one of the model's. Saved weights hold
what open_clip's always do, the logarithm of the scale under the name "logit_scale", and no key beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gaplib.temperature import Temperature

NAME = "logit_scale"


class _LogScale(nn.Module):
    """The parametrisation: log of the policy's scale, in shape, type and place of the parameter that it stands for."""

    def __init__(self, policy: Temperature):
        super().__init__()
        self.policy = policy

    def forward(self, original: Tensor) -> Tensor:
        scale = self.policy.scale().clamp(max=self.policy.max_scale)  # as after_step will have it
        return scale.log().to(original).reshape(original.shape)


def bind(model: nn.Module, policy: Temperature) -> None:
    """Make ``model.logit_scale`` the logarithm of the policy's scale, which starts where the policy stands.

    Raises:
        ValueError: not a model with a ``logit_scale`` of its own (as in a wrapper, or where one is bound already), or
            a policy that asks for a learning rate of its own.
    """
    plain = isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule)
    original = model._parameters.get(NAME) if plain else None
    if not isinstance(original, nn.Parameter):
        raise ValueError(
            f"model: expected open_clip's own model with a parameter {NAME}, not wrapped, compiled or scripted yet and "
            f"with no other loss attached, got {type(model).__name__}"
        )
    if policy.at_one_rate() is not policy:
        raise ValueError(
            f"model: {type(policy).__name__} needs a learning rate of its own, and open_clip's loop has one rate for "
            "everything: expected a loss made from the method, not from its Objective"
        )
    policy.to(original.device)
    original.requires_grad_(False)  # not read any more, and not the optimizer's business
    parametrize.register_parametrization(model, NAME, _LogScale(policy))
    model.register_state_dict_post_hook(_save)
    model.register_load_state_dict_pre_hook(_load)


def _prefix(prefix: str) -> str:
    return f"{prefix}parametrizations.{NAME}."


def _save(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if parametrize.is_parametrized(model, NAME):
        for key in [key for key in state if key.startswith(_prefix(prefix))]:
            del state[key]
        state[prefix + NAME] = getattr(model, NAME).detach().clone()


def _load(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if not parametrize.is_parametrized(model, NAME) or prefix + NAME not in state:
        return
    value = state.pop(prefix + NAME)
    bound: Any = model.get_submodule(f"parametrizations.{NAME}")
    bound[0].policy.restart(float(value.double().exp()))
    state.update({_prefix(prefix) + name: own.detach().clone() for name, own in bound.state_dict().items()})
