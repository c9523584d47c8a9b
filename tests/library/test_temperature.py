"""Temperature policies against their formulas, at the start, in the middle, at the end, and as a run uses them."""

import math
from functools import partial

import pytest
import torch

from gaplib.temperature import (
    MAX_SCALE,
    POLICIES,
    LinearSchedule,
    ScaledExponential,
    SlowLearnable,
    Softplus,
    policy,
)
from gaplib.theory import dynamics
from gaplib.training import train
from gaplib.training.config import RunConfig


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("tau", [0.01, 0.07, 0.5])
def test_every_policy_starts_at_its_temperature(name, tau):
    assert float(policy(name, tau).scale(0, 100).detach()) == pytest.approx(1 / tau, rel=1e-5)


@pytest.mark.parametrize("ratio", [2, 3, 4, 5])
def test_linear_schedule_at_start_middle_and_end(ratio):
    schedule = policy(f"linear-x{ratio}", 0.01)
    taus = [1 / float(schedule.scale(step, 200)) for step in (0, 100, 200)]
    assert taus == pytest.approx([0.01, 0.01 * (1 + ratio) / 2, 0.01 * ratio])
    assert not list(schedule.parameters())


@pytest.mark.parametrize(
    ("made", "law"),
    [(Softplus(0.2), dynamics.softplus()), (ScaledExponential(0.2, s=3.0), dynamics.exponential(3.0))],
    ids=["softplus", "scaled-exp"],
)
def test_policies_are_the_laws_of_the_flow(made, law):
    """Value and slope in nu equal those of gaplib.theory.dynamics, which were written apart."""
    (nu,) = made.parameters()
    for value in (-1.0, 0.5, 4.0):
        nu.data.fill_(value)
        scale = made.scale()
        (slope,) = torch.autograd.grad(scale, nu)
        assert scale.item() == pytest.approx(float(law.beta(value)), rel=1e-5)
        assert slope.item() == pytest.approx(float(law.slope(value)), rel=1e-5)


@pytest.mark.parametrize("name", ["learnable", "learnable-slow", "softplus", "scaled-exp"])
def test_the_ceiling_holds_and_keeps_its_gradient(name):
    made = policy(name, 0.02)
    (parameter,) = made.parameters()
    parameter.data.add_(1000.0)
    made.after_step()
    scale = made.scale()
    assert scale.item() == pytest.approx(MAX_SCALE, rel=1e-4)
    assert torch.autograd.grad(scale, parameter)[0].item() > 0


def test_slow_learning_rate_reaches_the_optimizer():
    groups = {g["name"]: g for g in RunConfig(temperature="learnable-slow").configured_method().param_groups(0.1)}
    assert groups["temperature"]["lr"] == pytest.approx(0.1 * SlowLearnable.learning_rate_factor)


@pytest.mark.parametrize("name", ["linear-x5", "softplus", "scaled-exp", "learnable-slow"])
def test_a_run_follows_its_policy(name):
    run = train(
        RunConfig(temperature=name, tau=0.05, steps=20, batch_size=32, eval_pairs=64, history_points=3), progress=False
    )
    taus = [row["tau"] for row in run.history]
    assert taus[0] == pytest.approx(0.05, rel=1e-4)
    if name == "linear-x5":
        assert taus[-1] == pytest.approx(0.25, rel=0.06)  # the scale of the last step that was computed
    else:
        assert 0 < abs(math.log(taus[-1] / 0.05)) < 0.5
    assert RunConfig.from_dict(run.config.to_dict()) == run.config == run.config.resolved()


def test_bad_input_is_named():
    for field, call in {
        "temperature": lambda: RunConfig(temperature="warm"),
        "temperature ": lambda: RunConfig(temperature="softplus", learn_tau=True),
        "tau": lambda: policy("softplus", 0.0),
        "ratio": lambda: LinearSchedule(0.01, -1.0),
        "s": lambda: ScaledExponential(0.1, s=float("nan")),
        "max_scale": lambda: Softplus(0.1, max_scale=0.0),
    }.items():
        with pytest.raises(ValueError, match=f"^{field.strip()}:"):
            call()


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_slow_policy_needs_no_rate_of_its_own(optimizer):
    """At the full rate it goes where the same policy goes in a group with a tenth of it."""
    slow = policy("learnable-slow", 0.07)
    alone = slow.at_one_rate()
    assert alone.learning_rate_factor == 1
    paths = []
    for one, rate in ((slow, 1e-3), (alone, 1e-2)):
        steps = optimizer(one.parameters(), lr=rate, weight_decay=0.0)
        path = []
        for _ in range(40):
            steps.zero_grad()
            (one.scale().log() - 2.5).square().backward()
            steps.step()
            path.append(math.log(float(one.scale().detach())))
        paths.append(path)
    assert paths[0][0] - paths[0][-1] > 5e-3
    assert paths[1] == pytest.approx(paths[0], abs=2e-6)


def test_slow_policy_at_one_rate_starts_where_it_stands_and_has_its_ceiling():
    slow = policy("learnable-slow", 0.01)  # at the ceiling
    with torch.no_grad():
        slow.log_scale.fill_(math.log(33.0))
    alone = slow.at_one_rate()
    assert float(alone.scale().detach()) == pytest.approx(33.0, rel=1e-6)
    with torch.no_grad():
        next(alone.parameters()).fill_(1e3)
    alone.after_step()
    assert float(alone.scale().detach()) == pytest.approx(100.0, rel=1e-5)
    assert all(policy(name, 0.07).at_one_rate().learning_rate_factor == 1 for name in POLICIES)


@pytest.mark.parametrize("name", [name for name in POLICIES if list(policy(name, 0.07).parameters())])
def test_restart_sets_the_scale(name):
    for one in (policy(name, 0.07), policy(name, 0.07).at_one_rate()):
        one.restart(33.0)
        assert float(one.scale().detach()) == pytest.approx(33.0, rel=1e-6)
