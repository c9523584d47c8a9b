"""The leaderboard: whole after any interruption, careful with folders, honest about rows that fail."""

import ast
import graphlib
import importlib.util
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import leaderboard_fakes as fakes
import pandas as pd
import pytest

from gaplib import _dependencies, _devices
from gaplib.data import cache_dir, glyphs
from gaplib.leaderboard import LeaderboardFailed, LeaderboardFolderError, leaderboard, plan, ray_cluster
from gaplib.training import cached_run
from gaplib.training.cache import Entry

TINY = {"steps": 2, "batch_size": 8, "dim": 8, "eval_pairs": 16}
METHODS = ["clip", "cua", "mean-centring", "cua+shift"]
HEAD = ["method", "seed", "setting", "tau", "steps", "seconds", "gaplib", "torch", "device", "run", "configuration"]


def make(out, methods=METHODS, seeds=(100, 101), **options):
    options = {"jobs": 1, "progress": False, "changes": TINY, "evaluate": fakes.cheap} | options
    return leaderboard(methods, seeds, out, **options)


def csv_without_seconds(folder) -> str:
    """The table as text, but for the seconds that training took."""
    table = pd.read_csv(folder / "leaderboard.csv", dtype=str)
    return table.drop(columns="seconds").to_csv(index=False)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def use_cache(patch, folder):
    """A cache without runs, for this test and the processes that it starts; the alphabet is drawn once for all."""
    glyphs.load()
    folder.mkdir(exist_ok=True)
    (folder / "glyphs").symlink_to(cache_dir() / "glyphs")
    patch.setenv("GAPLIB_CACHE", str(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A leaderboard made without interruption by one process, in a cache of its own."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        use_cache(patch, tmp_path_factory.mktemp("cache"))
        frame = make(folder / "board")
    return folder / "board", frame


# --- what it holds ----------------------------------------------------------------------------------------------------


def test_rows_are_what_the_runs_give(whole):
    _, frame = whole
    assert list(frame.columns) == [*HEAD, "gap", "cosine", "threads", "told"]
    assert [(m, s) for m, s in zip(frame.method, frame.seed, strict=True)] == [
        (m, s) for m in METHODS for s in (100, 101)
    ]
    board = plan.Plan("tuned", TINY, fakes.cheap)
    for row in frame.itertuples():
        config = board.spec(row.method, row.seed).config
        run = cached_run(config)  # trained again here, in another cache
        assert json.loads(row.configuration) == json.loads(json.dumps(config.to_dict()))
        assert (row.steps, row.setting, row.tau) == (2, "tuned", run.history[-1]["tau"])
        if "+" not in row.method and row.method != "mean-centring":
            assert row.gap == fakes.cheap(run)["gap"]
    gap = frame.set_index(["method", "seed"]).gap
    for seed in (100, 101):  # the treatments are fitted on training characters, and close the gap of unseen ones
        assert gap["mean-centring", seed] < 0.5 * gap["clip", seed]
        assert gap["cua+shift", seed] < 0.5 * gap["cua", seed]
    run_keys = frame.set_index(["method", "seed"]).run
    assert run_keys["mean-centring", 100] == run_keys["clip", 100] != run_keys["clip", 101]
    assert frame.run.nunique() == 4


def test_csv_and_parquet_hold_the_same(whole):
    folder, frame = whole
    csv, parquet = pd.read_csv(folder / "leaderboard.csv"), pd.read_parquet(folder / "leaderboard.parquet")
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False, check_exact=True)
    by = ["method", "seed"]
    pd.testing.assert_frame_equal(
        parquet.sort_values(by, ignore_index=True), frame.sort_values(by, ignore_index=True), check_exact=True
    )
    assert len(list((folder / "rows").iterdir())) == len(frame)


def test_two_processes_give_what_one_gives(whole, tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # theirs is 1 all the same
    frame = make(tmp_path / "board", jobs=2)
    assert frame[["threads", "told"]].to_numpy().tolist() == [[1.0, 1.0]] * 8
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert csv_without_seconds(tmp_path / "board") == csv_without_seconds(whole[0])


def test_a_finished_one_is_only_read(whole, monkeypatch):
    folder, frame = whole
    before = {name: p for name, p in contents(folder).items() if name.startswith("rows")}
    monkeypatch.setattr("gaplib.leaderboard.processes.ProcessPoolExecutor", None)  # no process may be needed
    pd.testing.assert_frame_equal(make(folder, jobs=2), frame)
    part = make(folder, ["cua"], [101])
    assert part.gap.tolist() == frame[(frame.method == "cua") & (frame.seed == 101)].gap.tolist()
    assert len(pd.read_csv(folder / "leaderboard.csv")) == len(frame)  # the others stay in the tables
    assert {name: p for name, p in contents(folder).items() if name.startswith("rows")} == before


def test_controls_are_rows(tmp_path):
    frame = make(tmp_path / "board", ["clip", "unimodal ceiling"], [100])
    assert frame.method.tolist() == ["clip", "unimodal ceiling"]
    assert frame.run.nunique() == 1
    trained, images_alone = (row for _, row in frame.iterrows())
    assert 0.05 < images_alone["recall.image_to_text@1"] < 1  # any convolutions find a letter in another face
    assert math.isnan(images_alone["gap"])
    assert math.isnan(trained["recall.image_to_text@1"])


def test_everything_that_none_stands_for_can_be_planned():
    rows = plan.Plan("tuned", {}, fakes.cheap).rows(None, [100, 101])
    assert len({row.key for row in rows}) == len(rows) == 2 * len(plan.METHODS_AND_CONTROLS)
    trained = {row.run_key for row in rows}
    assert len(trained) == 2 * len(plan.presets.TRAINED)  # treatments and controls train nothing of their own


def test_runs_of_another_device_are_other_runs_and_other_folders(monkeypatch, tmp_path):
    monkeypatch.setitem(_devices.DEVICES, "cuda", lambda: True)
    cpu, cuda = plan.Plan("tuned", TINY, fakes.cheap), plan.Plan("tuned", TINY, fakes.cheap, "cuda")
    (one,), (other,) = (board.rows(["cua"], [100]) for board in (cpu, cuda))
    # The CPU's are those of a call that names no device, as before there was a choice.
    assert one.run_key == Entry.of(one.config, glyphs.load().digest, "cpu").folder.name
    assert other.run_key == Entry.of(one.config, glyphs.load().digest, "cuda:0").folder.name != one.run_key
    assert one.key != other.key
    assert set(cpu.identity()) == {"format", "setting", "changes", "evaluation"}
    assert cuda.identity() == cpu.identity() | {"device": "cuda"}
    assert [job.device for job in (*cpu.jobs([one]), *cuda.jobs([other]))] == ["cpu", "cuda"]
    with pytest.raises(ValueError, match="device: expected cpu with ray"):
        make(tmp_path / "board", device="cuda", ray="localhost:1")
    assert not (tmp_path / "board").exists()


def test_modules_import_each_other_without_a_circle():
    """Imports in functions and for type checkers count too."""
    graph = {}
    for file in (_dependencies.ROOT / "gaplib" / "leaderboard").glob("*.py"):
        found = graph.setdefault(file.stem, set())
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "gaplib.leaderboard":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("gaplib.leaderboard."):
                found.add(node.module.rpartition(".")[2])
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("jobs") < order.index("plan") < order.index("ray_cluster") < order.index("__init__")


# --- interruptions ----------------------------------------------------------------------------------------------------


def program(out) -> list[str]:
    code = (
        f"import sys; sys.path.insert(0, {fakes.here()!r})\n"
        "import leaderboard_fakes as fakes\n"
        "from gaplib.leaderboard import leaderboard\n"
        f"leaderboard({METHODS!r}, (100, 101), {str(out)!r}, 2, progress=False, changes={TINY!r},\n"
        "            evaluate=fakes.cheap)\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.timeout(900)
def test_killed_at_random_moments_and_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch):
    """SIGKILL once while nothing is there, and once after the second row that the folder has; then to the end."""
    use_cache(monkeypatch, tmp_path / "cache")
    out, moments = tmp_path / "board", random.Random()
    for rows in (0, 2):
        with subprocess.Popen(program(out), start_new_session=True) as process:
            end = time.monotonic() + 300
            while len(list(out.glob("rows/*.json"))) < rows or not out.exists():
                assert process.poll() in (None, 0)
                assert time.monotonic() < end
                if process.poll() == 0:
                    break
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        # Whatever is there is whole: the rows can be read, the table has no more than the rows.
        for file in out.glob("rows/*.json"):
            json.loads(file.read_text())
        if (out / "leaderboard.csv").exists():
            assert len(pd.read_csv(out / "leaderboard.csv")) <= len(list(out.glob("rows/*.json")))
        wait_until_alone(process.pid)
    trained = {p.parent.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "runs").glob("*/run.json")}
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("rows/*.json")}
    make(out, jobs=2)
    assert csv_without_seconds(out) == csv_without_seconds(whole[0])
    after = {p.parent.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "runs").glob("*/run.json")}
    assert {name: after[name] for name in trained} == trained  # nothing was trained twice,
    assert {name: (out / "rows" / name).stat().st_mtime_ns for name in kept} == kept  # nor scored twice
    assert len(after) == 4
    assert not list(out.rglob("*.part"))


