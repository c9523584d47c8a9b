"""The benchmark's instruments and the forms that it compares; nothing here depends on how fast this machine is."""

import json
import math
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from bench import __main__ as bench
from bench import cases, measure, parts, processes


def test_forms_that_are_compared_agree():
    x, y = cases.embeddings(40, 8)
    for ours, other in ((cases.cuaxu, cases.cuaxu_composed), (cases.cyclic, cases.cyclic_composed)):
        values = [form(x, y) for form in (ours, other)]
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
        # Along the sphere: the kernels differ in what they do to the norm, which the towers fix.
        along = []
        for value in values:
            (gradient,) = torch.autograd.grad(value, x)
            along.append(gradient - (gradient * x).sum(dim=1, keepdim=True) * x)
        torch.testing.assert_close(*along, rtol=1e-3, atol=1e-5)


def test_recipes_of_retrieval_find_the_same():
    gallery = cases._gallery(30, 24)
    wanted = cases.retrieval_ours(*gallery)
    assert 0 < wanted["image_to_text@1"] < wanted["image_to_text@10"] <= 1
    for other in (cases.retrieval_argsort, cases.retrieval_topk):
        assert other(*gallery) == pytest.approx(wanted, abs=1e-6)


def test_ratio_is_taken_turn_by_turn(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    slowness = iter([1, 1, 1, 1, 9, 9, 1, 1])  # the third turn falls into a busy minute

    def work(seconds):
        now[0] += seconds * next(slowness)

    taken = measure.by_turns({"a": partial(work, 2.0), "b": partial(work, 4.0)}, repeats=3, warm_up=1)
    assert taken == {"a": [2.0, 18.0, 2.0], "b": [4.0, 36.0, 4.0]}
    assert measure.ratio(taken, "b", "a") == 2.0


def test_memory_counts_the_peak_and_not_what_stays():
    """In a process of its own, as the benchmark does: a large one has memory to give that is resident already."""
    script = (
        "import torch; from bench import memory\n"
        "work = lambda: torch.ones(64 * 2**18).sum() + torch.ones(64 * 2**17).sum()\n"
        "memory.CASES['known'] = lambda n, d: work if n != 64 else (lambda: None)\n"
        "print(memory.extra_peak('known', 8, 8))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=measure.ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(64, abs=8)  # MiB: the first array is gone when the second comes


def test_memory_is_measured_in_a_process_of_its_own():
    assert 0 < measure.extra_memory("cyclic composed", 512, 8) < 100


def test_the_card_of_files_is_measured_in_a_process_of_its_own():
    found = measure.card_of_files(300, 16)
    assert 0 < found["mib"] < 300
    assert 0 < found["processor"] < 100


def test_process_that_stops_is_an_error(monkeypatch):
    monkeypatch.setattr(measure.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="cuaxu with n = 2 stopped"):
        measure.extra_memory("cuaxu", 2, 2)


def test_steps_are_timed_where_they_run(monkeypatch):
    assert 0 < measure.step_seconds("clip", 8, 1, 1) < 60
    monkeypatch.setattr(measure.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="2 processes stopped"):
        measure.step_seconds("clip", 8, 1, 2)


def test_rows_say_whether_a_promise_was_kept():
    assert parts.Row("a", "x", 1.2, "x", 1.15).met is False
    assert parts.Row("b", "x", 4.1, "x", 4.0, at_most=False).met is True
    assert parts.Row("c", "x", 4.1, "x").met is None
    assert parts.Row("c", "x", math.nan, "MiB", 300.0).met is False
    assert "NOT MET" in bench.line(parts.Row("a", "x", 1.2, "x", 1.15))


def test_small_benchmark_from_end_to_end(tmp_path, monkeypatch, capsys):
    tiny = {
        "a": partial(parts.training_step, ["cua", "hs"], batch_size=32, repeats=1),
        "b": partial(parts.large_batch, 64, 8, 1),
        "c": partial(parts.memory, (32, 64), 8),
        "d": partial(parts.closed_forms, 64, 8, 1),
        "e": partial(parts.search, 40, 8, 1),
        "f": partial(parts.fitting, 16, 2, 1),
        "m": partial(parts.card, (60,), 8),
        "p": partial(parts.two_processes, 64, 1, 1),
    }
    for part in tiny.values():
        part.__doc__ = part.func.__doc__
    monkeypatch.setattr(bench, "PARTS", tiny)
    monkeypatch.setattr(parts, "extra_memory", lambda case, n, d: n * (1.0 if case == "cuaxu" else 3.0))
    monkeypatch.setattr(parts, "card_of_files", lambda n, d: {"mib": 5.0, "seconds": 9.0, "processor": 0.06 * n / 60})
    monkeypatch.setattr(parts, "step_seconds", lambda name, n, steps, count: processes.main(name, n, steps) / count)
    threads = torch.get_num_threads()
    bench.main(["--out", str(tmp_path)])
    torch.set_num_threads(threads)
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["threads"] == 1
    assert found["commit"]
    rows = {row["name"]: row for row in found["rows"]}
    assert {row["part"] for row in rows.values()} == set("abcdefmp")
    assert rows["growth from n = 32 to 64"]["value"] == 2.0
    assert rows["composed / cuaxu, n = 64"]["value"] == 3.0
    assert rows["cua step / clip step"]["value"] > 0
    assert rows["measure, n = 60, a 100,000 rows"]["value"] == pytest.approx(100)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert len(capsys.readouterr().out.splitlines()) > len(rows)


def test_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--parts", "az"])
    assert "expected letters of abcdefmp, got 'az'" in capsys.readouterr().err


def test_too_little_memory_leaves_the_composed_form_out(monkeypatch):
    monkeypatch.setattr(parts, "free_memory", lambda: 0.0)
    monkeypatch.setattr(parts, "extra_memory", lambda case, n, d: float(n))
    rows = list(parts.memory((8, 16), 4))
    assert [row.name for row in rows if "not enough" in row.name] == [
        "composed, n = 8: not enough memory here",
        "composed, n = 16: not enough memory here",
    ]
