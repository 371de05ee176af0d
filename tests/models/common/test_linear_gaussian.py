"""Chains and Matérn transitions against dense Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag, expm
from sklearn.gaussian_process.kernels import Matern

from models.common import linear_gaussian
from models.common.linear_gaussian import Chain, Sites, square_root
from models.common.markov_chain import markov_chain
from models.common.matern import matern, transition, white

pytestmark = pytest.mark.usefixtures("x64")

# Compiled once for all tests of equal shapes.
posterior = jax.jit(linear_gaussian.posterior)
moments = jax.jit(linear_gaussian.moments, static_argnames="reverse")

TIMES = np.array([0.0, 0.03, 0.2, 0.2001, 0.5, 0.61, 0.97])


def evidence(times: int, values: int, seed: int = 0) -> Sites:
    """Precisions of every rank, from no data at all to full."""
    random = np.random.default_rng(seed)
    roots = random.normal(size=(times, values, values)) * 3.0
    for t in range(times):
        roots[t, :, : t % (values + 1)] = 0.0
    precision = roots @ roots.transpose(0, 2, 1)
    return Sites(jnp.asarray(precision), jnp.asarray(random.normal(size=(times, values))))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_transitions_solve_the_stochastic_differential_equation(order: int):
    """A is the matrix exponential; Q solves the Lyapunov difference, where digits are left to compare."""
    rate = np.sqrt(2 * order + 1) / 0.4
    drift = {
        0: [[-rate]],
        1: [[0, 1], [-(rate**2), -2 * rate]],
        2: [[0, 1, 0], [0, 0, 1], [-(rate**3), -3 * rate**2, -3 * rate]],
    }[order]
    stationary = {
        0: [[1.0]],
        1: np.diag([1, rate**2]),
        2: [[1, 0, -(rate**2) / 3], [0, rate**2 / 3, 0], [-(rate**2) / 3, 0, rate**4]],
    }[order]
    gaps = np.array([0.05, 0.7, np.inf])
    matrices, noises = transition(order, 0.4, gaps)
    for gap, matrix, noise in zip(gaps[:2], matrices, noises, strict=False):
        exact = expm(np.array(drift, float) * gap)
        assert_allclose(matrix, exact, rtol=1e-10, atol=1e-12)
        assert_allclose(noise, stationary - exact @ stationary @ exact.T, rtol=1e-8, atol=1e-10)
    assert_allclose(matrices[2], np.zeros_like(exact))
    assert_allclose(noises[2], stationary, rtol=1e-12, atol=1e-10)


def test_the_noise_of_a_short_step_keeps_its_digits():
    """To first order Q = q [[D³/3, D²/2], [D²/2, D]]; as a difference the first entry would be rounding."""
    gap, rate = 1e-7, np.sqrt(3) / 0.4
    noise = transition(1, 0.4, np.array([gap]))[1][0] / (4 * rate**3)
    assert_allclose(noise, [[gap**3 / 3, gap**2 / 2], [gap**2 / 2, gap]], rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_the_posterior_is_that_of_dense_algebra(order: int):
    """Two processes, mixed by sites of any rank: means, variances, normalizer; kernel is scikit-learn's."""
    prior, seen = matern(TIMES, 0.4, order, copies=2)
    sites = evidence(len(TIMES), 2)
    kernel = Matern(0.4, nu=order + 0.5)(TIMES[:, None])
    covariance = np.kron(kernel, np.eye(2))
    precision, linear = block_diag(*np.asarray(sites.precision)), np.asarray(sites.linear).ravel()
    exact = np.linalg.solve(np.eye(len(linear)) + covariance @ precision, covariance)
    mass = -0.5 * np.linalg.slogdet(np.eye(len(linear)) + covariance @ precision)[1]
    mass += 0.5 * linear @ exact @ linear

    found = posterior(prior, jnp.asarray(seen), sites)
    mean, spread = moments(found.chain, reverse=True)
    assert_allclose((mean @ seen.T).ravel(), exact @ linear, rtol=1e-10, atol=1e-10)
    blocks = [exact[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] for t in range(len(TIMES))]
    assert_allclose(seen @ spread @ seen.T, blocks, rtol=1e-10, atol=1e-10)
    assert_allclose(found.log_normalizer, mass, rtol=1e-10)
    before = moments(prior)[1]
    assert_allclose(seen @ before @ seen.T, np.broadcast_to(np.eye(2), (*before.shape[:1], 2, 2)), atol=1e-10)


