"""Published embeddings: only the publisher's own bytes are ever handed on, and what fails says so plainly."""

import hashlib
import http.server
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from gaplib.data import DataUnavailable, published


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A publisher on this machine, with one file that is made here; GAPLIB_DATA unset, the cache empty."""
    folder = tmp_path / "site" / "Figure_1_Modality_Gap"
    folder.mkdir(parents=True)
    model = published.MODELS["clip"]
    array = np.random.default_rng(0).normal(size=model.shape).astype(np.float32)
    array /= np.linalg.norm(array, axis=2, keepdims=True) * np.float32(1.0005)
    file = folder / "features_clip.npy"
    np.save(file, array)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(published, "SOURCE", f"http://127.0.0.1:{server.server_port}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(published.MODELS, "clip", replace(model, sha256=digest))
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GAPLIB_DATA", raising=False)
    yield Publisher(file, array, asked, tmp_path / "cache" / "published")
    server.shutdown()
    server.server_close()


class Publisher:
    def __init__(self, file, array, asked, cache):
        self.file, self.array, self.asked, self.cache = file, array, asked, cache

    def in_cache(self):
        return sorted(self.cache.iterdir()) if self.cache.exists() else []


def damaged(content: bytes, how: str) -> bytes:
    if how == "flipped":
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    if how == "html":
        return b"<html>404: Not Found</html>"
    raise AssertionError(how)


DAMAGE = ("flipped", "truncated", "empty", "html")


def offline(monkeypatch):
    monkeypatch.setattr(published, "SOURCE", "http://127.0.0.1:9")  # the discard port: nothing listens


def test_downloaded_once_then_from_the_cache(publisher, capfd):
    first = published.load("clip")
    again = published.load("clip")
    assert len(publisher.asked) == 1
    assert torch.equal(first.x, again.x)
    assert len(publisher.in_cache()) == 1
    assert capfd.readouterr() == ("", "")  # nothing for a page to show


def test_rows_are_normalised_again_and_otherwise_unchanged(publisher):
    data = published.load("clip")
    assert data.x.shape == data.y.shape == (500, 512)
    assert data.x.dtype == data.y.dtype == torch.float32
    wanted = publisher.array.astype(np.float64)
    assert abs(np.linalg.norm(wanted, axis=2) - 1).max() > 4e-4
    wanted /= np.linalg.norm(wanted, axis=2, keepdims=True)
    np.testing.assert_allclose(data.x, wanted[0], atol=1e-7)
    np.testing.assert_allclose(data.y, wanted[1], atol=1e-7)
    np.testing.assert_allclose(data.x.double().norm(dim=1), 1, atol=1e-6)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_corrupted_download_is_refused_and_removed(publisher, how):
    publisher.file.write_bytes(damaged(publisher.file.read_bytes(), how))
    with pytest.raises(DataUnavailable, match=r"'clip'.*not the published file and was removed"):
        published.load("clip")
    assert publisher.in_cache() == []


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_cache_is_fetched_again(publisher, how, monkeypatch):
    published.load("clip")
    (kept,) = publisher.in_cache()
    kept.write_bytes(damaged(kept.read_bytes(), how))
    assert len(published.load("clip").x) == 500
    assert len(publisher.asked) == 2

    kept.write_bytes(damaged(kept.read_bytes(), how))
    offline(monkeypatch)
    with pytest.raises(DataUnavailable, match="could not be downloaded"):
        published.load("clip")
    assert publisher.in_cache() == []


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_in_gaplib_data_is_refused_by_name_and_left_there(publisher, how, tmp_path, monkeypatch):
    mine = tmp_path / "mine" / "liang2022" / "clip.npy"
    mine.parent.mkdir(parents=True)
    content = damaged(publisher.file.read_bytes(), how)
    mine.write_bytes(content)
    monkeypatch.setenv("GAPLIB_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataUnavailable, match=r"^GAPLIB_DATA: .*clip\.npy is not the published file"):
        published.load("clip")
    assert mine.read_bytes() == content
    assert publisher.asked == []  # no way around the reader's own file


def test_gaplib_data_comes_first_and_needs_no_network(publisher, tmp_path, monkeypatch):
    mine = tmp_path / "mine" / "liang2022"
    mine.mkdir(parents=True)
    (mine / "clip.npy").write_bytes(publisher.file.read_bytes())
    monkeypatch.setenv("GAPLIB_DATA", str(tmp_path / "mine"))
    offline(monkeypatch)
    assert published.available()
    assert published.unavailable_reason() == ""
    assert not publisher.cache.exists()


def test_a_file_that_gaplib_data_lacks_is_downloaded(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLIB_DATA", str(tmp_path / "nowhere"))
    assert len(published.load("clip").x) == 500
    assert len(publisher.asked) == 1


def test_a_pickled_file_is_never_unpickled(publisher, monkeypatch):
    """Even one whose digest is right: numpy itself is told not to."""
    np.save(publisher.file, np.array([Bomb()], dtype=object), allow_pickle=True)
    digest = hashlib.sha256(publisher.file.read_bytes()).hexdigest()
    monkeypatch.setitem(published.MODELS, "clip", replace(published.MODELS["clip"], sha256=digest))
    with pytest.raises(DataUnavailable, match="cannot be read"):
        published.load("clip")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4), np.float32), np.full((2, 500, 512), np.nan, np.float32)])
def test_another_content_is_refused(publisher, monkeypatch, array):
    np.save(publisher.file, array)
    digest = hashlib.sha256(publisher.file.read_bytes()).hexdigest()
    monkeypatch.setitem(published.MODELS, "clip", replace(published.MODELS["clip"], sha256=digest))
    with pytest.raises(DataUnavailable, match="not finite float32 of shape"):
        published.load("clip")


def test_neither_network_nor_folder_says_so_soon_and_plainly(publisher, monkeypatch):
    offline(monkeypatch)
    started = time.perf_counter()
    assert not published.available()
    reason = published.unavailable_reason()
    assert time.perf_counter() - started < 10
    assert "GAPLIB_DATA" in reason
    assert "network" in reason
    assert "\n" not in reason
    assert publisher.in_cache() == []


@pytest.mark.parametrize("status", ["missing", "folder"])
def test_a_publisher_that_moved_is_no_crash(publisher, status):
    publisher.file.unlink()
    if status == "folder":
        publisher.file.mkdir()
    with pytest.raises(DataUnavailable):
        published.load("clip")
    assert publisher.in_cache() == []


def test_a_cache_that_cannot_be_written_is_no_crash(publisher, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAPLIB_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataUnavailable):
        published.load("clip")


@pytest.mark.parametrize("name", ["CLIP", "clip_randon", "", None, 3, "../clip"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"^name: expected one of clip"):
        published.load(name)
    with pytest.raises(ValueError, match=r"^name: expected one of clip"):
        published.address(name)


# --- the real files --------------------------------------------------------------------------------------------------

# Centroid distances of the released samples, as the project's table of claims gives them (three decimals).
CENTROID_DISTANCE = {"clip": 0.851, "convirt": 0.823, "videoclip": 1.067, "clasp": 1.045}


@pytest.mark.parametrize("name", list(published.MODELS))
def test_the_real_files(name):
    if reason := published.unavailable_reason(name):
        pytest.skip(reason)
    data = published.load(name)
    model = published.MODELS[name]
    assert (2, *data.x.shape) == (2, *data.y.shape) == model.shape
    assert data.trained == ("random" not in name)
    assert len(set(data.modality_names)) == 2
    assert data.source.endswith(f"features_{name}.npy")
    x, y = data.x.double(), data.y.double()
    np.testing.assert_allclose(torch.cat([x, y]).norm(dim=1), 1, atol=1e-6)
    if name in CENTROID_DISTANCE:
        assert float((x.mean(0) - y.mean(0)).norm()) == pytest.approx(CENTROID_DISTANCE[name], abs=6e-4)
    found = ((x @ y.T).argmax(1) == torch.arange(len(x))).double().mean()
    assert (found > 0.2) == data.paired_retrieval
