"""What is known exactly where drift, diffusion and observations are linear and Gaussian.

The state is z = (x, y_1, ..., y_K) and the Euler steps of dX = -θ X dt + s dB^ are a linear-Gaussian
chain.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.common.linear_gaussian import Chain, Sites, posterior
from models.common.linear_quadratic import Feedback, best_guide
from models.processes.fractional_noise.coefficients import Driver, initial_covariance


class Truth(NamedTuple):
    """Of the observations of one path, in nats: the log marginal, and the best bound of any control."""

    log_marginal: jax.Array
    best: jax.Array


def chain(
    driver: Driver, pull: float, scale: float, dt: float, steps: int, stationary: bool = False
) -> Chain:
    """The prior of z after 0, 1, ..., `steps` steps; `pull` is θ and `scale` is s.

    Args:
        stationary: whether Y(0) ~ N(0, P), as in type I; else Y(0) = 0.
    """
    number = len(driver.rates)
    matrix = jnp.zeros((number + 1, number + 1)).at[0, 0].set(1.0 - pull * dt)
    matrix = matrix.at[0, 1:].set(-scale * driver.weights * driver.rates * dt)
    matrix = matrix.at[1:, 1:].set(jnp.diag(1.0 - driver.rates * dt))
    column = dt**0.5 * jnp.concatenate([scale * jnp.sum(driver.weights, keepdims=True), jnp.ones(number)])
    factor = jnp.zeros_like(matrix).at[:, 0].set(column)
    first = jnp.zeros_like(matrix)
    if stationary:
        first = first.at[1:, 1:].set(jnp.linalg.cholesky(initial_covariance(driver.rates)))
    repeat = lambda begin, then: jnp.concatenate([begin[None], jnp.tile(then, (steps, 1, 1))])
    return Chain(
        repeat(jnp.zeros_like(matrix), matrix), jnp.zeros((steps + 1, number + 1)), repeat(first, factor)
    )


def sites(at: np.ndarray, seen: jax.Array, noise: float, steps: int) -> Sites:
    """N(seen_i; x after at_i steps, noise^2) without its constant."""
    precision = jnp.zeros((steps + 1, 1, 1)).at[at].set(noise**-2)
    return Sites(precision, jnp.zeros((steps + 1, 1)).at[at, 0].set(seen / noise**2))


def feedback(prior: Chain, at: np.ndarray, seen: jax.Array, noise: float, free: bool = False) -> Feedback:
    """The best control of paths that are observed at some steps; Y(0), if drawn, has a normal of its own.

    Args:
        free: whether the increments of W may have a variance of their own; then it is the posterior.
    """
    times, states = prior.offset.shape
    may = jnp.asarray([True] + [free] * (times - 1))
    return best_guide(prior, jnp.eye(1, states), sites(at, seen, noise, times - 1), may)


def truth(prior: Chain, at: np.ndarray, seen: jax.Array, noise: float) -> Truth:
    """Both, of one path observed at some steps."""
    times, states = prior.offset.shape
    evidence = posterior(prior, jnp.eye(1, states), sites(at, seen, noise, times - 1)).log_normalizer
    constant = -0.5 * jnp.sum(seen**2) / noise**2 - len(seen) * jnp.log(noise * (2.0 * jnp.pi) ** 0.5)
    return Truth(evidence + constant, feedback(prior, at, seen, noise).bound + constant)