def test_prior_times_sites_is_the_normalized_posterior_everywhere():
    """As programs: log q(Z) = log p(Z) + log sites - log normalizer, at any states whatever."""
    prior, seen = matern(TIMES, 0.4, 1, copies=2)
    sites = evidence(len(TIMES), 2)
    found = posterior(prior, jnp.asarray(seen), sites)
    trace = markov_chain(found.chain, True).simulate(jax.random.key(0))
    values = trace.choices["state"] @ seen.T
    factors = jnp.sum(sites.linear * values) - 0.5 * jnp.einsum(
        "ti,tij,tj->", values, sites.precision, values
    )
    forward = markov_chain(prior).log_density(trace.choices)
    assert_allclose(trace.log_density, forward + factors - found.log_normalizer, rtol=1e-7)


def test_a_general_chain_with_offsets():
    """Not stationary, not centered, a state that is seen in part: against the joint normal distribution."""
    random = np.random.default_rng(1)
    times, states = 4, 3
    matrix = random.normal(size=(times, states, states))
    matrix[0] = 0.0
    offset = random.normal(size=(times, states))
    factor = np.tril(random.normal(size=(times, states, states))) + 2.0 * np.eye(states)
    factor = np.abs(np.einsum("tii->ti", factor))[..., None] * np.eye(states) + np.tril(factor, -1)
    whole = np.eye(times * states)
    for t in range(1, times):
        whole[t * states : (t + 1) * states, (t - 1) * states : t * states] = -matrix[t]
    inverse = np.linalg.inv(whole)
    mean = inverse @ offset.ravel()
    covariance = inverse @ block_diag(*factor @ factor.transpose(0, 2, 1)) @ inverse.T
    seen, sites = random.normal(size=(2, states)), evidence(times, 2, seed=3)
    pick = np.kron(np.eye(times), seen)
    precision = np.linalg.inv(covariance) + pick.T @ block_diag(*np.asarray(sites.precision)) @ pick
    exact = np.linalg.solve(
        precision, np.linalg.solve(covariance, mean) + pick.T @ np.asarray(sites.linear).ravel()
    )

    chain = Chain(*map(jnp.asarray, (matrix, offset, factor)))
    found = moments(posterior(chain, jnp.asarray(seen), sites).chain, reverse=True)
    assert_allclose(found[0].ravel(), exact, rtol=1e-10, atol=1e-10)
    inverse = np.linalg.inv(precision)
    blocks = [inverse[states * t :, states * t :][:states, :states] for t in range(times)]
    assert_allclose(found[1], blocks, rtol=1e-9, atol=1e-10)


def test_derivatives_of_the_normalizer_are_the_moments():
    """Those of log E[exp(h'u - u'Λu/2)] are E[u], -E[uu']/2: a gradient through QR and Cholesky."""
    prior, seen = matern(TIMES, 0.4, 1, copies=2)
    sites = evidence(len(TIMES), 2)
    mass = lambda sites: linear_gaussian.posterior(prior, jnp.asarray(seen), sites).log_normalizer
    slope = jax.jit(jax.grad(mass))(sites)
    mean, spread = moments(posterior(prior, jnp.asarray(seen), sites).chain, reverse=True)
    mean, spread = mean @ seen.T, seen @ spread @ seen.T
    symmetric = slope.precision + slope.precision.transpose(0, 2, 1)
    assert_allclose(slope.linear, mean, rtol=1e-9, atol=1e-10)
    assert_allclose(symmetric, -(spread + mean[:, :, None] * mean[:, None, :]), rtol=1e-8, atol=1e-10)


def test_square_roots_and_refusals():
    wide = np.random.default_rng(2).normal(size=(3, 5))
    root = square_root(jnp.asarray(wide))
    assert_allclose(root, np.linalg.cholesky(wide @ wide.T), rtol=1e-12)
    with pytest.raises(ValueError, match="merge equal indices"):
        matern(np.array([0.0, 0.5, 0.5]), 0.3)


def test_a_white_chain_draws_standard_normals():
    prior, seen = white(4, 2)
    assert_allclose(moments(prior)[1], np.broadcast_to(np.eye(2), (4, 2, 2)))
    assert_allclose(seen, np.eye(2))
