"""The command line: what it prints, what it refuses and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas as pd
import pytest

from gaplib import geometry
from gaplib.__main__ import main
from gaplib.methods import METHODS
from gaplib.training import Run, RunConfig, train


def unit(n, d, seed, shift=0.0):
    x = np.random.default_rng(seed).normal(size=(n, d)) + shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def files(tmp_path):
    """Two good files of 60 pairs in 8 dimensions."""
    np.save(tmp_path / "image.npy", unit(60, 8, 0, shift=1.0).astype(np.float32))
    np.save(tmp_path / "text.npy", unit(60, 8, 1).astype(np.float32))
    return tmp_path / "image.npy", tmp_path / "text.npy"


def call(*arguments):
    return main([str(argument) for argument in arguments])


def refused(capsys, *arguments) -> str:
    """The one line that a command says before it ends with status 2."""
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gaplib: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# --- measure ----------------------------------------------------------------------------------------------------------


def test_measure_prints_what_the_library_computes(files, capsys):
    assert call("measure", *files, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    got = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    x, y = (np.load(file).astype(np.float64) for file in files)
    x, y = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, y))
    assert got["centroid_distance"] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), rel=1e-9)
    assert got["relative_modality_gap"] == pytest.approx(float(geometry.relative_modality_gap(x, y)), rel=1e-9)
    assert (got["n"], got["d"], got["paired"]) == (60, 8, True)


def test_measure_prints_a_table_and_repeats_itself(files, capsys):
    assert call("measure", *files, "--seed", "3") == 0
    first = capsys.readouterr().out
    assert "image and text: 60 pairs, 8 dimensions" in first
    assert call("measure", *files, "--seed", "3") == 0
    assert capsys.readouterr().out == first


def test_measure_writes_a_page(files, tmp_path, capsys):
    page = tmp_path / "card.html"
    page.write_text("old")
    assert call("measure", *files, "--html", page, "--json") == 0
    json.loads(capsys.readouterr().out)
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.rstrip().endswith("</html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.html", "image.npy", "text.npy"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_measure_normalises_with_a_note(files, tmp_path, capsys, dtype):
    x = np.load(files[0])
    np.save(tmp_path / "long.npy", (x * 1000).astype(dtype))
    call("measure", *files, "--json")
    expected = json.loads(capsys.readouterr().out)
    assert call("measure", tmp_path / "long.npy", files[1], "--json") == 0
    out, err = capsys.readouterr()
    assert err == f"gaplib: {tmp_path / 'long.npy'}: 60 of 60 rows were not L2-normalised; they are now\n"
    assert json.loads(out)["centroid_distance"] == pytest.approx(expected["centroid_distance"], rel=1e-3)


def test_measure_unpaired(files, tmp_path, capsys):
    np.save(tmp_path / "fewer.npy", unit(40, 8, 2))
    assert call("measure", files[0], tmp_path / "fewer.npy", "--unpaired", "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["n"], got["n_text"], got["paired"]) == (60, 40, False)
    assert "fewer.npy: expected as many rows as" in refused(capsys, "measure", files[0], tmp_path / "fewer.npy")


def test_measure_of_files_with_one_name(files, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "image.npy", np.load(files[1]))
    assert call("measure", files[0], tmp_path / "other" / "image.npy") == 0
    assert call("measure", files[0], files[0], "--json") == 0
    assert '"centroid_distance": 0.0' in capsys.readouterr().out


@pytest.fixture
def caption_files(tmp_path):
    """60 pairs of 20 images, half precision; the groups as numbers and as names."""
    group = np.arange(60) // 3
    np.save(tmp_path / "image.npy", unit(20, 8, 0).astype(np.float16)[group])
    np.save(tmp_path / "text.npy", (unit(20, 8, 0)[group] + 0.1 * unit(60, 8, 1)).astype(np.float16))
    return tmp_path / "image.npy", tmp_path / "text.npy", group


@pytest.mark.parametrize("form", ["numbers.npy", "names.npy", "names.txt", "names.csv", "windows.txt"])
def test_measure_with_groups(caption_files, tmp_path, capsys, form):
    x, y, group = caption_files
    names = [f"a {one},b.jpg" for one in group]
    file = tmp_path / form
    if file.suffix == ".npy":
        np.save(file, group if form == "numbers.npy" else np.array(names))
    elif form == "windows.txt":
        file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    else:
        quote = '"' if file.suffix == ".csv" else ""
        file.write_text("".join(f"{quote}{one}{quote}\n" for one in names))
    assert call("measure", x, y, "--groups", file, "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["n_groups"], got["notes"], got["image_to_text_at_1"]) == (20, [], 1.0)
    assert got["retrieval_chance"] == pytest.approx(1 / 20)


def test_measure_notes_copies(caption_files, capsys):
    assert call("measure", *caption_files[:2]) == 0
    assert "Note: image: 40 of 60 rows are copies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "there is no such file"),
        ("short.txt", "a\n" * 59, "expected 60 integers or strings"),
        ("heading.csv", "image\n" + "a\n" * 60, "is the first, 'image', a heading?"),
        ("two.csv", "a,b\n" * 60, "got 2 fields in line 1"),
        ("blank.txt", "a\n" * 9 + " \n" + "a\n" * 50, "line 10"),
        ("one.txt", "a\n" * 60, "groups: expected at least 2 different groups"),
        ("latin.txt", "é\n".encode("latin-1") * 60, "expected a .npy file or UTF-8 text"),
        ("text.npy", "a\n" * 60, "not a readable .npy file"),
        ("floats.npy", np.zeros(60), "expected 60 integers or strings"),
        ("matrix.npy", np.zeros((60, 1), dtype=int), "expected 60 integers or strings"),
        ("pickled.npy", np.array(["a", "b"] * 30, dtype=object), "not a readable .npy file"),
    ],
)
def test_measure_refuses_bad_groups(files, tmp_path, capsys, name, content, message):
    file = tmp_path / "groups" / name
    file.parent.mkdir()
    if isinstance(content, np.ndarray):
        np.save(file, content)
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    err = refused(capsys, "measure", *files, "--groups", file)
    assert message in err
    assert name in err or name == "one.txt"


def test_measure_refuses_groups_of_unpaired_rows(files, capsys):
    assert "--groups: " in refused(capsys, "measure", *files, "--unpaired", "--groups", "any.npy")


def bad_files(folder):
    """name -> (how to make the file, what the message says)"""
    good = unit(60, 8, 0)

    def saved(array, **options):
        def make(path):
            with open(path, "wb") as file:
                np.save(file, array, **options)

        return make

    def cut(path):
        saved(good)(path)
        path.write_bytes(path.read_bytes()[:2000])

    def cut_header(path):
        saved(good)(path)
        path.write_bytes(path.read_bytes()[:20])

    def archive(path):
        with open(path, "wb") as file:
            np.savez(file, good)

    def broken_archive(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.npy", "x")
        path.write_bytes(path.read_bytes()[:30])

    def with_row(value):
        array = good.copy()
        array[7] = value
        return saved(array)

    return {
        "missing": (lambda path: None, "there is no such file"),
        "folder": (lambda path: path.mkdir(), "got a folder"),
        "empty": (lambda path: path.write_bytes(b""), "not a readable .npy file"),
        "text": (lambda path: path.write_text("1,2,3\n" * 50), "not a readable .npy file"),
        "truncated": (cut, "not a readable .npy file"),
        "cut_header": (cut_header, "not a readable .npy file"),
        "pickled": (saved(np.array([{"a": 1}], dtype=object), allow_pickle=True), "not a readable .npy file"),
        "archive": (archive, "got an .npz archive"),
        "broken_archive": (broken_archive, "not a readable .npy file"),
        "flat": (saved(good[0]), "shape (n, d)"),
        "cube": (saved(np.stack([good, good])), "shape (n, d)"),
        "number": (saved(np.float64(3.0)), "shape (n, d)"),
        "no_rows": (saved(good[:0]), "at least one row"),
        "no_columns": (saved(good[:, :0]), "at least one row and one column"),
        "integers": (saved((good * 100).astype(int)), "floats"),
        "complex": (saved(good.astype(complex)), "floats"),
        "strings": (saved(good.astype(str)), "floats"),
        "nan": (with_row(np.nan), "NaN or infinity (first in row 7)"),
        "infinite": (with_row(np.inf), "NaN or infinity (first in row 7)"),
        "zero": (with_row(0.0), "row of zeros (row 7)"),
        "other_d": (saved(unit(60, 9, 0)), "dimension"),
        "one_row_fewer": (saved(good[1:]), "as many rows"),
    }


@pytest.mark.parametrize("name", sorted(bad_files(None)))
def test_measure_refuses_bad_files(files, tmp_path, capsys, name):
    make, message = bad_files(tmp_path)[name]
    make(tmp_path / "bad.npy")
    err = refused(capsys, "measure", files[0], tmp_path / "bad.npy")
    assert "bad.npy" in err
    assert message in err
    if name not in {"other_d", "one_row_fewer"}:
        assert message in refused(capsys, "measure", tmp_path / "bad.npy", files[1], "--unpaired")


def test_measure_refuses_a_single_pair(files, tmp_path, capsys):
    np.save(tmp_path / "one.npy", unit(1, 8, 0))
    assert "at least 2 rows, got 1" in refused(capsys, "measure", tmp_path / "one.npy", tmp_path / "one.npy")


def test_measure_refuses_a_page_that_cannot_be_written(files, tmp_path, capsys):
    assert "there is no folder" in refused(capsys, "measure", *files, "--html", tmp_path / "no" / "card.html")
    assert "got the folder" in refused(capsys, "measure", *files, "--html", tmp_path)
    assert "there is no folder" in refused(capsys, "measure", *files, "--html", files[0] / "card.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.npy", "text.npy"]


def test_measure_refuses_a_negative_seed(files, capsys):
    assert "seed: expected" in refused(capsys, "measure", *files, "--seed", "-1")


@pytest.mark.parametrize("arguments", [[], ["weigh"], ["measure"], ["train", "clip"], ["measure", "--seed", "x"]])
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: python -m gaplib" in capsys.readouterr().err


# --- methods, runs ----------------------------------------------------------------------------------------------------


def test_methods_lists_every_method_with_its_source(capsys):
    assert call("methods") == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(METHODS)
    for line, row in zip(lines, METHODS.values(), strict=True):
        assert row.source in line
        assert f"tau = {row.tau:g}" in line


def test_runs_lists_the_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path))
    assert call("runs") == 0
    assert "0 runs, 0 s" in capsys.readouterr().out
    config = RunConfig("cua", steps=2, batch_size=8, dim=4, eval_pairs=16, seed=77)
    run = train(config, tmp_path / "runs" / "abcdef0123", progress=False)
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "run.json").write_text("{")
    assert call("runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        "abcdef01",
        "cua",
        "0.01",
        "2",
        "8",
        "77",
        "cpu",
        f"{run.seconds:.1f}",
        lines[2].split()[-1],
    ]
    assert lines[-1].startswith("1 runs, ")


# --- train ------------------------------------------------------------------------------------------------------------

SMALL = ("--steps", "4", "--batch-size", "8")


def test_train_writes_a_run_and_refuses_to_overwrite_it(tmp_path, capsys):
    out = tmp_path / "run"
    assert call("train", "cua", "--out", out, *SMALL, "--tau", "0.05", "--seed", "3") == 0
    printed = capsys.readouterr().out
    run = Run.load(out)
    assert (run.config.method, run.config.tau, run.config.steps, run.config.seed) == ("cua", 0.05, 4, 3)
    assert f"{run.metrics['centroid_distance']:.4f}" in printed
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    again = ("train", "cua", "--out", out, *SMALL, "--tau", "0.05")
    assert "already holds this run" in refused(capsys, *again, "--seed", "3")
    assert "another configuration (seed: there 3, here 4)" in refused(capsys, *again, "--seed", "4", "--resume")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert call(*again, "--seed", "3", "--resume") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clap"], "did you mean clip"),
        (["clip", "--steps", "0"], "steps: expected"),
        (["clip", "--batch-size", "1"], "batch_size: expected"),
        (["clip", "--batch-size", "100000"], "batch_size: expected"),
        (["clip", "--tau", "0"], "tau: expected"),
        (["clip", "--tau", "nan"], "tau: expected"),
        (["clip", "--seed", "-1"], "seed: expected"),
        (["clip", "--data", "coco"], "data: expected one of glyphs"),
        (["clip", "--device", "tpu"], "device: expected cpu, cuda"),
        (["clip", "--device", "cuda:999"], "device: this machine has no cuda:999"),
    ],
)
def test_train_refuses_bad_arguments_and_makes_no_folder(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, "train", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_refuses_folders_of_others(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert "expected an empty folder" in refused(capsys, "train", "clip", "--out", tmp_path, *SMALL)
    assert "got the file" in refused(capsys, "train", "clip", "--out", tmp_path / "notes.txt", *SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "notes.txt" in refused(capsys, "train", "clip", "--out", tmp_path / "notes.txt" / "deep", *SMALL)


def test_train_that_diverges_says_so(tmp_path, capsys, monkeypatch):
    from gaplib import methods

    monkeypatch.setitem(methods.TERMS, "uniformity", lambda pairs: pairs.image.sum() * float("nan"))
    assert call("train", "cua", "--out", tmp_path / "run", *SMALL) == 1
    err = capsys.readouterr().err
    assert err == "gaplib: not finite at step 0: loss (uniformity); there is no checkpoint\n"


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_then_interrupted_then_resumed_equals_uninterrupted(tmp_path):
    """SIGKILL, then Ctrl-C, then to the end: the weights and measurements are those of a run left alone."""
    arguments = ["train", "clip", "--out", str(tmp_path / "run"), "--steps", "450", "--batch-size", "8", "--seed", "9"]
    # Slowed down, so that the signals arrive in the middle on any machine.
    program = (
        "import sys, time\n"
        "from gaplib.training import trainer\n"
        "from gaplib.__main__ import main\n"
        "update = trainer._Trainer._update\n"
        "trainer._Trainer._update = lambda self: (time.sleep(0.01), update(self))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def has(step):
        return lambda: (tmp_path / "run" / "checkpoints" / f"step-{step:06d}").exists()

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(has(100), process)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "run" / "run.json").exists()

    with subprocess.Popen([*command, "--resume"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(has(200), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        err = process.stderr.read()
    assert err == f"gaplib: interrupted; --resume goes on from the last checkpoint in {tmp_path / 'run'}\n"
    assert not (tmp_path / "run" / "run.json").exists()

    assert main([*arguments, "--resume"]) == 0
    whole = train(RunConfig("clip", steps=450, batch_size=8, seed=9), tmp_path / "whole", progress=False)
    resumed = Run.load(tmp_path / "run")
    assert resumed.history == whole.history
    for name in ("model.safetensors", "embeddings.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "run").rglob("*.part"))


# --- leaderboard ------------------------------------------------------------------------------------------------------


def test_leaderboard_prints_means_and_writes_its_tables(tmp_path, capsys):
    arguments = ("leaderboard", "--out", tmp_path / "board", "--methods", "clip", "--seeds", "1", "--jobs", "1")
    assert call(*arguments, "--steps", "2") == 0
    out, err = capsys.readouterr()
    assert "1/1" in err  # the progress bar
    assert out.splitlines()[2].split()[0] == "clip"
    row = pd.read_parquet(tmp_path / "board" / "leaderboard.parquet").iloc[0]
    assert (row["method"], row["seed"], row["steps"], row["setting"]) == ("clip", 100, 2, "tuned")
    assert f"{row['gap.centroid_distance']:.4f}" in out.splitlines()[2]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.json")}
    assert "changes: there {'steps': 2}, here {'steps': 3}" in refused(capsys, *arguments, "--steps", "3")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.json")} == before


def test_leaderboard_with_rows_that_fail_ends_with_status_1(tmp_path, capsys, monkeypatch):
    from gaplib import leaderboard

    def broken(*arguments, **options):
        raise leaderboard.LeaderboardFailed({("cua", 100): "gap = nan"}, pd.DataFrame({"method": ["clip"]}))

    monkeypatch.setattr(leaderboard, "leaderboard", broken)
    assert call("leaderboard", "--out", tmp_path / "board") == 1
    out, err = capsys.readouterr()
    assert err == "gaplib: 1 of 2 rows failed, the others are kept: cua (seed 100): gap = nan\n"
    assert "1 rows, means over seeds" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "clap"], "did you mean clip"),
        (["--methods", ""], "methods: expected one of"),
        (["--seeds", "0"], "--seeds: expected a whole number"),
        (["--jobs", "0"], "jobs: expected a whole number"),
        (["--setting", "best"], "setting: expected one of paper, tuned"),
        (["--device", "tpu"], "device: expected cpu, cuda"),
        (["--device", "cuda:999"], "device: this machine has no cuda:999"),
        (["--steps", "0"], "steps: expected a whole number"),
        (["--ray", "nowhere"], "ray: expected an address HOST:PORT"),
    ],
)
def test_leaderboard_refuses_bad_arguments_and_makes_no_folder(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, "leaderboard", "--out", tmp_path / "board", *arguments)
    assert not (tmp_path / "board").exists()


def test_help_is_quick_and_imports_nothing_heavy():
    program = "import sys, gaplib.__main__ as m\ntry: m.main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    for command in ("measure", "methods", "train", "runs", "leaderboard"):
        assert command in done.stdout
