"""Names for a kept copy of the cache of training runs, as lines ``name=value`` that a workflow reads.

    python -m tools.cache_key [--cache _build/cache]

``code`` changes when the code that trains changes, or torch: no run of before is then found again, so none is fetched.
``content`` changes when the cache holds other entries: a copy of the same ones need not be kept twice.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

from gaplib.training.cache import code_digest

LENGTH = 16  # hexadecimal digits of each


def code_key() -> str:
    """Hash of what every training run in the cache stands on: gaplib's code that trains, and torch."""
    return _digest([code_digest(), version("torch")])


def content_key(cache: Path) -> str:
    """Hash of the names of the cache's entries, three folders deep; of none where there is no cache."""
    depths = ("*", "*/*", "*/*/*")
    entries = {path.relative_to(cache).as_posix() for depth in depths for path in cache.glob(depth)}
    return _digest(sorted(entry for entry in entries if not entry.endswith(".lock")))


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:LENGTH]


def main(argv: list[str] | None = None) -> int:
    """Print both keys."""
    parser = argparse.ArgumentParser(description="names for a kept copy of the cache of training runs")
    parser.add_argument("--cache", type=Path, default=Path("_build/cache"))
    options = parser.parse_args(argv)
    print(f"code={code_key()}", f"content={content_key(options.cache)}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
