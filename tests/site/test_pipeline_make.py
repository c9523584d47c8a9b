"""What Make runs, mostly asked with `make -n`, in a small copy of the project."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from gaplib.book.results import PROFILES

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "__init__.py": "",
    "geometry.py": "from gaplib import stats\n",
    "stats.py": "",
    "training.py": "import gaplib.geometry\n",
    "plots.py": "",
}
NOTEBOOKS = {
    "01_a": ("from gaplib.geometry import gap", "Needs about 1 minute."),
    "02_b": ("import gaplib.training", "Needs about 2.5 minutes."),
    "03_c": ("from gaplib import plots", "Needs about 30 seconds."),
}


@pytest.fixture
def project(tmp_path):
    """A project whose every notebook was executed just now."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("gaplib", "notebooks", "book", ".venv/bin", "_build/executed"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copyfile(ROOT / "gaplib" / "_dependencies.py", tmp_path / "gaplib" / "_dependencies.py")
    for name, text in MODULES.items():
        (tmp_path / "gaplib" / name).write_text(text)
    for name, (code, needs) in NOTEBOOKS.items():
        cells = [{"cell_type": "code", "source": code}, {"cell_type": "markdown", "source": needs}]
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
    for name in ("requirements.txt", "_config.yml", "_toc.yml", "book/intro.md"):
        (tmp_path / name).write_text("")
    old = time.time() - 1000
    for path in tmp_path.rglob("*"):
        os.utime(path, (old, old))
    (tmp_path / ".venv" / ".stamp").write_text("")
    make(tmp_path, "executed")  # writes params.txt and deps.mk; with -n nothing else
    for name in NOTEBOOKS:
        (tmp_path / "_build" / "executed" / f"{name}.ipynb").write_text("{}")
    assert would_run(tmp_path) == []
    return tmp_path


