"""A page can only be made by this checkout's gaplib, whatever the reader's shell and start-up files say."""

import os
import textwrap
from pathlib import Path

import nbformat
import pytest

from tools import execute, kernel

ROOT = Path(__file__).resolve().parents[2]
KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.fixture
def run(tmp_path):
    """Run code as a chapter; returns (reasons, what the code printed)."""

    def go(code):
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
        parameters = nbformat.v4.new_code_cell("SEEDS = 3", metadata={"tags": ["parameters"]})
        notebook.cells = [parameters, nbformat.v4.new_code_cell(textwrap.dedent(code))]
        path = tmp_path / "90_probe.ipynb"
        nbformat.write(notebook, path)
        build = tmp_path / "build"
        problems = execute.run(path, build, {"SEEDS": 3}, figures=False)
        done = nbformat.read(build / ("failed" if problems else "executed") / path.name, as_version=4)
        assert kernel.FOLDERS not in done.metadata  # a path of this machine
        return problems, "".join(output.get("text", "") for output in done.cells[-1].outputs)

    return go


@pytest.fixture
def elsewhere(tmp_path):
    """Another checkout: a gaplib that only says so."""
    package = tmp_path / "elsewhere" / "gaplib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    return package.parent


def test_another_checkout_on_the_path_is_not_imported(run, elsewhere, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    code = """
        import subprocess, sys
        import gaplib
        print(gaplib.__file__)
        where = "import gaplib; print(gaplib.__file__)"
        print(subprocess.run([sys.executable, "-c", where], cwd="/", capture_output=True, text=True).stdout.strip())
    """
    problems, printed = run(code)
    assert problems == []
    assert printed.split() == [str(ROOT / "gaplib" / "__init__.py")] * 2  # in the kernel, and in what it starts
    assert os.environ["PYTHONPATH"] == str(elsewhere)  # the caller's own environment is as it was


def test_a_notebook_that_takes_another_gaplib_is_refused(run, elsewhere):
    problems, _ = run(f"import sys; sys.path.insert(0, {str(elsewhere)!r}); import gaplib")
    assert len(problems) == 1
    assert f"another gaplib ({elsewhere / 'gaplib'})" in problems[0]


def test_a_gaplib_that_cannot_be_asked_is_refused(run):
    problems, _ = run("import sys; sys.modules['gaplib'] = None")
    assert len(problems) == 1
    assert "did not say which gaplib" in problems[0]


def test_no_start_up_file_of_the_reader_runs(run, tmp_path, monkeypatch):
    def file(place):
        path = tmp_path / "settings" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import builtins\nbuiltins.met = [*getattr(builtins, 'met', []), {place!r}]\n")
        return path

    file(".ipython/profile_default/startup/00.py")
    file(".ipython/profile_default/ipython_kernel_config.py")
    file("path/sitecustomize.py")
    file("path/usercustomize.py")
    monkeypatch.setenv("HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "settings/.ipython"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "settings/path"))
    monkeypatch.setenv("PYTHONSTARTUP", str(file("startup.py")))
    assert run("import builtins; print(getattr(builtins, 'met', []))") == ([], "[]\n")


def test_settings_that_change_how_python_runs_do_not_reach_the_kernel(run, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = "import os, sys; print(sys.flags.optimize, sys.flags.safe_path, os.environ.get('MPLBACKEND'))"
    problems, printed = run(code)
    assert problems == []
    assert printed.startswith("0 False ")
    assert "agg" not in printed
