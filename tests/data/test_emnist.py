"""EMNIST from tiny files in the publisher's IDX format, written here byte by byte."""

import struct

import numpy as np
import pytest

from gaplib.data import DataUnavailable, emnist, glyphs
from gaplib.glyph_tasks.handwriting import emnist_zero_shot
from gaplib.towers import tiny_towers

BALANCED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"  # the order of EMNIST's own mapping file


def write(root, split, images, labels):
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIII", 0x803, *images.shape)
    (raw / f"emnist-{split}-test-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (raw / f"emnist-{split}-test-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels))
    return raw


def bars(n):
    """An upright L, stored transposed as EMNIST does; the foot is one pixel longer each time."""
    images = np.zeros((n, 28, 28), dtype=np.uint8)
    for i in range(n):
        images[i, 4:24, 6:8] = 255  # rows, columns of the upright picture
        images[i, 22:24, 6 : 16 + i % 10] = 255
    return images, np.ascontiguousarray(images.transpose(0, 2, 1))


def test_images_stand_upright_on_the_baseline_and_labels_have_their_names(tmp_path):
    _, stored = bars(4)
    write(tmp_path, "balanced", stored, [BALANCED.index(one) for one in "7LaC"])
    data = emnist.load("balanced", root=tmp_path)
    assert data.label.tolist() == list("7LaC")
    assert data.images.shape == (4, 1, 24, 24)
    assert float(data.images.max()) <= 1
    assert data.names["7"] == ["DIGIT SEVEN"]
    assert data.names["a"] == ["LATIN SMALL LETTER A"]
    assert data.names["A"] == ["LATIN CAPITAL LETTER A"]
    assert data.names["C"] == ["LATIN CAPITAL LETTER C", "LATIN SMALL LETTER C"]  # one class in EMNIST
    assert len(data.names) == 47
    picture = data.images[0, 0].numpy()
    rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    printed = glyphs.handwriting(glyphs.load()).images[:50].numpy().any(axis=(0, 1, 3)).nonzero()[0]
    assert (rows[0], rows[-1]) == (printed[0], printed[-1])
    # The stem is on the left and the foot at the bottom: not transposed, not mirrored.
    assert picture[:, columns[0]].sum() > 2 * picture[:, columns[-1]].sum()
    assert picture[rows[-1]].sum() > 2 * picture[rows[0]].sum()


def test_letters_have_both_cases_and_samples_are_seeded(tmp_path):
    _, stored = bars(30)
    write(tmp_path, "letters", stored, [1 + i % 26 for i in range(30)])
    data = emnist.load("letters", root=tmp_path)
    assert data.label.tolist() == [chr(ord("A") + i % 26) for i in range(30)]
    assert data.names["B"] == ["LATIN CAPITAL LETTER B", "LATIN SMALL LETTER B"]
    assert set(data.names) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    some, same, other = (emnist.load("letters", n=5, seed=seed, root=tmp_path) for seed in (0, 0, 1))
    assert some.label.tolist() == same.label.tolist() != other.label.tolist()
    assert len(some) == 5


def test_untrained_towers_score_in_range_and_the_right_label_wins(tmp_path):
    _, stored = bars(40)
    write(tmp_path, "digits", stored, [i % 10 for i in range(40)])
    towers = tiny_towers(len(glyphs.load().vocabulary), dim=8)
    found = emnist_zero_shot(towers, emnist.load("digits", root=tmp_path))
    assert 0 <= found["accuracy@1"] <= found["accuracy@5"] <= 1
    with pytest.raises(ValueError, match="images"):
        emnist_zero_shot(towers, emnist.load("digits", root=tmp_path, size=20))


def test_missing_and_damaged_files_are_said_plainly(tmp_path):
    with pytest.raises(DataUnavailable, match="emnist-balanced-test-images"):
        emnist.load("balanced", root=tmp_path)
    _, stored = bars(4)
    raw = write(tmp_path, "balanced", stored, [1, 2, 3, 4])
    images, labels = (raw / f"emnist-balanced-test-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    whole = images.read_bytes()
    for bad in (whole[:100], b"", b"\0\0\x08\x01" + whole[4:]):
        images.write_bytes(bad)
        with pytest.raises(DataUnavailable, match="balanced"):
            emnist.load("balanced", root=tmp_path)
    images.write_bytes(whole)
    for bad in ([1, 2, 3], [1, 2, 3, 60]):
        labels.write_bytes(struct.pack(">II", 0x801, len(bad)) + bytes(bad))
        with pytest.raises(DataUnavailable, match="balanced"):
            emnist.load("balanced", root=tmp_path)


def test_bad_arguments_are_named(tmp_path):
    _, stored = bars(4)
    write(tmp_path, "digits", stored, [1, 2, 3, 4])
    for options, name in (
        ({"split": "mnist"}, "split"),
        ({"size": 4}, "size"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=f"^{name}:"):
            emnist.load(**({"split": "digits", "root": tmp_path} | options))
