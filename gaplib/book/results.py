"""What a chapter's run found: recorded once, written to a file, and glued into the prose.

A notebook makes one ``Recorder``, records every number that its text or a claim needs, and saves at the end::

    run = Recorder("01", profile=PROFILE, seeds=SEEDS, device=DEVICE)
    run.record("L1.clip.centroid_distance", subsample(centroid_distance, x, y), floor=permutation_floor(...))
    run.save()

``save`` writes ``<GAPLIB_RESULTS or _build/results>/01.json`` and, inside a notebook, glues four keys a result: the
name (a float), ``.low``, ``.high`` and ``.ci`` (text), and ``.floor`` where one was given.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import gaplib
from gaplib._atomic import write_text_atomically
from gaplib._devices import devices_since, noted_devices
from gaplib._validate import check_choice, check_integer, check_number
from gaplib._versions import versions
from gaplib.claims import CLAIMS, chapter_claims
from gaplib.claims.rules import check_result_name
from gaplib.stats import FIRST_SEED, Estimate, Floor, exact

__all__ = ["PROFILES", "Recorder", "ResultsFile", "confirm_dir", "load", "results_dir", "write_json"]

# quick: CI and a reader's laptop; confirm: the seeds that decide the verdicts; full: a GPU.
PROFILES = ("quick", "confirm", "full")

_GLUE = "application/papermill.record/"
_RESERVED = ("low", "high", "ci", "floor")  # last parts of glue keys


def results_dir() -> Path:
    """Where results files go: the environment's GAPLIB_RESULTS, else ``_build/results``."""
    return Path(os.environ.get("GAPLIB_RESULTS") or "_build/results")


def confirm_dir() -> Path:
    """Where the committed confirming results lie: the environment's GAPLIB_CONFIRM, else ``results/confirm``."""
    return Path(os.environ.get("GAPLIB_CONFIRM") or "results/confirm")


def write_json(path: str | os.PathLike, content: Any) -> Path:
    """Write strict JSON (no NaN), wholly or not at all; the folder is made where it is missing."""
    path = Path(path)
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, text)
    return path


class Recorder:
    """Collects the results of one chapter's run.

    chapter: two digits. profile: quick, confirm or full. seeds: how many, at least one; ``.seeds`` are 100, 101, ...
    device: what the chapter was asked to use; ``.device``, which the results have, is what it did use.
    ``.estimates``, ``.floors``, ``.units`` hold what was recorded, by name.
    """

    def __init__(self, chapter: str, profile: str = "quick", seeds: int = 3, device: str = "cpu"):
        if not isinstance(chapter, str) or not re.fullmatch(r"\d\d", chapter):
            raise ValueError(f"chapter: expected two digits such as '01', got {chapter!r}")
        if not isinstance(device, str) or not device:
            raise ValueError(f"device: expected a name such as 'cpu' or 'cuda', got {device!r}")
        self.chapter = chapter
        self.profile = check_choice(profile, "profile", PROFILES)
        self.seeds = tuple(range(FIRST_SEED, FIRST_SEED + check_integer(seeds, "seeds", low=1)))
        self._noted_before = noted_devices()
        self.estimates: dict[str, Estimate] = {}
        self.floors: dict[str, Floor] = {}
        self.units: dict[str, str] = {}

    @property
    def device(self) -> str:
        """Where towers ran and trained since the recorder was made, runs from the cache included: "cuda", "cpu, cuda".

        "cpu" where none did. It does not say where the metrics of their embeddings were computed: on the CPU.
        """
        return ", ".join(devices_since(self._noted_before)) or "cpu"

    def record(self, name: str, value: Any, unit: str = "", floor: Floor | None = None) -> Estimate:
        """Keep ``value`` (an ``Estimate``, or a number without sampling error) under a dotted name; returns the
        estimate.

        floor: what the metric reads without a gap (``stats.permutation_floor``). Raises ValueError for a name that is
        not dotted, taken, or ends in low, high, ci or floor, and for a value that is not finite.
        """
        check_result_name(name)
        if name.rsplit(".", 1)[-1] in _RESERVED:
            raise ValueError(f"name: expected a last part other than {', '.join(_RESERVED)}, got {name!r}")
        if name in self.estimates:
            raise ValueError(f"name: expected each result once, got {name!r} again")
        if floor is not None and not isinstance(floor, Floor):
            raise ValueError(f"floor: expected a Floor or nothing, got {floor!r:.80}")
        if not isinstance(value, Estimate):
            value = exact(check_number(value, f"value of {name}"))
        self.estimates[name] = value
        self.units[name] = str(unit)
        if floor is not None:
            self.floors[name] = floor
        return value

    def record_all(self, prefix: str, values: Mapping[str, Any], unit: str = "") -> None:
        """Keep several values below ``prefix``; a value may be a mapping again. Errors as for ``record``.

        >>> run = Recorder("01")
        >>> run.record_all("F5.tuned", {"gap": 0.5, "recall": {"clip": 0.2, "cua": 0.3}})
        >>> list(run.estimates)
        ['F5.tuned.gap', 'F5.tuned.recall.clip', 'F5.tuned.recall.cua']
        """
        for name, value in values.items():
            if isinstance(value, Mapping):
                self.record_all(f"{prefix}.{name}", value, unit)
            else:
                self.record(f"{prefix}.{name}", value, unit)

    def frame(self, prefix: str = "") -> pd.DataFrame:
        """The recorded rows whose name starts with ``prefix``: name, value, low, high, floor, n, unit, method."""
        columns = ["name", "value", "low", "high", "floor", "n", "unit", "method"]
        rows = [
            (name, e.value, e.low, e.high, self._floor(name), e.n, self.units[name], e.method)
            for name, e in self.estimates.items()
            if name.startswith(prefix)
        ]
        return pd.DataFrame(rows, columns=columns)

    def _floor(self, name: str) -> float | None:
        return self.floors[name].mean if name in self.floors else None

    def confirmed(self) -> Mapping[str, Estimate]:
        """The confirming results: this run's own if it is the confirming one, else the committed file's, else none."""
        if self.profile == "confirm":
            return self.estimates
        path = confirm_dir() / f"{self.chapter}.json"
        return load(path).estimates if path.exists() else {}

    def content(self) -> dict[str, Any]:
        """The results file's content, as JSON-able values."""
        shared = {"profile": self.profile, "device": self.device, "version": gaplib.__version__}
        has_claims = any(claim.chapter == self.chapter for claim in CLAIMS.values())
        rules = {claim.id: claim.rule_hash for claim in chapter_claims(self.chapter)} if has_claims else {}
        results = []
        for name, e in self.estimates.items():
            row = {"name": name, "value": e.value, "low": e.low, "high": e.high, "n": e.n, "unit": self.units[name]}
            row |= {"method": e.method, "se": e.se, "df": None if math.isinf(e.df) else e.df, **shared}
            # The values of each seed are kept for paired tests; hundreds of subsamples would only swell the file.
            row["samples"] = list(e.samples) if "seeds" in e.method else []
            if name in self.floors:
                floor = self.floors[name]
                row["floor"] = {"mean": floor.mean, "low": floor.low, "high": floor.high, "repeats": floor.repeats}
            results.append(row)
        return {
            "chapter": self.chapter,
            "profile": self.profile,
            "seeds": list(self.seeds),
            "device": self.device,
            "versions": versions(),
            "rules": rules,
            "results": results,
        }

    def save(self) -> Path:
        """Write the results file atomically, then glue every value where a notebook is listening; returns the path."""
        path = write_json(results_dir() / f"{self.chapter}.json", self.content())
        if _in_notebook():
            for name, e in self.estimates.items():
                glue(name, e.value)
                glue(f"{name}.low", e.low)
                glue(f"{name}.high", e.high)
                glue(f"{name}.ci", str(e))
                if name in self.floors:
                    glue(f"{name}.floor", self.floors[name].mean)
        return path


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def glue(name: str, value: float | str) -> None:
    """Emit ``value`` as invisible output that MyST-NB's ``glue`` roles find by ``name``.

    The same message as ``myst_nb.glue(name, value, display=False)``, so that readers need not install myst-nb.
    """
    from IPython.display import display

    value = value if isinstance(value, str) else float(value)
    display(
        {f"{_GLUE}text/plain": repr(value)},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": _GLUE}},
    )


