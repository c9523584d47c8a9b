"""What makes a training run: everything that its result depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gaplib._validate import check_choice, check_integer, check_number
from gaplib.data.datasets import DATASETS
from gaplib.methods import Method, method
from gaplib.temperature import POLICIES
from gaplib.towers.registry import architecture, architectures
from gaplib.training.loop import OPTIMIZERS, PRECISIONS, SCHEDULES
from gaplib.training.pairing import Pairing

#: what runs call an architecture -> its name among ``gaplib.towers.architectures``, where that is another
KINDS = {"conv": "tiny"}


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run. ``ValueError`` names the field that is out of its range.

    method, tau, learn_tau, weights   a name of ``gaplib.methods.METHODS`` and what to change of it; None keeps the
                                      method's own. ``learn_tau`` makes the temperature learnable (True), fixed (False)
    temperature                       any other policy of ``gaplib.temperature.POLICIES``, in place of ``learn_tau``
    swapping                          what to change of a swapping method's ``gaplib.swapping.Swapping``, such as its p
    data, image_size, dim             a name of ``gaplib.data.datasets.DATASETS``, side of an image in pixels, dimension
                                      of the embeddings (>= 2)
    architecture                      "conv" (convolutions and a bag of words), "transformer", the only one of the book
                                      that can share its trunk, or another that ``gaplib.towers.architectures`` knows;
                                      None is "conv", or "transformer" for methods with shared towers
    start                             another configuration, whose finished towers are trained on; None starts anew
    batch_size, steps                 pairs a step (>= 2), optimizer steps (>= 1)
    lr, weight_decay, optimizer, warmup, schedule
                                      peak learning rate, decay of the towers' weights, "adamw", "adam" or "sgd" (with
                                      momentum .9), linear warm-up steps, then "constant" or "cosine" (to zero)
    modalities, mismatch, style_words, look_alikes
                                      how pairs are made, see ``gaplib.training.pairing.Pairing``;
                                      "image-image" trains two image towers on identical images
    procrustes                        "image-image" only: rotate the second tower onto the first before training, so
                                      that it starts without a gap (Fahim et al. 2024, Sec. 3.2)
    multi_positive                    True: pixel-identical names of a batch are all right answers of the contrastive
                                      loss (CLIP's, on pairs that match), not negatives of each other
    precision                         "32-true" or "bf16-mixed" (the losses in single precision all the same)
    seed                              towers' initial weights and batches
    eval_pairs, history_points        dev pairs that the history measures (>= 8, at most all), and how often (>= 2)

    The default learning rate was chosen on the dev split, seeds 0 and 1, by retrieval at 1: of 3e-4, 1e-3, 3e-3 and
    1e-2 it is the best on average over tau = .01 fixed and .07 learnable, which were given the same four runs a seed.
    """

    method: str = "clip"
    tau: float | None = None
    learn_tau: bool | None = None
    weights: Mapping[str, float] | None = field(default=None, hash=False)
    temperature: str | None = None
    swapping: Mapping[str, Any] | None = field(default=None, hash=False)
    data: str = "glyphs"
    image_size: int = 24
    dim: int = 64
    architecture: str | None = None
    start: RunConfig | None = None
    batch_size: int = 256
    steps: int = 600
    lr: float = 3e-3
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    warmup: int = 0
    schedule: str = "constant"
    modalities: str = "image-text"
    mismatch: float = 0.0
    style_words: int = 0
    look_alikes: str = "as drawn"
    procrustes: bool = False
    multi_positive: bool = False
    precision: str = "32-true"
    seed: int = 0
    eval_pairs: int = 512
    history_points: int = 16

    def __post_init__(self) -> None:
        if self.learn_tau not in (None, True, False):
            raise ValueError(f"learn_tau: expected None, True or False, got {self.learn_tau!r}")
        if self.temperature is not None:
            check_choice(self.temperature, "temperature", POLICIES)
            if self.learn_tau is not None:
                raise ValueError(f"temperature: expected None where learn_tau is given, got {self.temperature!r}")
        check_choice(self.data, "data", DATASETS)
        check_choice(self.optimizer, "optimizer", OPTIMIZERS)
        check_choice(self.schedule, "schedule", SCHEDULES)
        check_choice(self.precision, "precision", PRECISIONS)
        for name, low in _INTEGERS.items():
            object.__setattr__(self, name, check_integer(getattr(self, name), name, low=low))
        object.__setattr__(self, "lr", float(check_number(self.lr, "lr", low=0, low_open=True)))
        object.__setattr__(self, "weight_decay", float(check_number(self.weight_decay, "weight_decay", low=0)))
        object.__setattr__(self, "mismatch", self.pairing().mismatch)
        if self.procrustes not in (True, False) or (self.procrustes and self.modalities != "image-image"):
            raise ValueError(
                f"procrustes: expected False, or True with modalities 'image-image', got {self.procrustes!r} with "
                f"{self.modalities!r}"
            )
        row = self.configured_method()
        self._check_method(row)
        if self.multi_positive not in (True, False) or (
            self.multi_positive and (row.contrastive != "clip" or self.mismatch > 0)
        ):
            raise ValueError(
                f"multi_positive: expected False, or True with clip and no mismatch, got {self.multi_positive!r}"
                f" with {row.contrastive!r} and mismatch {self.mismatch:g}"
            )

    def _check_method(self, row: Method) -> None:
        """Refuse what this method cannot be trained with."""
        if row.post_hoc:
            raise ValueError(
                f"method: expected one to train with, got {row.name!r}, a treatment after training: train "
                f"{row.trained!r}, then fit gaplib.posthoc.fit({row.post_hoc!r}, image, text) to its training pairs"
            )
        beyond = row.requires - {"steps"}
        if self.modalities == "image-image" and beyond:
            raise ValueError(
                f"method: expected one that needs two embeddings alone for modalities 'image-image', got {row.name!r} "
                f"({', '.join(sorted(beyond))})"
            )
        if "views" in row.requires and DATASETS[self.data].second_views is None:
            having = ", ".join(name for name, one in DATASETS.items() if one.second_views)
            raise ValueError(f"data: expected one with second views for {row.name!r} ({having}), got {self.data!r}")
        if self.architecture is not None:
            self._check_architecture(row)
        if self.start is not None and not isinstance(self.start, RunConfig):
            raise ValueError(f"start: expected a RunConfig or None, got {self.start!r:.80}")
        for name in ("data", "image_size", "dim", "modalities", "style_words") if self.start else ():
            if getattr(self, name) != getattr(self.start, name):
                raise ValueError(
                    f"start: expected a run with {name} {getattr(self, name)!r}, got {getattr(self.start, name)!r}"
                )
        if self.start and self.towers_of(row) != self.start.towers_of(self.start.configured_method()):
            raise ValueError(f"start: expected a run with the same towers as {row.name!r}, got {self.start.method!r}")

    def _check_architecture(self, row: Method) -> None:
        wanted = {"shared_trunk": True} if row.towers == "shared" else {}
        offered = architectures(runs=True, **wanted)
        check_choice(self.architecture, "architecture", [*(one for one in KINDS if KINDS[one] in offered), *offered])
        heads = architecture(KINDS.get(self.architecture, self.architecture)).private_heads
        if self.modalities != "image-text" and self.architecture != "conv":
            raise ValueError(f"architecture: expected 'conv' for two image towers, got {self.architecture!r}")
        if "private heads" in row.requires and not heads:
            raise ValueError(
                f"architecture: expected 'conv' (or another with private heads) for {row.name!r}, "
                f"got {self.architecture!r}"
            )

    def towers_of(self, row: Method) -> dict[str, Any]:
        """What the run's towers are, beyond their sizes."""
        return {
            "architecture": self.architecture or ("transformer" if row.towers == "shared" else "conv"),
            "shared": row.towers == "shared",
            "private": "private heads" in row.requires,
            "views": "views" in row.requires,
        }

    def pairing(self) -> Pairing:
        """How training pairs are made."""
        return Pairing(self.modalities, self.mismatch, self.style_words, self.look_alikes)

    def configured_method(self) -> Method:
        """The row of the table of methods, with this configuration's changes."""
        policy = self.temperature if self.learn_tau is None else ("learnable" if self.learn_tau else "fixed")
        return method(self.method, self.tau, self.weights, policy, self.swapping)

    def resolved(self) -> RunConfig:
        """The same run with the method's defaults written out, so that equal runs compare equal."""
        row = self.configured_method()
        policy = {"learnable": True, "fixed": False}.get(row.temperature)
        other = row.temperature if policy is None else None
        return replace(
            self,
            tau=row.tau,
            learn_tau=policy,
            temperature=other,
            weights=dict(row.terms),
            swapping=asdict(row.swapping) if row.swapping else None,
            architecture=self.towers_of(row)["architecture"],
            start=self.start.resolved() if self.start else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The inverse of ``to_dict``; unknown fields are a ``ValueError``."""
        known = {one.name for one in fields(cls)}
        for name in values:
            check_choice(name, "configuration", sorted(known))
        start = values.get("start")
        return cls(**{**values, "start": cls.from_dict(start) if isinstance(start, Mapping) else start})


#: smallest value of every whole-number field
_INTEGERS = {
    "image_size": 12, "dim": 2, "batch_size": 2, "steps": 1, "warmup": 0, "seed": 0, "eval_pairs": 8,
    "history_points": 2,
}  # fmt: skip
