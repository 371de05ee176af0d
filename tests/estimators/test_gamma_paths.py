"""GeneralizedReparam and RejectionReparam: unbiased to the second order at every setting, less variance.

The estimator is integrated over its noise and compared with quadrature over the choice, to 1e-8.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats

import ppl
from ppl.distributions.gamma_path import by_moments, by_rejection
from ppl.distributions.sampling import draw
from ppl.distributions.scored_gammas import draw_with_score
from ppl.errors import EstimatorNotAdmitted, ParameterError
from ppl.estimators import GeneralizedReparam, Reinforce, RejectionReparam, Reparam
from ppl.noise import Noise, Token
from ppl.testing.rules import panels

from ..laws import oracles
from ..laws.cases import FAMILIES, drawer, integrand
from ..laws.flows import FLOWS
from ..laws.laws import check_exactly, check_statistically
from .continuous import variance_ratio

SETTINGS = {
    "moments": GeneralizedReparam(),
    "boost 1": RejectionReparam(boost=1),
    "boost 2": RejectionReparam(2),
}


def concentration(t: Any) -> Any:
    """Between 0.3 and 0.4: below one, where the rejection sampler needs its boost."""
    return 0.35 * jnp.exp(0.3 * t[..., 0] + 0.4 * t[..., 1])


def rate(t: Any) -> Any:
    return 2.0 * jnp.exp(0.3 * t[..., 1])


def _flat() -> oracles.Law:
    """By quadrature of the logarithm of the draw, for which the density at zero is no trouble."""
    y, weights = panels(np.array([-100.0, -60, -40, -25, -15, -10, -6, -3, -1, 0, 1, 1.5, 2, 2.5, 3]), 16)

    def mass(t: Any) -> Any:
        a, b = concentration(t), rate(t)
        return weights * jnp.exp(a * (jnp.log(b) + y) - b * jnp.exp(y) - jax.scipy.special.gammaln(a))

    return oracles.Law(np.exp(y), mass)


FLAT = _flat()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("family", ["gamma", "flat gamma"])
def test_gamma(family: str, setting: str) -> None:
    how = SETTINGS[setting]
    if family == "gamma":
        draw, law = drawer(FAMILIES["gamma"], how), FAMILIES["gamma"].law
    else:
        draw = lambda t, address: ppl.gamma(concentration(t), rate(t)).using(how) @ address
        law = FLAT
    flow, f = FLOWS["straight"], integrand(None)
    check_exactly(flow.program(draw, f), flow.truth(law, f), draws=1)


def test_more_noise_than_can_be_integrated() -> None:
    draw, flow, f = drawer(FAMILIES["beta"], RejectionReparam()), FLOWS["array"], integrand(None)
    check_statistically(flow.program(draw, f), flow.truth(FAMILIES["beta"].law, f), runs=500)


MADE = {
    "inverse_gamma": lambda t: npd.InverseGamma(3.0 * jnp.exp(t), 1.3),
    "chi2": lambda t: npd.Chi2(2.5 * jnp.exp(t)),
    "student_t": lambda t: npd.StudentT(4.0 * jnp.exp(t), 0.3, 1.2),
    "dirichlet": lambda t: npd.Dirichlet(jnp.array([0.4, 1.5]) * jnp.exp(t)),
    "wishart": lambda t: npd.Wishart(4.0 * jnp.exp(t), scale_tril=jnp.eye(2)),
    "lkj": lambda t: npd.LKJCholesky(2, 1.5 * jnp.exp(t)),
    "independent": lambda t: npd.Gamma(jnp.array([0.4, 1.5]) * jnp.exp(t), 1.0).to_event(1),
}


def _skewed(x: Any) -> Any:
    x = x.reshape(len(x), -1)
    return jnp.tanh(x[:, -1] - 0.4) + jnp.cos(x[:, 0])


@functools.cache
def implicit(family: str, count: int) -> np.ndarray:
    """The implicit derivative, the same for both samplers."""
    value = lambda t: _skewed(draw(MADE[family](t), Noise(jax.random.key(6)), (count,)))
    return np.asarray(jax.jit(lambda t: jax.jvp(value, (t,), (1.0,))[1])(0.2), np.float64)


@pytest.mark.parametrize("how", [by_moments, by_rejection], ids=["moments", "rejection"])
@pytest.mark.parametrize("family", MADE)
def test_families_made_of_gammas_agree_with_the_implicit_derivative(family: str, how: Any) -> None:
    """Two estimates of one number, of 30,000 draws each, within five standard errors of their difference."""
    count, boost = 30_000, 2 if how is by_rejection else 0

    def scored(t: Any) -> Any:
        law = MADE[family](t)
        one = lambda token: draw_with_score(law, Noise(jax.random.key(5), token), how, boost)
        value, score = jax.vmap(one)(Token().over((count,)))
        centered = _skewed(value) - jax.lax.stop_gradient(jnp.mean(_skewed(value)))
        return centered * jnp.exp(score - jax.lax.stop_gradient(score))

    one = np.asarray(jax.jit(lambda t: jax.jvp(scored, (t,), (1.0,))[1])(0.2), np.float64)
    other = implicit(family, count)
    error = np.sqrt(one.var() / count + other.var() / count)
    assert abs(one.mean() - other.mean()) < 5 * error, (one.mean(), other.mean(), error)


def test_the_value_is_the_familys_own_draw() -> None:
    law, key = npd.Gamma(jnp.array([0.02, 0.7, 40.0]), 1.3), jax.random.key(0)
    own = draw(law, Noise(key))
    np.testing.assert_allclose(draw_with_score(law, Noise(key), by_moments)[0], own, rtol=1e-6)
    x = np.asarray(jax.vmap(lambda key: draw_with_score(npd.Gamma(0.3, 1.0), Noise(key), by_rejection, 3)[0])(
        jax.random.split(key, 20_000)
    ))  # fmt: skip
    assert scipy.stats.kstest(x, scipy.stats.gamma(0.3).cdf).pvalue > 1e-6


def _reward(estimator: Any) -> Any:
    f = lambda x: jnp.sqrt(1 + (x - 1.0) ** 2)
    return lambda t: f(ppl.gamma(jnp.exp(t[0]), jnp.exp(t[1])).using(estimator) @ "x")


@pytest.mark.parametrize(
    "estimator", [GeneralizedReparam(), RejectionReparam(boost=1), RejectionReparam()], ids=str
)
@pytest.mark.parametrize("a", [0.5, 5.0])
def test_variance_is_less_than_that_of_the_score_function(a: float, estimator: Any) -> None:
    theta = jnp.log(jnp.array([a, 2.0]))
    ratio, low, high = variance_ratio(_reward, estimator, Reinforce(), theta)
    print(f"{estimator} a={a}: {ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert high < 1


def test_more_boost_leaves_less_variance() -> None:
    theta = jnp.log(jnp.array([0.5, 2.0]))
    ratio, low, high = variance_ratio(_reward, RejectionReparam(boost=8), RejectionReparam(boost=1), theta)
    print(f"boost 8 over boost 1: {ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert high < 1


def test_a_jump_is_refused_as_for_any_value_that_moves() -> None:
    for how in (GeneralizedReparam(), RejectionReparam()):
        program = ppl.expectation(lambda t, how=how: jnp.where(ppl.gamma(t).using(how) @ "x" > 1.0, 1.0, 0.0))
        with pytest.raises(ppl.errors.DiscontinuousReparameterization, match="'x'"):
            program.grad(jax.random.key(0), 2.0)


@pytest.mark.parametrize("boost", [0, -1, 1.5, None])
def test_boost_is_checked(boost: Any) -> None:
    with pytest.raises(ParameterError, match="boost must be a Python integer, 1 or more"):
        RejectionReparam(boost=boost)


def test_families_without_gammas_are_refused() -> None:
    for how in (GeneralizedReparam(), RejectionReparam()):
        with pytest.raises(EstimatorNotAdmitted, match=type(how).__name__):
            ppl.normal(0.0, 1.0).using(how)


def test_an_implicit_draw_points_to_them() -> None:
    value = ppl.expectation(lambda t: (ppl.gamma(t).using(Reparam()) @ "x") ** 2)
    with pytest.raises(ppl.errors.UnsupportedProgram, match=r"GeneralizedReparam\(\)"):
        jax.hessian(lambda t: value.surrogate(jax.random.key(0), t))(2.0)
