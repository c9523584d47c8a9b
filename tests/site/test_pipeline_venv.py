"""The environment that make makes, with stand-ins for uv and ipykernel: after a move, and under a reader's settings."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = """#!/bin/sh
# `uv --version`, and `uv pip sync ... --python PYTHON ...`, which installs itself, a command and an ipykernel
if [ "$1" = --version ]; then echo "uv 9.9.9"; exit; fi
if [ "$2" != sync ]; then exit; fi
while [ "$1" != --python ]; do shift; done
bin=$(cd "$(dirname "$2")" && pwd)
cmp -s "$0" "$bin/uv" || cp "$0" "$bin/uv"
cat > "$bin/codespell" <<END
#!/bin/sh
exec "$bin/python" -c "print('at work')"
END
chmod +x "$bin/codespell"
for site in "$bin"/../lib/python3*/site-packages; do
    mkdir -p "$site/ipykernel"
    cat > "$site/ipykernel/__main__.py" <<END
import json, pathlib, sys
folder = pathlib.Path(sys.prefix, "share/jupyter/kernels/gaplib-book")
folder.mkdir(parents=True, exist_ok=True)
(folder / "kernel.json").write_text(json.dumps({"argv": [sys.executable]}))
END
done
"""
KERNEL = ".venv/share/jupyter/kernels/gaplib-book/kernel.json"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose lock file is only the stand-in, with no index but a folder."""
    wheel = tmp_path / "wheels" / "uv-9.9.9-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        script = zipfile.ZipInfo("uv-9.9.9.data/scripts/uv")
        script.external_attr = 0o100755 << 16
        file.writestr(script, UV)
        file.writestr("uv-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 9.9.9\n")
        file.writestr("uv-9.9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("uv-9.9.9.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith(("PIP_", "MAKE", "MFLAGS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    folder = tmp_path / "one project"
    (folder / "tools").mkdir(parents=True)
    (folder / "gaplib").mkdir()
    shutil.copyfile(ROOT / "Makefile", folder / "Makefile")
    shutil.copy(ROOT / "tools" / "make_venv.sh", folder / "tools" / "make_venv.sh")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"uv==9.9.9 \\\n    --hash=sha256:{digest}\n")
    return folder


def make(project, *options):
    command = ["make", "-j1", *options, ".venv/.stamp"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(project):
    """The environment works where it is: its Python, a command of it, its kernel."""
    assert subprocess.check_output([project / ".venv/bin/codespell"], text=True) == "at work\n"
    assert str(project / ".venv") in (project / KERNEL).read_text()


def test_an_environment_that_was_moved_is_made_anew(project):
    make(project)
    check(project)
    assert "up to date" in make(project)
    moved = project.rename(project.with_name("moved"))
    assert "made in another folder" in make(moved)
    check(moved)
    assert "made in another folder" not in make(moved)
    (moved / KERNEL).unlink()  # what a message about a foreign kernel says to do
    make(moved)
    check(moved)
    python = moved / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/no/longer/there")  # the Python that it stood on was removed
    assert "make_venv.sh" in make(moved, "-n")


def test_settings_of_the_readers_shell_do_not_stop_it(project, tmp_path, monkeypatch):
    strange = tmp_path / "strange"
    (tmp_path / "pip.conf").write_text(f"[global]\nuser = true\ntarget = {strange}\nprefix = {strange}\n")
    (tmp_path / "constraints.txt").write_text("uv<9\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", str(strange))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    make(project)
    check(project)
    assert not strange.exists()
