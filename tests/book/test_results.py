"""The recorder, its file and its glue."""

import json
import math

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaplib import claims
from gaplib._devices import note_device
from gaplib.book.results import Recorder, load
from gaplib.stats import Estimate, Floor, exact, over_seeds, proportion
from gaplib.towers.encode import encode_rows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("GAPLIB_CONFIRM", str(tmp_path / "confirm"))
    return tmp_path


def filled(**options):
    run = Recorder("01", **options)
    run.record("L1.clip.excess_distance", over_seeds([0.7, 0.8, 0.75]), floor=Floor(0.05, 0.04, 0.06, 9))
    run.record("L1.clip.separability", proportion(9, 10), unit="share")
    run.record("other.count", 3)
    return run


def test_several_values_are_recorded_below_a_prefix():
    one, other = Recorder("01"), Recorder("01")
    one.record_all("A.b", {"c": 1.0, "d": {"e": over_seeds([0.1, 0.3]), "f": 2}}, unit="nats")
    other.record("A.b.c", 1.0, unit="nats")
    other.record("A.b.d.e", over_seeds([0.1, 0.3]), unit="nats")
    other.record("A.b.d.f", 2, unit="nats")
    assert (one.estimates, one.units) == (other.estimates, other.units)
    with pytest.raises(ValueError, match=r"expected each result once, got 'A\.b\.c'"):
        one.record_all("A", {"b": {"c": 2.0}})


def test_seeds_start_at_100():
    assert Recorder("01").seeds == (100, 101, 102)
    assert Recorder("01", "confirm", 10).seeds == tuple(range(100, 110))


def test_results_have_the_device_that_was_used_and_not_the_one_asked_for(folder):
    note_device("mps")  # what another chapter of this process did before
    run = Recorder("01", device="cuda")
    run.record("a.b", 1.0)
    assert run.device == run.content()["device"] == "cpu"
    encode_rows(torch.nn.Identity(), torch.ones(2, 3))
    assert run.device == "cpu"
    note_device("cuda:1")
    assert [row["device"] for row in run.content()["results"]] == ["cpu, cuda"]
    assert load(run.save()).device == "cpu, cuda"


def test_file_round_trip(folder):
    run = filled()
    note_device("cuda:1")
    path = run.save()
    assert path == folder / "results" / "01.json"
    assert [p.name for p in path.parent.iterdir()] == ["01.json"]
    file = load(path)
    assert file.estimates == run.estimates  # floats, infinite degrees of freedom and samples survive exactly
    assert (file.chapter, file.profile, file.seeds, file.device) == ("01", "quick", (100, 101, 102), "cuda")
    assert file.units["L1.clip.separability"] == "share"
    assert file.versions["torch"]
    assert file.rules == {c.id: c.rule_hash for c in claims.chapter_claims("01")}
    row = json.loads(path.read_text())["results"][0]
    assert set(row) >= set(
        ["name", "value", "low", "high", "n", "unit", "method", "profile", "device", "version", "se", "df", "samples"]
    )
    assert row["floor"]["mean"] == 0.05


def test_numpy_numbers_become_plain_ones(folder):
    run = Recorder("11")
    half, quarter = np.float32(0.5), np.float32(0.25)
    run.record("a.b", Estimate(half, quarter, np.float32(1), np.int64(3), "jackknife", quarter))
    run.record("a.c", np.float32(0.5))
    run.record("a.d", torch.tensor(0.5))
    assert load(run.save()).estimates == run.estimates


def test_save_is_deterministic_and_overwrites(folder):
    first = filled().save().read_bytes()
    assert filled().save().read_bytes() == first


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5))
def test_any_finite_estimate_round_trips(tmp_path_factory, samples):
    run = Recorder("11")
    run.record("a.b", over_seeds(samples))
    path = tmp_path_factory.mktemp("r") / "11.json"
    path.write_text(json.dumps(run.content(), allow_nan=False))
    assert load(path).estimates == run.estimates


