"""Write Make's dependency file: which gaplib files each notebook stands on, and which notebook to start first.

    python tools/deps.py BUILD NOTEBOOK ...

Writes ``BUILD/deps.mk``, and ``BUILD/deps/NAME.txt`` with the list for each notebook, rewritten only when the list
changes: a module that is deleted leaves no newer file behind, but it leaves a shorter list.
Runs before the environment exists, so it uses the standard library and reads gaplib's sources without importing gaplib.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATED = re.compile(r"about ([\d.]+|half a|a) (second|minute)", re.IGNORECASE)  # "Needs" of a chapter says so


def load_dependencies(root: Path = ROOT):
    """The module ``gaplib/_dependencies.py``, loaded by its path: importing gaplib would need the environment."""
    spec = importlib.util.spec_from_file_location("_gaplib_dependencies", root / "gaplib" / "_dependencies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(build: Path, notebooks: list[Path], root: Path = ROOT) -> None:
    """Write the dependency file and the lists."""
    dependencies = load_dependencies()
    (build / "deps").mkdir(parents=True, exist_ok=True)
    ordered = sorted(notebooks, key=lambda path: (-expected_seconds(build, path), path.name))
    lines = ["# Made by tools/deps.py; made again when a notebook or a file of gaplib changes.", ""]
    lines.append(f"LONGEST_FIRST := {' '.join(path.as_posix() for path in ordered)}")
    files: set[str] = set()
    for path in notebooks:
        needed = [file.relative_to(root).as_posix() for file in dependencies.notebook_closure(root / path, root=root)]
        listed = build / "deps" / f"{path.stem}.txt"
        if not listed.exists() or listed.read_text(encoding="utf-8").split() != needed:
            replace(listed, "\n".join(needed) + "\n")
        needed.append(listed.as_posix())
        files.update(needed)
        lines.append(f"{build.as_posix()}/executed/{path.name}: {' '.join(needed)}")
    # An empty rule a file: one that was deleted then counts as changed, instead of stopping make.
    lines += [f"{name}:" for name in sorted(files)]
    replace(build / "deps.mk", "\n".join(lines) + "\n")
    # Never older than what it was made from: with a file from the future, make would start itself again and again.
    seen = [path for path in [*map(root.joinpath, notebooks), *(root / "gaplib").rglob("*")] if path.exists()]
    newest = max(path.stat().st_mtime for path in seen)
    if newest > (build / "deps.mk").stat().st_mtime:
        os.utime(build / "deps.mk", (newest, newest))


def replace(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def expected_seconds(build: Path, notebook: Path) -> float:
    """Seconds of the last run; before the first one, what the notebook itself says it needs."""
    try:
        executed = json.loads((build / "executed" / notebook.name).read_text(encoding="utf-8"))
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
    write(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
