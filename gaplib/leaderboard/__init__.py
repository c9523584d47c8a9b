"""The leaderboard: methods x seeds, every run scored on every task, on the cores of a machine or on a Ray cluster.

    frame = leaderboard(["clip", "cua", "cua+mean-centring", "untrained"], range(100, 103), "_build/leaderboard")

The folder holds leaderboard.json (what is compared), rows/ (a file a row, named by the content of what made it),
leaderboard.csv and leaderboard.parquet. Killed and called again, it goes on: runs come from the cache of training runs,
rows from the folder, and every file is whole or not there. Only the calling process writes into the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from gaplib._extras import need

need("train", "filelock", "pyarrow", "tqdm")

import pandas as pd
from tqdm.auto import tqdm

from gaplib._devices import note_device
from gaplib._validate import check_integer
from gaplib.glyph_tasks.suite import evaluate as evaluate_suite
from gaplib.leaderboard import processes, ray_cluster
from gaplib.leaderboard.folder import LeaderboardFolderError, reserved, write_row
from gaplib.leaderboard.jobs import Result, Spec
from gaplib.leaderboard.plan import Plan
from gaplib.leaderboard.table import METHODS_AND_CONTROLS, columns, write_table
from gaplib.stats import FIRST_SEED

__all__ = ["FIRST_SEED", "METHODS_AND_CONTROLS", "LeaderboardFailed", "LeaderboardFolderError", "leaderboard"]


class LeaderboardFailed(RuntimeError):
    """Some rows could not be made. ``failures`` maps (method, seed) to the reason, ``frame`` has the rows that were."""

    def __init__(self, failures: dict[tuple[str, int], str], frame: pd.DataFrame):
        self.failures, self.frame = failures, frame
        reasons = "; ".join(f"{method} (seed {seed}): {why}" for (method, seed), why in sorted(failures.items()))
        super().__init__(f"{len(failures)} of {len(failures) + len(frame)} rows failed, the others are kept: {reasons}")


def leaderboard(
    methods: Iterable[str] | None = None,
    seeds: Iterable[int] = (100, 101, 102),
    out: str | Path = "_build/leaderboard",
    jobs: int = 2,
    setting: str = "tuned",
    progress: bool = True,
    *,
    ray: str | None = None,
    device: str = "cpu",
    changes: Mapping[str, Any] | None = None,
    evaluate: Callable[..., Mapping[str, float]] = evaluate_suite,
) -> pd.DataFrame:
    """Train what is missing, score what is not scored yet, and return one row a method and seed, in the order asked.

    methods   names of ``gaplib.methods`` (combinations and treatments after training too) and of
              ``gaplib.glyph_tasks.controls.CONTROLS``, which stand on CLIP's run; None is all of them
    device    "cpu", "cuda", "cuda:N" or "mps": where runs are trained; they are scored on the CPU
    jobs      processes, each with one thread; not used with ``ray``, the address ("HOST:PORT" or "auto") of a cluster
    setting   "paper" or "tuned", see ``gaplib.training.presets``; ``changes`` are fields of ``RunConfig`` beyond it
    evaluate  ``evaluate(run, treatment=None) -> {name: float}``, a function of a module, in place of the suite

    Columns: method, seed, setting, tau (at the end), steps, seconds (of training), gaplib, torch (versions), device
    (of the training), run (its key in the cache), configuration (JSON), then one a metric. A treatment or control has
    those of the run it is on. The folder may hold more methods and seeds than asked: its tables have all that it still
    stands for.

    Raises:
        ValueError: unknown names (near ones are listed), seeds that repeat, an address that does not answer, a device
            that is not there, or one beside the CPU together with ``ray``, whose tasks are given no other.
        LeaderboardFolderError: a folder with something else in it, or another comparison's; nothing is overwritten.
        RuntimeError: called at the top of a script, not under ``if __name__ == "__main__":`` (its processes import it).
        LeaderboardFailed: after everything else is done and written, if rows failed (a NaN, an exception).
        ImportError: ``ray`` without the extra ``gaplib[ray]``.
    """
    processes.end_if_imported()
    jobs = check_integer(jobs, "jobs", low=1)
    plan = Plan(setting, dict(changes or {}), evaluate, device)
    if ray is not None and device != "cpu":
        raise ValueError(f"device: expected cpu with ray, whose tasks are given CPUs only, got {device!r}")
    wanted = plan.rows(methods, seeds)
    cluster = ray_cluster.reachable(ray) if ray is not None else None
    with reserved(Path(out), plan.identity()) as folder:
        rows = plan.read(folder)
        missing = [spec for spec in wanted if spec.key not in rows]
        failures: dict[tuple[str, int], str] = {}
        work = plan.jobs(missing)
        results = ray_cluster.results(work, cluster) if cluster else processes.results(work, jobs)
        bar = tqdm(total=len(wanted), initial=len(wanted) - len(missing), disable=not progress, unit="row", smoothing=0)
        with bar, closing(results):
            bar.set_description("leaderboard")
            for result in results:
                _take(result, rows, failures, folder, bar)
                write_table(folder, rows.values())
        write_table(folder, rows.values())
    frame = columns([rows[spec.key] for spec in wanted if spec.key in rows])
    for one in sorted(set(frame.get("device", ()))):
        note_device(one)  # other processes trained the runs, perhaps long ago
    if failures:
        raise LeaderboardFailed(failures, frame)
    return frame


def _take(result: Result, rows: dict[str, Any], failures: dict[tuple[str, int], str], folder: Path, bar: tqdm) -> None:
    """Keep one result: a row as its own file, a failure with its reason."""
    spec: Spec = result.spec
    if result.error:
        failures[spec.method, spec.seed] = result.error
        bar.write(f"leaderboard: {spec.method} (seed {spec.seed}) failed: {result.error}") if not bar.disable else None
    else:
        write_row(folder, spec.key, result.row)
        rows[spec.key] = result.row
    bar.set_postfix_str(f"{spec.method} {spec.seed}", refresh=False)
    bar.update()
