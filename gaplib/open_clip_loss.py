"""A method of the table as a loss of open_clip: what its training loop calls instead of ``ClipLoss`` or ``SigLipLoss``.

loss = gaplib.as_open_clip_loss("cua")
losses = loss(**model(images, texts), output_dict=True)    # a model built with output_dict=True
sum(losses.values()).backward()
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._validate import check_integer
from gaplib.methods import Method, Objective, method
from gaplib.pairs import HALF_TYPES, PairedEmbeddings

#: what open_clip's loss is not given -> why a method that needs it cannot run there
REFUSED = {
    "views": "open_clip's loop makes one view of an image and of a caption, the method needs two",
    "private heads": "open_clip's towers have one output, the method needs features that a modality keeps for itself",
    "caption similarity": "open_clip's loss sees embeddings and no captions to compare",
    "shared towers": "it is about the model, and the loss cannot change that: one trunk for both modalities",
    "steps": "open_clip's loss is not told how far training is, and the method follows a schedule",
    "post-hoc fit": "it is fitted to the embeddings after training (gaplib.posthoc)",
}


def as_open_clip_loss(method: str | Method | Objective, seed: int = 0) -> OpenClipLoss:
    """``method`` as a loss with the call of open_clip's (3.x): see :class:`OpenClipLoss`.

    Args:
        method: a name of ``gaplib.methods.METHODS`` or a combination ("cuaxu+slrt"), a configured ``Method``, or an
            ``Objective``, whose temperature is then shared and not copied.
        seed: of the module's own random numbers, which only modality swapping draws.

    Raises:
        ValueError: an unknown method, or one that needs what open_clip's loop does not give to a loss (``REFUSED``).
    """
    return OpenClipLoss(method, seed)


class OpenClipLoss(nn.Module):
    """``loss(image_features, text_features, logit_scale, logit_bias=None, output_dict=False)``.

    ``image_features`` and ``text_features`` are (n, d) with unit rows, as open_clip's models return them; half types
    are computed in float32, under autocast too. The result is a 0-d tensor or, with ``output_dict``, a dict of 0-d
    tensors that sum to it: "contrastive_loss" and one "<term>_loss" a term, already weighted.

    **Temperature.** The model's ``logit_scale`` is used, whatever temperature the table has for the method, unless the
    method is about the temperature (``Method.sets_temperature``: slrt, tr-softplus, flt, or a tau that was asked for
    as in ``method("cua", tau=.05)``). Then ``owns_temperature`` is True, the argument is ignored, and the module's
    parameters have to be trained: add ``loss.param_groups(lr)`` to the optimizer and freeze the model's
    (``model.logit_scale.requires_grad_(False)``). The ceiling of the scale is kept here, at each call, so that the loop
    need not know of it.

    **Bias.** The sigmoid loss takes the ``logit_bias`` given, none being zero; a softmax does not feel one.

    **Swapping** (hs, ss) draws from a generator of its own at every call in training mode and does nothing in
    evaluation mode; the generator's state travels in ``state_dict``.

    One process only: where ``torch.distributed`` runs several, a call raises ``RuntimeError``, because each of them
    would compare its own part of the batch alone.
    """

    def __init__(self, method_or_objective: str | Method | Objective, seed: int = 0):
        super().__init__()
        given = method_or_objective
        chosen = given.method if isinstance(given, Objective) else method(given) if isinstance(given, str) else given
        if not isinstance(chosen, Method):
            raise ValueError(f"method: expected a name, a Method or an Objective, got {type(given).__name__}")
        for need in sorted(chosen.requires):
            why = REFUSED.get(need, f"open_clip's loop has no {need}")
            raise ValueError(f"method: {chosen.name!r} cannot be a loss of open_clip: {why}")
        self.method = chosen
        self.owns_temperature = chosen.sets_temperature
        # A policy that is not used must bring no parameters.
        self.objective = Objective(chosen if self.owns_temperature else replace(chosen, temperature="fixed"))
        if self.owns_temperature and isinstance(given, Objective):
            self.objective.temperature = given.temperature
        if chosen.contrastive == "siglip":
            del self.objective.bias  # the model has one
        self.generator = torch.Generator().manual_seed(check_integer(seed, "seed", low=0))

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimizer groups of the loss's own parameters (see ``Method.param_groups``); empty if it has none."""
        groups = self.method.param_groups(lr) if self.owns_temperature else []
        owned = [group for group in groups if group["name"] == "temperature"]
        return [{**group, "params": list(self.objective.temperature.parameters())} for group in owned]

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | float,
        logit_bias: Tensor | float | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise RuntimeError("this loss works in one process: it would not see the other processes' pairs")
        kind = torch.promote_types(image_features.dtype, text_features.dtype)
        with torch.autocast(image_features.device.type, enabled=False):
            pairs = PairedEmbeddings(image_features.to(kind), text_features.to(kind))
            if kind in HALF_TYPES:  # checked as what they are; the loss stays in float32, as open_clip's is
                pairs = PairedEmbeddings(pairs.image.float(), pairs.text.float(), check=False)
            parts = self._parts(pairs, logit_scale, logit_bias)
        losses = {"contrastive_loss" if name in ("clip", "siglip") else f"{name}_loss": z for name, z in parts.items()}
        return losses if output_dict else sum(losses.values())

    def _parts(self, pairs: PairedEmbeddings, scale: Any, bias: Any) -> dict[str, Tensor]:
        if self.owns_temperature:
            self.objective.after_step()  # open_clip's loop holds only the model's own scale under its ceiling
            scale = self.objective.logit_scale
            scale = scale if scale.requires_grad else float(scale)
        objective = self.objective
        if self.method.swapping and not self.training:
            objective = Objective(replace(objective.method, swapping=None))
        if self.method.contrastive == "siglip":
            # Around nn.Module's own attributes: the model's parameter is not to become one of the loss.
            object.__setattr__(objective, "bias", 0.0 if bias is None else _scalar(bias))
        return objective.parts_at(_scalar(scale), pairs, generator=self.generator)

    def get_extra_state(self) -> Tensor:
        """The generator's state, for ``state_dict``."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on drawing where the saved module stopped."""
        self.generator.set_state(state.cpu())


def _scalar(value: Any) -> Any:
    """Some of open_clip's models keep scale and bias as tensors of shape (1,)."""
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else value
