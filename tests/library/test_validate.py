"""The shared argument checks: every message names the argument, and what passes is what it should be."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from gaplib import _validate as v


def refused(function, *arguments, name="rows", say="", **keywords):
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}: expected .*{say}"):
        function(*arguments, **keywords)


@pytest.mark.parametrize(
    "bad",
    [
        np.ones((3, 2), dtype=np.int64),
        np.ones((3, 2), dtype=bool),
        np.ones((3, 2), dtype=complex),
        np.array([["a", "b"]]),
        np.array([[1.0, None]], dtype=object),
        np.ones(3),
        np.ones((2, 2, 2)),
        np.float64(1),
        np.ma.masked_array(np.ones((2, 2)), mask=[[0, 1], [0, 0]]),
        torch.ones(3, 2, dtype=torch.int32),
        torch.ones(3, 2, dtype=torch.bool),
        torch.ones(3, 2, dtype=torch.complex64),
        torch.ones(3, 2).to(torch.float8_e4m3fn),
        torch.ones(3, 2).to_sparse(),
        torch.ones(3),
        torch.ones(2, 2, 2),
        [[1.0, 2.0]],
        None,
        "rows",
        1.0,
    ],
    ids=lambda bad: f"{type(bad).__name__}-{getattr(bad, 'dtype', '')}-{getattr(bad, 'ndim', '')}",
)
def test_what_is_no_float_matrix_is_refused(bad):
    refused(v.check_matrix, bad, "rows", say="got ")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_empty_matrices_are_refused(make, shape):
    refused(v.check_matrix, make(shape), "rows", say=re.escape(str(shape)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_that_are_not_finite_are_refused_by_row(value, dtype):
    x = torch.ones(4, 3, dtype=dtype)
    x[2, 1] = value
    refused(v.check_matrix, x, "rows", say="row 2")
    assert v.check_matrix(x, "rows", finite=False) is x


def test_too_few_rows():
    refused(v.check_matrix, torch.ones(1, 3), "rows", say="at least 2 rows, got 1", min_rows=2)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", np.longdouble])
def test_numpy_types_keep_their_values(dtype):
    x = np.arange(6, dtype=dtype).reshape(3, 2)
    got = v.check_matrix(x, "x")
    assert got.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert got.dtype == {2: torch.float16, 4: torch.float32}.get(x.dtype.itemsize, torch.float64)


@pytest.mark.filterwarnings("error")  # torch warns when it wraps memory that it may not write to
def test_memory_layouts_of_numpy(tmp_path):
    x = np.random.default_rng(0).standard_normal((6, 4))
    frozen = x.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    views = {
        "negative stride": x[::-1],
        "every other column": x[:, ::2],
        "transposed": x.T,
        "read-only": frozen,
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "broadcast": np.broadcast_to(x[0], (3, 4)),
    }
    for name, view in views.items():
        np.testing.assert_array_equal(v.check_matrix(view, "x").numpy(), np.asarray(view), err_msg=name)


def test_tensors_pass_as_they_are():
    x = torch.ones(3, 2, requires_grad=True)
    assert v.check_matrix(x, "x") is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_unit_rows_within_the_rounding_of_the_type(dtype):
    x = torch.nn.functional.normalize(torch.randn(200, 512, generator=torch.Generator().manual_seed(0)))
    assert v.check_unit_rows(x.to(dtype), "x").dtype == dtype
    refused(v.check_unit_rows, (1.05 * x).to(dtype), "rows", say="L2-normalised rows, got norm 1.0")


def test_unit_rows_name_the_worst_row():
    x = torch.eye(4)
    x[3] *= 1e20
    refused(v.check_unit_rows, x, "rows", say="row 3")


def test_zero_rows_are_refused_but_tiny_ones_are_not():
    x = torch.full((3, 2), 1e-40)
    assert v.check_nonzero_rows(x, "x") is x
    x[1] = 0
    refused(v.check_nonzero_rows, x, "rows", say="row 1")


def test_pairs_share_dimension_and_count():
    refused(v.check_pair, torch.ones(3, 2), torch.ones(3, 4), name="y", say="dimension")
    refused(
        v.check_pair, torch.ones(3, 2), torch.ones(4, 2), name="text", names=("image", "text"), say="3 pairs.*got 4"
    )
    refused(v.check_pair, torch.ones(3, 2), torch.ones(3, 2, device="meta"), name="y", say="device")
    assert v.check_pair(torch.ones(3, 2), torch.ones(4, 2), paired=False) is None


@pytest.mark.parametrize("bad", [True, "1", None, 1j, [1.0], torch.ones(1), torch.tensor(True), torch.tensor(1j)])
def test_what_is_no_number(bad):
    refused(v.check_number, bad, "rows", say="a number")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-9, 2.1, 10**400, torch.tensor(float("nan"))])
def test_numbers_outside(bad):
    refused(v.check_number, bad, "rows", low=0, high=2, say=r"\[0, 2\]")


@pytest.mark.filterwarnings("error")
def test_open_and_closed_ends():
    refused(v.check_number, 0, "rows", low=0, low_open=True, say=r"\(0, inf\)")
    refused(v.check_number, 1.0, "rows", high=1, high_open=True, say=r"\(-inf, 1\)")
    for good in (0, 1, np.float32(0.5), torch.tensor(0.5, requires_grad=True)):
        assert v.check_number(good, "x", low=0, high=1) is good


@pytest.mark.parametrize("bad", [True, 1.0, "1", None, -1, 11])
def test_whole_numbers(bad):
    refused(v.check_integer, bad, "rows", low=0, high=10, say=r"\[0, 10\]")
    assert v.check_integer(np.int64(3), "rows", low=0, high=10) == 3


def test_choices_list_the_near_ones():
    refused(v.check_choice, "cuax", "rows", ["clip", "cua", "cuaxu"], say="did you mean cuaxu, cua")
    assert v.check_choice("cua", "rows", ["clip", "cua"]) == "cua"


OBJECTS = [
    pd.Series(list("abca"), dtype=object),
    pd.Series(list("abca"), dtype="string"),
    pd.Series(list("abca"), dtype="category"),
    np.array(list("abca"), dtype=object),
    np.array([1, 2, 3, 1], dtype=object),
    pd.Series([1, 2, 3, 1], dtype="Int64"),
]


@pytest.mark.parametrize("labels", OBJECTS, ids=range(len(OBJECTS)))
def test_objects_that_are_all_strings_or_all_integers_are_labels(labels):
    """Wherever labels or groups are taken: what pandas calls objects is what it holds."""
    from gaplib import geometry
    from gaplib.evaluation import retrieval, zero_shot

    plain = labels.tolist()
    assert v.check_labels(labels, 4, "labels").tolist() == plain
    x, y = np.eye(4), np.eye(4)[::-1].copy()
    assert retrieval(x, y, (1,), labels, labels) == retrieval(x, y, (1,), plain, plain)
    assert geometry.linear_separability(x, y, groups=labels) == geometry.linear_separability(x, y, groups=plain)
    classes = np.eye(4)[:3]
    assert zero_shot(x, labels, classes, class_labels=plain[:3]) == zero_shot(x, plain, classes, class_labels=plain[:3])


@pytest.mark.parametrize(
    "labels",
    [
        ["a", 1, "b", 2],
        ["a", None, "b", "c"],
        ["a", float("nan"), "b", "c"],
        [0.5, 1, 2, 3],
        [[1], [2], [3], [4]],
        "abcd",
    ],
)
def test_mixtures_are_no_labels(labels):
    for given in (labels, np.array(labels, dtype=object)):
        with pytest.raises(ValueError, match=r"^labels: expected 4 integers or strings"):
            v.check_labels(given, 4, "labels")
