"""What the embeddings are good for: scores on downstream tasks, from embeddings alone.

Each task is one function in a module of the same name, loaded when it is first asked for: training needs retrieval
only, and a notebook that stands on one task is not run again when another one changes. For the same reason, import a
task by its name (``from gaplib.evaluation import zero_shot``), which `gaplib._dependencies` can follow.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaplib.evaluation.arithmetic import arithmetic
    from gaplib.evaluation.calibration import calibration
    from gaplib.evaluation.clustering import clustering
    from gaplib.evaluation.few_shot import few_shot
    from gaplib.evaluation.fine_grained import fine_grained
    from gaplib.evaluation.hubness import hubness
    from gaplib.evaluation.linear_probe import linear_probe
    from gaplib.evaluation.mixed_search import mixed_search
    from gaplib.evaluation.retrieval import retrieval
    from gaplib.evaluation.robustness import robustness
    from gaplib.evaluation.zero_shot import zero_shot

__all__ = [
    "arithmetic",
    "calibration",
    "clustering",
    "few_shot",
    "fine_grained",
    "hubness",
    "linear_probe",
    "mixed_search",
    "retrieval",
    "robustness",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps a task's name for its function: Python would bind it to the submodule, whenever that is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
