"""Settings that every test shares: one thread, and a cache folder that no real build uses."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
# pytest-xdist's workers inherit the variable, so the tests of one run share the folder.
_ours = "GAPLIB_TEST_CACHE" not in os.environ
os.environ.setdefault("GAPLIB_TEST_CACHE", tempfile.mkdtemp(prefix="gaplib-tests-") if _ours else "")
os.environ["GAPLIB_CACHE"] = os.environ["GAPLIB_TEST_CACHE"]
# A shell's background job ignores Ctrl-C, and hands that down to the commands whose interruption is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("GAPLIB_BOOK", None)
os.environ.pop("GAPLIB_RESULTS", None)


def pytest_unconfigure(config):
    """Remove the cache folder when the process that made it ends."""
    if _ours:
        shutil.rmtree(os.environ["GAPLIB_TEST_CACHE"], ignore_errors=True)


#: the tests of what the coverage is of (pyproject.toml): parts of a test file's path
_OF_THE_LIBRARY = {"library", "theory", "data", "test_claims.py"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Trace the library's own tests alone: a tracer slows every call, and the others train for minutes."""
    coverage = sys.modules.get("coverage")
    running = coverage and coverage.Coverage.current()
    if not running or _OF_THE_LIBRARY & set(Path(item.path).parts[-2:]):
        return (yield)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()
