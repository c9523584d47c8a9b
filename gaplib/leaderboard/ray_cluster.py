"""Jobs on a Ray cluster: each machine trains with its own cache, the rows come back to the caller, who writes them.

Every machine needs the caller's gaplib (checked before anything is trained there). The caller runs on one of them.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from gaplib._extras import need
from gaplib.leaderboard import plan, rows
from gaplib.leaderboard.jobs import Job, Result

_CONNECT, _ANSWER = 3.0, 30.0  # seconds


def reachable(address: str) -> str:
    """``address``, if a Ray cluster answers there, asked by a process that can be ended.

    ``ray.init`` itself tries for over a minute, and then ends the process that called it.

    Raises:
        MissingExtra: Ray is not installed.
        ValueError: not "HOST:PORT" or "auto"; nothing answers within 3 s; what answers is no Ray cluster (30 s).
    """
    parts = re.fullmatch(r"(?P<host>[^\s/:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", str(address))
    if address != "auto" and (not parts or not 0 < int(parts["port"]) < 65536):
        raise ValueError(f"ray: expected an address HOST:PORT, or auto, got {address!r}")
    need("ray", "ray")
    if parts:
        try:
            socket.create_connection((parts["host"].strip("[]"), int(parts["port"])), timeout=_CONNECT).close()
        except OSError as error:
            raise ValueError(f"ray: there is no cluster at {address}: {error}") from None
    program = f"import ray; ray.init(address={address!r}, log_to_driver=False, logging_level='ERROR')"
    try:
        asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=_ANSWER)
    except subprocess.TimeoutExpired:
        raise ValueError(f"ray: what answers at {address} is not a Ray cluster (waited {_ANSWER:g} s)") from None
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"ray: the cluster at {address} cannot be used from this machine: {last}")
    return address


def results(jobs: Sequence[Job], address: str) -> Iterator[Result]:
    """The rows of all jobs as they come; one CPU of the cluster a job. A job that fails takes no other with it."""
    if not jobs:
        return
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        task = ray.remote(num_cpus=1, max_retries=2)(_results)
        waiting = {task.remote(job): job for job in jobs}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for reference in done:
                job = waiting.pop(reference)
                try:
                    yield from ray.get(reference)
                except ray.exceptions.RayError as error:
                    cause: Any = getattr(error, "cause", None) or error
                    why = f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:500]
                    yield from (Result(spec, error=why) for spec in job.specs)
    finally:
        ray.shutdown()


def _results(job: Job) -> list[Result]:
    if plan.code_digest(job.evaluate) != job.code:
        raise RuntimeError("the gaplib of this machine of the cluster is not the caller's")
    return rows.results(job)
