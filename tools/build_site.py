"""Render the staged tree with Sphinx: every warning is an error, and nothing of an earlier build is reused.

    python -m tools.build_site --build _build

Doctrees that are kept let other pages show an old glued number, so they go first. ``html/`` is replaced only when the
new one is whole.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def build_site(build: Path) -> int:
    """Render ``build/stage`` into ``build/html``; returns Sphinx's exit status (its warnings count as failures)."""
    stage, fresh, html = build / "stage", build / "html.new", build / "html"
    for leftover in (build / "doctrees", build / "jupyter_execute", stage / "_build", fresh):
        shutil.rmtree(leftover, ignore_errors=True)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str((stage / "book/_ext").resolve()), os.getcwd()]))
    environment.pop("MPLBACKEND", None)
    config = [str(Path(sys.executable).with_name("jupyter-book")), "config", "sphinx", str(stage)]
    made = subprocess.run(config, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stdout, made.stderr, sep="\n")
        return made.returncode
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(build / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(stage), str(fresh)]
    status = subprocess.run(command, env=environment, check=False).returncode
    if status == 0:
        shutil.rmtree(html, ignore_errors=True)
        fresh.rename(html)
    return status


def main(argv: list[str] | None = None) -> int:
    """Render, and say how long it took and how large the site is."""
    parser = argparse.ArgumentParser(description="render the staged book")
    parser.add_argument("--build", type=Path, default=Path("_build"))
    build = parser.parse_args(argv).build
    started = time.monotonic()
    status = build_site(build)
    if status:
        print(f"  the site was not rendered (see above); the older one in {build / 'html'} is untouched")
        return status
    size = sum(path.stat().st_size for path in (build / "html").rglob("*") if path.is_file()) / 2**20
    print(f"  rendered {build / 'html'} in {time.monotonic() - started:.0f} s ({size:.1f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
