"""A device that is not the CPU, without one: all that takes ``device=`` computes there what it computes on the CPU.

The tests are those of ``on_pretend_device.py``; ``make gpu-check`` runs the same checks on a real device.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gaplib import _devices
from tools import gpu_check

HERE = Path(__file__).parent


@pytest.mark.timeout(900)  # nearly three hundred tests, in a process of their own
def test_everything_computes_on_a_pretend_device_what_it_computes_on_the_cpu():
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, HERE / "on_pretend_device.py"], capture_output=True, text=True, cwd=HERE.parents[1]
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.fullmatch(r"[1-9]\d+ passed(, \d+ warnings?)? in .*", done.stdout.splitlines()[-1])  # and none skipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "this machine has neither cuda nor mps: nothing was checked"),
        (["--device", "cuda"], "device: this machine has no cuda"),
        (["--device", "tpu"], "device: expected cpu, cuda, cuda:N or mps, got 'tpu'"),
        (["--device", "cpu"], "device: expected one that is not the CPU, got 'cpu'"),
    ],
)
def test_without_a_device_the_check_says_so(monkeypatch, capsys, arguments, message):
    for kind in ("cuda", "mps"):
        monkeypatch.setitem(_devices.DEVICES, kind, lambda: False)
    assert gpu_check.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"gpu-check: {message}\n")
