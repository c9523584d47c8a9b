"""What the leaderboard's processes do first. Alone in a module that imports nothing heavy, so that it is at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends: after a SIGKILL a worker would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
