"""The gate: judges an executed notebook before it may become a page.

    python -m tools.gate _build/executed/01_meet_the_gap.ipynb ...

Papermill and jupyter-book both let bad notebooks through without a word: a parameter nobody declared, a kernel that was
killed, a figure that never appeared. ``judge`` returns every reason for which a notebook may not be published.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

MINIMUM_ALT = 20  # characters; shorter texts name a picture, they do not say what it shows
FIGURES = ("image/png", "image/svg+xml")
SHOWABLE = {"text/plain", "text/html", "text/markdown", "text/latex", "image/jpeg", *FIGURES}
GLUE = "application/papermill.record/"
DRAWING = {"show", "show_html"}  # functions of gaplib.book.plots that leave a figure behind
WARNING = re.compile(r"\b[A-Za-z]*Warning\b")


def parameter_names(notebook: Any) -> list[str] | None:
    """Names assigned in the cell tagged ``parameters``; None where the notebook has no such cell."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            targets = [t for node in ast.parse(cell.source).body if isinstance(node, ast.Assign) for t in node.targets]
            targets += [node.target for node in ast.parse(cell.source).body if isinstance(node, ast.AnnAssign)]
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return None


def parameter_problems(notebook: Any, given: Any) -> list[str]:
    """Reasons for which the notebook cannot take the parameters ``given``; papermill itself would only warn."""
    known = parameter_names(notebook)
    if known is None:
        return ["no cell is tagged `parameters`"] if given else []
    return [f"unknown parameter {name!r} (the notebook has {', '.join(known)})" for name in given if name not in known]


def judge(notebook: Any, *, figures: bool = True, log: str = "") -> list[str]:
    """Every reason for which the executed ``notebook`` may not be published; an empty list lets it pass.

    ``figures``: the notebook must show at least one. ``log``: what its kernel process wrote to stderr past the cells.
    """
    papermill = notebook.metadata.get("papermill", {})
    problems = ["papermill met an exception"] if papermill.get("exception") else []
    problems += parameter_problems(notebook, papermill.get("parameters", {}))
    problems += _execution_problems(notebook)
    shown = 0
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            pictures = list(_pictures(cell))
            shown += len(pictures)
            problems += [f"cell {number}: {reason}" for reason in _output_problems(cell)]
            problems += [f"cell {number}: {reason}" for reason in _figure_problems(cell, pictures)]
    if figures and not shown:
        problems.append("the notebook shows no figure at all")
    problems += [f"the kernel warned: {line.strip()}" for line in log.splitlines() if WARNING.search(line)]
    return sorted(problems, key=lambda problem: ": error " not in problem)  # the cause first, then what follows from it


def _execution_problems(notebook: Any) -> Iterator[str]:
    expected, failed, skipped = 0, False, 0
    for number, cell in enumerate(notebook.cells):
        if "papermill-error-cell-tag" in cell.metadata.get("tags", []):
            yield f"cell {number}: papermill's error banner"
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None and failed:
            skipped += 1
            continue
        failed = failed or any(output.output_type == "error" for output in cell.outputs)
        if cell.execution_count is None:
            yield f"cell {number}: not executed (a killed kernel, or a run that was cut short)"
            continue
        expected += 1
        if cell.execution_count != expected:
            yield f"cell {number}: out of order (execution count {cell.execution_count}, expected {expected})"
            expected = cell.execution_count
    if skipped:  # one line, so that the cause is not lost among them
        yield f"cells not executed after the error: {skipped}"


def _output_problems(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"error {output.ename}: {str(output.evalue).strip()[:200]}"
        elif output.output_type == "stream" and output.name == "stderr" and output.text.strip():
            lines = output.text.strip().splitlines()
            warning = next((line for line in lines if WARNING.search(line)), None)
            yield f"warning on stderr: {warning.strip()}" if warning else f"text on stderr: {lines[0][:200]}"
        elif output.output_type in ("display_data", "execute_result"):
            kinds = {kind for kind in output.data if not kind.startswith(GLUE)}
            hidden = {kind for kind in kinds if "widget" in kind or kind == "application/javascript"}
            if hidden or (kinds and not SHOWABLE & kinds):
                yield f"an output the site cannot show: {', '.join(sorted(hidden or kinds))}"


def _pictures(cell: Any) -> Iterator[dict]:
    for output in cell.outputs:
        if output.output_type in ("display_data", "execute_result") and any(kind in output.data for kind in FIGURES):
            yield output.get("metadata", {}).get("gaplib", {})


def _figure_problems(cell: Any, pictures: list[dict]) -> Iterator[str]:
    for picture in pictures:
        alt = str(picture.get("alt", "")).strip()
        if len(alt) < MINIMUM_ALT:
            yield f"a figure without alt text of at least {MINIMUM_ALT} characters (it has {alt!r})"
    sides = [(picture.get("name", ""), picture.get("theme", "light")) for picture in pictures]
    if len({name for name, _ in sides}) > 1 or len(set(sides)) < len(sides):
        yield f"more than one figure: {', '.join(name or 'without a name' for name, _ in sides)}"
    if not pictures and cell.execution_count is not None and _draws(cell.source):
        yield "calls plots.show, yet no figure came out (was matplotlib's backend changed?)"


def _draws(source: str) -> bool:
    """Whether the cell's own statements (not the body of a function it defines) call ``plots.show``."""
    try:
        waiting: list[ast.AST] = list(ast.parse(source).body)
    except SyntaxError:  # IPython magics
        return False
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {f"plots.{tail}" for tail in DRAWING} or name in {
                f"gaplib.book.plots.{tail}" for tail in DRAWING
            }:
                return True
        waiting += ast.iter_child_nodes(node)
    return False


def main(paths: list[str]) -> int:
    """Judge each file; print the reasons and return 1 where one is refused."""
    refused = 0
    for path in paths:
        problems = judge(nbformat.read(path, as_version=4), figures=Path(path).name[:2].isdigit())
        refused += bool(problems)
        for problem in problems:
            print(f"{path}: {problem}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