@dataclass(frozen=True)
class ResultsFile:
    """A results file, read and checked. estimates: by name; rules: claim id -> rule hash; extra: commit and so on."""

    path: Path
    chapter: str
    profile: str
    seeds: tuple[int, ...]
    device: str
    versions: dict[str, str]
    rules: dict[str, str]
    estimates: dict[str, Estimate]
    units: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict)


def load(path: str | os.PathLike) -> ResultsFile:
    """Read a results file; a missing, truncated or malformed one is refused by a ValueError that names it."""
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        return _parse(path, raw)
    except OSError as error:
        raise ValueError(f"{path}: expected a results file, could not read it ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: not a valid results file: {reason}") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"expected finite numbers, got {text}")


def _parse(path: Path, raw: Any) -> ResultsFile:
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    known = {"chapter", "profile", "seeds", "device", "versions", "rules", "results"}
    header = {key: raw[key] for key in known}
    if not isinstance(header["chapter"], str) or not re.fullmatch(r"\d\d", header["chapter"]):
        raise ValueError(f"chapter: expected two digits, got {header['chapter']!r}")
    check_choice(header["profile"], "profile", PROFILES)
    seeds = tuple(check_integer(seed, "seeds", low=0) for seed in header["seeds"])
    if not seeds:
        raise ValueError("seeds: expected at least one, got none")
    estimates, units = {}, {}
    for row in header["results"]:
        name = check_result_name(row["name"])
        if name in estimates:
            raise ValueError(f"expected each result once, got {name} again")
        numbers = {key: float(check_number(row[key], f"{key} of {name}")) for key in ("value", "low", "high", "se")}
        df = math.inf if row["df"] is None else float(check_number(row["df"], f"df of {name}"))
        samples = tuple(float(check_number(s, f"samples of {name}")) for s in row["samples"])
        estimates[name] = Estimate(**numbers, n=row["n"], method=str(row["method"]), df=df, samples=samples)
        units[name] = str(row["unit"])
    if not all(isinstance(h, str) and re.fullmatch(r"[0-9a-f]{64}", h) for h in header["rules"].values()):
        raise ValueError("rules: expected SHA-256 hashes")
    return ResultsFile(
        path=path,
        chapter=header["chapter"],
        profile=header["profile"],
        seeds=seeds,
        device=str(header["device"]),
        versions={str(k): str(v) for k, v in header["versions"].items()},
        rules=dict(header["rules"]),
        estimates=estimates,
        units=units,
        extra={key: value for key, value in raw.items() if key not in known},
    )
