"""The notebooks as they are committed, and the setup cell that they share."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from tools import gate, setup_cell

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KILOBYTES = 250


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_as_committed(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < KILOBYTES * 1024
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert cell.source.strip()
    assert setup_cell.is_current(path), "run: python -m tools.setup_cell"
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert gate.parameter_names(notebook) == ["PROFILE", "SEEDS", "DEVICE"]
    assert re.match(r"# \S", notebook.cells[1].source)


def test_setup_cell_is_written_once(tmp_path):
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# x"}]}))
    assert setup_cell.main(["--check", str(path)]) == 1
    assert setup_cell.write_into(path)
    assert setup_cell.main(["--check", str(path)]) == 0
    once = path.read_text()
    assert not setup_cell.write_into(path)
    assert path.read_text() == once
    broken = json.loads(once)
    broken["cells"][0]["source"] = ["pip install torch"]
    path.write_text(json.dumps(broken))
    assert setup_cell.main(["--check", str(path)]) == 1
    assert setup_cell.write_into(path)
    assert [cell["cell_type"] for cell in json.loads(path.read_text())["cells"]] == ["code", "markdown"]


def test_setup_cell_does_nothing_where_gaplib_is(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the setup cell started a process")

    monkeypatch.setattr(subprocess, "run", refuse)
    exec(setup_cell.SETUP, {})


def test_setup_cell_says_what_to_do_without_an_address(tmp_path):
    done = python(["-S", "-c", setup_cell.setup_text("")], cwd=tmp_path)
    assert done.returncode == 1
    assert "names no address to install it from" in done.stderr
    assert "pip install -e '.[book]'" in done.stderr


def python(arguments, cwd, executable=sys.executable, **environment):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [str(executable), *arguments]
    return subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)


def wheel(folder, name, version, requires=()):
    """A wheel made by hand: one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    needed = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        file.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}Provides-Extra: book\n",
        )
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_setup_cell_installs_gaplib_and_never_replaces_torch(tmp_path):
    """In an environment of its own with a stand-in torch 1.0, while torch 2.0 is on offer."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    old = wheel(wheels, "torch", "1.0")
    wheel(wheels, "torch", "2.0")
    wheel(wheels, "helper", "1.0", requires=["torch"])
    greedy = wheel(wheels, "gaplib", "0.1", requires=["torch>=2"])
    modest = wheel(wheels, "gaplib", "0.2", requires=["torch>=1", 'helper; extra == "book"'])
    made = python(["-m", "venv", "environment"], cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    own = tmp_path / "environment" / "bin" / "python"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    assert python(["-m", "pip", "install", "-q", str(old)], tmp_path, own, **offline).returncode == 0

    refused = python(["-c", setup_cell.setup_text(str(greedy))], tmp_path, own, **offline)
    assert refused.returncode != 0
    assert python(["-c", "import torch; print(torch.__version__)"], tmp_path, own).stdout == "1.0\n"

    report = "\nimport gaplib, helper, torch\nprint(gaplib.__version__, torch.__version__)"
    # An address for the first time, as a repository's is; the refused one was a path.
    first = python(["-c", setup_cell.setup_text(modest.as_uri()) + report], tmp_path, own, **offline)
    assert first.stdout == "0.2 1.0\n", first.stderr
    modest.unlink()  # the second time nothing is installed, so nothing has to be there
    second = python(["-c", setup_cell.setup_text(str(modest)) + report], tmp_path, own, **offline)
    assert second.stdout == "0.2 1.0\n", second.stderr
