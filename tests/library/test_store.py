"""The store: an entry is whole or not there, damage is seen, and of several who want one entry one makes it."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from gaplib import _atomic, _store
from gaplib._store import Store, content_hash, content_key, sealed, unsealed

TENSORS = {
    "weights": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "right": torch.tensor([True, False]),
    "step": torch.tensor(3),
    "none": torch.empty(0, 4),
}
NOTE = {"history": [{"loss": 0.1}, {"loss": 1e-05}], "text": 'é "sha256" \u2028', "nothing": None}
KEY = "0" * 32


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "test result")


def same(found, tensors, note) -> bool:
    """Whether an entry holds these tensors, of the same types, and this note."""
    values, text = found
    return (
        text == note
        and values.keys() == tensors.keys()
        and all(v.dtype == tensors[k].dtype and torch.equal(v, tensors[k]) for k, v in values.items())
    )


def names(store: Store) -> set[str]:
    return {path.name for path in store.root.iterdir()} if store.root.exists() else set()


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tensors", "suffix"), [(TENSORS, ".safetensors"), ({}, ".json")])
def test_what_is_written_is_read(store, tensors, suffix):
    assert store.read(KEY) is None
    store.write(KEY, tensors, NOTE)
    assert names(store) == {KEY + suffix}
    assert store.stored_keys() == [KEY]
    assert same(store.read(KEY), tensors, NOTE)
    store.write(KEY, tensors, {})
    assert same(store.read(KEY), tensors, {})
    store.clear(KEY)
    assert store.read(KEY) is None
    assert store.stored_keys() == []


def test_a_note_is_given_back_as_json_has_it_whoever_made_it(store):
    note = {2: (1, 2), 10: [], "a": 0.1 + 0.2}  # as text, 10 comes before 2
    made = store.make(KEY, lambda: ({}, note))
    assert made == store.make(KEY, lambda: pytest.fail("made twice")) == ({}, {"2": [1, 2], "10": [], "a": 0.1 + 0.2})


@pytest.mark.parametrize("note", [{"a": float("nan")}, {"a": {1, 2}}, {"sha256": "0"}, {"a": torch.tensor(1)}])
def test_notes_that_cannot_be_kept_are_refused_and_leave_what_was_there(store, note):
    for tensors in ({}, TENSORS):
        store.write(KEY, tensors, {"a": 1})
        before = {path: path.read_bytes() for path in store.root.iterdir()}
        with pytest.raises(ValueError, match=r"note: expected (plain values|no field sha256)"):
            store.write(KEY, tensors, note)
        assert {path: path.read_bytes() for path in store.root.iterdir()} == before
        store.clear(KEY)


def test_keys_follow_content_alone():
    assert content_key({"a": 1, "b": [True, None]}) == content_key({"b": [True, None], "a": 1})
    contents = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1}, [["a", 1]], {"a": [1]}, {}]
    assert len({content_key(content) for content in contents}) == len(contents)
    with pytest.raises(ValueError, match="content: expected plain values"):
        content_key({"a": object()})


def test_a_seal_is_broken_by_any_change():
    note = {"a": [1, {"b": 2.5}], "c": "d"}
    seal = sealed(note)
    assert unsealed(seal) == note
    assert seal["sha256"] == content_hash(note)
    for changed in (
        {**seal, "c": "e"},
        {**seal, "a": [1, {"b": 2}]},
        {**seal, "more": 0},
        {**seal, "sha256": ""},
        note,
    ):
        with pytest.raises(ValueError, match="SHA-256"):
            unsealed(changed)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tensors", [TENSORS, {}])
def test_every_flipped_byte_is_seen_or_changes_nothing(store, tensors):
    store.write(KEY, tensors, NOTE)
    (file,) = store.root.iterdir()
    good, seen = file.read_bytes(), 0
    for place in range(len(good)):
        for bit in (1, 0x20, 0x80):
            file.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
            try:
                found = store._load(KEY)
            except _store._UNREADABLE:
                seen += 1
            else:
                assert same(found, tensors, NOTE), (place, bit)  # such as 1e-05, which 1E-05 equals
    assert seen > 0.9 * 3 * len(good)


@pytest.mark.parametrize("tensors", [TENSORS, {}])
def test_every_cut_is_seen(store, tensors):
    store.write(KEY, tensors, NOTE)
    (file,) = store.root.iterdir()
    good = file.read_bytes()
    for length in range(len(good) - (not tensors)):  # the newline at the end of a text may go
        file.write_bytes(good[:length])
        with pytest.raises(_store._UNREADABLE):
            store._load(KEY)


@pytest.mark.parametrize("tensors", [TENSORS, {}])
@pytest.mark.parametrize("damage", [b"", b"damaged", b"[" * 100_000, b'{"a": 1}', b"\xff" * 64, None])
def test_a_damaged_entry_warns_once_and_is_made_again(store, tensors, damage):
    store.write(KEY, tensors, NOTE)
    (file,) = store.root.iterdir()
    if damage is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damage)
    with pytest.warns(UserWarning, match="a damaged test result, which will be made again") as caught:
        assert store.read(KEY) is None
    assert len(caught) == 1
    if damage is None:
        file.rmdir()
        return
    with pytest.warns(UserWarning, match="a damaged test result") as caught:
        assert same(store.make(KEY, lambda: (tensors, NOTE)), tensors, NOTE)
    assert len(caught) == 1
    assert same(store.read(KEY), tensors, NOTE)


# --- failures while writing -------------------------------------------------------------------------------------------


def _fail(*args, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("tensors", [TENSORS, {}])
@pytest.mark.parametrize("step", ["write", "flush", "rename"])
def test_a_write_that_fails_leaves_what_was_there(store, monkeypatch, tensors, step):
    """The disk fills while the file is written (half of it is there), flushed, renamed."""

    def half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        _fail()

    store.write(KEY, tensors, {"old": 1})
    before = names(store)
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(Path, "write_bytes", half)
        else:
            patch.setattr(_atomic.os, {"flush": "fsync", "rename": "replace"}[step], _fail)
        with pytest.raises(OSError, match="No space left"):
            store.write(KEY, tensors, {"new": 1})
        assert names(store) == before
        assert store.read(KEY)[1] == {"old": 1}
        store.clear(KEY)
        with pytest.warns(UserWarning, match=r"a test result that cannot be kept: .* No space left"):
            assert same(store.make(KEY, lambda: (tensors, NOTE)), tensors, NOTE)
        assert store.read(KEY) is None
    assert names(store) == {f"{KEY}.lock"}


def test_content_is_on_the_disk_before_it_has_its_name(store, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(_atomic.os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    store.write(KEY, TENSORS, NOTE)
    store.write("1" * 32, {}, NOTE)
    assert calls == ["fsync", "replace"] * 2


def test_without_a_writable_folder_results_are_given_with_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.warns(UserWarning, match="a cached result that cannot be kept"):
        assert same(store.make(KEY, lambda: (TENSORS, NOTE)), TENSORS, NOTE)


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), FileNotFoundError("no"), TimeoutError("no"), KeyboardInterrupt()]
)
def test_what_a_builder_raises_is_raised_and_nothing_is_kept(store, error):
    def build():
        raise error

    with pytest.raises(type(error)) as caught:
        store.make(KEY, build)
    assert caught.value is error
    assert names(store) == {f"{KEY}.lock"}
    assert same(store.make(KEY, lambda: (TENSORS, NOTE), timeout=0), TENSORS, NOTE)  # the lock was given back


# --- several at once --------------------------------------------------------------------------------------------------


def _make(root: str, log: str, barrier) -> None:
    def build():
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return {"who": torch.tensor(os.getpid())}, {}

    barrier.wait(60)
    tensors, _ = Store(Path(root)).make(KEY, build)
    with open(log + ".got", "a") as file:
        file.write(f"{int(tensors['who'])}\n")


def test_of_processes_that_ask_for_one_entry_one_makes_it(store, tmp_path):
    spawn, log = multiprocessing.get_context("spawn"), str(tmp_path / "log")
    barrier = spawn.Barrier(2)
    workers = [spawn.Process(target=_make, args=(str(store.root), log, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    makers = Path(log).read_text().split()
    assert len(makers) == 1
    assert Path(log + ".got").read_text().split() == makers * 2


def test_of_threads_that_ask_for_one_entry_one_makes_it(store):
    made = []

    def build():
        made.append(1)
        time.sleep(0.1)
        return TENSORS, NOTE

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: store.make(KEY, build), range(4)))
    assert len(made) == 1
    assert all(same(result, TENSORS, NOTE) for result in results)


def test_threads_may_write_one_entry_at_once(store):
    """Each has a temporary name of its own: every write succeeds, and one of them is what stays."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: store.write(KEY, {"i": torch.full((1000,), i)}, {"i": i}), range(40)))
    tensors, note = store.read(KEY)
    assert tensors["i"].eq(note["i"]).all()
    assert names(store) == {f"{KEY}.safetensors"}


