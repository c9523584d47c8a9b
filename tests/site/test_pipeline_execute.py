"""Real runs through a real kernel: what passes, what is refused, and what is left behind."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from gaplib.data import published
from tools import execute

FIXTURES = Path(__file__).parents[1] / "fixtures" / "notebooks"
PARAMETERS = {"PROFILE": "quick", "SEEDS": 5, "DEVICE": "cpu"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a fixture as a chapter ``90_NAME`` in a build folder of its own; returns (reasons, build folder)."""
    for name in ("GAPLIB_BOOK", "GAPLIB_RESULTS", "MPLBACKEND", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "restored-afterwards")
    monkeypatch.delenv("GAPLIB_REQUIRE", raising=False)

    def go(name, parameters=PARAMETERS):
        notebook = tmp_path / f"90_{name}.ipynb"
        shutil.copyfile(FIXTURES / f"source_{name}.ipynb", notebook)
        return execute.run(notebook, tmp_path / "build", parameters), tmp_path / "build"

    return go


def test_good_notebook_gets_its_name_and_its_record(run):
    problems, build = run("good")
    assert problems == []
    notebook = nbformat.read(build / "executed" / "90_good.ipynb", as_version=4)
    facts = notebook.metadata["gaplib"]
    assert facts["parameters"] == PARAMETERS
    assert 0 < facts["seconds"] < 120
    assert 10 < facts["peak_memory_mib"] < 4000
    assert set(facts["versions"]) >= {"python", "torch", "numpy", "papermill"}
    assert facts["result_hash"] is None  # this notebook records nothing
    # SEEDS arrived: the alt text was made from it at run time.
    assert "0.8333" in notebook.cells[4].outputs[0].metadata.gaplib.alt
    assert not (build / "failed" / "90_good.ipynb").exists()
    assert list((build / "running").iterdir()) == []


def test_failing_notebook_is_kept_apart_and_the_older_good_one_stays(run, tmp_path):
    older = tmp_path / "build" / "executed" / "90_error.ipynb"
    older.parent.mkdir(parents=True)
    older.write_text("the older one")
    problems, build = run("error")
    assert any("ZeroDivisionError" in problem for problem in problems)
    assert (build / "failed" / "90_error.ipynb").exists()
    assert older.read_text() == "the older one"


def test_killed_kernel_is_refused(run):
    problems, build = run("killed")
    assert any("kernel died" in problem for problem in problems)
    assert any("not executed" in problem for problem in problems)
    assert not (build / "executed" / "90_killed.ipynb").exists()


def test_warning_is_refused(run):
    problems, _ = run("warning")
    assert len(problems) == 1
    assert "DeprecationWarning: old name" in problems[0]


def test_unknown_parameter_is_refused_before_anything_runs(run):
    problems, build = run("good", {"PROFIL": "quick"})
    assert problems == ["unknown parameter 'PROFIL' (the notebook has PROFILE, SEEDS, DEVICE)"]
    assert not build.exists()


def test_a_device_that_is_not_there_is_refused_before_anything_runs(run):
    problems, build = run("good", {"DEVICE": "cuda:999"})
    assert problems == ["device: this machine has no cuda:999"]
    assert not build.exists()


def test_without_the_published_embeddings_a_build_that_must_have_them_is_refused(run, tmp_path, monkeypatch):
    """No stand-in reaches the public site: nothing runs, and the reason names what is missing."""
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("GAPLIB_DATA", str(tmp_path / "data"))
    for name in published.MODELS:  # found, and refused: so no test asks the network
        (tmp_path / "data" / "liang2022").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "liang2022" / f"{name}.npy").write_bytes(b"a stand-in")
    monkeypatch.setenv("GAPLIB_REQUIRE", "published")
    problems, build = run("good")
    assert len(problems) == len(published.MODELS)
    assert all(problem.startswith("GAPLIB_REQUIRE=published: GAPLIB_DATA: ") for problem in problems)
    assert all("is not the published file" in problem for problem in problems)
    assert not build.exists()


def test_with_the_published_embeddings_that_build_runs(monkeypatch):
    asked = []
    monkeypatch.setattr(published, "unavailable_reason", lambda name: asked.append(name) or "")
    monkeypatch.setenv("GAPLIB_REQUIRE", "published")
    assert execute._data_problems() == []
    assert asked == list(published.MODELS)


def test_a_requirement_that_nobody_knows_is_refused(run, monkeypatch):
    monkeypatch.setenv("GAPLIB_REQUIRE", "clip")
    problems, build = run("good")
    assert problems == ["GAPLIB_REQUIRE: expected published or nothing, got 'clip'"]
    assert not build.exists()


def test_provenance_has_the_device_that_the_results_say_was_used(tmp_path):
    path = tmp_path / "90.json"
    assert execute.provenance({"DEVICE": "cuda"}, 1.0, path)["device"] == "not recorded"
    path.write_text('{"device": "cpu", "results": []}')
    assert execute.provenance({"DEVICE": "cuda"}, 1.0, path)["device"] == "cpu"


def test_results_of_an_older_run_are_not_taken_for_new_ones(run, tmp_path):
    results = tmp_path / "build" / "results" / "90.json"
    results.parent.mkdir(parents=True)
    results.write_text('{"results": []}')
    assert run("good")[0] == []
    assert not results.exists()


def test_result_hash_sees_values_and_not_dates(tmp_path):
    def digest(**changes):
        row = {"name": "a", "value": 1.0, "device": "cpu", "version": "0.1"}
        document = {"profile": "quick", "date": "today", "results": [row]} | changes
        path = tmp_path / "r.json"
        path.write_text(json.dumps(document))
        return execute.result_hash(path)

    assert digest() == digest(date="tomorrow", versions={"torch": "3"})
    assert digest() == digest(results=[{"name": "a", "value": 1.0, "device": "cuda", "version": "0.2"}])
    assert digest() != digest(results=[{"name": "a", "value": 1.0000001}])
    assert digest() != digest(profile="confirm")


def test_a_foreign_kernel_of_our_name_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / execute.KERNEL
    folder.mkdir(parents=True)
    spec = {"argv": ["/usr/bin/python9", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "x"}
    (folder / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="another environment"):
        execute.check_kernel()


def test_command_line_exits_1_with_reasons(capsys):
    notebook = str(FIXTURES / "source_good.ipynb")
    assert execute.main([notebook, "--build", "unused", "-p", "SEED", "3"]) == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out
    assert "unknown parameter 'SEED'" in out
