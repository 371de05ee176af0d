"""Measure-valued derivatives in the concentrations of Weibull, beta and Dirichlet choices, in programs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import MeasureValued, Reinforce
from ppl.testing.rules import uniform_panels

from ..laws import oracles
from ..laws.cases import FAMILIES, THETA, drawer, integrand
from ..laws.flows import FLOWS
from ..laws.laws import check_exactly, check_statistically
from .continuous import variance_ratio

JUMP, SCALE = 0.8, 1.2


def concentration(t: Any) -> Any:
    return 1.6 * jnp.exp(0.3 * t[..., 0] + 0.4 * t[..., 1])


def weibull(x: Any, t: Any) -> Any:
    c, z = concentration(t), x / SCALE
    return c / SCALE * z ** (c - 1) * jnp.exp(-(z**c))


LAW = oracles.continuous(
    weibull, np.unique([0, *np.geomspace(1e-6, 0.5, 12), JUMP, 1, 1.5, 2, 3, 4, 6, 9, 14])
)


@pytest.mark.parametrize("flow", ["straight", "cond", "custom_jvp"])
def test_weibull_concentration_is_exact(flow: str) -> None:
    """Value, first and second derivative of a skewed, jumping integrand, integrated over the noise."""
    made, f = FLOWS[flow], integrand(JUMP if flow == "straight" else None)
    draw = lambda t, address: ppl.families.weibull(SCALE, concentration(t)).using(MeasureValued()) @ address
    with jax.enable_x64(True):
        e = (JUMP / SCALE) ** float(concentration(THETA))  # where the draw jumps; its phantom does at
        other = e - np.log1p(e * np.log(e))  # and like a cubic root about e = 1
    rules = {"uniform": uniform_panels([np.exp(-e), np.exp(-other), np.exp(-1)], 1 / 6)}
    check_exactly(made.program(draw, f), made.truth(LAW, f), draws=1, rules=rules)


def test_beta_in_an_array_of_choices() -> None:
    """A jump of two choices, replaced one at a time; first and second derivative."""
    entry, flow = FAMILIES["beta"], FLOWS["array"]
    draw, f = drawer(entry, MeasureValued()), integrand(entry.jump)
    check_statistically(flow.program(draw, f), flow.truth(entry.law, f), runs=500)


OFFSET = 2.0  # without one, and so with a good baseline, the score function is as good for beta and Dirichlet


def _beta(estimator: Any) -> Any:
    def program(t: Any) -> Any:
        x = ppl.beta(jnp.exp(t[0]), jnp.exp(t[1])).using(estimator) @ "x"
        return ppl.one_term(OFFSET + x**2 + jnp.where(x > 0.4, 1.0, 0.0))

    return program


def _weibull(estimator: Any) -> Any:
    def program(t: Any) -> Any:
        x = ppl.families.weibull(jnp.exp(t[0]), jnp.exp(t[1])).using(estimator) @ "x"
        return ppl.one_term(OFFSET + jnp.sqrt(x) + jnp.where(x > 0.8, 1.0, 0.0))

    return program


def _dirichlet(estimator: Any) -> Any:
    def program(t: Any) -> Any:
        x = ppl.dirichlet(jnp.exp(jnp.stack([t[0], t[1], t[0] - t[1]]))).using(estimator) @ "x"
        return ppl.one_term(OFFSET + x[0] * x[1] + jnp.where(x[0] > x[2], 1.0, 0.0))

    return program


@pytest.mark.parametrize("program", [_beta, _weibull, _dirichlet])
def test_variance_is_less_than_that_of_the_score_function(program: Any) -> None:
    ratio, low, high = variance_ratio(program, MeasureValued(), Reinforce(), jnp.array([0.7, 0.4]))
    print(f"{program.__name__}: {ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert high < 1