def make(project, *arguments, dry=True):
    done = started(project, *(["-n"] if dry else []), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(project, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-j1", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def would_run(project, *arguments):
    return re.findall(r"tools\.execute notebooks/(\w+)\.ipynb", make(project, "executed", *arguments))


def edit(path):
    time.sleep(0.01)  # longer than the clock of a file system ticks
    path.touch()


def test_a_file_from_the_future_does_not_hang_make(project):
    later = time.time() + 10_000
    os.utime(project / "notebooks" / "03_c.ipynb", (later, later))
    started = time.monotonic()
    assert would_run(project) == ["03_c"]
    assert time.monotonic() - started < 5


def test_one_edited_notebook_runs_alone(project):
    edit(project / "notebooks" / "02_b.ipynb")
    assert would_run(project) == ["02_b"]


@pytest.mark.parametrize(
    ("module", "notebooks"),
    [
        ("plots", {"03_c"}),
        ("training", {"02_b"}),
        ("geometry", {"01_a", "02_b"}),
        ("stats", {"01_a", "02_b"}),
        ("__init__", {"01_a", "02_b", "03_c"}),
        ("_dependencies", set()),
    ],
)
def test_a_module_reruns_what_stands_on_it(project, module, notebooks):
    edit(project / "gaplib" / f"{module}.py")
    assert set(would_run(project)) == notebooks


def test_a_new_import_is_a_new_dependency(project):
    (project / "gaplib" / "geometry.py").write_text("from gaplib import plots, stats\n")
    assert set(would_run(project)) == {"01_a", "02_b"}
    for name in NOTEBOOKS:  # as if they had run
        edit(project / "_build" / "executed" / f"{name}.ipynb")
    edit(project / "gaplib" / "plots.py")
    assert set(would_run(project)) == {"01_a", "02_b", "03_c"}


def test_a_deleted_module_counts_as_a_change(project):
    (project / "gaplib" / "plots.py").unlink()
    assert would_run(project) == ["03_c"]


def test_a_changed_parameter_reruns_everything(project):
    assert set(would_run(project, "SEEDS=4")) == set(NOTEBOOKS)


def test_lock_file_reruns_everything(project):
    edit(project / "requirements.txt")
    assert set(would_run(project)) == set(NOTEBOOKS)


def test_longest_goes_first(project):
    edit(project / "gaplib" / "__init__.py")
    assert would_run(project) == ["02_b", "01_a", "03_c"]
    executed = {"metadata": {"gaplib": {"seconds": 500.0}}}  # what was measured beats what the notebook says
    (project / "_build" / "executed" / "03_c.ipynb").write_text(json.dumps(executed))
    edit(project / "gaplib" / "__init__.py")
    edit(project / "notebooks" / "03_c.ipynb")
    assert would_run(project) == ["03_c", "02_b", "01_a"]


def test_one_chapter(project):
    edit(project / "gaplib" / "__init__.py")
    assert re.findall(r"tools\.execute notebooks/(\w+)", make(project, "notebook", "N=03")) == ["03_c"]


def test_confirming_run_has_its_own_folder(project):
    shown = make(project, "confirm")
    assert "--build _build/confirm -p PROFILE confirm -p SEEDS 10" in shown


def test_parameters_file_is_left_alone_when_nothing_changed(project):
    parameters = project / "_build" / "params.txt"
    before = parameters.stat().st_mtime_ns
    make(project, "executed")
    assert parameters.stat().st_mtime_ns == before
    assert parameters.read_text() == "PROFILE=quick SEEDS=3 DEVICE=cpu\n"
    make(project, "executed", "PROFILE=full")
    assert parameters.read_text() == "PROFILE=full SEEDS=3 DEVICE=cuda\n"


def test_a_build_that_must_have_the_published_embeddings_takes_no_notebook_that_ran_without(project, monkeypatch):
    monkeypatch.setenv("GAPLIB_REQUIRE", "published")
    assert set(would_run(project)) == set(NOTEBOOKS)


def test_help_and_clean_leave_no_build_folder(project):
    shutil.rmtree(project / "_build")
    make(project, "help")
    make(project, "clean")
    assert not (project / "_build").exists()


def test_what_the_shell_says_to_python_stays_outside(project, tmp_path_factory, monkeypatch):
    seen = tmp_path_factory.mktemp("seen") / "environment.txt"
    python = project / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *tools.execute*) env > "{seen}";; *) exec python3 "$@";; esac\n')
    python.chmod(0o755)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for name in ("PATH", "SAFEPATH", "WARNINGS", "OPTIMIZE", "STARTUP", "HOME", "INSPECT"):
        monkeypatch.setenv(f"PYTHON{name}", "error")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "kept")
    monkeypatch.setenv("PYTHON", "kept")
    edit(project / "notebooks" / "02_b.ipynb")
    make(project, "executed", dry=False)
    told = [line for line in seen.read_text().splitlines() if line.startswith("PYTHON")]
    assert sorted(told) == ["PYTHON=kept", "PYTHONNOUSERSITE=1", "PYTHONPYCACHEPREFIX=kept"]


@pytest.mark.parametrize(
    "setting",
    [
        *("PROFILE=quik", "PROFILE=", "PROFILE=quick full", "PROFILE=%"),
        *("SEEDS=0", "SEEDS=-1", "SEEDS=three", "SEEDS=2.5", "SEEDS=03", "SEEDS=", "SEEDS=1 2"),
        *(
            "DEVICE=gpu",
            "DEVICE=cuda:x",
            "DEVICE=cuda:",
            "DEVICE=cuda:N",
            "DEVICE=3",
            "DEVICE=",
            "DEVICE=cuda:0 cuda:y",
            "N=99",
            "N=",
        ),
    ],
)
def test_a_value_that_is_refused_makes_nothing_stale(project, setting):
    done = started(project, "notebook", "N=02", setting)
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode != 0
    assert len(lines) == 1
    name, _, value = setting.partition("=")
    assert f"got '{value}'" in lines[0] if name != "N" else "name a chapter; there are: notebooks/01_a" in lines[0]
    assert would_run(project) == []


@pytest.mark.parametrize(
    "setting", [*(f"PROFILE={name}" for name in PROFILES), "SEEDS=1", "SEEDS=120", "DEVICE=mps", "DEVICE=cuda:10"]
)
def test_a_value_that_is_taken_is_taken(project, setting):
    name, _, value = setting.partition("=")
    assert f"-p {name} {value}" in make(project, "notebook", "N=02", "-B", setting)


def test_the_confirming_run_leaves_the_quick_build_alone(project):
    make(project, "confirm", "SEEDS=12", "DEVICE=cuda")
    assert would_run(project) == []
