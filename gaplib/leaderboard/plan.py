"""What a leaderboard is made of: a row a method and seed, the runs they stand on, and the key that each row has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import gaplib
from gaplib import _dependencies
from gaplib._devices import check_device
from gaplib._store import content_key
from gaplib._validate import check_choice, check_integer
from gaplib.data.datasets import DATASETS
from gaplib.glyph_tasks.controls import CONTROLS
from gaplib.leaderboard.folder import read_rows
from gaplib.leaderboard.jobs import Job, Spec
from gaplib.leaderboard.table import METHODS_AND_CONTROLS
from gaplib.methods import METHODS, method
from gaplib.training import presets
from gaplib.training.cache import NOT_BEHAVIOUR, Entry
from gaplib.training.config import RunConfig


@dataclass(frozen=True)
class Plan:
    """Which comparison this is: everything that has to be the same for rows to stand in one table."""

    setting: str
    changes: dict[str, Any]
    evaluate: Callable[..., Mapping[str, float]]
    device: str = "cpu"
    _specs: dict[tuple[str, int], Spec] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice(self.setting, "setting", presets.SETTINGS)
        for name in self.changes:
            if name in ("method", "seed"):
                raise ValueError(f"changes: expected fields besides method and seed, got {name!r}")
            check_choice(name, "changes", sorted(RunConfig().to_dict()))
        check_device(self.device)
        if not callable(self.evaluate) or "<" in self.name or self.evaluate.__module__ == "__main__":
            raise ValueError(
                f"evaluate: expected a function at the top of a module, which other processes can import, "
                f"got {self.evaluate!r}"
            )

    @property
    def name(self) -> str:
        """Module and name of the evaluation."""
        function = self.evaluate
        return f"{getattr(function, '__module__', '<>')}:{getattr(function, '__qualname__', '<>')}"

    def identity(self) -> dict[str, Any]:
        """What the folder says of itself; a folder that says anything else is another comparison's."""
        said = {"format": 1, "setting": self.setting, "changes": self.changes, "evaluation": self.name}
        kind, _ = check_device(self.device)
        return said if kind == "cpu" else {**said, "device": kind}

    @cached_property
    def code(self) -> str:
        """Hash of the code that turns a run into a row: evaluation, controls, treatments."""
        return code_digest(self.evaluate)

    def rows(self, methods: Iterable[str] | None, seeds: Iterable[int]) -> list[Spec]:
        """The rows of a call, in its order; every name and seed is checked before anything is done."""
        if isinstance(methods, str):
            raise ValueError(f"methods: expected a list of names, got the text {methods!r}")
        names = list(METHODS_AND_CONTROLS if methods is None else methods)
        seeds = [check_integer(seed, "seeds", low=0) for seed in seeds]
        for values, what in ((names, "methods"), (seeds, "seeds")):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{what}: expected at least one, each once, got {values}")
        return [self.spec(name, seed) for name in names for seed in seeds]

    def spec(self, name: str, seed: int) -> Spec:
        """The row of one method (or control) and seed. ``ValueError`` for a name that there is not."""
        if (name, seed) not in self._specs:
            control = name if name in CONTROLS else ""
            row = method("clip" if control else _known(name))
            config = presets.config(row.name, seed, self.setting, **self.changes).resolved()
            run_key = Entry.of(config, _data_digest(config.data, config.image_size), self.device).folder.name
            content = [run_key, row.post_hoc, control, seed if control == "untrained" else 0, self.name, self.code]
            # The name too: two names for one run, such as a combination's orders, are rows of their own.
            key = content_key([name, gaplib.__version__, *content])
            self._specs[name, seed] = Spec(name, seed, self.setting, config, run_key, key, row.post_hoc, control)
        return self._specs[name, seed]

    def read(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The folder's rows by key; those that changed code or settings have made stale are left out, and lie there."""
        found = {}
        for key, row in read_rows(folder):
            try:
                if self.spec(row["method"], row["seed"]).key == key:
                    found[key] = row
            except ValueError:  # a method of that name is no more
                continue
        return found

    def jobs(self, specs: Iterable[Spec]) -> list[Job]:
        """Rows on the same run together; those with most to do first, so that no core is left alone with them."""
        groups: dict[str, list[Spec]] = {}
        for spec in specs:
            groups.setdefault(spec.run_key, []).append(spec)
        ordered = sorted(groups.values(), key=len, reverse=True)
        return [Job(tuple(group), self.code, self.evaluate, self.device) for group in ordered]


def _known(name: Any) -> str:
    """``name``, if it is a method's or a combination's; the error lists methods and controls."""
    if not isinstance(name, str):
        raise ValueError(f"methods: expected names, got {name!r}")
    for part in name.split("+"):
        check_choice(part.strip(), "methods", METHODS if "+" in name else (*METHODS, *CONTROLS))
    return name


def code_digest(evaluate: Callable[..., Any]) -> str:
    """Hash of the code of a row: of gaplib's by what it imports, of another evaluation by its file."""
    module = evaluate.__module__
    ours = module.partition(".")[0] == "gaplib"
    roots = {"gaplib.leaderboard.rows", "gaplib.glyph_tasks.controls", *([module] if ours else [])}
    return _digest(tuple(sorted(roots)), None if ours else inspect.getsourcefile(evaluate))


@cache
def _digest(modules: tuple[str, ...], file: str | None) -> str:
    found = {one for name in modules for one in _dependencies.closure(name, packages=False, leave_out=_PLAN)}
    return _dependencies.digest(sorted(found | ({Path(file)} if file else set())))


#: modules that name, lock or find things; the keys of runs cover what a configuration says
_PLAN = (*NOT_BEHAVIOUR, *(f"gaplib.leaderboard.{name}" for name in ("plan", "folder", "jobs")))


@cache
def _data_digest(name: str, image_size: int) -> str:
    return DATASETS[name].load(image_size).digest
