"""Run one notebook once, with its parameters, judge it, and only then give it its name under ``executed/``.

    python -m tools.execute notebooks/01_meet_the_gap.ipynb --build _build -p PROFILE quick -p SEEDS 3 -p DEVICE cpu

One process a notebook: what the kernel used at most can then be read off this process's children. The run goes to a
temporary name; it is renamed when the gate lets it pass, and kept in ``failed/`` when not. Exit status 1 on refusal.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError

from tools import gate
from tools import kernel as kernels

KERNEL = "gaplib-book"
REPORTED = ("gaplib", "torch", "torchvision", "numpy", "scikit-learn", "open_clip_torch", "matplotlib", "papermill")
# What differs between two runs that found the same.
VOLATILE = {"versions", "version", "device", "date", "commit", "seconds", "rules"}
REQUIRABLE = "published"  # what GAPLIB_REQUIRE may name: with it no stand-in for the published embeddings passes
QUICK_CELL_SECONDS = 1800  # a cell of the quick profile that runs longer hangs; slow machines were seen to need 750


def run(notebook: Path, build: Path, parameters: dict[str, Any], *, figures: bool = True) -> list[str]:
    """Execute and judge ``notebook``; returns the gate's reasons, empty when ``build/executed/`` got a new file.

    ``build`` also gets ``logs/NAME.txt`` (the kernel's stderr) and, from the notebook itself, ``results/NN.json``.
    """
    source = nbformat.read(notebook, as_version=4)
    problems = gate.parameter_problems(source, parameters)
    problems += [] if gate.parameter_names(source) is not None else ["no cell is tagged `parameters`"]
    problems += _device_problems(parameters) + _data_problems()
    if problems:
        return sorted(set(problems))
    check_kernel()
    folders = {name: build / name for name in ("running", "executed", "failed", "logs", "results")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    running, log = folders["running"] / notebook.name, folders["logs"] / f"{notebook.stem}.txt"
    results = folders["results"] / f"{notebook.stem.split('_')[0]}.json"
    results.unlink(missing_ok=True)  # an older run's results are never taken for this one's
    started = time.monotonic()
    variables = _variables(folders["results"], build / "cache")
    with kernels.environment(**variables), _stderr_into(log), _progress(running, source):
        trouble = _execute(notebook, running, parameters)
    facts = provenance(parameters, time.monotonic() - started, results)
    executed = nbformat.read(running, as_version=4) if running.exists() else source
    executed.metadata["gaplib"] = facts
    other_package = kernels.package_problems(executed)
    trouble = trouble or other_package  # a run that was cut short says nothing about its gaplib
    nbformat.write(executed, running)
    problems = trouble + gate.judge(executed, figures=figures, log=log.read_text(encoding="utf-8", errors="replace"))
    os.replace(running, folders["failed" if problems else "executed"] / notebook.name)
    if not problems:
        (folders["failed"] / notebook.name).unlink(missing_ok=True)
    return problems


def _device_problems(parameters: dict[str, Any]) -> list[str]:
    """Why the device that is asked for cannot be used, before anything ran."""
    device = parameters.get("DEVICE", "cpu")
    if device == "cpu":
        return []
    from gaplib._devices import check_device  # torch: nothing that the other runs have to wait for

    try:
        check_device(device)
    except ValueError as error:
        return [str(error)]
    return []


def _data_problems() -> list[str]:
    """Which data that GAPLIB_REQUIRE asks for cannot be had, before anything ran.

    Without the published embeddings the chapters show small models of the book's own in their place and say so: right
    for a reader without a network, wrong for the public site.
    """
    required = os.environ.get("GAPLIB_REQUIRE", "").split()
    unknown = sorted({*required} - {REQUIRABLE})
    problems = [f"GAPLIB_REQUIRE: expected {REQUIRABLE} or nothing, got {name!r}" for name in unknown]
    if REQUIRABLE in required:
        from gaplib.data import published

        reasons = [published.unavailable_reason(name) for name in published.MODELS]
        problems += [f"GAPLIB_REQUIRE={REQUIRABLE}: {reason}" for reason in reasons if reason]
    return problems


def _execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> list[str]:
    limit = QUICK_CELL_SECONDS if parameters.get("PROFILE", "quick") == "quick" else None
    options = {"kernel_name": KERNEL, "progress_bar": False, "cwd": str(Path.cwd()), "execution_timeout": limit}
    options["engine_name"] = kernels.ENGINE
    try:
        papermill.execute_notebook(str(notebook), str(output), parameters=parameters, **options)
    except papermill.PapermillExecutionError:
        return []  # the gate names it, from the error output
    except DeadKernelError:
        return ["the kernel died (killed, or out of memory)"]
    except Exception as error:  # a time-out, a kernel that does not start: whatever it is, this run is refused
        return [f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"]
    return []


def check_kernel() -> None:
    """Raise ``RuntimeError`` unless the book's kernel is there and is this very Python."""
    specs = KernelSpecManager()
    if KERNEL not in specs.find_kernel_specs():
        raise RuntimeError(f"no Jupyter kernel named {KERNEL}: run `make .venv/.stamp`")
    spec = specs.get_kernel_spec(KERNEL)
    python = Path(spec.argv[0])
    if python.parent.resolve() != Path(sys.executable).parent.resolve():
        what = f"the kernel {KERNEL} is another environment's ({python})"
        raise RuntimeError(f"{what}: remove the folder {spec.resource_dir}, then run `make .venv/.stamp`")


def provenance(parameters: dict[str, Any], seconds: float, results: Path) -> dict[str, Any]:
    """What the status page says about a run: time, memory, device, versions, commit, hash of the results."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB; bytes on macOS
    versions = {"python": platform.python_version()}
    for name in REPORTED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "seconds": round(seconds, 1),
        "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
        "device": _device(results),
        "cpu": _processor(),
        "profile": str(parameters.get("PROFILE", "")),
        "parameters": parameters,
        "versions": versions,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "result_hash": result_hash(results) if results.exists() else None,
    }


def _device(results: Path) -> str:
    """The device that a run used, which need not be the one that it was asked to use."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads(results.read_text(encoding="utf-8"))["device"])
    return "not recorded"


def result_hash(path: Path) -> str:
    """SHA-256 of a results file, without what differs between two runs that found the same."""

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: steady(item) for key, item in value.items() if key not in VOLATILE}
        return [steady(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(steady(json.loads(path.read_text(encoding="utf-8"))), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def commit() -> str:
    """The commit that is checked out, with ``-dirty`` behind it where the code differs; ``unknown`` outside git."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=kernels.ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", "gaplib", "notebooks", "requirements.txt")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-dirty" if changed else "")


def committed(facts: dict[str, Any]) -> tuple[str, bool]:
    """The commit that a run says it was made from, and whether that run can be traced to it."""
    said = str(facts.get("commit") or "unknown")
    return said, said != "unknown" and not said.endswith("-dirty")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _variables(results: Path, cache: Path) -> dict[str, str]:
    """What a kernel is told beyond its own environment. GAPLIB_CACHE and GAPLIB_DATA stay as the caller set them."""
    return {
        "GAPLIB_BOOK": "1",
        "GAPLIB_RESULTS": str(results.resolve()),
        "GAPLIB_CACHE": os.environ.get("GAPLIB_CACHE", str(cache.resolve())),
        **({"GAPLIB_DATA": str(Path(os.environ["GAPLIB_DATA"]).resolve())} if "GAPLIB_DATA" in os.environ else {}),
        "OMP_NUM_THREADS": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # tqdm's complaint that it has no widgets; nothing here wants them, the site could not show one.
        "PYTHONWARNINGS": "ignore:IProgress not found",
    }


@contextlib.contextmanager
def _stderr_into(log: Path):
    """Send this process's stderr, and so the kernel's, into the log; ours comes back afterwards."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _progress(running: Path, source: Any, every: float = 20.0):
    """A line every 20 seconds: papermill saves after each cell, so the file tells how far the run is."""
    total = 1 + sum(cell.cell_type == "code" for cell in source.cells)  # papermill adds the cell of parameters
    done, started = threading.Event(), time.monotonic()

    def report() -> None:
        while not done.wait(every):
            with contextlib.suppress(OSError, ValueError):
                cells = json.loads(running.read_text(encoding="utf-8"))["cells"]
                ready = sum(cell.get("execution_count") is not None for cell in cells if cell["cell_type"] == "code")
                print(f"  {running.stem}: {ready} of {total} cells, {time.monotonic() - started:.0f} s", flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(argv: list[str] | None = None) -> int:
    """Run one notebook; 0 when it passed the gate."""
    parser = argparse.ArgumentParser(description="execute one notebook and judge it")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--build", type=Path, default=Path("_build"))
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args(argv)
    parameters = {name: _value(value) for name, value in options.parameter}
    name = options.notebook.stem
    print(f"  {name}: running ({', '.join(f'{key}={value}' for key, value in parameters.items())})", flush=True)
    try:
        problems = run(options.notebook, options.build, parameters, figures=name[:2].isdigit())
    except (OSError, RuntimeError, ValueError) as error:
        problems = [str(error)]
    if problems:
        print(f"  {name}: REFUSED", *(f"    {problem}" for problem in problems), sep="\n", flush=True)
        kept = options.build / "failed" / options.notebook.name
        if kept.exists():
            print(f"    kept for a look: {kept}", flush=True)
        return 1
    facts = json.loads((options.build / "executed" / options.notebook.name).read_text())["metadata"]["gaplib"]
    print(f"  {name}: passed the gate, {facts['seconds']:.0f} s, {facts['peak_memory_mib']} MiB at most", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
