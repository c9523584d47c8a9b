"""What each of several processes does in ``test_processes``; run by it as a script: ``processes_worker.py FOLDER``.

The processes of a world are forked from here, so that torch is imported once. What they find lies in FOLDER.
``test_chunked`` takes the towers and objectives of its methods from here.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from pathlib import Path

import torch
from lightning_fabric import fabric
from open_clip.loss import ClipLoss, SigLipLoss
from torch import distributed as dist
from torch import nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from gaplib import as_open_clip_loss
from gaplib.data.caption_similarity import caption_similarity
from gaplib.distributed import gather, gather_rows
from gaplib.losses import clip_loss, uniformity_loss
from gaplib.methods import METHODS, method
from gaplib.pairs import PairedEmbeddings
from gaplib.towers import tiny_towers, transformer_towers
from gaplib.training import RunConfig, fit
from gaplib.training.fitting import prepare
from gaplib.training.trainer import run_loop

WORLDS = (1, 2, 3, 4)
IN_CHUNKS = (1, 2)
#: rows of each process, as unequal as last batches are
ROWS = {1: (12,), 2: (7, 5), 3: (6, 1, 5), 4: (2, 5, 1, 4)}
N, SIDE, WORDS, DIM = 12, 12, 20, 8
TRAINED = [name for name, row in METHODS.items() if not row.post_hoc]
CASES = [*TRAINED, "clip, groups", "a function"]
#: settings of open_clip's losses, and its losses themselves
SETTINGS = {
    "clip": (ClipLoss, {"local_loss": False, "gather_with_grad": True}),
    "clip, no grad": (ClipLoss, {"local_loss": False, "gather_with_grad": False}),
    "clip, local": (ClipLoss, {"local_loss": True, "gather_with_grad": True}),
    "siglip": (SigLipLoss, {}),
    "siglip, gather": (SigLipLoss, {"dist_impl": "gather"}),
}


def joined_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.rand(N, 1, SIDE, SIDE, generator=generator, dtype=torch.float64),
        "text": torch.randint(1, WORDS, (N, 5), generator=generator),
        "image_view": torch.rand(N, 1, SIDE, SIDE, generator=generator, dtype=torch.float64),
        "text_view": torch.randint(1, WORDS, (N, 5), generator=generator),
    }
    return batch | {"groups": torch.arange(N) // 3}


def own_batch(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """This process's rows of the joined batch."""
    batch = {field: z[uneven(rank, world)] for field, z in joined_batch().items()}
    if "groups" not in name:
        del batch["groups"]
    return batch | {"caption_similarity": caption_similarity(gather_rows(batch["text"]))}


def objective_of(name: str):
    if name == "a function":
        return lambda pairs: {"clip": clip_loss(pairs, 9.0), "uniformity": uniformity_loss(pairs)}
    chosen = method(name.removesuffix(", groups"))
    return (method(name, swapping={"p": 1.0}) if chosen.swapping else chosen).build().double()


def towers_of(name: str, seed: int = 0) -> nn.Module:
    requires = METHODS[name].requires if name in METHODS else ()
    size = {"dim": DIM, "image_size": SIDE, "seed": seed}
    if "shared towers" in requires:
        return transformer_towers(WORDS, **size, patch=4, width=16, layers=1, heads=2, shared=True).double()
    return tiny_towers(WORDS, **size, private_dim=DIM if "private heads" in requires else None).double()


def gradients_of(name: str, rank: int, world: int, chunk: int | None = None) -> dict[str, torch.Tensor]:
    """Gradients and loss of one step of ``fit``, by name. Each process begins elsewhere: process 0's start counts."""
    loop = prepare(
        towers_of(name, seed=rank), objective_of(name), [own_batch(name, rank, world)], 4, optimizer="sgd", chunk=chunk
    )
    loop.step = 1
    loop.model.towers.train()
    loss, _ = loop.loss(1)
    loop.backward(loss)
    found = {key: p.grad for key, p in loop.model.named_parameters() if p.grad is not None}
    return {**found, "loss": loss.detach()}


def fitted(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Weights after three steps of ``fit``, and the losses on the way."""
    towers = towers_of(name, seed=rank)
    batch = own_batch(name, rank, world)
    history = fit(towers, objective_of(name), lambda step: batch, 3, lr=1e-2, clip_norm=1.0)
    return {**towers.state_dict(), "history": torch.tensor([row["loss"] for row in history], dtype=torch.float64)}


class Two(nn.Module):
    """What open_clip's models are to a loss."""

    def __init__(self, bias: bool):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(6, 5, generator=generator, dtype=torch.float64))
        self.text = nn.Parameter(torch.randn(6, 5, generator=generator, dtype=torch.float64))
        self.logit_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        if bias:
            self.logit_bias = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))

    def forward(self, images, texts):
        out = {
            "image_features": normalize(images @ self.image, dim=1),
            "text_features": normalize(texts @ self.text, dim=1),
            "logit_scale": self.logit_scale.exp(),
        }
        return out | ({"logit_bias": self.logit_bias} if hasattr(self, "logit_bias") else {})


def vectors(rows: slice) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(2, N, 6, generator=generator, dtype=torch.float64)[:, rows])


