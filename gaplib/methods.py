"""The table of methods: what is minimised, at which temperature, after which paper.

objective = method("cua", tau=.05).build()
loss = objective(pairs, step=0, total_steps=600)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from gaplib import losses
from gaplib._validate import check_choice, check_number
from gaplib.pairs import PairedEmbeddings
from gaplib.temperature import POLICIES, check_tau, policy

#: name of a regulariser -> function of the pairs
TERMS: dict[str, Callable[[PairedEmbeddings], Tensor]] = {
    "alignment": losses.alignment_loss,
    "inverse_square_alignment": losses.inverse_square_alignment_loss,
    "uniformity": losses.uniformity_loss,
    "cross_uniformity": losses.cross_uniformity_loss,
}
CONTRASTIVE = ("clip", "siglip")
SIGLIP_BIAS = -10.0  # so that the many negatives do not dominate at the start (Zhai et al. 2023, Sec. 3.2)


@dataclass(frozen=True)
class Method:
    """One row of the table: contrastive loss + weighted terms + temperature policy.

    ``terms`` maps names of ``TERMS`` to weights >= 0; ``temperature`` is a name of ``gaplib.temperature.POLICIES`` and
    ``tau`` the temperature that it starts from; ``requires`` names what the pairs must bring beyond two embeddings.
    """

    name: str
    contrastive: str
    terms: Mapping[str, float] = field(hash=False)
    temperature: str
    tau: float
    source: str
    requires: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        check_choice(self.contrastive, "contrastive", CONTRASTIVE)
        check_choice(self.temperature, "temperature", POLICIES)
        object.__setattr__(self, "tau", check_tau(self.tau))
        for name, weight in self.terms.items():
            check_number(weight, f"weight of {check_choice(name, 'terms', TERMS)}", low=0)
        object.__setattr__(self, "terms", {name: float(weight) for name, weight in self.terms.items()})

    def configured(
        self, tau: float | None = None, weights: Mapping[str, float] | None = None, temperature: str | None = None
    ) -> Method:
        """The method with another temperature, policy or weights; what is not given stays as the table has it.

        ``weights`` may name only terms that the method has. Raises ``ValueError`` for tau <= 0 or NaN, for weights that
        are negative or not finite, and for unknown names.
        """
        if weights is not None and not isinstance(weights, Mapping):
            raise ValueError(f"weights: expected a mapping from terms to numbers, got {weights!r}")
        for name in weights or {}:
            if name not in self.terms:
                has = ", ".join(self.terms) or "no terms to weigh"
                raise ValueError(f"weights: expected terms of {self.name!r} ({has}), got {name!r}")
        return replace(
            self,
            tau=self.tau if tau is None else tau,
            terms=dict(self.terms) | dict(weights or {}),
            temperature=self.temperature if temperature is None else temperature,
        )

    def build(
        self, tau: float | None = None, weights: Mapping[str, float] | None = None, temperature: str | None = None
    ) -> Objective:
        """A module that maps pairs to a scalar loss and owns its temperature. Arguments as for ``configured``."""
        return Objective(self.configured(tau, weights, temperature))

    def param_groups(self, lr: float, objective: Objective | None = None) -> list[dict[str, Any]]:
        """Optimizer groups of the objective's own parameters, empty where nothing is learned.

        Each has ``name``, ``lr``, ``weight_decay`` (none: neither a temperature nor a bias is shrunk) and, with
        ``objective`` given, its ``params``.
        """
        check_number(lr, "lr", low=0, low_open=True)
        own = policy(self.temperature, self.tau)
        groups: list[dict[str, Any]] = []
        if any(True for _ in own.parameters()):
            groups.append({"name": "temperature", "lr": lr * own.learning_rate_factor, "weight_decay": 0.0})
        if self.contrastive == "siglip":
            groups.append({"name": "bias", "lr": lr, "weight_decay": 0.0})
        if objective is not None:
            for group in groups:
                owned = getattr(objective, group["name"])
                group["params"] = [owned] if isinstance(owned, nn.Parameter) else list(owned.parameters())
        return groups

    def formula(self) -> str:
        """What is minimised, in words: ``"clip + 1 uniformity + 1 alignment"``."""
        return " + ".join([self.contrastive, *(f"{weight:g} {name}" for name, weight in self.terms.items() if weight)])

    def policy_text(self) -> str:
        """The temperature policy in words: ``"fixed, tau = 0.01"``."""
        return f"{self.temperature}, tau = {self.tau:g}"


class Objective(nn.Module):
    """A method at work: ``objective(pairs, step, total_steps, generator) -> 0-d loss``; made by ``Method.build``.

    Its parameters are the temperature's and, for the sigmoid loss, the bias. ``generator`` is the source of whatever
    randomness a method needs (none of the present ones does); the global generator is never touched.
    """

    def __init__(self, method: Method):
        super().__init__()
        self.method = method
        self.temperature = policy(method.temperature, method.tau)
        if method.contrastive == "siglip":
            self.bias = nn.Parameter(torch.tensor(SIGLIP_BIAS))
        self._step, self._total_steps = 0, 1

    @property
    def logit_scale(self) -> Tensor:
        """Exponentiated logit scale 1 / tau, a 0-d tensor: the current one, that is of the step last computed."""
        return self.temperature.scale(self._step, self._total_steps)

    def parts(
        self, pairs: PairedEmbeddings, step: int = 0, total_steps: int = 1, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The summands of the loss by name, each 0-d and already weighted; terms of weight zero are left out."""
        self._step, self._total_steps = step, total_steps
        scale = self.temperature.scale(step, total_steps)
        # A constant goes in as a plain number, which no device or precision rounds.
        scale = scale if scale.requires_grad else float(scale)
        if self.method.contrastive == "siglip":
            parts = {"siglip": losses.siglip_loss(pairs, scale, self.bias)}
        else:
            parts = {"clip": losses.clip_loss(pairs, scale)}
        for name, weight in self.method.terms.items():
            if weight:
                parts[name] = weight * TERMS[name](pairs)
        return parts

    def forward(
        self, pairs: PairedEmbeddings, step: int = 0, total_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        return sum(self.parts(pairs, step, total_steps, generator).values())

    def after_step(self) -> None:
        """To be called after every optimizer step: keeps the temperature inside its range."""
        self.temperature.after_step()

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Groups for ``torch.optim``, see ``Method.param_groups``."""
        return self.method.param_groups(lr, self)

    def extra_repr(self) -> str:
        return self.method.formula()


_RADFORD = "Radford et al. 2021, Learning Transferable Visual Models, Sec. 2.3 and 2.5"
_ZHAI = "Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, Sec. 3.2"
_FAHIM = "Fahim et al. 2024, It's Not a Modality Gap, Sec. 4; tau as in their experiments"
_WANG = "Wang & Isola 2020, alignment with alpha = 2, added to CLIP's loss"
_JIANG = "Jiang et al. 2023, Sec. 3: L_Align as printed, weights 1, 0.5, 0"
_CUA = {"uniformity": 1.0, "alignment": 1.0}
_CUAXU = {**_CUA, "cross_uniformity": 1.0}

_ROWS = (
    #      name                  contrastive  terms                               temperature  tau   source
    Method("clip",               "clip",      {},                                 "learnable", 0.07, _RADFORD),
    Method("siglip",             "siglip",    {},                                 "learnable", 0.10, _ZHAI),
    Method("clip-align",         "clip",      {"alignment": 1.0},                 "learnable", 0.07, _WANG),
    Method("clip-inverse-align", "clip",      {"inverse_square_alignment": 1.0},  "learnable", 0.07, _JIANG),
    Method("cua",                "clip",      _CUA,                               "fixed",     0.01, _FAHIM),
    Method("cuaxu",              "clip",      _CUAXU,                             "fixed",     0.01, _FAHIM),
)  # fmt: skip
METHODS: Mapping[str, Method] = MappingProxyType({row.name: row for row in _ROWS})


def method(
    name: str, tau: float | None = None, weights: Mapping[str, float] | None = None, temperature: str | None = None
) -> Method:
    """The method called ``name``, configured; an unknown name is a ``ValueError`` that lists the near ones."""
    return METHODS[check_choice(name, "method", METHODS)].configured(tau, weights, temperature)
