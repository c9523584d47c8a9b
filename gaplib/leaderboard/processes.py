"""Jobs on this machine: one process a core, each with one thread, all gone when the process that started them is."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from gaplib._worker import end_with_parent
from gaplib.leaderboard import rows
from gaplib.leaderboard.jobs import Job, Result

# torch reads these when it starts; two processes of two threads each were measured 14 times slower than of one.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def results(jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """The rows of all jobs as they come. Rows of a process that dies (killed for memory) are failures."""
    if not jobs:
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        with _one_thread():  # all of the pool's processes start with the first submission
            futures = {pool.submit(rows.results, job): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield from future.result()
            except BrokenProcessPool:
                why = "its process, or one beside it, ended abruptly (out of memory?); the same call tries it again"
                yield from (Result(spec, error=why) for spec in futures[future].specs)
        pool.shutdown()
    finally:  # also on Ctrl-C, where waiting for what is being trained would take long; it goes on from a checkpoint
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.kill()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Environment of the processes started inside: one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
