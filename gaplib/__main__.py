"""Command line: ``python -m gaplib measure | methods | train | runs | leaderboard | zoo``.

Bad input is one line on stderr and exit status 2; a run that had to stop is 1; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gaplib._extras import MissingExtra
from gaplib.data import DataUnavailable

# Nothing heavy is imported here: `--help` answers at once, and each command imports what it needs.


class _Stopped(Exception):
    """A command could not finish, through no fault of its input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _say(getattr(options, "when_interrupted", "interrupted"), 130)
    except (MissingExtra, DataUnavailable, ValueError, OSError) as error:
        return _say(str(error), 2)
    except _Stopped as error:
        return _say(str(error), 1)


def _say(message: str, status: int) -> int:
    print(f"gaplib: {' '.join(message.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gaplib", description="Measure and train on the modality gap.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help, description=help)
        one.set_defaults(command=command)
        return one

    measure = add(
        "measure", _measure, "Card of the gap between files of embeddings: .npy, .npz, .pt, .safetensors, ..."
    )
    measure.add_argument(
        "modalities",
        metavar="FILE",
        nargs="+",
        help="embeddings, shape (n, d), a file (FILE:NAME for one array of several) or a folder of shards for each "
        "modality, row i of all one item; or one that holds two modalities",
    )
    measure.add_argument("--pairs", metavar="FILE", help="for each row of the second file its row of the first, from 0")
    measure.add_argument("--compare", metavar=("X2", "Y2"), nargs=2, help="another model, or after a treatment")
    measure.add_argument("--key", metavar="NAME", help="of the array in files that hold several")
    measure.add_argument("--subsample", metavar="N", type=int, help="at most so many rows, drawn at random")
    measure.add_argument("--among", metavar="FILE", help="table of measured models to be placed among (default: ours)")
    measure.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    measure.add_argument("--html", metavar="FILE", type=Path, help="write the report card as a web page, too")
    measure.add_argument("--unpaired", action="store_true", help="rows do not belong together; counts may differ")
    measure.add_argument(
        "--groups", metavar="FILE", help="labels of the rows, .npy or one a line; equal ones show one item"
    )
    measure.add_argument("--seed", type=int, default=0, help="of the held-out split and the permutation floors")

    add("methods", _methods, "The table of methods, with their sources.")

    train = add("train", _train, "Train two towers with a method; write run.json, embeddings and checkpoints.")
    train.add_argument("method", metavar="METHOD", help="a name that `methods` lists")
    train.add_argument("--out", metavar="DIR", type=Path, required=True, help="new or empty folder, or this run's own")
    outside = "with --towers csv:FILE, webdataset:PATTERN or coco:FOLDER"
    train.add_argument("--data", default="glyphs", help=f"glyphs (default) or digits; {outside}")
    train.add_argument("--towers", metavar="KIND:NAME", help="open_clip:NAME[:PRETRAINED] or hf:NAME (default: ours)")
    train.add_argument("--tau", type=float, help="temperature, or where a learnable one starts")
    train.add_argument("--steps", type=int, help="optimizer steps")
    train.add_argument("--batch-size", type=int, help="pairs a step")
    train.add_argument("--lr", type=float, help="peak learning rate")
    train.add_argument("--seed", type=int, help="of initial weights and batches")
    train.add_argument("--workers", type=int, default=0, help="processes that read pictures, with --towers")
    train.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default: %(default)s)")
    train.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")

    add("runs", _runs, "The runs in the cache and the seconds they took.")

    board = add("leaderboard", _leaderboard, "Methods x seeds: train what is missing, score everything, write tables.")
    board.add_argument("--out", metavar="DIR", type=Path, required=True, help="new or empty folder, or a leaderboard's")
    board.add_argument("--methods", metavar="A,B", help="names that `methods` lists, or controls (default: all)")
    board.add_argument("--seeds", metavar="N", type=int, default=3, help="runs a method, from seed 100 on (default: 3)")
    where = board.add_mutually_exclusive_group()
    where.add_argument("--jobs", metavar="N", type=int, help="processes (default: one a core)")
    where.add_argument("--ray", metavar="ADDRESS", help="HOST:PORT of a Ray cluster, or auto")
    board.add_argument(
        "--device", default="cpu", help="of the training: cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    board.add_argument("--setting", default="tuned", help="tuned or paper (default: %(default)s)")
    board.add_argument("--steps", type=int, help="optimizer steps of every run")

    zoo = add("zoo", _zoo, "Models x one data set: add a row of measurements for each model to a table.")
    zoo.add_argument(
        "--models",
        metavar="A,B",
        required=True,
        help="open_clip:NAME[:PRETRAINED], hf:NAME (transformers) or st:NAME (sentence-transformers); folders work too",
    )
    zoo.add_argument("--data", metavar="KIND:FOLDER", required=True, help="images with captions, such as coco:FOLDER")
    zoo.add_argument("--out", metavar="FILE.csv", type=Path, required=True, help="the table; rows are added to it")
    zoo.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default: %(default)s)")
    zoo.add_argument("--batch-size", type=int, default=64, help="images, and texts, at a time (default: %(default)s)")
    return parser


def _measure(options: argparse.Namespace) -> None:
    if options.html:
        _check_target(options.html)
    from gaplib import measure
    from gaplib._atomic import write_text_atomically

    for name in ("groups", "pairs"):
        if getattr(options, name) and options.unpaired:
            raise ValueError(f"--{name}: rows that are not paired have no {name} in common; leave out --unpaired or it")
    if options.groups and options.pairs:
        raise ValueError("--groups: the rows of one image are a group already with --pairs; leave out one of the two")
    given = {
        name: getattr(options, name) for name in ("pairs", "groups", "compare", "key", "seed", "subsample", "among")
    }
    card = measure(*options.modalities, paired=not options.unpaired, note=_note, **given)
    if options.html:
        write_text_atomically(options.html, card.to_html())
    print(json.dumps(card.to_dict(), indent=1, allow_nan=False) if options.json else card)


