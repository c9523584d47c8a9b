"""Embeddings in the formats that people have them in: every one gives the rows that were put in."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from gaplib.embedding_files import load_embeddings, load_groups, load_index, load_pair, open_both, open_embeddings

X = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32)
FIXED = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 6)


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def quiet(path, **given):
    return open_embeddings(path, note=lambda message: None, **given).in_memory().numpy()


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=20)


WRITERS = {
    "a.npy": lambda path: np.save(path, X),
    "a.npz": lambda path: np.savez(path, X),
    "named.npz": lambda path: np.savez_compressed(path, embeddings=X, ids=np.arange(50)),
    "objects.npz": lambda path: np.savez(path, embeddings=X, captions=np.array([["a"], ["b", "c"]], dtype=object)),
    "a.pt": lambda path: torch.save(torch.from_numpy(X), path),
    "old.pth": lambda path: torch.save(torch.from_numpy(X), path, _use_new_zipfile_serialization=False),
    "named.pt": lambda path: torch.save({"features": torch.from_numpy(X), "epoch": 3}, path),
    "a.safetensors": lambda path: save_file({"x": torch.from_numpy(X), "n": torch.arange(3)}, path),
    "a.parquet": lambda path: parquet(path, emb=X.tolist(), caption=["a"] * 50),
    "fixed.parquet": lambda path: parquet(path, emb=FIXED),
    "a.csv": lambda path: np.savetxt(path, X, delimiter=",", fmt="%.9g"),
    "numbered.csv": lambda path: pd.DataFrame(X).to_csv(path, index=False),
    "headed.csv": lambda path: pd.DataFrame(X, columns=list("abcdef")).to_csv(path, index=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert quiet(tmp_path / name) == pytest.approx(unit(X), abs=1e-7)


FLOATS = (torch.float16, torch.float32, torch.float64)
TYPES = [(suffix, dtype) for suffix in (".pt", ".safetensors", ".npy", ".parquet") for dtype in FLOATS]
TYPES += [(".pt", torch.bfloat16), (".safetensors", torch.bfloat16)]  # NumPy and Parquet have no such type


@pytest.mark.parametrize(("suffix", "dtype"), TYPES)
def test_every_type_of_float(tmp_path, dtype, suffix):
    x, path = torch.from_numpy(X).to(dtype), tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save(x, path)
    elif suffix == ".safetensors":
        save_file({"x": x}, path)
    elif suffix == ".npy":
        np.save(path, x.numpy())
    else:
        parquet(path, x=pa.FixedSizeListArray.from_arrays(pa.array(x.numpy().ravel()), 6))
    assert quiet(path) == pytest.approx(unit(x.double().numpy()), abs=1e-15)


def test_clip_retrieval_folders_in_the_order_of_their_numbers(tmp_path):
    for side, rows in (("img_emb", X), ("text_emb", Y)):
        (tmp_path / side).mkdir()
        for number, part in enumerate(np.array_split(rows.astype(np.float16), 12)):
            np.save(tmp_path / side / f"{side}_{number}.npy", part)
    (tmp_path / "metadata").mkdir()
    parquet(tmp_path / "metadata" / "metadata_0.parquet", caption=["a"] * 50)
    assert quiet(tmp_path / "img_emb") == pytest.approx(unit(X.astype(np.float16)), abs=1e-15)
    both = open_both(tmp_path, note=lambda message: None)
    assert list(both) == ["image", "text"]
    assert both["text"][10:12].numpy() == pytest.approx(unit(Y.astype(np.float16))[10:12], abs=1e-15)
    with pytest.raises(ValueError, match="expected one modality, got the folder of both"):
        open_embeddings(tmp_path)
    np.save(tmp_path / "img_emb" / "img_emb_12.npy", X[:, :3])
    with pytest.raises(ValueError, match="shards of one dimension, got 3, 6"):
        open_embeddings(tmp_path / "img_emb")


def test_keys_name_one_array_of_several(tmp_path):
    path = tmp_path / "run.safetensors"
    save_file(
        {"test_image": torch.from_numpy(X), "test_text": torch.from_numpy(Y), "dev_image": torch.zeros(2, 6)}, path
    )
    assert quiet(f"{path}:test_text") == pytest.approx(unit(Y), abs=1e-7)
    assert quiet(path, key="test_image") == pytest.approx(unit(X), abs=1e-7)
    assert list(open_both(path, note=lambda message: None)) == ["test_image", "test_text"]
    with pytest.raises(ValueError, match=r"run.safetensors: expected one array of embeddings, got .*test_image"):
        open_embeddings(path)
    with pytest.raises(ValueError, match=r"expected one of .*test_image.*did you mean test_text"):
        open_embeddings(f"{path}:test_txt")
    np.savez(tmp_path / "one.npz", only=X)
    with pytest.raises(ValueError, match=r"one.npz: expected two arrays of embeddings .*, got only"):
        open_both(tmp_path / "one.npz")


def test_labels_and_indices_of_every_format(tmp_path):
    index = np.arange(50) // 5
    np.savez(tmp_path / "a.npz", index=index)
    parquet(tmp_path / "a.parquet", index=index, name=[f"i{one}" for one in index])
    (tmp_path / "a.txt").write_text("".join(f"{one}\n" for one in index))
    for place in ("a.npz", "a.npz:index", "a.parquet:index", "a.txt"):
        assert load_index(f"{tmp_path}/{place}", 50).tolist() == index.tolist()
    assert load_groups(f"{tmp_path}/a.parquet:name", 50)[7] == "i1"
    np.savez(tmp_path / "o.npz", index=index, names=np.array(list("ab"), dtype=object))
    with pytest.raises(ValueError, match=r"o\.npz: names holds Python objects, and nothing is unpickled"):
        load_groups(f"{tmp_path}/o.npz:names", 2)
    with pytest.raises(ValueError, match="expected whole numbers, got 'i0' in row 0"):
        load_index(f"{tmp_path}/a.parquet:name", 50)
    (tmp_path / "a.txt").write_text("1\n" * 48 + "2.5\n99999999999999999999\n")
    with pytest.raises(ValueError, match=r"a.txt: expected whole numbers, got '2.5' in row 48"):
        load_index(tmp_path / "a.txt", 50)
    (tmp_path / "a.txt").write_text("1\n" * 49 + "99999999999999999999\n")
    with pytest.raises(ValueError, match=r"got '99999999999999999999' in row 49"):
        load_index(tmp_path / "a.txt", 50)


def test_two_numbers_are_an_embedding_and_no_heading(tmp_path):
    (tmp_path / "a.csv").write_text("0,1\n1,0\n")
    assert quiet(tmp_path / "a.csv").tolist() == [[0.0, 1.0], [1.0, 0.0]]


def ragged(path):
    parquet(path, emb=[[1.0, 2.0]] * 30 + [[1.0]] + [[1.0, 2.0]] * 10)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


BAD = {
    "ragged.parquet": (ragged, r"column 'emb': expected lists of one length, got 1 in row 30 and 2 in row 0"),
    "missing.parquet": (lambda path: parquet(path, emb=[[1.0], None]), "got no list in row 1"),
    "two.parquet": (lambda path: parquet(path, a=X.tolist(), b=X.tolist()), "got a, b; name one"),
    "none.parquet": (lambda path: parquet(path, a=["x"]), "expected an array of floats, got type string"),
    "integers.parquet": (lambda path: parquet(path, a=[[1, 2]]), "expected an array of floats, got type list<"),
    "cut.parquet": (lambda path: path.write_bytes(b"PAR1xxxx"), "not a readable .parquet file"),
    "evil.pt": (lambda path: torch.save({"x": Evil()}, path), "nothing is unpickled"),
    "list.pt": (lambda path: torch.save([torch.zeros(2)], path), "a dictionary of tensors, got list"),
    "cut.pt": (lambda path: path.write_bytes(b"PK\x03\x04"), "not a readable .pt file"),
    "eight.pt": (lambda path: torch.save(torch.ones(4, 3).to(torch.float8_e4m3fn), path), "got type float8_e4m3fn"),
    "cut.safetensors": (lambda path: path.write_bytes(b"\x00" * 4), "not a readable .safetensors file"),
    "cut.npz": (lambda path: path.write_bytes(b"PK\x03\x04"), "not a readable .npz file"),
    "pickled.npz": (
        lambda path: np.savez(path, a=np.array([{}], dtype=object)),
        "got type object, and nothing is unpickled",
    ),
    "pickled.npy": (lambda path: np.save(path, np.array([Evil()])), "npy file .*nothing is unpickled"),
    "bare.npy": (lambda path: path.write_bytes(pickle.dumps(Evil())), "npy file .*nothing is unpickled"),
    "bare.pt": (lambda path: path.write_bytes(pickle.dumps(Evil())), "nothing is unpickled"),
    "empty.pt": (lambda path: path.write_bytes(b""), r"not a readable .pt file \(EOFError\)"),
    "index.csv": (lambda path: pd.DataFrame(X, columns=list("abcdef")).to_csv(path), "an index is no embedding"),
    "numbered_index.csv": (lambda path: pd.DataFrame(X).to_csv(path), "an index is no embedding"),
    "words.csv": (lambda path: path.write_text("a,b\n1,2\nx,3\n"), "not a readable .csv file"),
    "long.csv": (lambda path: path.write_text("1,2\n1,2,3\n"), "not a readable .csv file"),
    "short.csv": (lambda path: path.write_text("1,2\n3\n"), r"NaN or infinity \(first in row 1\) in 1 of 2 rows"),
    "empty.csv": (lambda path: path.write_text(""), "empty.csv"),
    "a.txt": (lambda path: path.write_text("1"), "expected a folder of .npy files or one of .npy, .npz"),
    "gone.pt": (lambda path: None, "there is no such file"),
    "folder": (lambda path: path.mkdir(), "got a folder that holds neither"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("error::UserWarning")
def test_bad_files_are_one_line(tmp_path, capsys, name):
    make, message = BAD[name]
    make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as caught:
        load_embeddings(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    assert "executed" not in capsys.readouterr().out


def test_counts_that_differ_are_both_said_with_what_to_do(tmp_path):
    np.save(tmp_path / "x.npy", unit(X)[:10])
    np.save(tmp_path / "y.npy", unit(Y))
    with pytest.raises(ValueError, match=r"y.npy: expected as many rows as .*x.npy \(10 pairs\), got 50; --pairs FILE"):
        load_pair(tmp_path / "x.npy", tmp_path / "y.npy")
    assert [len(one) for one in load_pair(tmp_path / "x.npy", tmp_path / "y.npy", paired=False)] == [10, 50]


def test_what_a_file_maps_is_not_read_at_once(tmp_path):
    """A file of a terabyte opens: only its head is there, and the rows that are asked for."""
    path = tmp_path / "hole.npy"
    header = {"descr": "<f2", "fortran_order": False, "shape": (2**20, 2**10)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2**31)
    from gaplib.embedding_files.loading import _stored, entries

    rows = _stored("x", list(entries(path).values()))
    assert rows.shape == (2**20, 2**10)
    assert rows.raw(slice(2**20 - 3, 2**20)).tolist() == [[0.0] * 2**10] * 3
