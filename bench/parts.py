"""The measurements, each a list of rows (``Row``); sizes are arguments, so that a test can run them small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch.nn.functional import normalize

from bench.cases import CAPTIONS, CASES, KS
from bench.measure import by_turns, card_of_files, extra_memory, free_memory, ratio, step_seconds
from gaplib.data import glyphs
from gaplib.methods import METHODS
from gaplib.pairs import PairedEmbeddings
from gaplib.towers import tiny_towers
from gaplib.training import fit
from gaplib.training.config import RunConfig
from gaplib.training.trainer import run_loop

#: MiB an entry of the n x n matrices that the composed form of cuaxu needs, generously: 15 such matrices in float32
COMPOSED_MIB = 60 / 2**20


@dataclass(frozen=True)
class Row:
    """One comparison: ``value`` is ``reference_name``'s cost over ``name``'s, or what ``unit`` says.

    ``limit`` is what was promised, met where ``value`` is on the right side of it (``at_most``); None promises nothing.
    """

    part: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = True
    details: dict[str, Any] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where there was none."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return asdict(self) | {"met": self.met}


def training_step(names: Sequence[str] | None = None, batch_size: int = 256, repeats: int = 40) -> Iterator[Row]:
    """(a) a training step of each method over one of CLIP with the same towers, data and optimizer included."""
    names = names or [name for name, row in METHODS.items() if not row.post_hoc and name != "clip"]

    def update(name: str, architecture: str | None = None) -> Any:
        # Of a method that swaps now and then, a step that does.
        swapping = {"p": 1.0} if METHODS[name].swapping else None
        # So long a run that no number of repeats comes to its end.
        run = {"method": name, "batch_size": batch_size, "architecture": architecture, "steps": 10**6}
        config = RunConfig(**run, swapping=swapping).resolved()
        return run_loop(config).update

    clips: dict[str, Any] = {}
    for name in names:
        kind = "transformer" if METHODS[name].towers == "shared" else "conv"
        if kind not in clips:
            clips[kind] = update("clip", kind)
        taken = by_turns({"clip": clips[kind], name: update(name)}, repeats, warm_up=5)
        needs = METHODS[name].requires
        details = {"ms": 1e3 * median(taken[name]), "clip ms": 1e3 * median(taken["clip"]), "requires": sorted(needs)}
        limit = None if "views" in needs else 1.15
        yield Row("a", f"{name} step / clip step", ratio(taken, name, "clip"), "x", limit, details=details)


def large_batch(n: int = 4096, d: int = 512, repeats: int = 5) -> Iterator[Row]:
    """(b) forward and backward of cuaxu against the composition of public parts."""
    yield _pair("b", "cuaxu", "cuaxu composed", n, d, repeats, limit=4.0)


def memory(ns: Sequence[int] = (4096, 8192, 16384), d: int = 512) -> Iterator[Row]:
    """(c) extra peak memory of forward and backward of cuaxu, in tiles from some size on, and of the composition."""
    found = {n: extra_memory("cuaxu", n, d) for n in ns}
    for n, value in found.items():
        yield Row("c", f"cuaxu, n = {n:,}", value, "MiB", 300.0 if n == 16384 else None, details={"n": n})
    for small, large in pairwise(ns):
        if large == 2 * small:
            yield Row("c", f"growth from n = {small:,} to {large:,}", found[large] / found[small], "x", 2.2)
    for n in ns:
        if free_memory() < COMPOSED_MIB * n * n:
            yield Row("c", f"composed, n = {n:,}: not enough memory here", float("nan"), "MiB", details={"n": n})
            continue
        value = extra_memory("cuaxu composed", n, d)
        yield Row("c", f"composed, n = {n:,}", value, "MiB", details={"n": n})
        yield Row("c", f"composed / cuaxu, n = {n:,}", value / found[n], "x")


def closed_forms(n: int = 4096, d: int = 512, repeats: int = 5) -> Iterator[Row]:
    """(d) the cyclic terms in closed form (float64 inside) against the n x n matrices (float32)."""
    yield _pair("d", "cyclic", "cyclic composed", n, d, repeats)
    yield _memory_ratio("d", "cyclic", "cyclic composed", n, d)


def search(n: int = 5000, d: int = 512, repeats: int = 3) -> Iterator[Row]:
    """(e) retrieval, n images and five texts each, against a full order and against indicators of the k best."""
    others = ("retrieval argsort", "retrieval topk")
    work = {name: CASES[name](n, d) for name in ("retrieval", *others)}
    found = {name: function() for name, function in work.items()}
    taken = by_turns(work, repeats, warm_up=0)
    for other in others:
        # A few queries may differ whose best answers are level but for rounding.
        apart = max(abs(found["retrieval"][name] - found[other][name]) for name in found["retrieval"])
        if apart > 2 / n:
            raise AssertionError(f"{other} finds other recalls than retrieval, by up to {apart:.2g}")
        yield _speed("e", "retrieval", other, taken, n=n, d=d, texts=CAPTIONS * n, ks=list(KS))
        yield _memory_ratio("e", "retrieval", other, n, d)


def card(ns: Sequence[int] = (50_000, 1_000_000), d: int = 512) -> Iterator[Row]:
    """(m) gaplib.measure of two files in half precision, which are not loaded: memory and time, all metrics."""
    for n in ns:
        found = card_of_files(n, d)
        name = f"measure, n = {n:,}"
        yield Row("m", f"{name}, memory", found["mib"], "MiB", 1024.0, details={"n": n, "d": d})
        limit = 60.0 if n == 50_000 else None
        yield Row("m", f"{name}, one core", found["processor"], "s", limit, details={"clock": found["seconds"]})
        yield Row("m", f"{name}, a 100,000 rows", found["processor"] * 1e5 / n, "s")


def two_processes(batch_size: int = 512, steps: int = 10, repeats: int = 3) -> Iterator[Row]:
    """(p) a training step of one process, over that of two with half of the batch each, one thread a process."""
    for name in ("clip", "cuaxu"):
        # By turns, each time in new processes.
        taken = [[step_seconds(name, batch_size, steps, count) for count in (1, 2)] for _ in range(repeats)]
        one, two = (median(times) for times in zip(*taken, strict=True))
        details = {"n": batch_size, "ms in one": 1e3 * one, "ms in two": 1e3 * two}
        yield Row("p", f"{name} step, one process / two", median(a / b for a, b in taken), "x", details=details)


def fitting(batch_size: int = 256, steps: int = 20, repeats: int = 7) -> Iterator[Row]:
    """(f) steps of ``gaplib.training.fit`` over those of a bare torch loop of the same towers, loss and batches."""
    pairs = glyphs.load().batches("train", batch_size, 0)(0)
    batch = {"image": pairs.images, "text": pairs.tokens}
    words = int(pairs.tokens.max()) + 1

    def bare() -> None:
        towers, objective = tiny_towers(words), METHODS["clip"].build()
        optimizer = torch.optim.AdamW([*towers.parameters(), *objective.parameters()], lr=1e-3)
        for _ in range(steps):
            sides = towers.encode_image(pairs.images), towers.encode_text(pairs.tokens)
            loss = objective(PairedEmbeddings(*(normalize(z, dim=1) for z in sides), check=False))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.after_step()

    def ours() -> None:
        fit(tiny_towers(words), "clip", [batch], steps, lr=1e-3)

    taken = by_turns({"bare": bare, "fit": ours}, repeats)
    details = {"ms": 1e3 * median(taken["fit"]) / steps, "bare ms": 1e3 * median(taken["bare"]) / steps}
    yield Row("f", "fit / bare torch loop, a step", ratio(taken, "fit", "bare"), "x", 1.05, details=details)


def _pair(part: str, ours: str, other: str, n: int, d: int, repeats: int, limit: float | None = None) -> Row:
    taken = by_turns({name: CASES[name](n, d) for name in (ours, other)}, repeats)
    return _speed(part, ours, other, taken, limit, n=n, d=d)


def _speed(part: str, ours: str, other: str, taken: Any, limit: float | None = None, **details: Any) -> Row:
    details |= {"repeats": len(taken[ours]), "seconds": median(taken[ours]), "other": median(taken[other])}
    return Row(part, f"{other} / {ours}, time", ratio(taken, other, ours), "x", limit, at_most=False, details=details)


def _memory_ratio(part: str, ours: str, other: str, n: int, d: int) -> Row:
    mib, others = extra_memory(ours, n, d), extra_memory(other, n, d)
    details = {"n": n, "d": d, "mib": mib, "other": others}
    return Row(part, f"{other} / {ours}, memory", others / mib, "x", at_most=False, details=details)