def wait_until_alone(session: int) -> None:
    """The processes that a killed one had started end by themselves, and soon."""
    end = time.monotonic() + 60
    while True:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < end, "processes are left behind"
        time.sleep(0.05)


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {**TINY, "steps": 3}}, "changes: there"),
        ({"setting": "paper"}, "setting: there 'tuned', here 'paper'"),
        ({"evaluate": fakes.other}, "evaluation: there 'leaderboard_fakes:cheap', here 'leaderboard_fakes:other'"),
    ],
)
def test_a_folder_of_another_configuration_is_refused_and_kept(whole, options, message):
    before = contents(whole[0])
    with pytest.raises(LeaderboardFolderError, match=re.escape(message)):
        make(whole[0], **options)
    assert contents(whole[0]) == before


def test_folders_of_others_are_refused_and_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "leaderboard.json").write_text("[1")
    before = contents(tmp_path)
    for folder, message in (
        (tmp_path / "mine", "with notes.txt in it"),
        (tmp_path / "mine" / "notes.txt", "got the file"),
        (tmp_path / "damaged", "is damaged"),
    ):
        with pytest.raises(LeaderboardFolderError, match=message):
            make(folder)
    assert contents(tmp_path) == before


def test_a_damaged_row_is_made_again(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "board")
    file = next(p for p in (folder / "rows").iterdir() if '"siglip"' not in p.read_text() and '"clip"' in p.read_text())
    file.write_text(file.read_text().replace('"gap": ', '"gap": 1'))
    with pytest.warns(UserWarning, match="damaged row"):
        frame = make(folder)
    assert frame.gap.tolist() == whole[1].gap.tolist()


