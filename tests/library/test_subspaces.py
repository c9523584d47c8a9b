"""Subspaces and shares of variance against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from gaplib import geometry
from gaplib.geometry.subspaces import leading_directions


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 12), st.data())
def test_principal_angles_are_scipy_s(seed, d, data):
    rng = np.random.default_rng(seed)
    k, m = data.draw(st.integers(1, d)), data.draw(st.integers(1, d))
    bases = rng.normal(size=(k, d)), rng.normal(size=(m, d))
    x, y = (unit(rng.normal(size=(40, len(b))) @ b) for b in bases)
    expected = np.sort(subspace_angles(*(b.T for b in bases)))
    np.testing.assert_allclose(geometry.principal_angles(x, y, variance=1.0), expected, atol=1e-6)


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.3, np.pi / 2])
def test_planes_at_a_known_angle(angle):
    rng = np.random.default_rng(0)
    turn = ortho_group.rvs(5, random_state=1)
    first = np.array([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]) @ turn
    second = np.array([[np.cos(angle), 0, np.sin(angle), 0, 0], [0, 0, 0, 1, 0]]) @ turn
    x, y = (unit(rng.normal(size=(60, 2)) @ basis) for basis in (first, second))
    np.testing.assert_allclose(geometry.principal_angles(x, y), [angle, np.pi / 2], atol=1e-13, rtol=1e-6)


def test_angles_do_not_depend_on_order_scale_of_samples_or_rotation():
    rng = np.random.default_rng(3)
    x, y = (
        unit(rng.normal(size=(n, 6)) * [1, 1, 1, 0.01, 0.01, 0.01] @ ortho_group.rvs(6, random_state=n))
        for n in (50, 70)
    )
    angles = geometry.principal_angles(x, y)
    turn = ortho_group.rvs(6, random_state=9)
    assert angles.shape == (3,)
    np.testing.assert_allclose(geometry.principal_angles(y, x), angles, atol=1e-10)
    np.testing.assert_allclose(geometry.principal_angles(x @ turn, y @ turn), angles, atol=1e-10)
    np.testing.assert_allclose(geometry.principal_angles(np.tile(x, (2, 1)), y), angles, atol=1e-10)


def test_no_angle_of_centroids_is_below_the_first_principal_angle():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = (unit((rng.normal(size=(30, 3)) + 0.7) @ rng.normal(size=(3, 8))) for _ in range(2))
        a, b = x.mean(0), y.mean(0)
        centre = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert centre >= float(geometry.principal_angles(x, y, variance=1.0)[0]) - 1e-9


def test_leading_directions_are_the_fewest_that_hold_the_energy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10)) * np.geomspace(1, 1e-3, 10)
    energy = np.sort(np.linalg.eigvalsh(x.T @ x))[::-1].cumsum()
    for share in (0.5, 0.9, 0.99, 0.9999):
        basis = leading_directions(x, share)
        held = float(np.square(x @ basis.numpy()).sum() / energy[-1])
        k = basis.shape[1]
        torch.testing.assert_close(basis.T @ basis, torch.eye(k, dtype=torch.float64))
        assert held >= share - 1e-12
        assert k == 1 or energy[k - 2] / energy[-1] < share


@pytest.mark.parametrize("shape", [(300, 12), (8, 30)])
def test_explained_variance_is_scikit_learn_s(shape):
    x = np.random.default_rng(0).normal(size=shape) + 5
    shares = geometry.explained_variance(x)
    assert shares.shape == (min(shape),)
    np.testing.assert_allclose(shares, PCA().fit(x).explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(geometry.explained_variance(x * 1e200), shares, atol=1e-12)


def test_shares_and_effective_rank_agree():
    x = np.random.default_rng(1).normal(size=(100, 7)) * np.arange(1, 8)
    shares = geometry.explained_variance(x)
    np.testing.assert_allclose(torch.special.entr(shares).sum().exp(), geometry.effective_rank(x), rtol=1e-12)


def test_bad_input_is_named():
    x = unit(np.random.default_rng(0).normal(size=(10, 4)))
    with pytest.raises(ValueError, match="y: expected the dimension of x"):
        geometry.principal_angles(x, x[:, :3] / np.linalg.norm(x[:, :3], axis=1, keepdims=True))
    with pytest.raises(ValueError, match="x: expected L2-normalised rows"):
        geometry.principal_angles(2 * x, x)
    for share in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="variance: expected a number in"):
            geometry.principal_angles(x, x, variance=share)
    with pytest.raises(ValueError, match="x: expected rows that vary"):
        geometry.explained_variance(np.full((5, 3), 0.1))
    with pytest.raises(ValueError, match="x: expected at least 2 rows"):
        geometry.explained_variance(x[:1])
    with pytest.raises(ValueError, match="zeros only"):
        leading_directions(np.zeros((4, 3)))
