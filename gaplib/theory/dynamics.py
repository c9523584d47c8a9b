r"""The gradient flow of the gap and the temperature when the modalities are parallel (Yaras et al. 2024, Sec. 3).

Pair i is :math:`x_i = (\sqrt{1-\gamma^2}\,u_i, \gamma)`, :math:`y_i = (\sqrt{1-\gamma^2}\,v_i, -\gamma)` with unit
:math:`u_i, v_i`. Then :math:`\langle x_i, y_j\rangle = (1-\gamma^2)\langle u_i, v_j\rangle - \gamma^2`, and the
constant :math:`-\gamma^2` drops out of the softmax. The contrastive loss sees the gap only through the effective
inverse temperature :math:`s = \beta(\nu)(1-\gamma^2)`, so the flow of two numbers, :math:`(\gamma, \nu)`, is closed:

.. math:: \dot\gamma = 2\beta\gamma\,\ell'(s), \qquad \dot\nu = -\beta'(\nu)(1-\gamma^2)\,\ell'(s).

The flow spans many decades of time and gamma leaves the range of doubles, so we integrate :math:`\log\gamma` over
:math:`\log t`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.special import logsumexp, softmax

from gaplib._validate import check_number


class FlowError(RuntimeError):
    """The solver could not hold the flow; nothing of it should be plotted."""


@dataclass(frozen=True)
class InverseTemperature:
    r"""How the inverse temperature :math:`\beta = 1/\tau` depends on the learned parameter :math:`\nu`.

    ``log_gamma_rate`` is :math:`-2\beta/\beta'(\nu)^2`: along the flow
    :math:`d(\log\gamma - \gamma^2/2)/d\beta` equals it, which makes :meth:`invariant` constant.
    """

    name: str
    beta: Callable[[float], float]
    slope: Callable[[float], float]
    inverse: Callable[[float], float]
    weight: Callable[[Any], Any] | None  # the integral of 2 beta / beta'^2 over beta; None where nu is fixed

    def invariant(self, log_gamma: Any, beta: Any) -> Any:
        r"""The conserved :math:`\log\gamma - \gamma^2/2 + \int 2\beta/\beta'(\nu)^2\,d\beta` (papers: A.2, derived)."""
        if self.weight is None:
            raise ValueError(f"invariant: expected a learnable inverse temperature, got {self.name!r}")
        return np.asarray(log_gamma) - np.exp(2 * np.asarray(log_gamma)) / 2 + self.weight(np.asarray(beta))


def exponential(scale: float = 1.0) -> InverseTemperature:
    r""":math:`\beta = \exp(\nu/s)`: CLIP's own parameterisation at ``scale`` 1; larger ones slow the temperature.

    Under the flow a scale s is CLIP's flow with the temperature's rate multiplied by 1/s².

    Raises:
        ValueError: if ``scale`` is not positive and finite.
    """
    s = float(check_number(scale, "scale", low=0, low_open=True))
    return InverseTemperature(
        name="exp(nu)" if s == 1 else f"exp(nu/{s:g})",
        beta=lambda nu: np.exp(nu / s),
        slope=lambda nu: np.exp(nu / s) / s,
        inverse=lambda beta: s * np.log(beta),
        weight=lambda beta: 2 * s**2 * np.log(beta),
    )


def softplus() -> InverseTemperature:
    r""":math:`\beta = \log(1+e^\nu)`, temperature reparameterisation of Yaras et al. 2024 (App. C)."""

    def weight(beta: Any) -> Any:
        # No elementary antiderivative; only differences of the invariant matter, so the start is arbitrary.
        values = [quad(lambda b: 2 * b / np.expm1(-b) ** 2, 1.0, end, limit=200)[0] for end in np.atleast_1d(beta)]
        return np.asarray(values) if np.ndim(beta) else values[0]

    return InverseTemperature(
        name="softplus(nu)",
        beta=lambda nu: np.logaddexp(0.0, nu),
        slope=lambda nu: np.exp(-np.logaddexp(0.0, -nu)),
        inverse=lambda beta: beta + np.log(-np.expm1(-beta)),
        weight=weight,
    )


def fixed() -> InverseTemperature:
    """A temperature that is not learned: nu is the inverse temperature itself and stands still."""
    return InverseTemperature(
        name="fixed", beta=lambda nu: nu, slope=lambda nu: 0.0, inverse=lambda beta: beta, weight=None
    )


@dataclass(frozen=True)
class Matching:
    """The contrastive loss as a function of the effective inverse temperature, for one similarity matrix.

    ``margins`` has shape (2n, n): row i holds <u_i, v_j> - <u_i, v_i> over j for the image-to-text direction, and the
    same for text-to-image below. The true pair's own entry is zero.
    """

    margins: np.ndarray

    @classmethod
    def from_embeddings(cls, u: Any, v: Any) -> Matching:
        """From the centred parts ``u`` and ``v``, arrays of shape (n, d), n >= 2, pair i in row i.

        Raises:
            ValueError: on another shape, mismatched shapes, or values that are not finite.
        """
        u, v = np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64)
        for name, x in (("u", u), ("v", v)):
            if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
                raise ValueError(f"{name}: expected a finite array of shape (n >= 2, d), got shape {x.shape}")
        if u.shape != v.shape:
            raise ValueError(f"v: expected the shape of u {u.shape}, got {v.shape}")
        similarity = u @ v.T
        true = np.diag(similarity)
        return cls(np.vstack([similarity - true[:, None], similarity.T - true[:, None]]))

    @property
    def margin(self) -> float:
        """Smallest lead of a true pair over its best wrong candidate; positive when perfectly matched."""
        n = self.margins.shape[1]
        wrong = self.margins[~np.vstack([np.eye(n, dtype=bool)] * 2)]
        return float(-wrong.max())

    def loss(self, s: float) -> float:
        """The symmetric contrastive loss at effective inverse temperature ``s``, in nats."""
        return float(logsumexp(s * self.margins, axis=1).mean())

    def slope(self, s: float) -> float:
        """d loss / d s: negative where matching is good, positive where it is bad."""
        return float((softmax(s * self.margins, axis=1) * self.margins).sum(axis=1).mean())


@dataclass(frozen=True)
class Flow:
    """A solved flow: times, log gamma, gamma, beta, and the bound 2 gamma that the gap cannot go below."""

    time: np.ndarray
    log_gamma: np.ndarray
    beta: np.ndarray
    temperature: InverseTemperature

    @property
    def gamma(self) -> np.ndarray:
        return np.exp(self.log_gamma)

    @property
    def drift(self) -> float:
        """Largest change of the conserved quantity, relative to its size: the solver's own error bar."""
        invariant = self.temperature.invariant(self.log_gamma, self.beta)
        return float(np.abs(invariant - invariant[0]).max() / max(1.0, np.abs(invariant).max()))


