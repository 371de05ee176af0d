"""Leave-one-out at one choice: every family, every flow, and how variance falls with the draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import ppl
from ppl.estimators import LeaveOneOut, Reinforce
from ppl.testing.rules import log_gamma, normal_panels, uniform_panels

from ..laws.cases import FAMILIES, THETA, drawer, integrand
from ..laws.flows import FLOWS
from ..laws.laws import check_statistically
from .discrete import BITS, SOME, WAYS, bits_gradient, check, five_bits, moments, six_ways, ways_gradient

DISCRETE = ["flip", "bernoulli", "categorical", "categorical_probs", "binomial", "poisson", "geometric"]


@pytest.mark.parametrize("family", DISCRETE)
def test_discrete_family(family: str) -> None:
    check(family, LeaveOneOut(2))


@pytest.mark.parametrize("family", ["flip", "categorical"])
def test_four_draws(family: str) -> None:
    check(family, LeaveOneOut(4))


def _rules(family: str) -> dict:
    """Panels that end where the value crosses the jump of the integrand; few nodes, since two draws meet."""
    jump, distribution = FAMILIES[family].jump, FAMILIES[family].measure(THETA).numpyro
    if family == "normal":
        return {"normal": normal_panels([(jump - distribution.loc) / distribution.scale], 16, (-4, 0, 4))}
    if family == "exponential":
        return {"uniform": uniform_panels([np.exp(-distribution.rate * jump)])}
    below = scipy.special.gammainc(distribution.concentration, distribution.rate * jump)
    return {"log_gamma": log_gamma(normal_panels([scipy.stats.norm.ppf(below)], 16, (-4, 0, 4)))}


@pytest.mark.parametrize("family", ["normal", "exponential", "gamma"])
def test_continuous_family(family: str) -> None:
    with jax.enable_x64(True):
        rules = _rules(family)
    check(family, LeaveOneOut(2), rules=rules)


def test_beta() -> None:
    """Two gamma numbers a draw are too many to integrate: 100,000 draws at five standard errors."""
    entry = FAMILIES["beta"]
    f = integrand(entry.jump)
    draw = drawer(entry, LeaveOneOut(2))
    program, truth = FLOWS["straight"].program(draw, f), FLOWS["straight"].truth(entry.law, f)
    check_statistically(program, truth, second=False)


@pytest.mark.parametrize("flow", SOME)
def test_coin_in_control_flow(flow: str) -> None:
    check("flip", LeaveOneOut(2), flow)


@pytest.mark.parametrize("flow", ["vmap_interacting", "array", "switch"])
def test_categorical_in_control_flow(flow: str) -> None:
    check("categorical", LeaveOneOut(2), flow)


def test_variance_of_five_coins() -> None:
    variances = [moments(five_bits(Reinforce()), BITS).variance]
    for samples in (2, 3):
        found = moments(five_bits(LeaveOneOut(samples)), BITS)
        np.testing.assert_allclose(found.mean, bits_gradient(), atol=1e-12)
        variances.append(found.variance)
    assert np.all(np.diff(variances) < 0)


def test_variance_of_six_ways() -> None:
    variances = [moments(six_ways(Reinforce()), WAYS).variance]
    for samples in (2, 3, 4):
        found = moments(six_ways(LeaveOneOut(samples)), WAYS)
        np.testing.assert_allclose(found.mean, ways_gradient(), atol=1e-12)
        variances.append(found.variance)
    assert np.all(np.diff(variances) < 0)


def test_a_constant_has_no_variance() -> None:
    """What a baseline would have to learn is there from the start."""
    program = lambda a: 1e4 + 0 * (ppl.flip(jax.nn.sigmoid(a)).using(LeaveOneOut(2)) @ "b")
    keys = jax.random.split(jax.random.key(0), 32)
    assert not np.any(jax.vmap(lambda k: ppl.expectation(program).grad(k, 0.3))(keys))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"two draws or more, got samples=1.*Reinforce"):
        LeaveOneOut(1)
    high = ppl.expectation(lambda end: (ppl.uniform(0.0, end).using(LeaveOneOut(2)) @ "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match="'high' of the choice 'x'"):
        high.grad(jax.random.key(0), jnp.asarray(2.0))
