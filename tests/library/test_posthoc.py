"""Post-hoc treatments against closed forms and their own definitions."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import normalize

import gaplib
from gaplib import posthoc


def _gapped(n=400, d=16, offset=0.7, seed=0, noise=0.3):
    """Pairs that share a content in the first coordinates and differ by an offset in the last."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    x, y = content.copy(), content + noise * rng.normal(size=(n, d)) * ([1.0] * (d - 1) + [0.0])
    x[:, -1], y[:, -1] = offset, -offset
    return tuple(normalize(torch.tensor(z), dim=1) for z in (x, y))


def _gap(x, y):
    return float((x.mean(0) - y.mean(0)).norm())


FITS = [posthoc.fit_mean_centring, posthoc.fit_shift, posthoc.fit_orthogonal_shift, posthoc.fit_trace_matched]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_every_treatment_closes_a_constant_orthogonal_gap_on_unseen_pairs(fit):
    unseen = _gapped(seed=1)
    treated = fit(*_gapped(seed=0))(*unseen)
    assert _gap(*unseen) > 0.9
    assert _gap(*treated) < 0.15
    for z in treated:
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z), dtype=z.dtype))


def test_centring_is_the_textbook_formula():
    x, y = _gapped()
    got = posthoc.fit_mean_centring(x, y)(x, y)
    torch.testing.assert_close(got[0], normalize(x - x.mean(0), dim=1))
    torch.testing.assert_close(got[1], normalize(y - y.mean(0), dim=1))


def test_shift_zero_is_the_identity_and_negative_widens():
    x, y = _gapped()
    torch.testing.assert_close(posthoc.fit_shift(x, y, 0.0)(x, y)[0], x)
    assert _gap(*posthoc.fit_shift(x, y, -0.5)(x, y)) > _gap(x, y)


def test_trace_matching_puts_the_text_mean_on_the_image_mean():
    x, y = _gapped(noise=1.0)
    moved = posthoc.fit_trace_matched(x, y).text(y)
    assert float((moved.mean(0) - x.mean(0)).norm()) < 0.05
    torch.testing.assert_close(posthoc.fit_trace_matched(x, y).image(x), x)


def test_shared_space_finds_a_known_intersection():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    # Images span directions 0, 1, 2 and texts 0, 1, 3 of a rotated basis: two are shared.
    x = normalize(torch.tensor(rng.normal(size=(200, 3)) @ basis[:3]), dim=1)
    y = normalize(torch.tensor(rng.normal(size=(200, 3)) @ basis[[0, 1, 3]]), dim=1)
    assert posthoc.fit_shared_space(x, y, variance=0.9999).image(x).shape[1] == 2
    with pytest.raises(ValueError, match=r"^tolerance:"):
        posthoc.fit_shared_space(*(normalize(torch.eye(4)[rows], dim=1) for rows in ([0, 1], [2, 3])))


def test_bad_input_is_named():
    x, y = _gapped(20)
    fitted = posthoc.fit_mean_centring(x, y)
    one = x[:1].repeat(5, 1)
    for name, call in {
        "x": lambda: fitted.image(normalize(x[:, :3], dim=1)),
        "y": lambda: posthoc.fit_trace_matched(x, one),
        "share": lambda: posthoc.fit_shift(x, y, float("nan")),
        "variance": lambda: posthoc.fit_shared_space(x, y, variance=0),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}:"):
            call()
    with pytest.raises(ValueError, match=r"^x: .*norm"):
        posthoc.fit_mean_centring(2 * x, y)
    with pytest.raises(ValueError, match=r"^x: .*sends to zero"):
        posthoc.fit_mean_centring(one, y[:5]).image(one)