def gradient_flow(
    matching: Matching,
    temperature: InverseTemperature,
    *,
    gamma: float,
    beta: float,
    t_max: float = 1e8,
    points: int = 200,
    rtol: float = 1e-9,
) -> Flow:
    r"""Integrate the flow of :math:`(\log\gamma, \nu)` from 0 to ``t_max``, at ``points`` log-spaced times.

    Args:
        matching: the loss as a function of the effective inverse temperature.
        temperature: :func:`exponential`, :func:`softplus` or :func:`fixed`.
        gamma: initial offset of each modality, in (0, 1); the initial gap is at least twice that.
        beta: initial inverse temperature, positive.
        t_max: end of the flow, above 1e-3.

    Raises:
        ValueError: on values outside those ranges.
        FlowError: if the solver fails, leaves the reals, or does not hold the conserved quantity to 1e-5.
    """
    gamma = float(check_number(gamma, "gamma", low=0, high=1, low_open=True, high_open=True))
    beta = float(check_number(beta, "beta", low=0, low_open=True))
    t_max = float(check_number(t_max, "t_max", low=1e-3, low_open=True))

    def velocity(log_t: float, state: np.ndarray) -> list[float]:
        log_gamma, nu = state
        # The solver's trial steps may overshoot gamma = 1; the flow itself repels it.
        shrink = -np.expm1(2 * min(log_gamma, 0.0))
        b = temperature.beta(nu)
        slope = matching.slope(b * shrink)
        rate = np.exp(log_t)
        return [rate * 2 * b * slope, -rate * temperature.slope(nu) * shrink * slope]

    times = np.geomspace(1e-3, t_max, points)
    try:
        with np.errstate(over="raise", invalid="raise"):
            solution = solve_ivp(
                velocity,
                (np.log(1e-12), np.log(t_max)),
                [np.log(gamma), temperature.inverse(beta)],
                method="LSODA",
                t_eval=np.log(times),
                rtol=rtol,
                atol=1e-10,
            )
    except FloatingPointError as error:
        raise FlowError(f"the flow left the range of doubles ({error})") from error
    if not solution.success or not np.isfinite(solution.y).all():
        raise FlowError(f"the solver stopped at t = {np.exp(solution.t[-1]):.3g}: {solution.message}")
    log_gamma, nu = solution.y
    flow = Flow(times, log_gamma, np.asarray([temperature.beta(v) for v in nu]), temperature)
    if temperature.weight is not None and flow.drift > 1e-5:
        raise FlowError(f"the conserved quantity drifted by {flow.drift:.2g}; tighten rtol or shorten t_max")
    return flow
