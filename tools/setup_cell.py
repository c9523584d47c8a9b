"""The one source of the setup cell that every notebook starts with, and the command that writes it into them.

    python -m tools.setup_cell [--check] [NOTEBOOK ...]

The cell does nothing where gaplib can be imported. Elsewhere (Colab) it installs gaplib from ``GAPLIB_SOURCE`` and
leaves the torch, torchvision and numpy that are there untouched: a constraints file holds them at their versions.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# The address that a reader's machine installs gaplib from, as pip takes it, for example "git+https://HOST/OWNER/NAME@TAG".
# Set it here when the repository is public, then run `python -m tools.setup_cell`.
GAPLIB_SOURCE = ""

_TEMPLATE = """\
# Setup: nothing to do where gaplib is installed. Elsewhere (Colab) this installs it and leaves torch and numpy alone.
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

GAPLIB_SOURCE = {source}
if importlib.util.find_spec("gaplib") is None:
    clones = [folder for folder in (".", "..") if pathlib.Path(folder, "gaplib/__init__.py").exists()]
    source = GAPLIB_SOURCE or next(iter(clones), "")
    if not source:
        raise ModuleNotFoundError(
            "gaplib is not installed, and this copy of the book names no address to install it from. Get the book's "
            "repository, run `pip install -e '.[book]'` in its root (or `make book`), then run this cell again."
        )
    wanted = f"gaplib[book] @ {{source}}" if "://" in source else f"{{source}}[book]"
    kept = [d for d in importlib.metadata.distributions() if d.name in ("torch", "torchvision", "numpy")]
    with tempfile.TemporaryDirectory() as folder:
        constraints = pathlib.Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{{d.name}}=={{d.version}}\\n" for d in kept))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), wanted]
        subprocess.run(command, check=True)
    importlib.invalidate_caches()"""


def setup_text(source: str = GAPLIB_SOURCE) -> str:
    """The setup cell's code for an address (another one than the book's own only in tests)."""
    return _TEMPLATE.format(source=json.dumps(source))


SETUP = setup_text()


def write_into(path: Path) -> bool:
    """Make the setup cell the first cell of the notebook at ``path``; True where that changed the file."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    if not cells or "setup" not in cells[0].get("metadata", {}).get("tags", []):
        cells.insert(0, {"cell_type": "code", "id": "setup", "metadata": {"tags": ["setup"]}})
        cells[0].update(execution_count=None, outputs=[], source="")
    if "".join(cells[0]["source"]) == SETUP:
        return False
    cells[0]["source"] = SETUP.splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return True


def is_current(path: Path) -> bool:
    """True when the notebook's first cell is tagged ``setup`` and holds exactly ``SETUP``."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return bool(cells) and cells[0]["metadata"].get("tags") == ["setup"] and "".join(cells[0]["source"]) == SETUP


def main(argv: list[str] | None = None) -> int:
    """Write the cell into the notebooks named (all by default), or only report which ones lack it."""
    parser = argparse.ArgumentParser(description="write the setup cell into the notebooks")
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a notebook's cell differs")
    options = parser.parse_args(argv)
    stale = 0
    for path in options.notebooks or sorted(Path("notebooks").glob("*.ipynb")):
        if options.check:
            if not is_current(path):
                stale += 1
                print(f"{path}: the first cell is not the setup cell (run: python -m tools.setup_cell)")
        elif write_into(path):
            print(f"{path}: setup cell written")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
