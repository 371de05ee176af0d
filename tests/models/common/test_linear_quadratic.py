"""The best guide of a linear-Gaussian chain, against dense algebra and against its own moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from models.common.linear_gaussian import Chain, Sites
from models.common.linear_quadratic import best_guide, bound_of

pytestmark = pytest.mark.usefixtures("x64")

TIMES, STATES, VALUES, NOISES = 5, 3, 2, 2


@pytest.fixture(scope="module")
def problem():
    """Noise of fewer dimensions than the state, and sites of every rank."""
    random = np.random.default_rng(0)
    matrix = 0.7 * random.normal(size=(TIMES, STATES, STATES))
    matrix[0] = 0.0
    chain = Chain(matrix, random.normal(size=(TIMES, STATES)), random.normal(size=(TIMES, STATES, NOISES)))
    roots = random.normal(size=(TIMES, VALUES, VALUES))
    for t in range(TIMES):
        roots[t, :, : t % (VALUES + 1)] = 0.0
    return chain, random.normal(size=(VALUES, STATES)), Sites(
        roots @ roots.transpose(0, 2, 1), random.normal(size=(TIMES, VALUES))
    )  # fmt: skip


def dense(chain: Chain, seen: np.ndarray, sites: Sites) -> float:
    """log of the expected product of the sites: z = m + M e, and one Gaussian integral over all e."""
    mean = np.zeros((TIMES, STATES))
    effect = np.zeros((TIMES, STATES, TIMES * NOISES))
    for t in range(TIMES):
        before = (mean[t - 1], effect[t - 1]) if t else (np.zeros(STATES), np.zeros_like(effect[0]))
        mean[t] = chain.matrix[t] @ before[0] + chain.offset[t]
        effect[t] = chain.matrix[t] @ before[1]
        effect[t][:, t * NOISES : (t + 1) * NOISES] += chain.factor[t]
    precision, linear, constant = np.eye(TIMES * NOISES), np.zeros(TIMES * NOISES), 0.0
    for t in range(TIMES):
        value, slope = seen @ mean[t], seen @ effect[t]
        precision += slope.T @ sites.precision[t] @ slope
        linear += slope.T @ (sites.linear[t] - sites.precision[t] @ value)
        constant += sites.linear[t] @ value - 0.5 * value @ sites.precision[t] @ value
    mass = 0.5 * linear @ np.linalg.solve(precision, linear) - 0.5 * np.linalg.slogdet(precision)[1]
    return constant + mass


def test_with_a_free_covariance_the_guide_is_the_posterior(problem):
    """Its bound is the log evidence, by dense algebra."""
    found = best_guide(*problem, free=True)
    assert_allclose(found.bound, dense(*problem), rtol=1e-12)
    assert_allclose(bound_of(*problem, found), dense(*problem), rtol=1e-12)


@pytest.mark.parametrize("free", [False, True, np.array([True, False, True, False, False])])
def test_the_bound_is_that_of_the_guide_and_stationary(problem, free):
    """Moments of the steered chain give the same number; no gain or offset is better: derivatives vanish."""
    found = best_guide(*problem, free=free)
    value, slope = jax.value_and_grad(
        lambda gain, offset: bound_of(*problem, found._replace(gain=gain, offset=offset)), (0, 1)
    )(found.gain, found.offset)
    assert_allclose(value, found.bound, rtol=1e-12)
    assert_allclose(slope[0][1:], 0.0, atol=1e-11)
    assert_allclose(slope[1], 0.0, atol=1e-11)
    moved = found._replace(gain=found.gain + 0.1, offset=found.offset - 0.05)
    assert bound_of(*problem, moved) < value - 1e-3


def test_the_covariance_is_worth_what_is_left():
    """One step, one noise: log N(y; 0, 1 + r) above the best bound by (log(1 + 1/r) less 1/r) / 2."""
    chain = Chain(np.zeros((1, 1, 1)), np.zeros((1, 1)), np.ones((1, 1, 1)))
    variance, y = 0.3, 0.8
    sites = Sites(np.full((1, 1, 1), 1 / variance), np.full((1, 1), y / variance))
    constant = -0.5 * y**2 / variance - 0.5 * np.log(2 * np.pi * variance)
    evidence = multivariate_normal(0.0, 1.0 + variance).logpdf(y)
    bounds = [
        float(best_guide(chain, jnp.ones((1, 1)), sites, free).bound) + constant for free in (True, False)
    ]
    assert_allclose(bounds[0], evidence, rtol=1e-12)
    assert_allclose(bounds[0] - bounds[1], 0.5 * (1 / variance - np.log1p(1 / variance)), rtol=1e-12)