def test_an_error_while_writing_leaves_the_old_file(folder, monkeypatch):
    path = filled().save()
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        Recorder("01").save()
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_frame(folder):
    frame = filled().frame("L1.")
    assert list(frame.name) == ["L1.clip.excess_distance", "L1.clip.separability"]
    assert frame.floor[0] == 0.05
    assert math.isnan(frame.floor[1])
    assert Recorder("01").frame().empty


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"chapter": "1"}, "chapter"),
        ({"profile": "fast"}, "profile"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": 2.5}, "seeds"),
        ({"device": ""}, "device"),
    ],
)
def test_bad_settings_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Recorder(**({"chapter": "01"} | options))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gap", 1.0),
        ("a..b", 1.0),
        ("a.b c", 1.0),
        ("a.b:c", 1.0),
        ("a.low", 1.0),
        ("a.ci", 1.0),
        (None, 1.0),
        ("other.count", 1.0),
        ("a.b", math.nan),
        ("a.b", math.inf),
        ("a.b", "0.5"),
    ],
)
def test_bad_records_are_refused(name, value):
    run = Recorder("01")
    run.record("other.count", exact(1))
    with pytest.raises(ValueError, match=r"name|value|a\.b"):
        run.record(name, value)
    assert list(run.estimates) == ["other.count"]


def _broken(folder):
    path = filled().save()
    content = json.loads(path.read_text())
    yield "{", "Expecting"
    yield "[]", "object"
    yield json.dumps({**content, "chapter": 1}), "chapter"
    yield json.dumps({**content, "profile": "x"}), "profile"
    yield json.dumps({**content, "seeds": []}), "seeds"
    yield json.dumps({**content, "rules": {"L1": "abc"}}), "rules"
    yield json.dumps({**content, "results": content["results"] + content["results"][:1]}), "once"
    yield json.dumps({**content, "results": [{**content["results"][0], "low": 5.0}]}), "low"
    yield json.dumps({**content, "results": [{**content["results"][0], "value": float("nan")}]}), "finite"
    yield json.dumps({**content, "results": [{**content["results"][0], "se": None}]}), "se"
    for key in content:
        yield json.dumps({k: v for k, v in content.items() if k != key}), f"no field '{key}'"
    for key in content["results"][0]:
        if key not in ("profile", "device", "version", "floor"):
            yield (
                json.dumps({**content, "results": [{k: v for k, v in content["results"][0].items() if k != key}]}),
                key,
            )


def test_malformed_files_are_refused_by_name(folder):
    path = folder / "broken.json"
    for text, word in list(_broken(folder)):
        path.write_text(text)
        with pytest.raises(ValueError, match=word) as caught:
            load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="could not read"):
        load(folder / "missing.json")


def test_outside_a_notebook_save_is_silent(folder, capsys):
    filled().save()
    assert capsys.readouterr() == ("", "")


def test_glue_is_what_myst_nb_reads(folder, monkeypatch):
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell, glue

    shown = []
    monkeypatch.setattr("gaplib.book.results._in_notebook", lambda: True)
    capture = lambda data, raw, metadata: shown.append((data, metadata))  # noqa: E731
    monkeypatch.setattr("IPython.display.display", capture)
    run = filled()
    run.save()
    outputs = [nbformat.v4.new_output("display_data", data=d, metadata=m) for d, m in shown]
    got = dict(extract_glue_data_cell(nbformat.v4.new_code_cell(outputs=outputs)))
    texts = {key: output.data["text/plain"] for key, output in got.items()}
    name = "L1.clip.excess_distance"
    assert format_plain_text(texts[name], ".2f") == "0.75"
    assert format_plain_text(texts[f"{name}.low"], ".3f") == f"{run.estimates[name].low:.3f}"
    assert format_plain_text(texts[f"{name}.ci"], "s") == str(run.estimates[name])
    assert format_plain_text(texts[f"{name}.floor"], ".2f") == "0.05"
    assert set(texts) == {*(f"{n}{s}" for n in run.estimates for s in ("", ".low", ".high", ".ci")), f"{name}.floor"}
    # The message itself is that of myst_nb's own glue.
    theirs = []
    monkeypatch.setattr("myst_nb.ext.glue.ipy_display", lambda data, raw, metadata: theirs.append((data, metadata)))
    monkeypatch.setattr("IPython.core.formatters.format_display_data", lambda v: ({"text/plain": repr(v)}, {}))
    glue(name, run.estimates[name].value, display=False)
    assert theirs[0] == shown[0]


def test_what_we_found(folder):
    quick = filled()
    text = str(claims.found(quick))
    assert "0.75 [0.63, 0.87]" in text
    assert "0.05" in text
    assert "not yet" in text
    assert "no result" in text
    confirm = filled(profile="confirm", seeds=10)
    assert "partly" in str(claims.found(confirm)) or "undecided" in str(claims.found(confirm))
    # A committed file gives a quick run its verdicts.
    path = confirm.save()
    (folder / "confirm").mkdir()
    path.rename(folder / "confirm" / "01.json")
    assert quick.confirmed() == confirm.estimates
    assert quick.confirmed()
    assert "<table" in claims.found(quick)._repr_html_()
