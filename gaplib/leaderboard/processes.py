"""Jobs on this machine: one process a core, each with one thread, all gone when the process that started them is."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from gaplib._worker import end_with_parent
from gaplib.leaderboard import rows
from gaplib.leaderboard.jobs import Job, Result

# torch reads these when it starts; two processes of two threads each were measured 14 times slower than of one.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
_OURS = "GAPLIB_LEADERBOARD_PROCESS"  # set in the environment of the processes that are started here
# With this status a process ends that met the leaderboard while it imported the script: one without a main guard.
_UNGUARDED = 87
_STARTED_IN = multiprocessing.process.ORIGINAL_DIR or ""  # what multiprocessing takes a script's path from
_GUARD = 'call leaderboard in a file, under `if __name__ == "__main__":`'


def end_if_imported() -> None:
    """End a process that the leaderboard itself started and that, importing the script, is about to call it again.

    The parent then says why (``results``); without this, each would claim the folder and fail with reasons of its own.
    """
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)  # as multiprocessing itself asks
    if importing and _OURS in os.environ:
        sys.stdout.flush()
        os._exit(_UNGUARDED)


def check_script() -> None:
    """Raise ``RuntimeError`` where the script cannot be imported by other processes, as from ``python - < file``."""
    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)  # none with -c and in a notebook, where nothing has to be imported
    if getattr(script, "__spec__", None) is None and file and not os.path.exists(os.path.join(_STARTED_IN, file)):
        raise RuntimeError(f"leaderboard: its processes import the script, and {file} is no file: {_GUARD}")


def results(jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """The rows of all jobs as they come. Rows of a process that dies (killed for memory) are failures.

    Raises ``RuntimeError`` where the script that calls has no main guard, or is no file.
    """
    if not jobs:
        return
    check_script()
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        with _environment():  # all of the pool's processes start with the first submission
            futures = {pool.submit(rows.results, job): job for job in jobs}
        children = set(multiprocessing.active_children()) - before
        for future in as_completed(futures):
            try:
                yield from future.result()
            except BrokenProcessPool:
                pool.shutdown()  # all have ended then, and left their status
                if any(child.exitcode == _UNGUARDED for child in children):
                    message = f"leaderboard: its processes import the script, which calls it again: {_GUARD}"
                    raise RuntimeError(message) from None
                why = "its process, or one beside it, ended abruptly (out of memory?); the same call tries it again"
                yield from (Result(spec, error=why) for spec in futures[future].specs)
        pool.shutdown()
    finally:  # also on Ctrl-C, where waiting for what is being trained would take long; it goes on from a checkpoint
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()


@contextmanager
def _environment() -> Iterator[None]:
    """Environment of the processes started inside: one thread each, and a sign that they are ours."""
    inside = _ONE_THREAD | {_OURS: "1"}
    before = {name: os.environ.get(name) for name in inside}
    os.environ.update(inside)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