# --- what is refused, what fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["clap"], [100]), {}, "did you mean clip"),
        ((["clip", "untraned"], [100]), {}, "did you mean untrained"),
        ((["cua+mean-centering"], [100]), {}, "did you mean mean-centring"),
        (("clip", [100]), {}, "methods: expected a list"),
        (([], [100]), {}, "methods: expected at least one"),
        ((["clip", "clip"], [100]), {}, "methods: expected at least one, each once"),
        ((["clip"], []), {}, "seeds: expected at least one"),
        ((["clip"], [-1]), {}, "seeds: expected a whole number"),
        ((["clip"], [100]), {"jobs": 0}, "jobs: expected"),
        ((["clip"], [100]), {"setting": "best"}, "setting: expected"),
        ((["clip"], [100]), {"device": "cuda:999"}, "device: this machine has no cuda:999"),
        ((["clip"], [100]), {"changes": {"stepz": 1}}, "did you mean steps"),
        ((["clip"], [100]), {"changes": {"seed": 1}}, "changes: expected fields besides"),
        ((["clip"], [100]), {"evaluate": lambda run, treatment: {}}, "evaluate: expected a function at the top"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(tmp_path, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "board", *arguments, **options)
    assert not (tmp_path / "board").exists()


def test_rows_that_fail_are_reported_and_the_others_kept(tmp_path):
    with pytest.raises(LeaderboardFailed) as caught:
        make(tmp_path / "board", ["cua", "siglip"], evaluate=fakes.sometimes_nan)
    assert caught.value.failures == {
        ("cua", 100): "ArithmeticError: expected finite metrics, got cosine = nan",
        ("siglip", 101): "RuntimeError: no luck",
    }
    assert "2 of 4 rows failed" in str(caught.value)
    kept = pd.read_csv(tmp_path / "board" / "leaderboard.csv")
    assert list(zip(kept.method, kept.seed, strict=True)) == [("siglip", 100), ("cua", 101)]
    assert len(list((tmp_path / "board" / "rows").iterdir())) == 2


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(program(tmp_path / "board")[-1])
    environment = os.environ | {
        "PYTHONPATH": str(_dependencies.ROOT)
    }  # a script's own folder takes the place of this one
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: leaderboard: its processes import the script, which calls it again")
    assert 'under `if __name__ == "__main__":`' in last
    assert done.stderr.count("Traceback") == 1  # the processes themselves say nothing
    assert list(tmp_path.glob("board/rows/*")) == []


def test_a_script_from_standard_input_is_told_so(tmp_path):
    code = program(tmp_path / "board")[-1]
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=False, timeout=280)
    assert "its processes import the script, and <stdin> is no file" in done.stderr.strip().splitlines()[-1]
    assert done.stderr.count("Traceback") == 1