# --- on disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", posthoc.TREATMENTS)
def test_a_treatment_comes_back_from_its_file_to_the_last_bit(name, tmp_path):
    rng = np.random.default_rng(2)
    x, y = (normalize(torch.tensor(rng.normal(size=(n, 8)) + 0.5), dim=1) for n in (60, 50))
    fitted = posthoc.fit(name, x, y)
    file = fitted.save(tmp_path / "treatment.safetensors")
    again = posthoc.load(file)
    assert (again.name, again.fitted_on) == (fitted.name, (60, 50))
    for ours, theirs in zip(again(x, y), fitted(x, y), strict=True):
        assert ours.dtype == torch.float64
        assert torch.equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["treatment.safetensors"]


def test_the_file_is_what_another_reader_expects(tmp_path):
    x, y = _gapped(100)
    posthoc.fit_mean_centring(x, y).save(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        note = json.loads(file.metadata()["gaplib.posthoc"])
    np.testing.assert_allclose(found["image.0.shift"], x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["text.0.shift"], y.numpy().mean(0), rtol=1e-12)
    assert len(found) == 2
    assert note["dims"] == {"image": [16, 16], "text": [16, 16]}
    assert (note["method"], note["dtype"], note["fitted_on"]) == ("mean-centring", "float64", [100, 100])
    assert note["gaplib"] == gaplib.__version__


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    x, y = _gapped(20, d=3)
    file = posthoc.fit_mean_centring(x, y).save(tmp_path / "a.safetensors")
    whole = file.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path: expected a file written by PostHoc.save"):
            posthoc.load(file)
    file.write_bytes(whole)
    assert posthoc.load(file).name == "mean-centring"


def _resealed(path, tensors, **changes):
    """A file whose digest is right, so that only its content can be refused."""
    note = {"format": 1, "method": "a", "dims": {"image": [2, 2], "text": []}, "fitted_on": [1, 1], **changes}
    note["sha256"] = posthoc._digest(note, tensors)
    save_file(tensors, path, metadata={"gaplib.posthoc": json.dumps(note)})
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image.0.shift": torch.zeros(2)}, "finite float64"),
        ({"image.0.shift": torch.tensor([0.0, float("nan")], dtype=torch.float64)}, "finite float64"),
        ({"image.0.shift": torch.zeros(2, 2, dtype=torch.float64)}, "fit one another"),
        ({"image.0.matrix": torch.zeros(3, 2, dtype=torch.float64)}, "fit one another"),
        ({"image.1.shift": torch.zeros(3, dtype=torch.float64)}, "fit one another"),
        ({"image.1.shift": torch.zeros(2, dtype=torch.float64)}, "image dimensions"),
        ({"image.2.shift": torch.zeros(2, dtype=torch.float64)}, "nothing else"),
    ],
)
def test_a_file_with_other_stages_is_refused(changes, reason, tmp_path):
    good = {"image.0.shift": torch.zeros(2, dtype=torch.float64)}
    assert posthoc.load(_resealed(tmp_path / "good", good)).fitted_on == (1, 1)
    with pytest.raises(ValueError, match=reason):
        posthoc.load(_resealed(tmp_path / "bad", good | changes))


def test_foreign_and_later_files_are_refused_and_nothing_is_half_written(tmp_path, monkeypatch):
    good = {"image.0.shift": torch.zeros(2, dtype=torch.float64)}
    save_file(good, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="holds no treatment"):
        posthoc.load(tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="expected format 1, got 2"):
        posthoc.load(_resealed(tmp_path / "later", good, format=2))
    with pytest.raises(ValueError, match=r"^path: "):
        posthoc.load(tmp_path / "missing")
    fitted = posthoc.fit_mean_centring(*_gapped(20))
    with pytest.raises(ValueError, match=r"^path: expected a file in a folder"):
        fitted.save(tmp_path / "no" / "folder.safetensors")

    def break_off(tensors, path, metadata):
        path.write_bytes(b"half")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("safetensors.torch.save_file", break_off)
    with pytest.raises(RuntimeError, match="full"):
        fitted.save(tmp_path / "later")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign.safetensors", "later"]
    with pytest.raises(ValueError, match="expected format 1, got 2"):
        posthoc.load(tmp_path / "later")
