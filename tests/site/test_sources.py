"""The files that a module or a notebook stands on."""

import importlib
import json
import os
import shutil
import subprocess
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
    inside = {os.path.relpath(file, _dependencies.ROOT) for file in found}  # the checkout's own path may hold any word
    assert not any("plots" in file or "claims" in file for file in inside)


def digest_of(tmp_path, source):
    (tmp_path / "one.py").write_text(source)
    return _dependencies.digest([tmp_path / "one.py"])


def test_digest_changes_with_code_alone(tmp_path):
    before = 'def f(x):\n    """Twice."""\n    return 2 * x\n'
    first = digest_of(tmp_path, before)
    assert digest_of(tmp_path, '"""Doc."""\n\n# remark\ndef f( x, ):\n    return 2*x\n') == first
    assert digest_of(tmp_path, before.replace("2 * x", "3 * x")) != first


@pytest.mark.parametrize(
    "spellings",
    [
        ("class A:\n    'doc'", "class A:\n    pass", "class A: ...", "class A:\n    'doc'\n    pass"),
        ("f(a, 'bc')", "f(\n    a,\n    u'b' \"c\",\n)", "(f)((a), 'bc')"),
        ("f'a{x}{{' 'b'", "f'a{x}' f'{{b'", "f'a{ x }' '{b'"),
        ("a: int = 0x10", "a: int = 1_6"),
        ("x = '\u1c89é'", "x = '\\u1c89\\xe9'"),
    ],
)
def test_digest_is_of_the_meaning_not_of_the_spelling(tmp_path, spellings):
    assert len({digest_of(tmp_path, spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    "meanings",
    [
        ("x = 1", "x = 1.0", "x = True", "x = '1'", "x = b'1'", "x = None", "x = a", "x = 'a'", "x = ()", "x = []"),
        ("f(a, b)", "f(b, a)", "f(a, b=b)", "f(a, *b)", "f(a, **b)", "f((a, b))"),
        ("def f(*, a, b=1): 0", "def f(*, a=1, b): 0", "def f(a, b=1): 0", "def f(a, /, b=1): 0"),
        ("if a:\n    b\nelse:\n    c", "if a:\n    b\nc", "if a: c\nelse: b", "if a: b\nelse: pass"),
        ("f'{x}'", "f'{x!r}'", "f'{x:d}'", "f'{x=}'", "'{x}'", "f'{{x}}{x}'", "f'x'", "f'x '"),
        ("from a import b", "from .a import b", "from a import b as c", "import a.b"),
        ("match a:\n    case None: b", "match a:\n    case True: b", "match a:\n    case _: b"),
    ],
)
def test_digest_tells_meanings_apart(tmp_path, meanings):
    assert len({digest_of(tmp_path, meaning) for meaning in meanings}) == len(meanings)


def other_pythons() -> dict[str, str]:
    """Version and path of one interpreter of every other version from 3.11 that is found here and starts."""
    found = {}
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin/python")
    for path in [*(shutil.which(f"python3.{minor}") for minor in range(11, 20)), *map(str, installed)]:
        code = "import sys; print('%d.%d' % sys.version_info[:2] if sys.version_info > (3, 11) else '')"
        asked = path and subprocess.run([path, "-c", code], capture_output=True, text=True)
        if asked and asked.returncode == 0 and asked.stdout.strip():
            found.setdefault(asked.stdout.strip(), path)
    found.pop(f"{sys.version_info[0]}.{sys.version_info[1]}", None)
    return found


def test_digest_does_not_depend_on_the_version_of_python(tmp_path):
    """Of a file with all of 3.11's syntax it is the stored one; of gaplib, what other Pythons here find, if any are."""
    source = Path(__file__).parents[1] / "fixtures" / "every_syntax.txt"
    syntax = shutil.copyfile(source, tmp_path / "every_syntax.py")
    assert _dependencies.digest([syntax]) == "da653c4ece3bc568a8afe9ba10f9fb5f123847f3102ad8a860176f729912fe84"

    files = [syntax, *sorted((_dependencies.ROOT / "gaplib").rglob("*.py"))]
    ours = {str(file): _dependencies.digest([file]) for file in files}
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('dependencies', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps({file: module.digest([file]) for file in json.load(sys.stdin)}))\n"
    )
    for version, python in other_pythons().items():
        command = [python, "-I", "-S", "-W", "ignore", "-c", code, _dependencies.__file__]  # no site: standard library
        asked = subprocess.run(command, input=json.dumps(list(ours)), capture_output=True, text=True, check=True)
        assert json.loads(asked.stdout) == ours, f"Python {version}"


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
