"""Chapter 11, the decision: from the leaderboard to what to try first, by need and by what may be changed.

The leaderboard is chapter 09's: a row a method and seed. A build's own takes an hour of one core from nothing, so the
one of a named commit lies in ``results/leaderboard.csv`` (``python -m tools.keep_leaderboard`` puts it there).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gaplib import posthoc
from gaplib._atomic import sha256
from gaplib._validate import check_choice
from gaplib.book.chapters.ch09_rows import FIXED, METHODS, SHARP, TREATMENTS
from gaplib.book.chapters.ch09_table import GAP, KEYS, TASKS, winners
from gaplib.book.results import confirm_dir, load
from gaplib.claims.table import Table
from gaplib.geometry import normalize
from gaplib.methods import METHODS as TABLE
from gaplib.stats import Estimate

#: columns of the kept leaderboard: what a row is, and what is decided by
COLUMNS = ("method", "seed", "setting", "tau", "steps", "seconds", "run", GAP, *TASKS)
NOTHING = "nothing shown"
#: metric -> the need that it stands for
NEEDS: dict[str, str] = {
    "recall.mean@1": "find an image by its text, and back",
    "zero_shot.mean": "classify images by names alone",
    "probe.mean": "classify by a linear layer on images",
    "few_shot.mean": "classify from a few examples",
    "arithmetic.exact": "find an image by an image and a change in words",
    "clustering.v_measure": "group images and texts together",
    "mixed.mean": "search a collection of images and texts",
    "fine_grained.both": "match two look-alikes to their texts",
    "noise.mean": "find partners under noise",
}

#: row of the leaderboard -> what it does, in words
WORDS: dict[str, str] = {
    "siglip": "sigmoid loss",
    "cua": "uniformity and alignment terms (CUA)",
    "cuaxu": "CUA and cross-uniformity (CUAXU)",
    "atp-cu": "true-pair alignment and centroid uniformity (ATP-CU)",
    "cyclip": "cyclic consistency (CyCLIP)",
    "clip-align": "alignment term",
    "clip-views": "second view of each pair, four-way loss",
    "sep": "second views and feature separation (Sep)",
    "br": "second views and Brownian bridge (Br)",
    "gc": "second views and geometric consistency (GC)",
    "ts-s3": "temperature raised on a schedule (S3)",
    "tr-softplus": "temperature as a softplus",
    "tr-exp": "temperature as an exponential",
    "slrt": "smaller learning rate of the temperature",
    "flt": "fixed temperature, tuned",
    "hs": "hard swapping",
    "ss": "soft swapping",
    "mean-centring": "centring: subtract each modality's mean",
    "shift": "shift the two means together",
    "orthogonal-shift": "shift along what does not vary",
    "shared-space": "project on the shared directions",
    "trace-matched": "match mean and variance of the texts",
    **{name: f"temperature fixed at {name.split()[1]}" for name in FIXED},
}
_TEMPERATURE = ("ts-s3", "tr-softplus", "tr-exp", "slrt", "flt", *FIXED)
# Of another architecture than the CLIP they would be compared with: what they gain is not the method's alone.
_OTHER_TOWERS = ("shared", "alignclip")


@dataclass(frozen=True)
class Option:
    """What may be changed of a model: the rows to choose from, and the row whose place they take."""

    words: str
    names: tuple[str, ...]
    over: str = "clip"


@cache
def keeps_images(treatment: str) -> bool:
    """Whether a treatment leaves image embeddings as they are, so that an index of images need not be made again."""
    x, y = (normalize(np.random.default_rng(seed).normal(size=(20, 4)) + 2 * seed) for seed in (0, 1))
    options = {"variance": 0.5, "tolerance": 0.9} if treatment == "shared-space" else {}
    return not posthoc.fit(treatment, x, y, **options).image_stages


def _on_sharp(treatments: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{SHARP} + {name}" for name in treatments)


OPTIONS: dict[str, Option] = {
    "loss": Option("train with any loss", tuple(n for n in METHODS if n not in ("clip", *_OTHER_TOWERS))),
    "temperature": Option("train, but change the temperature only", _TEMPERATURE),
    "embeddings": Option("not train, but treat all embeddings", _on_sharp(TREATMENTS), SHARP),
    "queries": Option(
        "not train, and leave the image index", _on_sharp([n for n in TREATMENTS if keeps_images(n)]), SHARP
    ),
}
# Where chapter 09's confirming run has the gain of centring sharp towers: metric -> its name there.
_CENTRING = {"clustering.v_measure": "M1.centred.v_measure", "mixed.mean": "C2.mean_gain"}


@dataclass(frozen=True)
class Advice:
    """What to try first for a need: ``row`` of the leaderboard, its gain in the need's score, what it costs.

    gain: cross-fitted on the leaderboard's seeds, or the confirming run's where that has it. tied: how many other rows
    cannot be told from this one. time: of a training step, in steps of CLIP; 0 without training, None if not measured.
    """

    metric: str
    row: str
    gain: Estimate
    tied: int
    time: float | None
    memory: str

    @property
    def shown(self) -> bool:
        """Whether the interval of the gain lies above zero."""
        return self.gain.low > 0

    @property
    def method(self) -> str:
        """The method or the treatment, without the towers that it was tried on."""
        return self.row.rpartition(" + ")[2]

    @property
    def words(self) -> str:
        """What to do."""
        return WORDS[self.method]


def board(folder: Path | None = None) -> pd.DataFrame:
    """The kept leaderboard, columns ``COLUMNS``; ``attrs`` hold its commit, date and seeds.

    folder: ``results`` of a checkout; None is the one beside the confirming results. Raises ``ValueError`` for a table
    that is missing, was edited, or lacks a column.
    """
    file = (folder or confirm_dir().parent) / "leaderboard.csv"
    try:
        said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        if said["sha256"] != sha256(file):
            raise ValueError("it is not the table that was kept")
        table = pd.read_csv(file)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: expected a leaderboard kept by tools.keep_leaderboard: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise ValueError(f"{file}: expected the column {missing[0]!r}")
    table.attrs |= {name: said[name] for name in ("commit", "date")} | {"seeds": sorted(set(table.seed.tolist()))}
    return table


def confirmed() -> Mapping[str, Estimate]:
    """Chapter 09's confirming results by name, none where they are not at hand."""
    file = confirm_dir() / "09.json"
    return load(file).estimates if file.exists() else {}