# --- Ray --------------------------------------------------------------------------------------------------------------

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Address of a cluster of two machines with a CPU each, both on this one."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    use_cache(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([fakes.here(), os.environ.get("PYTHONPATH", "")]))
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(60)


@pytest.mark.timeout(900)
def test_a_ray_cluster_gives_what_processes_give(whole, tmp_path, cluster):
    # In a process of its own: ray.init changes the signal handlers of the one that calls it.
    code = program(tmp_path / "board")[-1].replace("evaluate=", f"ray={cluster!r}, evaluate=")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    assert csv_without_seconds(tmp_path / "board") == csv_without_seconds(whole[0])


def refused_address(tmp_path, address) -> tuple[str, float]:
    started = time.monotonic()
    with pytest.raises(ValueError, match="ray: ") as caught:
        make(tmp_path / "board", ["clip"], ray=address)
    assert not (tmp_path / "board").exists()
    return str(caught.value), time.monotonic() - started


@pytest.mark.parametrize("address", ["", "nowhere", "http://localhost:80", "localhost:0", "localhost:99999"])
def test_what_is_no_address_is_refused(tmp_path, address):
    assert "expected an address HOST:PORT" in refused_address(tmp_path, address)[0]


def test_an_unreachable_cluster_is_an_error_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with socket.socket() as held:  # bound but not listening: refused at once, and nobody else's
        held.bind(("127.0.0.1", 0))
        message, seconds = refused_address(tmp_path, f"127.0.0.1:{held.getsockname()[1]}")
    assert "there is no cluster at 127.0.0.1" in message
    assert seconds < 10


def test_what_answers_but_is_no_cluster_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(ray_cluster, "_ANSWER", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        message, seconds = refused_address(tmp_path, f"127.0.0.1:{server.getsockname()[1]}")
    assert "is not a Ray cluster" in message or "cannot be used" in message
    assert seconds < 15


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape('pip install "gaplib[ray]"')):
        make(tmp_path / "board", ["clip"], ray="127.0.0.1:6379")
    assert not (tmp_path / "board").exists()