def open_clip_gradients(loss: nn.Module, bias: bool, rows: slice, several: bool) -> dict[str, torch.Tensor]:
    """A step as open_clip's loop takes it, of its loss or ours."""
    model = Two(bias)
    if hasattr(loss, "attach"):
        loss.attach(model)
    policy = [*loss.double().parameters()]
    wrapped = DistributedDataParallel(model) if several else model
    losses = loss(**wrapped(*vectors(rows)), output_dict=True)
    sum(losses.values()).backward()
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None} | {
        f"own {i}": p.grad for i, p in enumerate(policy)
    }


def even(rank: int, world: int) -> slice:
    return slice(rank * (N // world), (rank + 1) * (N // world))


def uneven(rank: int, world: int) -> slice:
    start = sum(ROWS[world][:rank])
    return slice(start, start + ROWS[world][rank])


def ours_as_open_clips(name: str, rank: int, world: int) -> nn.Module:
    base = name.split(",")[0]
    chosen = method(base, swapping={"p": 1.0}) if METHODS[base].swapping else base
    options = SETTINGS[name][1] if name in SETTINGS else {}
    return as_open_clip_loss(chosen, rank=rank, world_size=world, **options)


def failures(rank: int) -> dict[str, str]:
    """What goes wrong in one of two processes must be said in both."""

    def message(work) -> str:
        try:
            work()
        except (ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing was raised"

    x = normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(rank)), dim=1)
    batch = own_batch("clip", rank, 2)
    few = [batch] * (3 - rank)
    towers = tiny_towers(WORDS, dim=DIM, image_size=SIDE).double()
    hs = as_open_clip_loss(method("hs", swapping={"p": 1.0}), seed=rank)
    local = {"caption_similarity": torch.eye(3)}
    return {
        "dry": message(lambda: fit(towers, "clip", iter(few), 3)),
        "steps": message(lambda: fit(towers, "clip", few, 3 + rank)),
        "device": message(lambda: fit(towers, "clip", few, 3, device="cuda:0")),
        "fields": message(lambda: gather(PairedEmbeddings(x, x, image_view=x if rank else None))),
        "width": message(lambda: gather(PairedEmbeddings(x[:, : 4 - rank], x[:, : 4 - rank], check=False))),
        "type": message(lambda: gather(PairedEmbeddings(*2 * [x.to(torch.float64 if rank else x.dtype)], check=False))),
        "similarity": message(lambda: gather(PairedEmbeddings(x, x, **(local if rank else {})))),
        "joined similarity": message(lambda: gather(PairedEmbeddings(x, x), caption_similarity=torch.eye(3))),
        "seed": message(lambda: hs(x, x, torch.tensor(9.0))),
        "rank": message(lambda: as_open_clip_loss("clip", rank=1 - rank, world_size=2)(x, x, torch.tensor(9.0))),
        "world": message(lambda: as_open_clip_loss("clip", world_size=3)(x, x, torch.tensor(9.0))),
        "local": message(
            lambda: as_open_clip_loss("clip", local_loss=True, gather_with_grad=False)(x, x, torch.tensor(9.0))
        ),
        "train": message(lambda: run_loop(RunConfig("clip").resolved())),
        "twice": message(lambda: twice(x)),
    }


def twice(x: torch.Tensor) -> None:
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(clip_loss(gather(PairedEmbeddings(x, x, check=False)), 9.0), x, create_graph=True)
    first.sum().backward()


def types(rank: int) -> dict[str, torch.Tensor]:
    """Rows of any type come through as they are."""
    half = normalize(torch.randn(2 + rank, 4, generator=torch.Generator().manual_seed(rank)), dim=1).bfloat16()
    pairs = gather(PairedEmbeddings(half, half, groups=torch.arange(2 + rank, dtype=torch.int32), check=False))
    return {"half": pairs.image, "groups": pairs.groups, "bool": gather_rows(torch.arange(2 + rank) == rank)}


def run(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    found = {name: gradients_of(name, rank, world) for name in CASES}
    if world in IN_CHUNKS:
        found |= {f"{name} in chunks": gradients_of(name, rank, world, chunk=2) for name in CASES}
    found |= {f"fit {name}": fitted(name, rank, world) for name in ("cua", "hs", "siglip")}
    for name, (theirs, options) in SETTINGS.items():
        bias = name.startswith("siglip")
        loss = theirs(rank=rank, world_size=world, **options)
        found[f"open_clip's {name}"] = open_clip_gradients(loss, bias, even(rank, world), True)
        loss = ours_as_open_clips(name, rank, world)
        found[f"ours {name}"] = open_clip_gradients(loss, bias, even(rank, world), True)
    for name in (name for name in TRAINED if not METHODS[name].requires):
        loss = ours_as_open_clips(name, rank, world)
        found[f"loss {name}"] = open_clip_gradients(loss, name == "siglip", uneven(rank, world), True)
    if world == 2:
        found |= {"failures": failures(rank), "types": types(rank)}
    torch.save(found, folder / f"{world}.{rank}.pt")
    dist.destroy_process_group()


def main(folder: Path) -> int:
    fork = multiprocessing.get_context("fork")
    fabric._load_external_callbacks = list  # it reads what is installed, once for each Fabric: most of the time here

    def told(*arguments) -> None:
        try:
            run(*arguments)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None

    for world in WORLDS:
        team = [fork.Process(target=told, args=(rank, world, folder)) for rank in range(world)]
        for one in team:
            one.start()
        for one in team:
            one.join()
        if any(one.exitcode for one in team):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
