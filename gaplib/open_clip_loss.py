"""A method of the table as a loss of open_clip: what its training loop calls instead of ``ClipLoss`` or ``SigLipLoss``.

loss = gaplib.as_open_clip_loss("cua")
losses = loss(**model(images, texts), output_dict=True)    # a model built with output_dict=True
sum(losses.values()).backward()
"""

from __future__ import annotations

import warnings
import zlib
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from gaplib._validate import check_integer, check_matrix, check_unit_rows, reading_values
from gaplib.distributed import gather, processes, rank
from gaplib.methods import Method, Objective, method
from gaplib.open_clip_scale import bind
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
#: options of open_clip's losses that say how they go about the same thing
_NO_DIFFERENCE = ("cache_labels", "dist_impl")
_CAPTIONS = "captions are a loss of their own: take a model without a captioning head, or open_clip's CoCaLoss"
_DISTILLATION = "a teacher's output: train without --distill-model, or with open_clip's DistillClipLoss"
_TEACHER = ("dist_image_features", "dist_text_features", "dist_logit_scale", "dist_logit_bias")
#: what else open_clip's loop can hand to a loss -> why it is refused, and what to do
_REFUSED_OUTPUTS = dict.fromkeys(("logits", "labels"), _CAPTIONS) | dict.fromkeys(_TEACHER, _DISTILLATION)
_ATTACH = (
    "call loss.attach(model) before the optimizer is made, or, in a loop of your own, give loss.param_groups(lr) to "
    "the optimizer and save loss.state_dict() with the model's"
)


def as_open_clip_loss(
    method: str | Method | Objective,
    seed: int = 0,
    check: bool = True,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    local_loss: bool = False,
    gather_with_grad: bool | None = None,
    **open_clip_options: Any,
) -> OpenClipLoss:
    """``method`` as a loss with the call of open_clip's (3.x): see :class:`OpenClipLoss`. It may be compiled
    (:mod:`gaplib.losses`).

    Args:
        method: a name of ``gaplib.methods.METHODS`` or a combination ("cuaxu+slrt"), a configured ``Method``, or an
            ``Objective``, whose temperature is then shared and not copied.
        seed: of the module's own random numbers, which only modality swapping draws. The same in all processes.
        check: ``False`` leaves out the tests of values (finite, unit rows, a positive scale; in several processes that
            they bring the same), which read from the device at every step. Then NaN gives a loss of NaN, and a
            ``GradScaler`` skips the step.
        rank, world_size: of open_clip's; None takes those of ``torch.distributed`` at each call. What is given must
            agree with them.
        local_loss: of open_clip's, to spare memory. The whole loss is computed all the same, on every process: its
            gradients are equal, and its value is that of the joined batch and not the process's share of it.
        gather_with_grad: of open_clip's. False scales the gradient of the features by 1 / world_size, as its
            ``ClipLoss`` does then, and not that of the logit scale. None is True, the exact one; the sigmoid loss is
            always exact, as open_clip's is.
        open_clip_options: other options of open_clip's losses (``cache_labels``, ``dist_impl``) make no difference.

    Raises:
        ValueError: an unknown method, one that needs what open_clip's loop does not give to a loss (``REFUSED``),
            ``local_loss`` without ``gather_with_grad``, or an option out of its range.
        TypeError: an option that open_clip's losses do not have.
    """
    for name, value in open_clip_options.items():
        if name == "use_horovod":
            if value:
                raise ValueError(
                    f"use_horovod: expected False, got {value!r}: processes are those of torch.distributed"
                )
        elif name not in _NO_DIFFERENCE:
            raise TypeError(f"as_open_clip_loss: {name} is no option of it, nor of open_clip's losses")
    return OpenClipLoss(
        method, seed, check, rank=rank, world_size=world_size, local_loss=local_loss, gather_with_grad=gather_with_grad
    )


