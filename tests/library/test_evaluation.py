"""The package of the tasks: names, laziness, and what all tasks have in common."""

import importlib
import inspect
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from gaplib import _dependencies, evaluation
from gaplib.evaluation import calibration, clustering, few_shot, hubness, linear_probe, robustness, zero_shot


def test_every_public_name_is_the_function_of_its_module():
    for name in evaluation.__all__:
        function = getattr(evaluation, name)
        assert inspect.isfunction(function), name
        assert function is getattr(sys.modules[f"gaplib.evaluation.{name}"], name)
        assert inspect.getdoc(function), name
    assert set(evaluation.__all__) <= set(dir(evaluation))
    with pytest.raises(AttributeError, match="no attribute 'zero_shots'"):
        _ = evaluation.zero_shots
    with pytest.raises(ImportError):
        importlib.import_module("gaplib.evaluation.zero_shots")


def test_names_are_functions_whatever_is_imported_first():
    """In a fresh process: the import system binds a submodule to its name, which must not hide the function."""
    script = """
        import sys
        from gaplib.evaluation.retrieval import retrieval as first
        assert "gaplib.evaluation.clustering" not in sys.modules
        from gaplib.evaluation import retrieval
        assert retrieval is first
        from gaplib.evaluation.zero_shot import class_embeddings
        from gaplib.evaluation import zero_shot
        import gaplib.evaluation.few_shot
        from gaplib.evaluation import few_shot
        assert callable(zero_shot) and callable(few_shot) and callable(gaplib.evaluation.few_shot)
        import gaplib.evaluation as package
        assert package.hubness.__name__ == "hubness"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=_dependencies.ROOT)


def test_training_does_not_stand_on_the_other_tasks():
    files = [file.name for file in _dependencies.closure("gaplib.training") if file.parent.name == "evaluation"]
    assert sorted(files) == ["__init__.py", "_inputs.py", "retrieval.py"]


def _all_tasks(x, y, labels):
    # The same items as train and test: what is asked is that nothing but values decides.
    return {
        "zero_shot": zero_shot(x, labels, x[:4]),
        "calibration": calibration(x, labels, y[:4], 10.0),
        "linear_probe": linear_probe(dict(train=x, dev=y, test=x), dict.fromkeys(("train", "dev", "test"), labels)),
        "few_shot": few_shot(x, labels, y, labels, shots=(1, 4), draws=2),
        "clustering": clustering(x, y, labels, restarts=1),
        "hubness": hubness(x, y, 5),
        "robustness": robustness(x, y, sizes=(0, 0.5), draws=1),
    }


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 4
    centres = rng.standard_normal((4, 8))
    x, y = (centres[labels] + rng.standard_normal((60, 8)) for _ in range(2))
    return x.astype(np.float32), y.astype(np.float32), labels


def test_arrays_tensors_layouts_and_gradients_agree_and_nothing_is_changed(embeddings):
    x, y, labels = embeddings
    kept = x.copy(), y.copy(), torch.get_rng_state()
    whole = _all_tasks(x, y, labels)
    for make in (
        torch.from_numpy,
        lambda z: torch.from_numpy(z.copy()).requires_grad_(),
        np.asfortranarray,
        lambda z: np.repeat(z, 2, axis=0)[::2],
    ):
        other = _all_tasks(make(x), make(y), torch.from_numpy(labels))
        for task, scores in whole.items():
            assert other[task] == pytest.approx(scores, abs=1e-9), task
            assert all(type(value) is float for value in scores.values()), task
    x.flags.writeable = y.flags.writeable = False
    _all_tasks(x, y, labels)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    assert torch.equal(torch.get_rng_state(), kept[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_counts_as_its_values(embeddings, dtype):
    x, y, labels = embeddings
    x, y = torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype)
    half, full = _all_tasks(x, y, labels), _all_tasks(x.float(), y.float(), labels)
    for task, scores in full.items():
        assert half[task] == pytest.approx(scores, abs=1e-9), task


def test_rows_of_extreme_scale_have_a_direction(embeddings):
    x, y, labels = (one.astype(np.float64) if one.dtype.kind == "f" else one for one in embeddings)
    scales = np.random.default_rng(1).choice([1e-200, 1.0, 1e200], size=(60, 1))
    for task in (
        lambda z: zero_shot(z, labels, y[:4]),
        lambda z: calibration(z, labels, y[:4], 10.0),
        lambda z: clustering(z, y, labels),
        lambda z: hubness(z, y, 5),
        lambda z: robustness(z, y, draws=1),
    ):
        assert task(scales * x) == pytest.approx(task(x), abs=1e-9)
