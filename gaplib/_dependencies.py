"""Which files of gaplib a module or a notebook stands on, found by reading the source (nothing is imported).

The run cache asks what a training run depends on, the Makefile what a notebook depends on.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "gaplib"
ROOT = Path(__file__).resolve().parent.parent


def closure(module: str, *, packages: bool = True, leave_out: Iterable[str] = (), root: Path = ROOT) -> list[Path]:
    """Sorted files of gaplib that ``module`` (a dotted name such as ``"gaplib.training"``) imports, directly or not.

    The file of ``module`` is among them. ``packages=False`` leaves out the ``__init__.py`` that Python runs only on the
    way to a submodule, which re-export and do nothing else. ``leave_out`` names modules that are not followed. Raises
    ``ValueError`` for a module that gaplib does not have.
    """
    file = _file_of(module, root)
    if file is None:
        raise ValueError(f"module: expected a module of {PACKAGE}, got {module!r}")
    return _follow({module}, packages, leave_out, root)


def notebook_closure(notebook: str | Path, *, root: Path = ROOT) -> list[Path]:
    """Sorted files of gaplib that the code cells of a notebook import, directly or not. IPython magics are passed over.

    Raises ``ValueError`` for a file that is not a notebook, or a cell that is not Python, with the number of the cell.
    """
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"notebook: expected a Jupyter notebook, got {notebook}: {error}") from error
    found: set[str] = set()
    for number, source in enumerate(sources):
        try:
            found |= _imports(_without_magics(source), package="")
        except SyntaxError as error:
            raise ValueError(f"notebook: expected Python in cell {number} of {notebook}, got {error}") from error
    return _follow(found, True, (), root)


def digest(files: Iterable[str | Path]) -> str:
    """SHA-256 over the code of the files, in the order of their names; the same under every version of Python.

    Comments, layout, docstrings and ``pass`` do not count. A folder's place does not count either, so that two
    checkouts of the same code agree. ``SyntaxError`` for a file that is not Python.
    """
    seen = hashlib.sha256()
    for name, file in sorted((_short_name(Path(file)), Path(file)) for file in files):
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        seen.update(f"{name}\0{_canonical(tree)}\0".encode())
    return seen.hexdigest()


#: Fields of syntax trees that follow from other fields, or tell two spellings of the same value apart.
_NO_MEANING = {"ctx", "kind", "type_comment", "type_ignores"}


def _canonical(node: object) -> str:
    """A syntax tree as text. ``ast.dump`` and ``ast.unparse`` are not used: what they write depends on the version.

    Fields that are None or empty are left out, because new versions add such fields to old syntax.
    """
    if isinstance(node, ast.Constant):
        return _value(node.value)
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr([{', '.join(map(_canonical, _joined(node.values)))}])"
    if isinstance(node, ast.AST):
        given = {name: _canonical(value) for name, value in ast.iter_fields(node) if name not in _NO_MEANING}
        fields = [f"{name}={text}" for name, text in sorted(given.items()) if text not in {"None", "[]"}]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(_canonical(one) for one in node if not _does_nothing(one))}]"
    return ascii(node)


def _value(value: object) -> str:
    """A constant as text, never "None" or "[]"; ``ascii`` because ``repr`` follows the version's Unicode tables."""
    return f"{type(value).__name__}:{value!a}"


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string without empty texts, texts beside each other as one: how they are cut varies."""
    joined: list[ast.expr] = []
    for part in parts:
        last = joined[-1] if joined else None
        if not isinstance(part, ast.Constant):
            joined.append(part)
        elif isinstance(last, ast.Constant):
            joined[-1] = ast.Constant(str(last.value) + str(part.value))
        elif part.value:
            joined.append(part)
    return joined


def _does_nothing(node: object) -> bool:
    """Whether this is a statement without effect: ``pass``, a docstring or another constant by itself."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _short_name(file: Path) -> str:
    parts = file.parts
    return "/".join(parts[parts.index(PACKAGE) :]) if PACKAGE in parts[:-1] else file.name


def _follow(modules: set[str], packages: bool, leave_out: Iterable[str], root: Path) -> list[Path]:
    files: set[Path] = set()
    seen: set[str] = set(leave_out)
    waiting = sorted(modules)
    while waiting:
        module = waiting.pop()
        file = _file_of(module, root)
        if module in seen or file is None:
            continue
        seen.add(module)
        files.add(file)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        waiting += _imports(file.read_text(encoding="utf-8"), package)
        if packages and "." in module:
            waiting.append(module.rpartition(".")[0])
    return sorted(files)


def _file_of(module: str, root: Path) -> Path | None:
    """The file that defines ``module``, or None: not gaplib's, or a name inside a module rather than a module."""
    if module.split(".")[0] != PACKAGE:
        return None
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(source: str, package: str) -> set[str]:
    """Dotted names that ``source`` imports anywhere, in functions too; some may prove to be functions, not modules."""
    found: set[str] = set()
    for node in _run_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _is_import_module(node.func):
            found |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return found


def _run_nodes(tree: ast.AST) -> Iterable[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING:``, which never run."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_import_module(function: ast.expr) -> bool:
    return ast.unparse(function) in {"importlib.import_module", "import_module", "__import__"}


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("pass" if line[:1] in {"%", "!", "?"} else line for line in source.splitlines())
