"""The self-check of the exercises never fails on a reader's unfinished work, and never passes a wrong answer."""

import numpy as np
import pytest
import torch

from gaplib.book.exercises import check


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (0.5, 0.5 + 1e-9),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])),
        ([1, 2], (1.0, 2.0)),
        (True, True),
        ("relu", "relu"),
        (np.empty(0), np.empty(0)),
    ],
)
def test_right_answers(got, expected, capsys):
    assert check("ex", got, expected)
    assert capsys.readouterr().out == "ex: right.\n"


@pytest.mark.parametrize(
    ("got", "expected", "says"),
    [
        (0.4, 0.5, "off by 0.1"),
        (None, 0.5, "no answer"),
        (..., 0.5, "no answer"),
        (np.nan, 0.5, "NaN"),
        ([1.0], [1.0, 2.0], r"shape (2,), got (1,)"),
        (1, True, "another"),
        ("many", 0.5, "Expected numbers, got str"),
        (np.ones((3, 1)), np.ones(3), "shape"),
        (print, 0.5, "Expected numbers"),
    ],
)
def test_other_answers_are_not_yet_and_no_error(got, expected, says, capsys):
    assert check("ex", got, expected, tol=1e-3, hint="Look again.") is False
    out = capsys.readouterr().out
    assert out.startswith("ex: not yet.")
    assert says in out
    assert out.endswith("Hint: Look again.\n")


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tol"):
        check("ex", 1.0, 1.0, tol=-1.0)
