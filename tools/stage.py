"""Make the tree that the site is rendered from: the book's pages, the executed notebooks made fit for reading, tables.

    python -m tools.stage --build _build NOTEBOOK ...

Pages and notebooks keep the repository's own paths, so that a launch button opens the right file. The tree is made
under a temporary name and put in place whole.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import html
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from gaplib.methods import METHODS, Method
from tools import gate

HIDDEN = {"parameters", "injected-parameters", "setup"}  # what a reader of the page has no use for
SOURCES = ("_config.yml", "_toc.yml", "book")
WORDS_A_MINUTE = 150  # of text with formulas and figures, read to be understood
NO_CLAIMS = "There is no claims table in this build.\n"
NO_MODELS = "No model has its row yet.\n"


def stage(executed: list[Path], build: Path, root: Path) -> Path:
    """Build ``build/stage`` from ``root``'s pages and the executed notebooks; returns it.

    Raises ``ValueError`` where the gate refuses a notebook: whatever lies in the folder, nothing unjudged is published.
    """
    target, fresh = build / "stage", build / "stage.new"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "notebooks").mkdir(parents=True)
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, fresh / name, ignore=shutil.ignore_patterns("__pycache__", "_generated"))
        else:
            shutil.copyfile(root / name, fresh / name)
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(executed)}
    for name, notebook in notebooks.items():
        problems = gate.judge(notebook, figures=name[:2].isdigit())
        if problems:
            raise ValueError(f"{name}: {'; '.join(problems)}")
        nbformat.write(page(notebook), fresh / "notebooks" / f"{name}.ipynb")
    generated = fresh / "book" / "_generated"
    generated.mkdir(parents=True, exist_ok=True)
    (generated / "status_table.md").write_text(status_table(notebooks), encoding="utf-8")
    claims = build / "results" / "claims_table.md"
    text = claims.read_text(encoding="utf-8") if claims.exists() else NO_CLAIMS
    (generated / "claims_table.md").write_text(text, encoding="utf-8")
    (generated / "methods_table.md").write_text(methods_table(METHODS), encoding="utf-8")
    (generated / "zoo_table.md").write_text(zoo_table(root / "results" / "zoo.csv"), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target


def page(notebook: Any) -> Any:
    """The executed notebook as a page: settings hidden, figures as light and dark pairs, volatile metadata dropped."""
    result = nbformat.v4.new_notebook()
    for cell in copy.deepcopy(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code" and HIDDEN.intersection(tags):
            cell.metadata["tags"] = [*dict.fromkeys([*tags, "remove-cell"])]
        result.cells += _split_figures(cell) if cell.cell_type == "code" else [cell]
    facts = notebook.metadata.get("gaplib")
    if facts:
        _under_the_title(result, run_line(notebook, facts))
        note = nbformat.v4.new_markdown_cell(provenance_line(facts))
        note.id = "provenance"
        result.cells.append(note)
    result.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    result.metadata["language_info"] = notebook.metadata.get("language_info", {"name": "python"})
    return result


def _split_figures(cell: Any) -> list[Any]:
    """The cell without its figures, then a cell a figure: dark before light, so that the caption ends both."""
    figures = [output for output in cell.outputs if _is_figure(output)]
    if not figures:
        return [cell]
    cell.outputs = [output for output in cell.outputs if not _is_figure(output)]
    themes = {output.metadata.gaplib.get("theme", "light") for output in figures}
    figures.sort(key=lambda output: output.metadata.gaplib.get("theme", "light") != "dark")
    removed = "remove-cell" in cell.metadata.get("tags", [])
    return [cell] if removed else [cell, *(_figure_cell(cell, output, len(themes) == 2) for output in figures)]


def _is_figure(output: Any) -> bool:
    return "gaplib" in output.get("metadata", {}) and any(kind in output.get("data", {}) for kind in gate.FIGURES)


def _figure_cell(cell: Any, output: Any, paired: bool) -> Any:
    facts, kind = output.metadata.gaplib, next(kind for kind in gate.FIGURES if kind in output.data)
    theme = facts.get("theme", "light")
    image = {"alt": facts["alt"], "classes": f"only-{theme}"} if paired else {"alt": facts["alt"]}
    width = output.metadata.get(kind, {}).get("width")
    if width:
        image["width"] = f"{width}px" if str(width).isdigit() else str(width)
    settings: dict[str, Any] = {"image": image}
    if facts.get("caption") and not (paired and theme == "dark"):
        settings["figure"] = {"caption": facts["caption"]} | ({"name": facts["name"]} if facts.get("name") else {})
    shown = nbformat.v4.new_output("display_data", data={kind: output.data[kind]})
    # myst-nb drops code cells without source, outputs included.
    figure = nbformat.v4.new_code_cell("# figure", outputs=[shown], execution_count=cell.execution_count)
    figure.id = hashlib.sha256(f"{cell.id}:{facts.get('name')}:{theme}".encode()).hexdigest()[:12]
    figure.metadata = nbformat.from_dict({"tags": ["remove-input"], "mystnb": settings})
    return figure


def _under_the_title(notebook: Any, line: str) -> None:
    """Put ``line`` after the page's title; a page without one stays as it is."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            title, _, rest = cell.source.partition("\n")
            # The blank line ends the HTML: text right behind it would be taken for more of it.
            cell.source = "\n\n".join(filter(None, (title, line, rest.lstrip("\n"))))
            return


