"""The kernel that a notebook of the book runs in: this checkout's code, and none that the reader's own settings start.

Python and IPython run files that a shell names (PYTHONPATH with its sitecustomize, PYTHONSTARTUP, the start-up folder
in IPYTHONDIR); a page would be computed with them and bear this checkout's commit. So the kernel gets none of them, and
at the end of a run it is asked which gaplib it had.
"""

from __future__ import annotations

import ast
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "gaplib-book"
FOLDERS = "gaplib_folders"  # where in the notebook's metadata the kernel's answer stands
_QUESTION = "list(__import__('gaplib').__path__)"
# Where bytecode and caches of fonts lie changes no result; PYTHON is make's own.
_HARMLESS = {"PYTHON", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "MPLCONFIGDIR"}


def own_environment(**more: str) -> dict[str, str]:
    """The caller's environment without the settings of Python, IPython and matplotlib in it, and with ``more``.

    PYTHONPATH is this checkout, so that no process imports another one's code.
    """
    settings = ("PYTHON", "IPYTHON", "MPL", "MATPLOTLIB")  # with any MPLBACKEND inline figures vanish without a word
    kept = {name: value for name, value in os.environ.items() if name in _HARMLESS or not name.startswith(settings)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1"} | more


@contextlib.contextmanager
def environment(**more: str) -> Iterator[None]:
    """Inside the block, processes start with ``own_environment(**more)`` and an IPython folder that is empty."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="gaplib-ipython-", ignore_cleanup_errors=True) as folder:
        _replace_environment(own_environment(IPYTHONDIR=folder, **more))
        try:
            yield
        finally:
            _replace_environment(before)


def _replace_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def package_problems(notebook: Any) -> list[str]:
    """Why the gaplib that the notebook was run with is not this checkout's; empty when it is. Drops the answer."""
    folders = notebook.metadata.pop(FOLDERS, None)
    if not isinstance(folders, list):
        return [f"the kernel did not say which gaplib it had{f': {folders}' if folders else ''}"]
    if {Path(folder).resolve() for folder in folders} != {ROOT / "gaplib"}:
        return [f"the notebook ran with another gaplib ({', '.join(folders)}), not with this checkout's"]
    return []


class _Client(PapermillNotebookClient):
    def papermill_execute_cells(self) -> None:
        super().papermill_execute_cells()
        # Asked when the cells have run, so that it is the one they had; silent: no cell, no execution count.
        question = self.kc.execute("", silent=True, store_history=False, user_expressions={"folders": _QUESTION})
        answer = self.wait_for_reply(question)["content"]["user_expressions"]["folders"]
        found = answer["status"] == "ok"
        self.nb.metadata[FOLDERS] = ast.literal_eval(answer["data"]["text/plain"]) if found else answer["evalue"]


class _Engine(NBClientEngine):
    """Papermill's own engine, with the question at the end."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout=60, execution_timeout=None, **_):
        options = {"kernel_name": kernel_name, "startup_timeout": start_timeout, "timeout": execution_timeout}
        # The last output of a cell may come late on a busy machine; papermill gives up after four seconds.
        options["iopub_timeout"] = 120
        return _Client(nb_man, **options).execute()


papermill_engines.register(ENGINE, _Engine)
