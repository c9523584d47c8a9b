"""The flow against its conserved quantity, closed forms, and plain gradient descent on the full contrastive loss."""

import dataclasses

import numpy as np
import pytest
import torch

from gaplib.theory import dynamics


def _cross(n=6, d=8, seed=0, matched=True):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, d))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = u if matched else u[::-1].copy()
    return u, v


LAWS = [dynamics.exponential(), dynamics.exponential(2.0), dynamics.softplus()]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_invariant_is_conserved_over_the_whole_flow(law):
    matching = dynamics.Matching.from_embeddings(*_cross())
    flow = dynamics.gradient_flow(matching, law, gamma=0.4, beta=3.0, t_max=1e6)
    assert flow.drift < 1e-6
    assert np.all(np.diff(flow.log_gamma) < 1e-9)
    assert np.all(np.diff(flow.beta) > -1e-9)


def test_published_check_of_the_learnable_law():
    """gamma beta^2 settles to a constant, and gamma log(t)^2 stays away from zero (Theorem 3.2's rate)."""
    matching = dynamics.Matching.from_embeddings(*_cross())
    flow = dynamics.gradient_flow(matching, dynamics.exponential(), gamma=0.3, beta=2.0, t_max=1e8)
    constant = flow.gamma * np.exp(-(flow.gamma**2) / 2) * flow.beta**2
    np.testing.assert_allclose(constant, constant[0], rtol=1e-6)
    # beta grows like log(t) / margin, so gamma log(t)^2 rises towards constant * margin^2.
    scaled = (flow.gamma * np.log(flow.time) ** 2)[flow.time > 1e2]
    limit = constant[0] * matching.margin**2
    assert np.all(np.diff(scaled) > 0)
    assert 0.3 * limit < scaled[-1] < limit


def test_fixed_temperature_closes_exponentially():
    u = np.array([[1.0, 0.0], [-1.0, 0.0]])
    matching = dynamics.Matching.from_embeddings(u, u)
    flow = dynamics.gradient_flow(matching, dynamics.fixed(), gamma=0.1, beta=1.5, t_max=100)
    rate = 2 * 1.5 * matching.slope(1.5)
    measured = np.polyfit(flow.time[-20:], flow.log_gamma[-20:], 1)[0]
    assert measured == pytest.approx(rate, rel=1e-3)


def test_two_antipodal_pairs_have_a_closed_form_loss():
    u = np.array([[1.0, 0.0], [-1.0, 0.0]])
    matching = dynamics.Matching.from_embeddings(u, u)
    assert matching.margin == pytest.approx(2.0)
    for s in (0.1, 1.0, 20.0):
        assert matching.loss(s) == pytest.approx(np.log1p(np.exp(-2 * s)))
        assert matching.slope(s) == pytest.approx(-2 / (1 + np.exp(2 * s)))


@pytest.mark.parametrize("law", [*LAWS, dynamics.fixed()], ids=lambda law: law.name)
def test_flow_equals_small_step_descent_on_the_full_loss(law):
    """Build x and y from (gamma, nu) and let autograd differentiate the whole loss: no reduction to s is used."""
    u, v = (torch.tensor(x) for x in _cross(seed=3))
    gamma = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    nu = torch.tensor(float(law.inverse(2.0)), dtype=torch.float64, requires_grad=law.weight is not None)

    def beta(value):
        if law.name == "fixed":
            return value
        if law.name == "softplus(nu)":
            return torch.nn.functional.softplus(value)
        return torch.exp(value / (2.0 if "/2" in law.name else 1.0))

    step, end = 2.5e-4, 0.5
    parameters = [p for p in (gamma, nu) if p.requires_grad]
    for _ in range(round(end / step)):
        side = torch.sqrt(1 - gamma**2)
        x = torch.cat([side * u, gamma.expand(len(u), 1)], dim=1)
        y = torch.cat([side * v, -gamma.expand(len(v), 1)], dim=1)
        logits = beta(nu) * x @ y.T
        target = torch.arange(len(u))
        loss = (
            torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
        ) / 2
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= step * g
    matching = dynamics.Matching.from_embeddings(u.numpy(), v.numpy())
    flow = dynamics.gradient_flow(matching, law, gamma=0.5, beta=2.0, t_max=end)
    assert flow.gamma[-1] == pytest.approx(gamma.item(), rel=2e-3)
    assert flow.beta[-1] == pytest.approx(beta(nu).item(), rel=2e-3)


def test_exp_with_scale_is_a_slower_temperature():
    """exp(nu/s) has the flow of exp(nu) with the temperature's rate multiplied by 1/s^2."""
    matching = dynamics.Matching.from_embeddings(*_cross(seed=5))
    slow = dynamics.gradient_flow(matching, dynamics.exponential(3.0), gamma=0.4, beta=2.0, t_max=50)
    log_gamma, beta, step = np.log(0.4), 2.0, 1e-3
    for _ in range(round(50 / step)):
        shrink = -np.expm1(2 * log_gamma)
        slope = matching.slope(beta * shrink)
        log_gamma, beta = log_gamma + step * 2 * beta * slope, beta - step * beta**2 * shrink * slope / 9
    assert slow.log_gamma[-1] == pytest.approx(log_gamma, rel=2e-3)
    assert slow.beta[-1] == pytest.approx(beta, rel=2e-3)


def test_bad_matching_opens_the_gap_first():
    matching = dynamics.Matching.from_embeddings(*_cross(matched=False))
    assert matching.slope(2.0) > 0
    flow = dynamics.gradient_flow(matching, dynamics.exponential(), gamma=0.2, beta=2.0, t_max=0.5)
    assert flow.gamma[-1] > flow.gamma[0]
    assert flow.beta[-1] < flow.beta[0]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gamma", {"gamma": 1.0, "beta": 1.0}),
        ("gamma", {"gamma": 0.0, "beta": 1.0}),
        ("beta", {"gamma": 0.1, "beta": 0}),
        ("t_max", {"gamma": 0.1, "beta": 1.0, "t_max": float("inf")}),
    ],
)
def test_bad_input_is_named(name, arguments):
    matching = dynamics.Matching.from_embeddings(*_cross())
    with pytest.raises(ValueError, match=f"^{name}:"):
        dynamics.gradient_flow(matching, dynamics.exponential(), **arguments)


def test_bad_embeddings_are_named():
    with pytest.raises(ValueError, match=r"^u:"):
        dynamics.Matching.from_embeddings(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"^v:"):
        dynamics.Matching.from_embeddings(np.ones((3, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^scale:"):
        dynamics.exponential(-1)


def test_a_flow_the_solver_cannot_hold_is_reported():
    """A hand-made law whose rate has a pole in finite time: the solver must say so, not return a curve."""
    law = dynamics.exponential()
    broken = dataclasses.replace(law, slope=lambda nu: 1 / (1.2 - nu) if nu < 1.2 else float("nan"))
    matching = dynamics.Matching.from_embeddings(*_cross())
    with pytest.raises(dynamics.FlowError):
        dynamics.gradient_flow(matching, broken, gamma=0.4, beta=3.0, t_max=1e4)


def test_a_fixed_temperature_has_no_invariant():
    with pytest.raises(ValueError, match=r"^invariant: expected a learnable inverse temperature, got 'fixed'"):
        dynamics.fixed().invariant(-1.0, 10.0)