def run_line(notebook: Any, facts: dict[str, Any]) -> str:
    """How long a page takes to read (by its words) and took to run; in HTML, which its description passes over."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    minutes = max(1, round(words / WORDS_A_MINUTE))
    seeds = facts["parameters"].get("SEEDS")
    parts = [
        f"Reading: about {minutes} {'minute' if minutes == 1 else 'minutes'}.",
        f"Running it took {_duration(facts['seconds'])}",
        f"(profile {facts['profile']}{f', {seeds} seeds' if seeds else ''}, {facts['device']}).",
    ]
    return f'<p class="gapbook-run">{html.escape(" ".join(parts))}</p>'


def provenance_line(facts: dict[str, Any]) -> str:
    """One paragraph at a page's end: where its numbers come from."""
    parts = [
        f"{facts['date']}",
        f"profile `{facts['profile']}` with {facts['parameters'].get('SEEDS', '?')} seeds",
        f"on `{facts['device']}`",
        f"in {_duration(facts['seconds'])}",
        f"commit `{_short(facts['commit'])}`",
        f"results `{_short(facts['result_hash'] or 'none')}`",
    ]
    return f"---\n\n*This page was computed: {', '.join(parts)}. More on the [status page](../book/status.md).*"


def status_table(notebooks: dict[str, Any]) -> str:
    """Markdown: a row a notebook, then the machine and the versions that the rows share."""
    rows = ["| chapter | profile | seeds | device | time | peak memory | commit | results | run |", "|---" * 9 + "|"]
    versions, machines = [], []
    for name, notebook in notebooks.items():
        facts = notebook.metadata.get("gaplib")
        if not facts:
            continue
        title = f"[{name.replace('_', ' ')}](../notebooks/{name}.ipynb)"
        cells = [title, facts["profile"], str(facts["parameters"].get("SEEDS", "")), facts["device"]]
        cells += [_duration(facts["seconds"]), f"{facts['peak_memory_mib']} MiB", f"`{_short(facts['commit'])}`"]
        cells += [f"`{_short(facts['result_hash'] or 'none')}`", facts["date"]]
        rows.append(f"| {' | '.join(cells)} |")
        versions.append(", ".join(f"{package} {version}" for package, version in facts["versions"].items()))
        machines.append(facts["cpu"])
    if not versions:
        return "No notebook of this build carries a record of its run.\n"
    total = sum(
        notebook.metadata["gaplib"]["seconds"] for notebook in notebooks.values() if "gaplib" in notebook.metadata
    )
    lines = [f"All notebooks together took {_duration(total)} of computing time, one thread each."]
    lines += [f"Versions: {text}." for text in dict.fromkeys(versions)]
    lines += [f"Processor: {text}." for text in dict.fromkeys(machines)]
    return "\n".join(rows) + "\n\n" + "\n\n".join(lines) + "\n"


def methods_table(methods: Mapping[str, Method]) -> str:
    """Markdown: a row a method of ``gaplib.methods``, as the package has it."""
    rows = ["| method | minimised | temperature | needs | source |", "|---" * 5 + "|"]
    for one in methods.values():
        needs = ", ".join(sorted(one.requires)).replace("-", "\u2011")  # not broken in a narrow column
        cells = [f"`{one.name}`", one.formula().replace("_", " "), one.policy_text(), needs, one.source]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def zoo_table(file: Path) -> str:
    """The rows of ``python -m gaplib zoo`` as a table in HTML; ``ValueError`` for a file that is none of its."""
    if not file.exists():
        return NO_MODELS
    from gaplib.zoo import read, table

    return table(read(file)).to_html() + "\n"


def _short(text: str) -> str:
    head, dash, tail = text.partition("-")
    return head[:10] + dash + tail


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def main(argv: list[str] | None = None) -> int:
    """Stage the executed notebooks named on the command line."""
    parser = argparse.ArgumentParser(description="make the tree that the site is rendered from")
    parser.add_argument("executed", nargs="*", type=Path)
    parser.add_argument("--build", type=Path, default=Path("_build"))
    options = parser.parse_args(argv)
    try:
        target = stage(options.executed, options.build, Path.cwd())
    except (OSError, ValueError) as error:
        print(f"  staging stopped: {error}")
        return 1
    print(f"  staged {len(options.executed)} notebooks in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