def step_times(folder: Path | None = None) -> dict[str, float]:
    """Method -> time of a training step in steps of CLIP, as ``make bench`` measured it; empty where it did not."""
    file = (folder or confirm_dir().parent / "bench") / "steps_and_large_batches.json"
    if not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    ending = " step / clip step"
    return {row["name"].removesuffix(ending): float(row["value"]) for row in rows if row["name"].endswith(ending)}


def advise(
    table: pd.DataFrame,
    metric: str,
    option: str,
    confirmed: Mapping[str, Estimate] | None = None,
    times: Mapping[str, float] | None = None,
) -> Advice:
    """What to try first for ``metric`` (a name of chapter 09's ``TASKS``) where ``option`` (of ``OPTIONS``) is open.

    The row is the best by its mean; its gain is read on the seed that did not choose it, so that it may lie below zero.
    confirmed: results of chapter 09's confirming run, which take the place of the table's where they hold the same.
    times: of ``step_times``.
    """
    check_choice(metric, "metric", TASKS)
    among = OPTIONS[check_choice(option, "option", OPTIONS)]
    found = winners(table, among.names, [metric], among.over).iloc[0]
    method = found.best.rpartition(" + ")[2]
    name = f"decision.{KEYS[metric]}.gain" if option == "loss" else ""
    if among.over == SHARP and method == "mean-centring":
        name = _CENTRING.get(metric, "")
    gain = (confirmed or {}).get(name, found.gain)
    time = 0.0 if among.over == SHARP else 1.0 if method in FIXED else (times or {}).get(method)
    return Advice(metric, found.best, gain, len(found.tied), time, _memory(method))


def _memory(method: str) -> str:
    if method in TREATMENTS:
        return {"shared-space": "one matrix"}.get(method, "one vector" if keeps_images(method) else "two vectors")
    requires = TABLE[method].requires if method in TABLE else ()
    return "activations of two views" if "views" in requires else "as CLIP"


def points(gain: Estimate) -> str:
    """A gain in points of a hundred with its interval and its sign.

    >>> from gaplib.stats import over_seeds
    >>> points(over_seeds([0.01, 0.02, 0.03]))
    '+2.0 [-0.5, +4.5]'
    """
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * z for z in (gain.value, gain.low, gain.high)))


def in_words(gain: Estimate) -> str:
    """``points`` of a gain, after "nothing shown" where its interval does not lie above zero.

    >>> from gaplib.stats import over_seeds
    >>> in_words(over_seeds([-0.01, 0.02, 0.03]))
    'nothing shown: +1.3 [-3.8, +6.5]'
    """
    return points(gain) if gain.low > 0 else f"{NOTHING}: {points(gain)}"


def decision_table(advice: Sequence[Advice]) -> Table:
    """A row an advice, all entries words: the need, what to try first, its gain, its cost."""
    columns = ("you need to", "try first", "gain in points", "seeds", "time of a step", "memory")
    rows = []
    for one in advice:
        others = f" ({one.tied} other{'s' * (one.tied > 1)} not told from it)" if one.tied else ""
        time = {None: "not measured", 0.0: "no training"}.get(one.time, f"{one.time or 0:.1f} of CLIP's")
        rows.append((NEEDS[one.metric], one.words + others, in_words(one.gain), str(one.gain.n), time, one.memory))
    return Table(columns, tuple(rows))


def all_advice(table: pd.DataFrame, option: str, **known: Any) -> list[Advice]:
    """:func:`advise` for each of the nine needs."""
    return [advise(table, metric, option, **known) for metric in TASKS]
