"""``fit``: train any two encoders with any objective on any batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from gaplib._devices import note_device
from gaplib._validate import check_choice, check_integer, check_number
from gaplib.distributed import gather, processes, rank
from gaplib.methods import Method, Objective, method
from gaplib.pairs import PairedEmbeddings, working
from gaplib.towers.adapt import TwoEncoders, as_towers
from gaplib.training.chunked import ChunkedStep
from gaplib.training.fabric import launch
from gaplib.training.loop import OPTIMIZERS, PRECISIONS, SCHEDULES, Loop, NonFiniteLoss, rate_factor
from gaplib.training.processes import average_gradients, check_agreed, drawn_by_all, make_alike

#: what ``Method.requires`` asks of a batch: requirement -> its fields
FIELDS = {"views": ("image_view", "text_view"), "caption similarity": ("caption_similarity",)}
#: parameters of towers that an objective of the table of methods has in their place
OWNED = ("logit_scale", "logit_bias")


def fit(
    towers: Any,
    objective: str | Method | Callable[..., Any],
    batches: Callable[[int], Any] | Iterable[Any],
    steps: int,
    *,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
    optimizer: str | Callable[..., torch.optim.Optimizer] | torch.optim.Optimizer = "adamw",
    schedule: str = "constant",
    warmup: int = 0,
    clip_norm: float | None = None,
    device: str = "cpu",
    precision: str = "32-true",
    first_step: int = 0,
    seed: int = 0,
    on_step: Callable[[Loop], Any] | None = None,
    progress: bool = False,
    chunk: int | None = None,
) -> list[dict[str, float]]:
    """Train two encoders with a contrastive objective, in place, and return what was seen on the way.

    Nothing is written to disk, and nothing is known about the data: see ``train`` for runs of the book's own data.

    Args:
        towers: a module with ``encode_image`` and ``encode_text`` (the package's towers, a model of open_clip), one
            with ``get_image_features`` and ``get_text_features`` (transformers), or a pair of modules, the image's
            first. Their outputs are (n, d) with one d, and need not be normalised. Parameters with ``requires_grad``
            false are left alone.
        objective: a name of ``gaplib.methods.METHODS`` (combinations too), a ``Method``, what ``Method.build`` made, or
            any function of a ``PairedEmbeddings`` that returns a 0-d tensor, or several by name, which are summed.
        batches: ``batches(step)`` or an iterable, such as a ``DataLoader``, which is gone through again when it ends.
            A batch is a mapping with ``image`` and ``text``, what the encoders take, and what the method requires:
            ``image_view`` and ``text_view`` (second views), ``caption_similarity`` (n, n). ``groups`` (n,) may say
            which rows are right answers to each other. Other fields are not looked at. A tuple of two is (image, text).
        steps: optimizer steps to take, at least 1.
        lr: peak learning rate; a method's temperature may have a share of it (``Method.param_groups``).
        weight_decay: of matrices and filters; gains, biases and temperatures do not decay.
        optimizer: "adamw", "adam" or "sgd" (momentum 0.9), a function of parameter groups, or a ready-made optimizer,
            which then brings its own rates, decay and parameters.
        schedule: "constant" or "cosine" (to zero), after ``warmup`` steps of linear warm-up.
        clip_norm: largest norm of all gradients together; None does not clip.
        device: "cpu", "cuda", "cuda:N" or "mps". The towers are moved there and stay there.
        precision: "32-true" or "bf16-mixed" (the losses in single precision all the same).
        first_step: number of the first step, for a training that goes on: it reaches ``batches``, the schedules of rate
            and temperature (which end at ``first_step + steps``) and the history.
        seed: decides, with the step, what modality swapping exchanges.
        on_step: called with the loop before each step and once after the last; ``loop.step`` is the number of the step
            that comes next. What it raises ends the training.
        progress: show a bar.
        chunk: run the towers so many rows at a time, for batches whose activations do not fit into memory; the same
            gradients at the cost of one more forward pass (:mod:`gaplib.training.chunked`).

    Returns:
        One row for each step: ``step``, ``loss`` (before the step moved the parameters), each of its terms by name, and
        ``tau`` where the objective is a method's.

    The towers leave in the mode (training or evaluation) in which they came. An objective of the table has its own
    temperature: the towers' ``logit_scale`` and ``logit_bias`` are not trained beside it, and hold what was learned
    when the training ends.

    **Several processes**, started by torchrun, by ``fabric run`` or in a script that launches Fabric or
    ``torch.distributed`` itself: each calls ``fit`` with the same arguments and with batches of its own, which may
    differ in size. The loss is that of the joined batch (:mod:`gaplib.distributed`), so that the step is the one that a
    single process would take on all of it, and the history is the same everywhere; the start is process 0's.
    ``device="cuda"`` is each process's own. ``caption_similarity`` must then be that of the joined batch:
    ``caption_similarity(gaplib.distributed.gather_rows(tokens))``, called where the batch is made.

    Raises:
        ValueError: towers whose outputs differ in width, a batch without a field that the method requires (or towers
            without private heads, or not shared), an objective that returns no scalar, batches that run dry (the
            message says after how many steps; the towers keep those), nothing to train, or an argument out of range.
        NonFiniteLoss: a term of the loss, the temperature or a weight is NaN or infinite; it names step and term.

    Example:
        >>> import torch
        >>> from gaplib.training import fit
        >>> towers = torch.nn.Linear(8, 4), torch.nn.Linear(6, 4)
        >>> draw = torch.Generator().manual_seed(0)
        >>> batch = {"image": torch.randn(16, 8, generator=draw), "text": torch.randn(16, 6, generator=draw)}
        >>> history = fit(towers, "cua", [batch], steps=20)
        >>> len(history), history[-1]["loss"] < history[0]["loss"]
        (20, True)
    """
    loop = prepare(
        towers, objective, batches, steps, lr=lr, weight_decay=weight_decay, optimizer=optimizer, schedule=schedule,
        warmup=warmup, clip_norm=clip_norm, device=device, precision=precision, first_step=first_step, seed=seed,
        chunk=chunk,
    )  # fmt: skip
    paired = loop.model
    was_training = paired.towers.training
    paired.towers.train()
    history = []
    try:
        with tqdm(total=steps, disable=not progress or rank() > 0, desc="fit", unit="step") as bar:
            for _ in range(steps):
                if on_step:
                    on_step(loop)
                history.append(loop.update() | paired.temperature)
                bar.set_postfix(loss=f"{history[-1]['loss']:.3f}", refresh=False)
                bar.update()
        loop.check_weights()
        if on_step:
            on_step(loop)
    finally:
        paired.towers.train(was_training)
    paired.hand_over(loop.step)
    make_alike(paired)
    return history


class PairedTowers(nn.Module):
    """Towers and objective as one module, so that Fabric wraps, moves and saves them together.

    Called with the fields of a batch, it gives the summands of the loss by name.
    """

    def __init__(self, towers: nn.Module, objective: Callable[..., Any]):
        super().__init__()
        self.towers, self.objective = towers, objective
        #: ``tau`` of the objective at the last batch, where it has one
        self.temperature: dict[str, float] = {}

    def forward(self, inputs: Mapping[str, Any], *schedule: Any) -> Mapping[str, Tensor]:
        """``schedule`` is the step, the number of steps, and the generator that swapping draws from."""
        return self.parts(self.features(inputs), inputs, *schedule)

    def features(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the towers make of the fields of a batch, by the names of ``PairedEmbeddings``; not normalised."""
        found: dict[str, Tensor | None] = {}
        for view in ("", "_view"):
            for side in ("image", "text"):
                if side + view in inputs:
                    shared, private = self._features(side, inputs[side + view])
                    found[side + view], found[f"{side}_private{view}"] = shared, private
        return {name: z for name, z in found.items() if z is not None}

    def parts(self, features: Mapping[str, Tensor], inputs: Mapping[str, Any], *schedule: Any) -> Mapping[str, Tensor]:
        """The summands of the loss of given features, in several processes of the joined batch."""
        image, text = features["image"], features["text"]
        if image.shape[-1] != text.shape[-1]:
            raise ValueError(
                f"towers: expected embeddings of one width, got image {image.shape[-1]} and text {text.shape[-1]}"
            )
        with torch.autocast(image.device.type, enabled=False):  # losses in single precision
            unit = {name: functional.normalize(working(z), dim=1) for name, z in features.items()}
            beside = {name: inputs.get(name) for name in ("groups", "caption_similarity")}
            if processes() > 1:
                similarity = beside.pop("caption_similarity")
                pairs = gather(PairedEmbeddings(**unit, **beside, check=False), caption_similarity=similarity)
            else:
                pairs = PairedEmbeddings(**unit, **beside, check=False)
            if not isinstance(self.objective, Objective):
                return _named(self.objective(pairs))
            parts = self.objective.parts(pairs, *schedule)
            self.temperature = {"tau": 1.0 / float(self.objective.logit_scale.detach())}
            return parts

    def _features(self, side: str, inputs: Any) -> tuple[Tensor, Tensor | None]:
        both = getattr(self.towers, f"{side}_features", None)
        return both(inputs) if both is not None else (getattr(self.towers, f"encode_{side}")(inputs), None)

    @torch.no_grad()
    def hand_over(self, steps: int) -> None:
        """Give the towers the temperature and the bias that ``steps`` steps have come to, where they have any."""
        if not isinstance(self.objective, Objective):
            return
        scale, bias = self.objective.temperature.scale(steps, steps), getattr(self.objective, "bias", None)
        learned = {"logit_scale": math.log(float(scale)), "logit_bias": None if bias is None else float(bias)}
        for name, parameter in self.towers.named_parameters():
            value = learned.get(name.rpartition(".")[2])
            if value is not None:
                parameter.fill_(value)


def prepare(
    towers: Any,
    objective: str | Method | Callable[..., Any],
    batches: Callable[[int], Any] | Iterable[Any],
    steps: int,
    *,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
    optimizer: Any = "adamw",
    schedule: str = "constant",
    warmup: int = 0,
    clip_norm: float | None = None,
    device: str = "cpu",
    precision: str = "32-true",
    first_step: int = 0,
    seed: int = 0,
    chunk: int | None = None,
) -> Loop:
    """The loop that ``fit`` runs, before its first step; arguments and errors as there.

    ``loop.model`` is a ``PairedTowers``, ``loop.fabric`` what moves and saves it.
    """
    steps, first_step = check_integer(steps, "steps", low=1), check_integer(first_step, "first_step", low=0)
    warmup, seed = check_integer(warmup, "warmup", low=0), check_integer(seed, "seed", low=0)
    check_choice(schedule, "schedule", SCHEDULES)
    check_choice(precision, "precision", PRECISIONS)
    if clip_norm is not None:
        check_number(clip_norm, "clip_norm", low=0, low_open=True)
    objective = _objective(objective)
    paired = PairedTowers(as_towers(towers), objective)
    needed = _needed(paired)
    fabric = launch(device, precision)
    wrapped, stepped = fabric.setup(paired, _optimizer(paired, optimizer, lr, weight_decay))
    note_device(fabric.device)
    by_step, total = _by_step(batches, first_step, steps), first_step + steps
    in_chunks = None if chunk is None else ChunkedStep(paired, chunk, fabric)
    compute, backward = (in_chunks.terms, in_chunks.backward) if in_chunks else (wrapped, fabric.backward)
    if processes() > 1:
        check_agreed(fabric.device, steps=steps, first_step=first_step, seed=seed % 2**63)
        make_alike(paired)
        by_step, backward = drawn_by_all(by_step, fabric.device), _averaging(backward, paired)

    def terms(step: int) -> Mapping[str, Tensor]:
        inputs = _fields(by_step(step), needed, all_known=not isinstance(objective, Objective))
        if isinstance(objective, Objective) and not 0 < float(objective.logit_scale.detach()) < math.inf:
            raise NonFiniteLoss(step, "temperature", loop.checkpoint)
        return compute(fabric.to_device(inputs), step, total, step_generator(seed, step))

    loop = Loop(
        paired,
        terms,
        stepped,
        rate=lambda step: rate_factor(step, total, schedule, warmup),
        backward=backward,
        after_step=getattr(objective, "after_step", lambda: None),
        clip_norm=clip_norm,
        first_step=first_step,
    )
    loop.fabric = fabric
    return loop


def _averaging(backward: Callable[[Tensor], Any], paired: nn.Module) -> Callable[[Tensor], Any]:
    def averaged(loss: Tensor) -> None:
        backward(loss)
        average_gradients(paired.parameters())

    return averaged


def step_generator(seed: int, step: int) -> torch.Generator:
    """What is random about a step, as a function of the seed and the step alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


# --- what fit is given ------------------------------------------------------------------------------------------------


def _objective(objective: Any) -> Callable[..., Any]:
    if isinstance(objective, str):
        objective = method(objective)
    if isinstance(objective, Method):
        objective = objective.build()
    if isinstance(objective, Objective) and objective.method.post_hoc:
        row = objective.method
        raise ValueError(
            f"objective: expected one to train with, got {row.name!r}, a treatment after training: fit with "
            f"{row.trained!r}, then gaplib.posthoc.fit({row.post_hoc!r}, image, text) on training pairs"
        )
    if not callable(objective):
        raise ValueError(f"objective: expected a method's name or a function of pairs, got {objective!r:.80}")
    return objective


def _needed(paired: PairedTowers) -> dict[str, str]:
    """Fields that every batch must have, each with the reason; checks what the method requires of the towers."""
    needed = dict.fromkeys(("image", "text"), "")
    if not isinstance(paired.objective, Objective):
        return needed
    towers, row = paired.towers, paired.objective.method
    if "private heads" in row.requires and None in (
        getattr(towers, name, None) for name in ("image_private", "text_private")
    ):
        raise ValueError(
            f"towers: expected private heads (image_private, text_private), which {row.name!r} requires, got none"
        )
    if "shared towers" in row.requires and _apart(towers):
        raise ValueError(f"towers: expected one trunk for both modalities, which {row.name!r} requires, got two")
    for requirement, fields in FIELDS.items():
        if requirement in row.requires:
            needed |= dict.fromkeys(fields, f", which {row.name!r} requires ({requirement})")
    return needed


def _apart(towers: nn.Module) -> bool:
    """Whether the two towers are known to share nothing."""
    if isinstance(towers, TwoEncoders):
        return not {*towers.image_encoder.parameters()} & {*towers.text_encoder.parameters()}
    recipe = getattr(towers, "recipe", None)
    return recipe is not None and not recipe.get("shared", False)


def _fields(batch: Any, needed: Mapping[str, str], all_known: bool) -> dict[str, Any]:
    """The part of a batch that towers and objective look at."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        batch = dict(zip(("image", "text"), batch, strict=True))
    if not isinstance(batch, Mapping):
        raise ValueError(f"batch: expected a mapping with image and text, got {type(batch).__name__}")
    for name, reason in needed.items():
        if batch.get(name) is None:
            raise ValueError(f"batch: expected the field {name!r}{reason}, got {', '.join(map(str, batch)) or 'none'}")
    wanted = {*needed, "groups", *(sum(FIELDS.values(), ()) if all_known else ())}
    found = {name: batch[name] for name in batch if name in wanted and batch[name] is not None}
    return found | ({"groups": torch.as_tensor(found["groups"])} if "groups" in found else {})


def _named(loss: Any) -> Mapping[str, Tensor]:
    """What a function of pairs returned, as summands by name."""
    parts = loss if isinstance(loss, Mapping) else {"loss": loss}
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.ndim:
            what = f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"objective: expected a 0-d tensor (or several by name), got {what} for {name!r}")
    if not parts:
        raise ValueError("objective: expected a 0-d tensor (or several by name), got none")
    return parts


