"""What a plain ``pip install gaplib`` brings is enough to measure; every other import names the extra it needs."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from gaplib._extras import MissingExtra, need

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: distributions whose module is not simply called as they are
MODULE = {"ipython": "IPython", "open-clip-torch": "open_clip", "pillow": "PIL", "scikit-learn": "sklearn"}
#: what imports nothing beyond the core, subpackages included
CORE = re.compile(
    r"gaplib(\.__main__|\.geometry.*|\.losses.*|\.methods|\.posthoc|\.evaluation.*|\.information|\.stats|\.pairs|\.claims.*"
    r"|\.theory.*|\.open_clip_loss|\.embedding_files.*|\.measuring.*|\.swapping|\.temperature|\.tiled|\.data|\.data\.worlds)?"
)


def modules_of(requirements):
    """Top-level modules of requirements; those of another extra of gaplib stand for that extra's."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        name = name.lower().replace("_", "-")
        if name == "gaplib":
            for extra in extras.split(","):
                found |= modules_of(PROJECT["optional-dependencies"][extra])
        else:
            found.add(MODULE.get(name, name.replace("-", "_")))
    return found


BEYOND_CORE = modules_of(PROJECT["optional-dependencies"]["all"]) - modules_of(PROJECT["dependencies"])


def test_all_is_every_extra():
    for name, requirements in PROJECT["optional-dependencies"].items():
        assert modules_of(requirements) <= BEYOND_CORE, name


def test_every_need_is_in_the_extra_that_it_names():
    calls = 0
    for file in (ROOT / "gaplib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "need":
                extra, *modules = (ast.literal_eval(argument) for argument in node.args)
                assert set(modules) <= modules_of(PROJECT["optional-dependencies"][extra]), (file, extra)
                calls += 1
    assert calls


def test_need_names_what_is_missing_and_the_command():
    need("train", "json")
    with pytest.raises(MissingExtra) as caught:
        need("train", "json", "no_such_a", "no_such_b")
    assert str(caught.value) == 'this part of gaplib needs no_such_a, no_such_b: pip install "gaplib[train]"'
    assert isinstance(caught.value, ImportError)


# PathFinder finds nothing of the blocked packages, as where they are not installed.
BLOCKED = """
import importlib, io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import PathFinder

blocked, modules, x, y = json.loads(sys.argv[1])

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in blocked else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
found = {}
for module in modules:
    try:
        importlib.import_module(module)
        found[module] = ""
    except ImportError as error:
        found[module] = f"{type(error).__name__}: {error}"
from gaplib.__main__ import main
out, err = io.StringIO(), io.StringIO()
with redirect_stdout(out), redirect_stderr(err):
    measured = main(["measure", x, y, "--json"])
    trained = main(["train", "clip", "--out", x + ".run"])
print(json.dumps([found, measured, out.getvalue(), trained, err.getvalue()]))
"""


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """What happens in a core install: module -> error on import, then `measure` and `train`."""
    folder = tmp_path_factory.mktemp("core")
    rng = np.random.default_rng(0)
    paths = [str(folder / name) for name in ("x.npy", "y.npy")]
    for path in paths:
        rows = rng.normal(size=(60, 8))
        np.save(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    files = sorted((ROOT / "gaplib").rglob("*.py"))
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    given = json.dumps([sorted(BEYOND_CORE), modules, *paths])
    done = subprocess.run([sys.executable, "-c", BLOCKED, given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_core_is_enough_for_the_library(core):
    found = {module: error for module, error in core[0].items() if CORE.fullmatch(module)}
    assert {"gaplib", "gaplib.geometry.report", "gaplib.posthoc", "gaplib.theory.dynamics"} <= set(found)
    assert {module: error for module, error in found.items() if error} == {}


def test_every_other_module_imports_or_names_its_extra(core):
    failed = {module: error for module, error in core[0].items() if error}
    pattern = r'MissingExtra: this part of gaplib needs [\w, ]+: pip install "gaplib\[([\w-]+)\]"'
    extras = {
        module: match[1] if (match := re.fullmatch(pattern, error)) else error for module, error in failed.items()
    }
    assert set(extras.values()) == {"train", "plots", "book"}
    assert extras["gaplib.training"] == extras["gaplib.towers"] == extras["gaplib.data.glyphs"] == "train"
    assert extras["gaplib.book.plots"] == "plots"


def test_command_line_in_the_core(core):
    _, measured, out, trained, err = core
    assert measured == 0
    assert np.isfinite(json.loads(out)["centroid_distance"])
    assert trained == 2
    assert err.count("\n") == 1
    assert 'pip install "gaplib[train]"' in err
