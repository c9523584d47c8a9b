"""Rows that stay on the disk: everything that is measured of them is what is measured of the same rows in memory."""

import importlib

import numpy as np
import pytest
import torch

from gaplib import geometry as g
from gaplib.geometry.stored import StoredRows


def stored(x, cuts=(), name="x"):
    parts = np.split(x, cuts)
    return StoredRows(name, [(len(part), lambda part=part: part) for part in parts], x.shape[1], x.itemsize < 8)


def rows(n, d, seed, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


@pytest.fixture(params=["plain", "groups", "unpaired"])
def case(request):
    x, y = rows(300, 6, 0, 0.5), rows(300, 6, 1)
    y += x
    if request.param == "groups":
        group = np.repeat(np.arange(100), 3)
        return x[::3][group], y, dict(groups=group)
    return x, (y if request.param == "plain" else y[:120]), dict(paired=request.param == "plain")


@pytest.fixture(params=["whole", "sampled"])
def limits(request, monkeypatch):
    """Blocks of 64 rows; with and without the samples of large inputs."""
    for name in ("inputs", "distance", "spread", "stored"):
        monkeypatch.setattr(f"gaplib.geometry.{name}.ROWS_AT_A_TIME", 64)
    if request.param == "sampled":
        for name, value in dict(UNIFORMITY_ROWS=70, SEPARABILITY_PAIRS=60, RETRIEVAL_SCORES=9000).items():
            monkeypatch.setattr(f"gaplib.geometry.report.{name}", value)
        monkeypatch.setattr("gaplib.geometry.report.LEAST_QUERIES", 10)


def test_the_report_is_that_of_the_rows_in_memory(case, limits):
    x, y, given = case
    lazy = g.gap_report(stored(x, (7, 100)), stored(y, (64,)), seed=2, **given)
    whole = g.gap_report(g.normalize(x.astype(np.float64)), g.normalize(y.astype(np.float64)), seed=2, **given)
    assert lazy.notes == whole.notes
    assert lazy.retrieval_chance == whole.retrieval_chance
    for key, value in whole.values.items():
        assert lazy.values[key] == (None if value is None else pytest.approx(value, rel=1e-9)), key
    for key, floor in whole.floors.items():
        assert lazy.floors[key].samples == pytest.approx(floor.samples, rel=1e-8), key


@pytest.mark.parametrize("n", [9, 5, 600])
def test_wide_and_long_matrices(n):
    x, y = rows(n, 8, 0), rows(n, 8, 1, 1)
    lazy, whole = g.gap_report(stored(x), stored(y)), g.gap_report(*map(g.normalize, map(np.float64, (x, y))))
    for key in ("wasserstein_uniformity", "effective_rank_image", "centroid_distance"):
        assert lazy.values[key] == pytest.approx(whole.values[key], rel=1e-9), key


def test_rows_are_read_in_any_order_across_parts():
    x = rows(50, 4, 0)
    index = np.random.default_rng(0).integers(0, 50, size=200)
    got = stored(x, (3, 3, 20)).take(index)
    expected = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    assert got.in_memory().numpy() == pytest.approx(expected[index], abs=1e-15)
    assert got.take(np.array([5, 1]))[0:2].numpy() == pytest.approx(expected[index[[5, 1]]], abs=1e-15)
    assert got[np.array([7])].numpy() == pytest.approx(expected[index[[7]]], abs=1e-15)
    assert got.mean(dim=0).numpy() == pytest.approx(expected[index].mean(0), abs=1e-14)
    assert len(stored(x)[10:10]) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_every_type(dtype):
    x = torch.from_numpy(rows(20, 4, 0)).to(dtype)
    got = StoredRows("x", [(20, lambda: x)], 4, dtype != torch.float64)
    assert torch.equal(got[2:9], g.normalize(x.double())[2:9]) or dtype != torch.float64
    assert got.in_memory().numpy() == pytest.approx(g.normalize(x.double()).numpy(), abs=1e-15)


def test_no_part_is_held_in_double_precision_as_a_whole(monkeypatch):
    monkeypatch.setattr("gaplib.geometry.stored.ROWS_AT_A_TIME", 16)
    largest = []

    class Watched(np.ndarray):
        def __getitem__(self, at):
            found = super().__getitem__(at)
            largest.append(len(np.atleast_2d(found)))
            return found

    for name in ("inputs", "distance", "spread"):
        monkeypatch.setattr(f"gaplib.geometry.{name}.ROWS_AT_A_TIME", 16)
    monkeypatch.setattr("gaplib.geometry.report.UNIFORMITY_ROWS", 20)
    monkeypatch.setattr("gaplib.geometry.report.SEPARABILITY_PAIRS", 20)
    monkeypatch.setattr("gaplib.geometry.report.RETRIEVAL_SCORES", 100)
    monkeypatch.setattr("gaplib.geometry.report.LEAST_QUERIES", 10)
    x, y = (rows(400, 3, seed).view(Watched) for seed in (0, 1))
    monkeypatch.setattr(importlib.import_module("gaplib.evaluation.retrieval"), "_SCORES_AT_A_TIME", 160)
    x, y = stored(x), stored(y)
    largest.clear()
    g.gap_report(x, y)
    assert 10 < max(largest) <= 20


def test_faults_are_counted(capsys):
    x = rows(5000, 3, 0)
    x[[17, 4500]] = np.nan
    x[3] = 0
    with pytest.raises(ValueError, match=r"x: .*NaN or infinity \(first in row 17\) in 2 of 5000 rows"):
        stored(x).check(print)
    x[[17, 4500]] = 0
    with pytest.raises(ValueError, match=r"row of zeros \(row 3\), 3 of 5000"):
        stored(x).check(print)
    x = g.normalize(rows(5000, 3, 0)).numpy()
    x[4999] *= 2
    assert stored(x).check(print).shape == (5000, 3)
    assert capsys.readouterr().out == "x: 1 of 5000 rows were not L2-normalised; they are now\n"


def test_two_rows_are_the_least():
    with pytest.raises(ValueError, match="x: expected at least 2 rows, got 1"):
        g.gap_report(stored(rows(1, 3, 0)), stored(rows(1, 3, 0)))
    with pytest.raises(ValueError, match="y: expected as many rows as x"):
        g.gap_report(stored(rows(4, 3, 0)), stored(rows(3, 3, 0)))