def _by_step(batches: Any, first_step: int, steps: int) -> Callable[[int], Any]:
    if callable(batches):
        return batches

    def dry(step: int) -> ValueError:
        return ValueError(f"batches: expected one for each of {steps} steps, ran dry after {step - first_step} of them")

    if isinstance(batches, Mapping):
        if "image" in batches:
            raise ValueError("batches: expected several, got one batch; [batch] would take every step on it")

        def looked_up(step: int) -> Any:
            if step not in batches:
                raise dry(step)
            return batches[step]

        return looked_up
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise ValueError(f"batches: expected a function of the step or an iterable, got {type(batches).__name__}")
    endless = _again_and_again(batches)

    def drawn(step: int) -> Any:
        try:
            return next(endless)
        except StopIteration:
            raise dry(step) from None

    return drawn


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch; ends where there is no other epoch, after an iterator, or one without a batch."""
    while True:
        given = 0
        for batch in batches:
            given += 1
            yield batch
        if not given or iter(batches) is batches:
            return


def _optimizer(paired: PairedTowers, kind: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Matrices and filters decay, gains and biases do not; the objective's own parameters follow its method."""
    if isinstance(kind, torch.optim.Optimizer):
        return kind
    check_number(lr, "lr", low=0, low_open=True)
    check_number(weight_decay, "weight_decay", low=0)
    if not callable(kind):
        check_choice(kind, "optimizer", OPTIMIZERS)
    owns = isinstance(paired.objective, Objective)
    weights = [
        weight
        for name, weight in paired.towers.named_parameters()
        if weight.requires_grad and not (owns and name.rpartition(".")[2] in OWNED)
    ]
    groups: list[dict[str, Any]] = [
        {"params": [w for w in weights if w.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]
    if owns:
        groups += paired.objective.param_groups(lr)
    elif isinstance(paired.objective, nn.Module):
        known = {id(weight) for weight in weights}
        own = [weight for weight in paired.objective.parameters() if weight.requires_grad and id(weight) not in known]
        groups.append({"params": own, "lr": lr, "weight_decay": 0.0})
    groups = [{**group, "peak_lr": group["lr"]} for group in groups if group["params"]]
    if not groups:
        raise ValueError("towers: expected parameters to train, got none with requires_grad")
    if callable(kind):
        return kind(groups)
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[kind](groups)
