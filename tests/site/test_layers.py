"""gaplib's imports run one way: the contract in pyproject.toml holds, no module is in a circle, and both can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder):
    """The contract of the folder's pyproject.toml, on the package that lies there: exit status and what was said."""
    done = subprocess.run([sys.executable, "-c", LINT, "--no-cache"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "gaplib", tmp_path / "gaplib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contract_holds():
    status, said = lint(ROOT)
    assert status == 0, said
    assert "1 kept, 0 broken" in said


@pytest.mark.parametrize(
    ("module", "line", "named"),
    [
        ("stats", "import gaplib.training.presets", "gaplib.stats -> gaplib.training.presets"),
        (
            "geometry/distance",
            "def late():\n    from gaplib import posthoc",
            "gaplib.geometry.distance -> gaplib.posthoc",
        ),
        ("fusion/heads", "from gaplib.leaderboard import folder", "gaplib.fusion.heads -> gaplib.leaderboard.folder"),
        ("training/config", "from gaplib.book import plots", "gaplib.training.config -> gaplib.book.plots"),
    ],
)
def test_a_planted_upward_import_breaks_the_contract_and_is_named(copy, module, line, named):
    with open(copy / "gaplib" / f"{module}.py", "a") as file:
        file.write(f"\n{line}\n")
    status, said = lint(copy)
    assert status != 0
    assert named in " ".join(said.split())


def test_a_module_without_a_floor_breaks_the_contract(copy):
    (copy / "gaplib" / "homeless.py").write_text("")
    status, said = lint(copy)
    assert status != 0
    assert "homeless" in said


def circles(package):
    """Groups of modules that import each other, in functions too; imports for type checking alone do not count."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    modules = sorted(graph.modules)
    imports = np.zeros((len(modules), len(modules)), dtype=bool)
    for i, module in enumerate(modules):
        imports[i, [modules.index(one) for one in graph.find_modules_directly_imported_by(module)]] = True
    group = connected_components(imports, connection="strong")[1]
    groups = [[modules[i] for i in np.flatnonzero(group == one)] for one in np.unique(group)]
    return sorted(one for one in groups if len(one) > 1)


def test_no_module_of_gaplib_stands_in_a_circle():
    assert circles("gaplib") == []


def test_a_planted_circle_is_found(tmp_path, monkeypatch):
    for name, text in {
        "__init__": "",
        "one": "from planted import two",
        "two": "import planted.three",
        "three": "def late():\n    from planted.one import x",
        "apart": "import typing\nfrom planted import one\nif typing.TYPE_CHECKING:\n    import planted.typed",
        "typed": "import planted.apart",
    }.items():
        (tmp_path / "planted").mkdir(exist_ok=True)
        (tmp_path / "planted" / f"{name}.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert circles("planted") == [["planted.one", "planted.three", "planted.two"]]
