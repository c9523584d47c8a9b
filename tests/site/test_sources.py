"""The files that a module or a notebook stands on."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from gaplib import _dependencies


@pytest.fixture
def tree(tmp_path):
    """A small package called gaplib with every way to import that Python has."""
    files = {
        "gaplib/__init__.py": "",
        "gaplib/top.py": "from gaplib import middle\nfrom gaplib.pack.inner import function\n",
        "gaplib/middle.py": "import gaplib.leaf as leaf\ndef f():\n    from . import late\n",
        "gaplib/leaf.py": "import numpy\nfrom gaplib.top import x  # a circle\n",
        "gaplib/late.py": "import importlib\nimportlib.import_module('gaplib.named')\n",
        "gaplib/named.py": "",
        "gaplib/pack/__init__.py": "from gaplib.pack import other\n",
        "gaplib/pack/inner.py": "from .sibling import y\nfrom ..up import z\n",
        "gaplib/pack/sibling.py": "",
        "gaplib/pack/other.py": "",
        "gaplib/up.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from gaplib import typed\n",
        "gaplib/typed.py": "",
        "gaplib/unused.py": "import gaplib.top\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(files, root):
    return {str(file.relative_to(root)).removeprefix("gaplib/").removesuffix(".py") for file in files}


def test_closure_follows_every_kind_of_import(tree):
    found = names(_dependencies.closure("gaplib.top", root=tree), tree)
    assert found == {
        "__init__", "top", "middle", "leaf", "late", "named", "pack/__init__", "pack/inner", "pack/sibling",
        "pack/other", "up",
    }  # fmt: skip


def test_closure_without_packages_and_with_modules_left_out(tree):
    found = names(_dependencies.closure("gaplib.top", packages=False, leave_out=["gaplib.middle"], root=tree), tree)
    assert found == {"__init__", "top", "pack/inner", "pack/sibling", "up"}


def test_closure_of_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match=r"module: expected a module of gaplib, got 'gaplib\.nothing'"):
        _dependencies.closure("gaplib.nothing")


def test_closure_is_what_python_loads(monkeypatch):
    """Every file of gaplib that importing gaplib.training loads is in its closure."""
    for name in [name for name in sys.modules if name.split(".")[0] == "gaplib"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.import_module("gaplib.training")
    loaded = {name for name in sys.modules if name.split(".")[0] == "gaplib"}
    files = {sys.modules[name].__file__ for name in loaded}
    for name in loaded:  # so that monkeypatch brings back what was there before
        del sys.modules[name]
    found = {str(file) for file in _dependencies.closure("gaplib.training")}
    assert files <= found
    assert str(_dependencies.ROOT / "gaplib" / "losses" / "__init__.py") in files
    assert not any("plots" in file or "claims" in file for file in found)


def test_digest_changes_with_code_alone(tmp_path):
    file = tmp_path / "one.py"
    before = 'def f(x):\n    """Twice."""\n    return 2 * x\n'
    file.write_text(before)
    first = _dependencies.digest([file])
    file.write_text('"""Doc."""\n\n# remark\ndef f( x ):\n    return 2*x\n')
    assert _dependencies.digest([file]) == first
    file.write_text(before.replace("2 * x", "3 * x"))
    assert _dependencies.digest([file]) != first


def test_digest_changes_with_names_but_not_with_the_place_of_a_checkout(tmp_path):
    for checkout in ("a", "b"):
        (tmp_path / checkout / "gaplib").mkdir(parents=True)
        (tmp_path / checkout / "gaplib" / "one.py").write_text("x = 1\n")
    (tmp_path / "a" / "gaplib" / "two.py").write_text("x = 1\n")
    one, other = (tmp_path / checkout / "gaplib" / "one.py" for checkout in ("a", "b"))
    assert _dependencies.digest([one]) == _dependencies.digest([other])
    assert _dependencies.digest([one]) != _dependencies.digest([tmp_path / "a" / "gaplib" / "two.py"])


def notebook(path: Path, *sources: str) -> Path:
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources]
    cells.insert(1, {"cell_type": "markdown", "source": ["from gaplib import unused\n"]})
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    return path


def test_notebook_closure_reads_code_cells_and_passes_magics(tree, tmp_path):
    path = notebook(tmp_path / "n.ipynb", "%matplotlib inline\n!ls\nfrom gaplib import late", "%%bash\nls gaplib", "")
    assert names(_dependencies.notebook_closure(path, root=tree), tree) == {"__init__", "late", "named"}


def test_notebook_closure_refuses_what_is_not_a_notebook(tmp_path):
    (tmp_path / "a.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="expected a Jupyter notebook"):
        _dependencies.notebook_closure(tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match="expected Python in cell 2"):
        _dependencies.notebook_closure(notebook(tmp_path / "b.ipynb", "x = 1", "x ="))
