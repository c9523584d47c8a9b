"""Write Make's dependency file: which gaplib files each notebook stands on, and which notebook to start first.

    python tools/deps.py BUILD NOTEBOOK ... > BUILD/deps.mk

Runs before the environment exists, so it uses the standard library and reads gaplib's sources without importing gaplib.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATED = re.compile(r"about ([\d.]+|half a|a) (second|minute)", re.IGNORECASE)  # "Needs" of a chapter says so


def load_sources(root: Path = ROOT):
    """The module ``gaplib/_sources.py``, loaded by its path: importing gaplib would need the environment."""
    spec = importlib.util.spec_from_file_location("_gaplib_sources", root / "gaplib" / "_sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rules(build: str, notebooks: list[Path], root: Path = ROOT) -> str:
    """The text of the dependency file."""
    sources = load_sources()
    lines = ["# Made by tools/deps.py; made again when a notebook or a file of gaplib changes.", ""]
    ordered = sorted(notebooks, key=lambda path: (-expected_seconds(build, path), path.name))
    lines.append(f"LONGEST_FIRST := {' '.join(path.as_posix() for path in ordered)}")
    files: set[str] = set()
    for path in notebooks:
        needed = [file.relative_to(root).as_posix() for file in sources.notebook_closure(root / path, root=root)]
        files.update(needed)
        lines.append(f"{build}/executed/{path.name}: {' '.join(needed)}")
    # An empty rule a file: one that was deleted then counts as changed, instead of stopping make.
    lines += [f"{name}:" for name in sorted(files)]
    return "\n".join(lines) + "\n"


def expected_seconds(build: str, notebook: Path) -> float:
    """Seconds of the last run; before the first one, what the notebook itself says it needs."""
    try:
        executed = json.loads(Path(build, "executed", notebook.name).read_text(encoding="utf-8"))
        return float(executed["metadata"]["gaplib"]["seconds"])
    except (OSError, ValueError, KeyError):
        pass
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = STATED.search("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    if not found:
        return 0.0
    number = {"half a": 0.5, "a": 1.0}.get(found[1].lower())
    return (float(found[1].rstrip(".")) if number is None else number) * (60 if found[2].lower() == "minute" else 1)


if __name__ == "__main__":
    sys.stdout.write(rules(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