def _methods(options: argparse.Namespace) -> None:
    from gaplib.methods import METHODS

    head = ("method", "minimised", "temperature", "requires", "source")
    rows = [
        (m.name, m.formula(), m.policy_text(), ", ".join(sorted(m.requires)) or "-", m.source) for m in METHODS.values()
    ]
    _print_table(head, rows)


def _train(options: argparse.Namespace) -> None:
    options.when_interrupted = f"interrupted; --resume goes on from the last checkpoint in {options.out}"
    from gaplib.training import NonFiniteLoss, RunConfig, train

    names = ("method", "data", "tau", "steps", "batch_size", "lr", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.towers is not None or ":" in options.data:
        return _train_outside(options, given)
    config = RunConfig(**given)
    try:
        run = train(config, options.out, options.device, resume=options.resume, progress=sys.stderr.isatty())
    except NonFiniteLoss as error:
        raise _Stopped(str(error)) from error
    rows = [(name, f"{run.history[-1][name]:.4f}", f"{value:.4f}") for name, value in run.metrics.items()]
    _print_table((config.method, "dev", "test"), rows)
    print(f"\n{run.seconds:.1f} s; tau {run.history[-1]['tau']:.4g}; written to {options.out}")


def _train_outside(options: argparse.Namespace, given: dict[str, Any]) -> None:
    from gaplib._validate import check_integer
    from gaplib.training import NonFiniteLoss
    from gaplib.training.natural import Settings, train_outside

    if options.towers is None:
        raise ValueError(f"--data {options.data} needs --towers open_clip:NAME[:PRETRAINED] or hf:NAME")
    if ":" not in options.data:
        raise ValueError(f"--towers needs --data csv:FILE, webdataset:PATTERN or coco:FOLDER, got {options.data!r}")
    settings = Settings(towers=options.towers, **given)
    workers = check_integer(options.workers, "--workers", low=0)
    shown = sys.stderr.isatty()
    try:
        run = train_outside(
            settings, options.out, device=options.device, resume=options.resume, workers=workers, progress=shown
        )
    except NonFiniteLoss as error:
        raise _Stopped(str(error)) from error
    rows = [(name, f"{run['before'][name]:.4f}", f"{value:.4f}") for name, value in run["after"].items()]
    _print_table((settings.method, "before", "after"), rows)
    print(f"\n{run['test_pairs']} held-out pairs; {run['seconds']:.1f} s; written to {options.out}")


def _runs(options: argparse.Namespace) -> None:
    from gaplib.training.cache import cached_runs

    runs = cached_runs()
    head = ("run", "method", "tau", "steps", "batch", "seed", "device", "seconds", "KiB")
    rows = [
        (
            run["key"][:8],
            run["config"]["method"],
            f"{run['config']['tau']:g}{' learnable' if run['config']['learn_tau'] else ''}",
            *(str(run["config"][name]) for name in ("steps", "batch_size", "seed")),
            run["device"],
            f"{run['seconds']:.1f}",
            f"{run['bytes'] / 1024:.0f}",
        )
        for run in runs
    ]
    _print_table(head, rows)
    print(f"\n{len(runs)} runs, {sum(run['seconds'] for run in runs):.0f} s of training")


def _leaderboard(options: argparse.Namespace) -> None:
    options.when_interrupted = f"interrupted; the same command goes on from what is in {options.out}"
    from gaplib._validate import check_integer
    from gaplib.leaderboard import FIRST_SEED, LeaderboardFailed, leaderboard

    seeds = range(FIRST_SEED, FIRST_SEED + check_integer(options.seeds, "--seeds", low=1))
    methods = [name.strip() for name in options.methods.split(",")] if options.methods is not None else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = cores if options.jobs is None else options.jobs
    changes = {} if options.steps is None else {"steps": options.steps}
    failed = None
    try:
        frame = leaderboard(
            methods, seeds, options.out, jobs, options.setting, ray=options.ray, device=options.device, changes=changes
        )
    except LeaderboardFailed as error:
        failed, frame = error, error.frame
    if len(frame):
        wanted = ("gap.centroid_distance", "recall.mean@1", "zero_shot.mean", "probe.mean")
        means = frame.groupby("method", sort=False)[[name for name in wanted if name in frame]].mean()
        rows = [(name, *(f"{value:.4f}" for value in row)) for name, row in means.iterrows()]
        _print_table(("method", *means.columns), rows)
        print(f"\n{len(frame)} rows, means over seeds; written to {options.out}")
    if failed:
        raise _Stopped(str(failed)) from failed


def _zoo(options: argparse.Namespace) -> None:
    options.when_interrupted = f"interrupted; the same command goes on from what is in {options.out}"
    from gaplib.zoo import ZooFailed, table, zoo

    models = [one.strip() for one in options.models.split(",") if one.strip()]
    failed = None
    try:
        frame = zoo(models, options.data, options.out, device=options.device, batch_size=options.batch_size, note=_note)
    except ZooFailed as error:
        failed, frame = error, error.frame
    if len(frame):
        print(table(frame))
    if failed:
        raise _Stopped(str(failed)) from failed


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _check_target(path: Path) -> None:
    """Refuse before the work, not after it, a file that cannot be written."""
    if path.is_dir():
        raise ValueError(f"--html: expected a file to write, got the folder {path}")
    if not path.parent.is_dir():
        raise ValueError(f"--html: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--html: the folder {path.parent} cannot be written to")


def _note(message: str) -> None:
    print(f"gaplib: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