HOLDER = """
import sys, time
from pathlib import Path
from gaplib._atomic import atomic
from gaplib._store import Store
store = Store(Path(sys.argv[1]))
with store.lock(sys.argv[2]), atomic(store.root / f"{sys.argv[2]}.safetensors") as partial:
    partial.write_bytes(b"half")
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_taken_over_and_its_half_removed(store):
    command = [sys.executable, "-c", HOLDER, str(store.root), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(TimeoutError, match=r"another process has been making this entry for over 0\.1 s"):
                store.make(KEY, lambda: pytest.fail("two makers"), timeout=0.1)
        finally:
            holder.send_signal(signal.SIGKILL)
    assert any(name.endswith(".part") for name in names(store))
    assert same(store.make(KEY, lambda: (TENSORS, NOTE), timeout=10), TENSORS, NOTE)
    assert names(store) == {f"{KEY}.lock", f"{KEY}.safetensors"}


def test_a_lock_is_of_one_entry_and_reading_needs_none(store):
    store.write(KEY, TENSORS, NOTE)
    with FileLock(store.root / f"{KEY}.lock"):
        assert same(store.make(KEY, lambda: pytest.fail("made twice"), timeout=0), TENSORS, NOTE)
        assert store.make("1" * 32, lambda: ({}, {"other": 1}), timeout=0) == ({}, {"other": 1})
        with pytest.raises(TimeoutError, match="has been training this run"), store.lock(KEY, 0, "training this run"):
            pytest.fail("two holders")


def test_folders_are_named_and_cleared(store):
    folder = store.folder(KEY)
    with store.lock(KEY):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({}))
    assert store.stored_keys() == []
    store.clear(KEY)
    assert not folder.exists()
