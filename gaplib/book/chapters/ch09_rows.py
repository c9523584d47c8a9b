"""Chapter 09, its rows: which methods, treatments, controls and fixed temperatures stand in the leaderboard.

The main rows are those of ``gaplib.leaderboard`` at each method's tuned point. Beside them stand plain CLIP at fixed
temperatures, so that the temperature is seen apart from the method, and strengths of one term alone at one temperature.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gaplib import _dependencies
from gaplib._atomic import atomic
from gaplib._devices import check_device, note_device
from gaplib._store import NOT_BEHAVIOUR, Store, content_key
from gaplib.book import kept
from gaplib.book.chapters.ch09_causal import trained_centring
from gaplib.data import cache_dir
from gaplib.glyph_tasks.controls import CONTROLS
from gaplib.glyph_tasks.suite import evaluate
from gaplib.leaderboard import LeaderboardFailed, leaderboard, processes
from gaplib.leaderboard.folder import reserved, row_store, write_row
from gaplib.leaderboard.jobs import Spec
from gaplib.leaderboard.plan import Plan
from gaplib.leaderboard.table import columns
from gaplib.training import Run, presets

METHODS = (
    "clip", "siglip", "cua", "cuaxu", "atp-cu", "cyclip", "clip-align", "clip-views", "sep", "br", "gc", "shared",
    "alignclip", "ts-s3", "tr-softplus", "tr-exp", "slrt", "flt", "hs", "ss",
)  # fmt: skip
TREATMENTS = ("mean-centring", "shift", "orthogonal-shift", "shared-space", "trace-matched")
SHARP = "clip 0.02"  # towers with a gap, for what is said of the gap
EQUAL = "clip 0.03"  # the baseline at the temperature at which methods and strengths are compared
STRENGTHS = (0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Variant:
    """A row beside the main ones: the method, what is changed of it, and the treatment after training."""

    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    treatment: str = ""


def _at(tau: float, **changes: Any) -> dict[str, Any]:
    return {"tau": tau, "learn_tau": False, **changes}


#: plain CLIP at a fixed temperature; "flt" is that too, and chapter 07 has trained it already
FIXED: dict[str, Variant] = {
    "clip 0.01": Variant("clip", _at(0.01)),
    SHARP: Variant("flt", {"tau": 0.02}),
    EQUAL: Variant("clip", _at(0.03)),
    "clip 0.1": Variant("clip", _at(0.1)),
    "clip 0.4": Variant("flt", {"tau": 0.4}),
}
#: sharp towers, treated
TREATED = {f"{SHARP} + {name}": Variant("flt", {"tau": 0.02}, name) for name in TREATMENTS}
#: all at the temperature of ``EQUAL``: the two methods of chapter 06, then one term alone at three strengths
AT_EQUAL: dict[str, Variant] = {
    "cua 0.03": Variant("cua", _at(0.03)),
    "cuaxu 0.03": Variant("cuaxu", _at(0.03)),
    **{f"uniformity {w:g}": Variant("cua", _at(0.03, weights={"uniformity": w, "alignment": 0.0})) for w in STRENGTHS},
    **{f"alignment {w:g}": Variant("clip-align", _at(0.03, weights={"alignment": w})) for w in STRENGTHS},
}
SETTINGS: dict[str, Variant] = FIXED | TREATED | AT_EQUAL


#: rows of the leaderboard itself
MAIN = (*METHODS, *TREATMENTS, *CONTROLS)


def cores() -> int:
    """Processes to use: two at most, which is what the book is allowed."""
    return min(2, os.cpu_count() or 1)


def main_rows(
    seeds: Sequence[int], out: Path | None = None, jobs: int | None = None, device: str = "cpu"
) -> pd.DataFrame:
    """The leaderboard: ``METHODS`` at their tuned points, ``TREATMENTS`` of CLIP, the controls."""
    folder, plan = _folder(out, device) / "methods", _main_plan(device)
    with reserved(folder, plan.identity()):
        kept.lay_out(row_store(folder), [spec.key for spec in plan.rows(MAIN, seeds)])
    return leaderboard(MAIN, seeds, folder, jobs or cores(), progress=False, device=device)


def setting_rows(
    seeds: Sequence[int],
    out: Path | None = None,
    jobs: int | None = None,
    settings: Mapping[str, Variant] = SETTINGS,
    device: str = "cpu",
) -> pd.DataFrame:
    """Rows of the ``settings``, each of its own configuration, made together; ``method`` is the setting's name.

    Each setting has its folder, as a leaderboard of one row a seed has it: killed and called again, it goes on.
    """
    plans = {name: _plan(one, device) for name, one in settings.items()}
    with ExitStack() as stack:
        folders, rows, names, missing = {}, {}, {}, {}
        for name, (plan, method) in plans.items():
            folders[name] = stack.enter_context(reserved(_folder(out, device) / _place(name), plan.identity()))
            specs = plan.rows([method], seeds)
            kept.lay_out(row_store(folders[name]), [spec.key for spec in specs])
            found = plan.read(folders[name])
            for spec in specs:
                if spec.key in found:
                    rows[name, spec.seed] = found[spec.key]
                else:
                    missing[name, spec.seed] = spec
                    names[_identity(spec)] = name
        failures = {}
        work = Plan("paper", {}, evaluate, device).jobs(missing.values())
        for result in tqdm(processes.results(work, jobs or cores()), total=len(missing), desc="settings", disable=None):
            name, spec = names[_identity(result.spec)], result.spec
            if result.row is None:
                failures[name, spec.seed] = result.error
                continue
            rows[name, spec.seed] = result.row
            write_row(folders[name], spec.key, result.row)
    for row in rows.values():
        note_device(row["device"])
    table = columns([{**rows[at], "method": at[0]} for name in settings for s in seeds if (at := (name, s)) in rows])
    if failures:
        raise LeaderboardFailed(failures, table)
    return table


def stored(seeds: Sequence[int], out: Path | None = None, device: str = "cpu") -> dict[str, dict[str, Any]]:
    """Rows and held-out centring that a build of these seeds has stored, by key; ``KeyError`` for what is not there."""
    found = {}
    settings = ((_place(name), *_plan(one, device)) for name, one in SETTINGS.items())
    for place, plan, *methods in (("methods", _main_plan(device), *MAIN), *settings):
        store = row_store(_folder(out, device) / place)
        for spec in plan.rows(methods, seeds):
            found[spec.key] = _stored(store, spec.key, f"{spec.method}, seed {spec.seed}")
    for name in (SHARP, *METHODS):
        for seed in seeds:
            key = _centring_key(name, seed, device)
            found[key] = _stored(_centrings(), key, f"centring of {name}, seed {seed}")
    return found


def _stored(store: Store, key: str, what: str) -> dict[str, Any]:
    if (entry := store.read(key)) is None:
        raise KeyError(f"{what}: not in {store.root}")
    return entry[1]


def held_out_centring(name: str, seed: int, device: str = "cpu") -> dict[str, float]:
    """``ch09_causal.trained_centring`` of the run of a row, stored under its key."""
    key = _centring_key(name, seed, device)
    kept.lay_out(_centrings(), [key])
    return _centrings().make(key, lambda: ({}, trained_centring(trained(name, seed, device))))[1]


def _centrings() -> Store:
    return Store(cache_dir() / "centring")


def _centring_key(name: str, seed: int, device: str) -> str:
    plan, method = _plan(SETTINGS[name], device) if name in SETTINGS else (_main_plan(device), name)
    return content_key({"run": plan.spec(method, seed).run_key, "code": _centring_code()})


@cache
def _centring_code() -> str:
    roots = ("gaplib.posthoc", "gaplib.evaluation.retrieval", "gaplib.geometry.distance", "gaplib.stats")
    files = {one for root in roots for one in _dependencies.closure(root, packages=False, leave_out=NOT_BEHAVIOUR)}
    return _dependencies.digest(sorted({*files, Path(inspect.getfile(trained_centring))}))


def made_again(table: pd.DataFrame, seed: int, device: str = "cpu") -> float:
    """Train and score plain CLIP's row here: the largest difference of a metric from its row in ``table``."""
    row = table[(table.method == "clip") & (table.seed == seed)].iloc[0]
    return max(abs(value - row[metric]) for metric, value in evaluate(trained("clip", seed, device)).items())


