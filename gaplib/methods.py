"""The table of methods: what is minimised, at which temperature, after which paper. It stands at the end of this file.

objective = method("cua+ts-s3", tau=.02).build()
loss = objective(pairs, step=0, total_steps=600)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from gaplib import losses
from gaplib._validate import check_choice, check_number
from gaplib.pairs import PairedEmbeddings
from gaplib.swapping import Swapping
from gaplib.temperature import POLICIES, SCHEDULES, check_tau, policy

#: name of a regulariser -> function of the pairs; those in ``AT_SCALE`` hold a softmax and take the logit scale, too
TERMS: dict[str, Callable[..., Tensor]] = {
    "alignment": losses.alignment_loss,
    "inverse_square_alignment": losses.inverse_square_alignment_loss,
    "uniformity": losses.uniformity_loss,
    "cross_uniformity": losses.cross_uniformity_loss,
    "centroid_uniformity": losses.centroid_uniformity_loss,
    "cyclic": losses.cyclic_loss,
    "geometric_consistency": losses.geometric_consistency_loss,
    "brownian_bridge": losses.brownian_bridge_loss,
    "feature_separation": losses.deep_feature_separation_loss,
    "intra_modality_separation": losses.intra_modality_separation_loss,
}
AT_SCALE = frozenset({"feature_separation", "intra_modality_separation"})
#: "clip-views" is the mean of CLIP's two directions and the two in-modal ones (L_Con of Jiang et al. 2023, Sec. 4)
CONTRASTIVE = ("clip", "siglip", "clip-views")
TOWERS = ("apart", "shared")
#: names of ``gaplib.posthoc.TREATMENTS``, which is not imported: a treatment changes nothing about a training run
POST_HOC = ("mean-centring", "shift", "orthogonal-shift", "shared-space", "trace-matched")
SIGLIP_BIAS = -10.0  # so that the many negatives do not dominate at the start (Zhai et al. 2023, Sec. 3.2)

#: what a loss must be given beyond two embeddings
_NEEDS: dict[str, frozenset[str]] = {
    "clip-views": frozenset({"views"}),
    "geometric_consistency": frozenset({"views"}),
    "brownian_bridge": frozenset({"views"}),
    "feature_separation": frozenset({"views", "private heads"}),
    "intra_modality_separation": frozenset({"caption similarity"}),
}


@dataclass(frozen=True)
class Method:
    """One row of the table: contrastive loss + weighted terms + temperature policy + swapping + towers + treatment.

    contrastive     a name of ``CONTRASTIVE``
    terms           names of ``TERMS`` and their weights >= 0
    temperature     a name of ``gaplib.temperature.POLICIES``, and ``tau``, the temperature that it starts from
    source          paper and section
    swapping        when and how coordinates are exchanged before the loss, or None (``gaplib.swapping``)
    towers          "apart" or "shared": one trunk for both modalities
    post_hoc        a treatment of the trained embeddings (``gaplib.posthoc.TREATMENTS``), or ""
    sets_temperature    the temperature is what the method is about, and wins where it is combined with others
    """

    name: str
    contrastive: str
    terms: Mapping[str, float] = field(hash=False)
    temperature: str
    tau: float
    source: str
    swapping: Swapping | None = None
    towers: str = "apart"
    post_hoc: str = ""
    sets_temperature: bool = False

    def __post_init__(self) -> None:
        check_choice(self.contrastive, "contrastive", CONTRASTIVE)
        check_choice(self.temperature, "temperature", POLICIES)
        check_choice(self.towers, "towers", TOWERS)
        check_choice(self.post_hoc, "post_hoc", ("", *POST_HOC))
        object.__setattr__(self, "tau", check_tau(self.tau))
        for name, weight in self.terms.items():
            check_number(weight, f"weight of {check_choice(name, 'terms', TERMS)}", low=0)
        object.__setattr__(self, "terms", {name: float(weight) for name, weight in self.terms.items()})

    @property
    def requires(self) -> frozenset[str]:
        """What the method needs beyond pairs of embeddings.

        "views" (a second view of each item), "private heads" (features that a modality keeps for itself), "caption
        similarity", "shared towers", "steps" (it must be told how far training is), "post-hoc fit".
        """
        needs = set().union(*(_NEEDS.get(part, ()) for part in (self.contrastive, *self.terms)))
        needs |= {"shared towers"} if self.towers == "shared" else set()
        needs |= {"post-hoc fit"} if self.post_hoc else set()
        by_step = self.temperature in SCHEDULES or (self.swapping and self.swapping.trigger == "phase")
        return frozenset(needs | ({"steps"} if by_step else set()))

    @property
    def trained(self) -> str:
        """Name of what is trained: without the treatment that comes after; ``"clip"`` where that is all there is."""
        return "+".join(part for part in self.name.split("+") if part not in POST_HOC) or "clip"

    def configured(
        self,
        tau: float | None = None,
        weights: Mapping[str, float] | None = None,
        temperature: str | None = None,
        swapping: Mapping[str, Any] | None = None,
    ) -> Method:
        """The method with another temperature, policy, weights or swapping; what is not given stays.

        ``weights`` may name only terms that the method has, ``swapping`` only fields of ``gaplib.swapping.Swapping``,
        of a method that swaps. Raises ``ValueError`` for tau <= 0 or NaN, for weights that are negative or not finite,
        p outside [0, 1], and for unknown names.
        """
        for name in _mapping(weights, "weights", "terms to numbers"):
            if name not in self.terms:
                has = ", ".join(self.terms) or "no terms to weigh"
                raise ValueError(f"weights: expected terms of {self.name!r} ({has}), got {name!r}")
        changes = _mapping(swapping, "swapping", "fields to values")
        if changes and self.swapping is None:
            raise ValueError(f"swapping: expected None for {self.name!r}, which does not swap, got {dict(changes)}")
        return replace(
            self,
            tau=self.tau if tau is None else tau,
            terms=dict(self.terms) | dict(weights or {}),
            temperature=self.temperature if temperature is None else temperature,
            swapping=self.swapping.configured(changes) if self.swapping and changes else self.swapping,
            sets_temperature=self.sets_temperature or temperature is not None or tau is not None,
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
        own = policy(self.temperature, self.tau) if objective is None else objective.temperature
        groups: list[dict[str, Any]] = []
        if any(True for _ in own.parameters()):
            groups.append({"name": "temperature", "lr": lr * own.learning_rate_factor, "weight_decay": 0.0})
        if self.contrastive == "siglip":
            groups.append({"name": "bias", "lr": lr, "weight_decay": 0.0})
        if objective is not None:
            own.handed_out = True
            for group in groups:
                owned = getattr(objective, group["name"])
                group["params"] = [owned] if isinstance(owned, nn.Parameter) else list(owned.parameters())
        return groups

    def formula(self) -> str:
        """What is minimised, in words: ``"clip + 1 uniformity + 1 alignment"``, and what is done besides."""
        text = " + ".join([self.contrastive, *(f"{weight:g} {name}" for name, weight in self.terms.items() if weight)])
        beside = [str(self.swapping)] if self.swapping else []
        beside += ["shared towers"] if self.towers == "shared" else []
        beside += [f"then {self.post_hoc}"] if self.post_hoc else []
        return ", ".join([text, *beside])

    def policy_text(self) -> str:
        """The temperature policy in words: ``"fixed, tau = 0.01"``."""
        return f"{self.temperature}, tau = {self.tau:g}"


def _mapping(value: Any, name: str, of: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected a mapping from {of}, got {value!r}")
    return value or {}


class Objective(nn.Module):
    """A method at work: ``objective(pairs, step, total_steps, generator) -> 0-d loss``; made by ``Method.build``.

    Its parameters are the temperature's and, for the sigmoid loss, the bias. ``generator`` (on the CPU) decides what
    modality swapping exchanges; without one a step's swaps depend on ``step`` alone. The global generator is never
    touched.
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
        return self.parts_at(scale if scale.requires_grad else float(scale), pairs, step, total_steps, generator)

    def parts_at(
        self,
        scale: Tensor | float,
        pairs: PairedEmbeddings,
        step: int = 0,
        total_steps: int = 1,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """``parts`` at a given logit scale, whatever the method's own temperature is."""
        if self.method.swapping:
            generator = torch.Generator().manual_seed(step) if generator is None else generator
            image, text = self.method.swapping(pairs.image, pairs.text, step, total_steps, generator)
            swapped = image is not pairs.image
            pairs = replace(pairs, image=image, text=text, check=False) if swapped else pairs
        if self.method.contrastive == "siglip":
            parts = {"siglip": losses.siglip_loss(pairs, scale, self.bias)}
        else:
            parts = {"clip": losses.clip_loss(pairs, scale)}
        if self.method.contrastive == "clip-views":
            parts = {"clip": parts["clip"] / 2, "in_modal": losses.in_modal_loss(pairs, scale) / 2}
        for name, weight in self.method.terms.items():
            if weight:
                arguments = (pairs, scale) if name in AT_SCALE else (pairs,)
                parts[name] = weight * TERMS[name](*arguments)
        return parts

    def forward(
        self, pairs: PairedEmbeddings, step: int = 0, total_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        return reduce(add, self.parts(pairs, step, total_steps, generator).values())

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
_YARAS = "Yaras et al. 2024, Explaining and Mitigating the Modality Gap, Sec. 4"
_JIANG = {i: f"Jiang et al. 2023, Latent Modality Structures, Sec. 4.{i}; weight 1 is ours" for i in (1, 2, 3)}
_JIANG_BASE = "Jiang et al. 2023, Sec. 4: L_Con alone, the control of sep, br and gc"
_CYCLIP = "Goel et al. 2022, CyCLIP; weights as in their code"
_ALIGNCLIP = "Eslami & de Melo 2025, AlignCLIP; weight as in their code, relative to half the CLIP loss"
_GRASSUCCI = "Grassucci et al. 2026, Closing the Modality Gap; tau as in their code"
_WANG = "Wang & Isola 2020, alignment with alpha = 2, added to CLIP's loss"
_PRINTED = "Jiang et al. 2023, Sec. 3: L_Align as printed, weights 1, 0.5, 0"
_CUA = {"uniformity": 1.0, "alignment": 1.0}
_CUAXU = {**_CUA, "cross_uniformity": 1.0}
_ATP_CU = {"alignment": 1.0, "centroid_uniformity": 1.0}
_HS, _SS = Swapping("hard", p=1e-3), Swapping("soft", p=5e-2)


def _temperature(name: str, temperature: str, tau: float) -> Method:
    return Method(name, "clip", {}, temperature, tau, _YARAS, sets_temperature=True)


def _after(name: str, source: str) -> Method:
    return Method(name, "clip", {}, "learnable", 0.07, source, post_hoc=name)


_ROWS = (
    #      name                  contrastive   terms                                temperature  tau   source
    Method("clip",               "clip",       {},                                  "learnable", 0.07, _RADFORD),
    Method("siglip",             "siglip",     {},                                  "learnable", 0.10, _ZHAI),
    # terms beside the contrastive loss
    Method("cua",                "clip",       _CUA,                                "fixed",     0.01, _FAHIM),
    Method("cuaxu",              "clip",       _CUAXU,                              "fixed",     0.01, _FAHIM),
    Method("atp-cu",             "clip",       _ATP_CU,                             "fixed",     0.10, _GRASSUCCI),
    Method("cyclip",             "clip",       {"cyclic": 0.25},                    "learnable", 0.07, _CYCLIP),
    Method("clip-align",         "clip",       {"alignment": 1.0},                  "learnable", 0.07, _WANG),
    Method("clip-inverse-align", "clip",       {"inverse_square_alignment": 1.0},   "learnable", 0.07, _PRINTED),
    # with second views
    Method("clip-views",         "clip-views", {},                                  "learnable", 0.07, _JIANG_BASE),
    Method("sep",                "clip-views", {"feature_separation": 1.0},         "learnable", 0.07, _JIANG[1]),
    Method("br",                 "clip-views", {"brownian_bridge": 1.0},            "learnable", 0.07, _JIANG[2]),
    Method("gc",                 "clip-views", {"geometric_consistency": 1.0},      "learnable", 0.07, _JIANG[3]),
    # one trunk for both modalities
    Method("shared",             "clip",       {},                                  "learnable", 0.07, _ALIGNCLIP,
           towers="shared"),
    Method("alignclip",          "clip",       {"intra_modality_separation": 0.5},  "learnable", 0.07, _ALIGNCLIP,
           towers="shared"),
    # the temperature alone
    _temperature("ts-s0", "linear-x2", 0.01),
    _temperature("ts-s1", "linear-x3", 0.01),
    _temperature("ts-s2", "linear-x4", 0.01),
    _temperature("ts-s3", "linear-x5", 0.01),
    _temperature("tr-softplus", "softplus", 0.07),
    _temperature("tr-exp", "scaled-exp", 0.07),
    _temperature("slrt", "learnable-slow", 0.07),
    _temperature("flt", "fixed", 0.04),
    # modality swapping
    Method("hs",                 "clip",       {},                                  "learnable", 0.07, _YARAS, _HS),
    Method("ss",                 "clip",       {},                                  "learnable", 0.07, _YARAS, _SS),
    # after training
    _after("mean-centring", "Zhang et al. 2024 (C3), An et al. 2025 (I0T), Li et al. 2025 (GR-CLIP)"),
    _after("shift", "Liang et al. 2022, Mind the Gap, shift experiment"),
    _after("orthogonal-shift", "Chowers et al. 2026, Bug or Feature?"),
    _after("shared-space", "Yi et al. 2025, shared-space projection"),
    _after("trace-matched", "ReAlign (arXiv 2602.07026)"),
)  # fmt: skip
METHODS: Mapping[str, Method] = MappingProxyType({row.name: row for row in _ROWS})


def method(
    name: str,
    tau: float | None = None,
    weights: Mapping[str, float] | None = None,
    temperature: str | None = None,
    swapping: Mapping[str, Any] | None = None,
) -> Method:
    """The method called ``name``, or the combination ``"a+b"`` of several, configured (``Method.configured``).

    A combination has the terms of all; its temperature is that of the part that is about the temperature, else of the
    first part that does not just have CLIP's. Raises ``ValueError`` for an unknown name (the near ones are listed) and
    for parts that contradict each other: two temperature policies, swappings, treatments or contrastive losses, or a
    term that two parts weigh.
    """
    if not isinstance(name, str):
        raise ValueError(f"method: expected a name, got {name!r}")
    parts = [METHODS[check_choice(part.strip(), "method", METHODS)] for part in name.split("+")]
    row = parts[0] if len(parts) == 1 else _combined(parts)
    return row.configured(tau, weights, temperature, swapping)


def _combined(parts: Sequence[Method]) -> Method:
    name = "+".join(part.name for part in parts)

    def one(values: Sequence[Any], what: str, default: Any) -> Any:
        given = [value for value in values if value != default]
        if len(given) > 1:
            raise ValueError(f"method: expected parts of {name!r} that agree, got {len(given)} that set the {what}")
        return given[0] if given else default

    weighed = [term for part in parts for term in part.terms]
    for term in weighed:
        if weighed.count(term) > 1:
            raise ValueError(f"method: expected parts of {name!r} that agree, got two that weigh {term!r}")
    clip = METHODS["clip"]
    setting = one([part if part.sets_temperature else None for part in parts], "temperature", None)
    other = [part for part in parts if (part.temperature, part.tau) != (clip.temperature, clip.tau)]
    of = setting or (other[0] if other else clip)
    return Method(
        name,
        one(list({part.contrastive for part in parts}), "contrastive loss", "clip"),
        {term: weight for part in parts for term, weight in part.terms.items()},
        of.temperature,
        of.tau,
        "; ".join(dict.fromkeys(part.source for part in parts)),
        one([part.swapping for part in parts], "swapping", None),
        "shared" if any(part.towers == "shared" for part in parts) else "apart",
        one([part.post_hoc for part in parts], "treatment", ""),
        setting is not None,
    )
