"""What computes on a device of the caller's choice, on such a device and on the CPU: ``make gpu-check``.

    python -m tools.gpu_check --device cuda

One line a check: the largest difference between the two, and the seconds that each took (once, what a first call costs
included). Exit status 0: all agree; 1: some do not, or fail; 2: there is no such device. The tests run the same checks
on a pretend device, which has the CPU's own kernels and must give the CPU's results (``tests/device``).
"""

from __future__ import annotations

import argparse
import inspect
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from gaplib import as_open_clip_loss, evaluation, geometry, losses, posthoc, stats, towers
from gaplib._devices import DEVICES, check_device
from gaplib.fusion.pretraining import VARIANTS
from gaplib.fusion.runs import FusionConfig, finetune, pretrain
from gaplib.fusion.tasks import TASKS
from gaplib.geometry.metrics import METRICS
from gaplib.glyph_tasks import suite
from gaplib.methods import METHODS, method
from gaplib.pairs import PairedEmbeddings
from gaplib.theory.landscape import batched_loss
from gaplib.towers.encode import Inputs, encode
from gaplib.training import RunConfig, fit, train

PAIRS, DIM, VOCABULARY = 48, 16, 30
MATRICES = (
    "image", "text", "image_view", "text_view",
    "image_private", "text_private", "image_private_view", "text_private_view",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """``compute(device)`` gives numbers and tensors by name; ``tolerance``: what two devices may differ by.

    The difference is relative to the largest number of a tensor, or absolute where that is below one. Training is given
    more, because an optimizer carries a rounding on.
    """

    compute: Callable[[str], Mapping[str, Any]]
    tolerance: float

    def values(self, device: str) -> dict[str, Tensor]:
        """What is computed there, on the CPU."""
        return {name: torch.as_tensor(value).detach().cpu() for name, value in self.compute(device).items()}


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference between values of the same names; infinite where shapes differ or one alone is NaN."""
    if {name: value.shape for name, value in one.items()} != {name: value.shape for name, value in other.items()}:
        return math.inf
    largest = 0.0
    for name, value in one.items():
        a, b = value.double(), other[name].double()
        apart = torch.where(a.isnan() & b.isnan() | (a == b), 0.0, (a - b).abs()).nan_to_num(math.inf)
        if apart.numel():
            largest = max(largest, float(apart.max()) / max(1.0, float(a.abs().nan_to_num(0.0, 0.0).max())))
    return largest


# --- what there is to compute with ------------------------------------------------------------------------------------


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian numbers, float32 on the CPU: the same for every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_rows(seed: int) -> Tensor:
    """(PAIRS, DIM) unit rows with a common direction, float32 on the CPU."""
    return torch.nn.functional.normalize(random(PAIRS, DIM, seed=seed) + 0.4, dim=1)


def two_modalities(device: str) -> tuple[Tensor, Tensor]:
    """Paired rows on the device, one modality moved apart."""
    x = unit_rows(0)
    y = torch.nn.functional.normalize(x + 0.3 * random(PAIRS, DIM, seed=1) + torch.eye(DIM)[0], dim=1)
    return x.to(device), y.to(device)


def paired(device: str, groups: bool = False) -> PairedEmbeddings:
    """All eight matrices that a loss may ask for, as leaves of a graph."""
    given = {name: unit_rows(seed).to(device).requires_grad_() for seed, name in enumerate(MATRICES)}
    beside = {"groups": torch.arange(PAIRS) // 2} if groups else {}
    return PairedEmbeddings(**given, **beside, caption_similarity=random(PAIRS, PAIRS).sigmoid())


def with_gradients(loss: Tensor, pairs: PairedEmbeddings, scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The loss, and its gradients with respect to the embeddings and scalars that it depends on."""
    loss.backward()
    leaves = {name: getattr(pairs, name) for name in MATRICES} | dict(scalars)
    return {"loss": loss} | {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


# --- the checks -------------------------------------------------------------------------------------------------------


def of_method(name: str, device: str) -> Mapping[str, Any]:
    """A method's objective at a step of four; one that swaps does so."""
    objective = method(name, swapping={"p": 1.0} if METHODS[name].swapping else None).build().to(device)
    pairs = paired(device)
    return with_gradients(objective(pairs, 1, 4), pairs, dict(objective.named_parameters()))


def of_open_clip(name: str, device: str) -> Mapping[str, Any]:
    """A method as a loss for open_clip's loop."""
    loss, (x, y) = as_open_clip_loss(name).to(device), two_modalities(device)
    x, y, scale = x.requires_grad_(), y.requires_grad_(), torch.tensor(14.0, device=device, requires_grad=True)
    value = loss(x, y, scale)
    value.backward()
    return {"loss": value, "image": x.grad, "text": y.grad, "scale": scale.grad}


def of_loss(name: str, rows: int | None, groups: bool, device: str) -> Mapping[str, Any]:
    """A loss in tiles of ``rows`` rows, or dense."""
    loss = getattr(losses, name)
    taken = inspect.signature(loss).parameters
    numbers = {"logit_scale": 9.0, "bias": -3.0}
    scalars = {key: torch.tensor(value, device=device, requires_grad=True) for key, value in numbers.items()}
    scalars = {key: value for key, value in scalars.items() if key in taken}
    tiles = {"chunk_size": rows} if "chunk_size" in taken else {}
    pairs = paired(device, groups)
    return with_gradients(loss(pairs, **scalars, **tiles), pairs, scalars)


def of_metric(name: str, device: str) -> Mapping[str, Any]:
    """A row of the table of metrics, by its public function."""
    metric, (x, y) = METRICS[name], two_modalities(device)
    if metric.one_modality:
        return {"image": metric.function(x), "text": metric.function(y)}
    return {name: metric.function(x, y, **({"k": 5} if name == "top5_coordinate_share" else {}))}


def of_geometry(device: str) -> Mapping[str, Any]:
    """The rest of ``gaplib.geometry``, the floors and intervals of ``gaplib.stats``, and the loss landscape."""
    x, y = two_modalities(device)
    card = geometry.gap_report(x, y)
    numbers = {f"report {name}": value for name, value in card.values.items() if value is not None}
    floor = stats.permutation_floor(geometry.centroid_distance, x, y, repeats=5)
    part = stats.subsample(geometry.relative_modality_gap, x, y, repeats=5)
    return {
        **numbers,
        "direction": geometry.gap_direction(x, y),
        "vector": geometry.gap_vector(x, y),
        "rotations": geometry.rotation_null(x, y, k=3, repeats=5),
        "variance": geometry.explained_variance(x),
        "angles": geometry.principal_angles(x, y),
        "unhalved": geometry.relative_modality_gap_unhalved(x, y),
        "diagonal": geometry.relative_modality_gap_with_diagonal(x, y),
        "floor": floor.mean,
        "subsample": part.value,
        "landscape": batched_loss(x, y, 10.0, batch_size=16),
    }


def of_treatment(name: str, device: str) -> Mapping[str, Any]:
    """A treatment after training, fitted to and applied to embeddings on the device."""
    x, y = two_modalities(device)
    fitted = posthoc.fit(name, x, y)
    return dict(zip(("image", "text"), fitted(x, y), strict=True))


_LABELS = [i % 4 for i in range(PAIRS)]
#: downstream task -> its result for the two modalities
TASKS_OF_EMBEDDINGS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "arithmetic": lambda x, y: evaluation.arithmetic(x, y - y.roll(1, 0), x, range(PAIRS), range(PAIRS)),
    "calibration": lambda x, y: evaluation.calibration(x, _LABELS, y[:4], 14.0, class_labels=range(4)),
    "clustering": lambda x, y: evaluation.clustering(x, y, _LABELS, restarts=1),
    "few_shot": lambda x, y: evaluation.few_shot(x, _LABELS, y, _LABELS, shots=(1, 2), draws=2),
    "fine_grained": lambda x, y: evaluation.fine_grained(x[:9], x[9:18], y[:9], y[9:18]),
    "hubness": lambda x, y: evaluation.hubness(x, y),
    "linear_probe": lambda x, y: evaluation.linear_probe(
        {"train": x, "dev": y, "test": x + y}, dict.fromkeys(("train", "dev", "test"), _LABELS), Cs=(0.1, 1.0)
    ),
    "mixed_search": lambda x, y: evaluation.mixed_search(y, x, y.roll(1, 1), range(PAIRS), range(PAIRS), draws=1),
    "retrieval": lambda x, y: evaluation.retrieval(x, y, image_groups=_LABELS, text_groups=torch.tensor(_LABELS)),
    "robustness": lambda x, y: evaluation.robustness(x, y, draws=1),
    "zero_shot": lambda x, y: evaluation.zero_shot(x, _LABELS, y[:4], class_labels=range(4)),
}


def of_task(name: str, device: str) -> Mapping[str, Any]:
    """A downstream task of embeddings on the device."""
    found = TASKS_OF_EMBEDDINGS[name](*two_modalities(device))
    return {str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {name: found}


def of_towers(kind: str, device: str) -> Mapping[str, Any]:
    """Embeddings by towers on the device."""
    tokens = random(6, 5, seed=3).abs().mul(9).long().clamp(1, VOCABULARY - 1)
    if kind == "open_clip":
        built = towers.open_clip_towers("ViT-S-32-alt", device=device)
        names = ["letter a", "digit two"]
        image, text = encode(built, Inputs(random(2, 3, 224, 224).sigmoid(), built.tokenize(names)), device)
        return {"image": image, "text": text}
    if kind == "image-pair":
        built, tokens = towers.image_pair_towers(dim=DIM), random(6, 1, 24, 24, seed=4).sigmoid()
    else:
        built = towers.architecture(kind).builder(VOCABULARY, dim=DIM)
    image, text = encode(built.to(device), Inputs(random(6, 1, 24, 24).sigmoid(), tokens), device)
    return {"image": image, "text": text}


def of_fit(name: str, device: str) -> Mapping[str, Any]:
    """Two steps of training with a method: losses, and the towers' weights after them."""
    row = method(name, swapping={"p": 1.0} if METHODS[name].swapping else None)
    needs, n = row.requires, 12
    if "shared towers" in needs:
        trained = towers.transformer_towers(VOCABULARY, dim=DIM, shared=True)
    else:
        trained = towers.tiny_towers(VOCABULARY, dim=DIM, private_dim=DIM if "private heads" in needs else None)
    batch = {}
    for seed, view in enumerate(("", "_view")):
        batch[f"image{view}"] = random(n, 1, 24, 24, seed=seed).sigmoid()
        batch[f"text{view}"] = random(n, 5, seed=2 + seed).abs().mul(9).long().clamp(1, VOCABULARY - 1)
    batch["caption_similarity"] = random(n, n).sigmoid()
    if row.contrastive == "clip":
        batch["groups"] = torch.arange(n) // 2
    history = fit(trained, row, [batch], 2, lr=1e-3, device=device)
    return {"loss": [one["loss"] for one in history], **trained.state_dict()}


def of_run(device: str) -> Mapping[str, Any]:
    """A run of the book: trained, measured on the way, its test embeddings, and the suite's through its towers."""
    run = train(
        RunConfig(steps=2, batch_size=16, dim=8, eval_pairs=16, history_points=2), device=device, progress=False
    )
    scored = suite.encode(run.towers().to(device))
    rows = {f"{name} {i}": row[name] for i, row in enumerate(run.history) for name in sorted(row)}
    found = {name: torch.from_numpy(run.embeddings[name]) for name in ("test_image", "test_text")}
    return {**rows, **found, "suite image": scored.image, "suite text": scored.text}


#: of a fusion model
TINY_FUSION = {"steps": 2, "batch_size": 8, "task_steps": 2, "task_batch_size": 4, "test_questions": 8}


def of_pretraining(variant: str, device: str) -> Mapping[str, Any]:
    """Two steps of a fusion model's pre-training."""
    done = pretrain(FusionConfig(variant=variant, **TINY_FUSION), device)
    return {name: [row[name] for row in done.history] for name in done.history[0]} | done.weights


def of_finetuning(task: str, device: str) -> Mapping[str, Any]:
    """The losses of two steps of a fusion model's fine-tuning. Its answers are nearly level then, and no measure."""
    done = finetune(FusionConfig(variant="baseline", **TINY_FUSION), task, device=device)
    return {"loss": done.history}


_TILED = [name for name in losses.__all__ if "chunk_size" in inspect.signature(getattr(losses, name)).parameters]
CHECKS: dict[str, Check] = {
    **{f"method {name}": Check(partial(of_method, name), 1e-4) for name in METHODS},
    **{f"loss {name}": Check(partial(of_loss, name, None, False), 1e-4) for name in losses.__all__},
    **{f"tiled {name}": Check(partial(of_loss, name, 7, False), 1e-4) for name in _TILED},
    **{f"groups, {rows or 'dense'}": Check(partial(of_loss, "clip_loss", rows, True), 1e-4) for rows in (None, 7)},
    **{f"open_clip's loop {name}": Check(partial(of_open_clip, name), 1e-4) for name in ("clip", "cua", "cyclip")},
    **{f"metric {name}": Check(partial(of_metric, name), 1e-6) for name in METRICS},
    "geometry, floors, landscape": Check(of_geometry, 1e-5),
    **{f"treatment {name}": Check(partial(of_treatment, name), 1e-5) for name in posthoc.TREATMENTS},
    **{f"task {name}": Check(partial(of_task, name), 1e-5) for name in TASKS_OF_EMBEDDINGS},
    # Convolutions and attention round to 10 bits on some cards (TF32).
    **{f"towers {kind}": Check(partial(of_towers, kind), 5e-3) for kind in towers.architectures()},
    **{f"fit {name}": Check(partial(of_fit, name), 2e-2) for name, row in METHODS.items() if not row.post_hoc},
    "run of the book": Check(of_run, 5e-2),
    **{f"fusion {variant}": Check(partial(of_pretraining, variant), 5e-2) for variant in VARIANTS},
    **{f"fusion, then {task}": Check(partial(of_finetuning, task), 5e-2) for task in TASKS},
}


# --- on a real device -------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run every check; the exit status says what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_check", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="cuda, cuda:N or mps (default: the one that there is)")
    try:
        device = _device(parser.parse_args(argv).device)
    except ValueError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    print(f"{len(CHECKS)} checks on {device} ({_name(device)}) and on the CPU, torch {torch.__version__}")
    print(f"{'check':44} {'difference':>10} {'allowed':>8} {'cpu s':>8} {'device s':>9}")
    # a cache that is empty: everything is computed here and now
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, GAPLIB_CACHE=folder):
        wrong = [name for name, check in CHECKS.items() if not _report(name, check, device)]
    print(f"{len(CHECKS) - len(wrong)} of {len(CHECKS)} agree" + (f"; not so: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


def _device(asked: str | None) -> str:
    """The device to check. ``ValueError`` where there is none."""
    if asked is None:
        there = [kind for kind, available in DEVICES.items() if kind != "cpu" and available()]
        if not there:
            raise ValueError("this machine has neither cuda nor mps: nothing was checked")
        return there[0]
    if check_device(asked)[0] == "cpu":
        raise ValueError(f"device: expected one that is not the CPU, got {asked!r}")
    return asked


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _report(name: str, check: Check, device: str) -> bool:
    """One line; whether the two agree."""
    found, seconds = [], []
    for where in ("cpu", device):
        started = time.perf_counter()
        try:
            found.append(check.values(where))
        except Exception as error:  # the other checks are still of interest
            print(f"{name:44} failed on {where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return False
        seconds.append(time.perf_counter() - started)
    apart = difference(*found)
    good = apart <= check.tolerance and all(torch.isfinite(one).all() for one in found[1].values())
    words = f"{apart:10.1e} {check.tolerance:8.0e} {seconds[0]:8.3f} {seconds[1]:9.3f}"
    print(f"{name:44} {words}{'' if good else '  DIFFERS'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