def _identity(spec: Spec) -> tuple[str, str, int]:
    return spec.run_key, spec.treatment, spec.seed


def _main_plan(device: str) -> Plan:
    return Plan("tuned", {}, evaluate, device)


def _plan(one: Variant, device: str = "cpu") -> tuple[Plan, str]:
    """The comparison that a setting is, and the name of its row there."""
    name = f"{one.method}+{one.treatment}" if one.treatment else one.method
    return Plan("paper", dict(one.changes), evaluate, device), name


def _folder(out: Path | None, device: str) -> Path:
    """The rows of each kind of device have a folder of their own: in one table they would be compared."""
    kind, _ = check_device(device)
    return (Path(out) if out else cache_dir() / "leaderboard") / ("" if kind == "cpu" else kind)


def _place(name: str) -> str:
    """The folder of a setting's rows among the others."""
    return name.replace(" ", "_")


def trained(name: str, seed: int, device: str = "cpu") -> Run:
    """The run of a row: of one of ``SETTINGS``, or of a method at its tuned point."""
    if name in SETTINGS:
        return presets.run(SETTINGS[name].method, seed, "paper", device, **SETTINGS[name].changes)
    return presets.run(name, seed, device=device)


def rows(seeds: Sequence[int], out: Path | None = None, jobs: int | None = None, device: str = "cpu") -> pd.DataFrame:
    """All rows of the chapter in one table, main rows first; their runs are trained on ``device``."""
    main, settings = main_rows(seeds, out, jobs, device), setting_rows(seeds, out, jobs, device=device)
    return pd.concat([main, settings], ignore_index=True)


def write(table: pd.DataFrame, folder: Path) -> Path:
    """``leaderboard.csv`` in ``folder``, a row a run, whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "leaderboard.csv") as partial:
        table.to_csv(partial, index=False)
    return folder / "leaderboard.csv"