class OpenClipLoss(nn.Module):
    """``loss(image_features, text_features, logit_scale, logit_bias=None, output_dict=False)``.

    ``image_features`` and ``text_features`` are (n, d) with unit rows, as open_clip's models return them; half types
    are computed in float32, under autocast too. The result is a 0-d tensor or, with ``output_dict``, a dict of 0-d
    tensors that sum to it: "contrastive_loss" and one "<term>_loss" a term, already weighted.

    **Temperature.** The model's ``logit_scale`` is used, whatever temperature the table has for the method, unless the
    method is about the temperature (``Method.sets_temperature``: slrt, tr-softplus, flt, or a tau that was asked for
    as in ``method("cua", tau=.05)``). Then ``owns_temperature`` is True, the argument is ignored, and the model has to
    know: call ``loss.attach(model)`` before the optimizer is made. The temperature is then trained with the model,
    stands in its checkpoints and is what its evaluation uses. Without that a training call warns; in a loop of your
    own you can also add ``loss.param_groups(lr)`` to the optimizer, freeze the model's ``logit_scale``, and save the
    loss's ``state_dict`` too. The ceiling of the scale is kept here, at each call, so that the loop need not know of
    it. A tenth of the learning rate (slrt) survives a loop that sets one rate for all parameters, as open_clip's does.

    In ``open_clip_train.main``, which makes the model, the optimizer and the loss in this order::

        from open_clip_train import main as training

        loss, make = gaplib.as_open_clip_loss("slrt"), training.create_model_and_transforms

        def make_and_attach(*args, **kwargs):
            made = make(*args, **kwargs)
            loss.attach(made[0])
            return made

        training.create_model_and_transforms, training.create_loss = make_and_attach, lambda args: loss
        training.main(["--model", "ViT-B-32", ...])

    **Bias.** The sigmoid loss takes the ``logit_bias`` given, none being zero; a softmax does not feel one.

    **Swapping** (hs, ss) draws from a generator of its own at every call in training mode and does nothing in
    evaluation mode; the generator's state travels in ``state_dict``. With ``--accum-freq`` k each of the k calls of a
    step swaps anew: the accumulated gradient is right on average, and that of no single swapped batch.

    **Several processes.** Where ``torch.distributed`` runs several, the features of all are gathered
    (:mod:`gaplib.distributed`) and the loss is that of the joined batch, the same on each; the mean of the gradients,
    which ``DistributedDataParallel`` takes, is that of one process on the joined batch, and equals that of open_clip's
    own losses in the same settings. All processes must call it together, in evaluation too. Batches may differ in size
    (not with ``check=False``). A call raises ``RuntimeError`` where ``rank`` or ``world_size`` were given and are not
    those of the process group.
    """

    def __init__(
        self,
        method_or_objective: str | Method | Objective,
        seed: int = 0,
        check: bool = True,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        local_loss: bool = False,
        gather_with_grad: bool | None = None,
    ):
        super().__init__()
        for name, value in {"check": check, "local_loss": local_loss}.items():
            if value not in (True, False):
                raise ValueError(f"{name}: expected True or False, got {value!r}")
        if gather_with_grad not in (None, True, False):
            raise ValueError(f"gather_with_grad: expected None, True or False, got {gather_with_grad!r}")
        self.check = check
        self.world_size = None if world_size is None else check_integer(world_size, "world_size", low=1)
        self.rank = None if rank is None else check_integer(rank, "rank", low=0, high=(world_size or rank + 1) - 1)
        given = method_or_objective
        chosen = given.method if isinstance(given, Objective) else method(given) if isinstance(given, str) else given
        if not isinstance(chosen, Method):
            raise ValueError(f"method: expected a name, a Method or an Objective, got {type(given).__name__}")
        for need in sorted(chosen.requires):
            why = REFUSED.get(need, f"open_clip's loop has no {need}")
            raise ValueError(f"method: {chosen.name!r} cannot be a loss of open_clip: {why}")
        # open_clip's sigmoid loss has neither of the two.
        self._exact = gather_with_grad is not False or chosen.contrastive == "siglip"
        self._local_alone = local_loss and not self._exact
        self._check_local_loss(world_size or 1)
        self.method = chosen
        self.owns_temperature = chosen.sets_temperature
        # A policy that is not used must bring no parameters.
        self.objective = Objective(chosen if self.owns_temperature else replace(chosen, temperature="fixed"))
        if self.owns_temperature:
            theirs = given.temperature if isinstance(given, Objective) else None
            self.objective.temperature = theirs or self.objective.temperature.at_one_rate()
        # Once attached: another parameter of the model (in a tuple, so as not to become one of the loss).
        self._witness: tuple[nn.Parameter, ...] | None = None
        self._versions: tuple[int, int] | None = None
        self._warned = False
        if chosen.contrastive == "siglip":
            del self.objective.bias  # the model has one
        self.generator = torch.Generator().manual_seed(check_integer(seed, "seed", low=0))

    def attach(self, model: nn.Module) -> OpenClipLoss:
        """Put the method's temperature into open_clip's ``model``, in place of its ``logit_scale``; returns the loss.

        To be called before the optimizer is made and before a checkpoint is loaded. The temperature starts where the
        method says, and ``model.logit_scale`` is computed from it. ``model.state_dict()`` has the keys it always had,
        "logit_scale" being the logarithm of the scale that the loss uses; one that is loaded sets a temperature that is
        learned. Nothing is done for a method that leaves the temperature to the model.

        Raises:
            ValueError: not a model with a ``logit_scale`` of its own (a wrapper, one attached already), or a loss made
                from an ``Objective`` whose temperature has a learning rate of its own.
        """
        if self.owns_temperature:
            bind(model, self.objective.temperature)
            own = {id(p) for p in self.objective.temperature.parameters()}
            others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
            self._witness = tuple(others[:1])
        return self

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimizer groups of the loss's own parameters; empty if it has none, or if they are the attached model's.

        Their rate is ``lr``: a method's tenth of it is inside the parameter, and a scheduler may set one rate for all.
        Only the temperature of an ``Objective`` that was given has its rate in the group (``Method.param_groups``).
        """
        policy = self.objective.temperature
        groups = self.method.param_groups(lr) if self.owns_temperature and self._witness is None else []
        policy.handed_out |= self.owns_temperature
        return [
            {**group, "lr": lr * policy.learning_rate_factor, "params": list(policy.parameters())}
            for group in groups
            if group["name"] == "temperature"
        ]

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | float,
        logit_bias: Tensor | float | None = None,
        output_dict: bool = False,
        **others: Any,
    ) -> Tensor | dict[str, Tensor]:
        for name in others:
            if name in _REFUSED_OUTPUTS:
                raise ValueError(f"{name}: expected image and text features alone: {_REFUSED_OUTPUTS[name]}")
            raise TypeError(f"this loss takes what open_clip's ClipLoss takes, and no {name}")
        several = self._several()
        # Each is checked as what it is, then promoted; the loss stays in float32 or above, as open_clip's is.
        for name, rows in (("image", image_features), ("text", text_features)):
            matrix = check_matrix(rows, name, finite=self.check)
            if self.check:
                check_unit_rows(matrix, name)
        kind = torch.promote_types(image_features.dtype, text_features.dtype)
        kind = torch.float32 if kind in HALF_TYPES else kind
        if self.owns_temperature and self.training and torch.is_grad_enabled():
            self._look_after_temperature(image_features.requires_grad or text_features.requires_grad)
        with torch.autocast(image_features.device.type, enabled=False), reading_values(self.check):
            pairs = PairedEmbeddings(image_features.to(kind), text_features.to(kind), check=False)
            if several:
                pairs = gather(pairs, factor=None if self._exact else 1, agree=self._seed(), check=self.check)
            parts = self._parts(pairs, logit_scale, logit_bias)
        losses = {"contrastive_loss" if name in ("clip", "siglip") else f"{name}_loss": z for name, z in parts.items()}
        if output_dict:
            return losses
        return reduce(add, losses.values())

    def _several(self) -> bool:
        """Whether there are several processes; those that open_clip said must be those that run."""
        runs = processes()
        for name, said, found in (("world_size", self.world_size, runs), ("rank", self.rank, rank())):
            if said is not None and said != found:
                raise RuntimeError(
                    f"{name}: expected {found}, which torch.distributed has ({runs} processes run), got {said}"
                )
        self._check_local_loss(runs)
        return runs > 1

    def _check_local_loss(self, runs: int) -> None:
        if self._local_alone and runs > 1:
            raise ValueError(
                "local_loss: expected gather_with_grad (--gather-with-grad) with it, got none: without, open_clip's "
                "loss drops the gradient of every row as another's negative, which has no counterpart here"
            )

    def _seed(self) -> int:
        """What all processes must have alike: the state of the generator, where anything is drawn from it."""
        if not self.method.swapping:
            return 0
        return zlib.crc32(self.generator.get_state().numpy().tobytes())

    def _look_after_temperature(self, learning: bool) -> None:
        """A temperature that nobody trains, or that no checkpoint holds, must not go unseen."""
        policy = self.objective.temperature
        # An optimizer that has the parameter clears its gradient between the steps.
        left_over = [p for p in policy.parameters() if p.grad is not None]
        if self._witness is None and not policy.handed_out:
            if left_over:
                raise RuntimeError(f"the temperature of {self.method.name!r} is in no optimizer: {_ATTACH}")
            if learning and not self._warned:
                self._warned = True
                warnings.warn(f"{self.method.name!r} sets a temperature that the model lacks: {_ATTACH}", stacklevel=5)
        elif self._witness and left_over:
            # Every step of an optimizer counts up the version of what it changes.
            before, self._versions = self._versions, (self._witness[0]._version, left_over[0]._version)
            if before and before[0] != self._versions[0] and before[1] == self._versions[1]:
                raise RuntimeError(
                    f"the optimizer trains the model and not the temperature of {self.method.name!r}: call "
                    "loss.attach(model) before the optimizer is made"
                )

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
