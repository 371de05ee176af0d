"""Linear-Gaussian Markov chains: the posterior given Gaussian evidence, as a chain again, and its moments.

A chain is z_1 ~ N(b_1, L_1 L_1'), z_t = A_t z_{t-1} + b_t + L_t e_t with e_t ~ N(0, I). Evidence about
u_t = H z_t comes as *sites*, factors exp(-u' Λ_t u / 2 + h_t' u) in information form: a site of no data
is zero, several data at one index add up, and Λ_t may be of any rank, so that no pseudo-observation has
to be made of it.

Why not a library: dynamax, cuthbert and tinygp take evidence as an observation y ~ N(H z, R) with an
invertible R (tinygp: one number at a time), and give back moments, or draws from a key of their own. Here
the evidence has any rank, and the posterior is wanted as a chain, since a guide draws it step by step,
each state a random choice. Dynamax also brings a web framework and TensorFlow Probability, cuthbert
numba.

All covariances are kept as square roots, found by QR: steps of any length stay positive definite.

References: Särkkä, Svensson, "Bayesian filtering and smoothing", 2nd edition, 2023, chapters 6, 8 and 12;
Yaghoobi, Corenflos, Hassan, Särkkä, "Parallel square-root statistical linear regression for inference in
nonlinear state space models", 2022 (the square roots).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular


class Chain(NamedTuple):
    """z_t = matrix_t z_{t-1} + offset_t + factor_t e_t, where the first matrix is zero.

    A chain that runs from the last index to the first has z_{t+1} for z_{t-1}, and its last matrix is zero.

    Attributes:
        matrix: A, of shape (times, states, states).
        offset: b, of shape (times, states).
        factor: L, lower triangular with a positive diagonal; of shape (times, states, states).
    """

    matrix: jax.Array | np.ndarray
    offset: jax.Array | np.ndarray
    factor: jax.Array | np.ndarray


class Sites(NamedTuple):
    """The factors exp(-u' precision u / 2 + linear' u), one for each index.

    Attributes:
        precision: Λ, symmetric and positive semidefinite; of shape (times, values, values).
        linear: h, of shape (times, values).
    """

    precision: jax.Array
    linear: jax.Array


class Posterior(NamedTuple):
    """A chain given sites.

    Attributes:
        chain: of the same distribution over all states, running from the last to the first.
        log_normalizer: log of the expected value of the product of the sites under the prior.
    """

    chain: Chain
    log_normalizer: jax.Array


def thinned(chain: Chain, at: np.ndarray) -> Chain:
    """The chain of the states at some of its indices, in order; those in between are integrated out."""
    start = np.eye(chain.offset.shape[1]), np.zeros_like(chain.offset[0]), np.zeros_like(chain.factor[0])
    kept, (matrix, offset, covariance) = [], start
    for step in range(at[-1] + 1):
        one, move, root = chain.matrix[step], chain.offset[step], chain.factor[step]
        matrix, offset = one @ matrix, one @ offset + move
        covariance = one @ covariance @ one.T + root @ root.T
        if step == at[len(kept)]:
            kept.append((matrix, offset, np.linalg.cholesky(covariance)))
            matrix, offset, covariance = start
    return Chain(*map(np.stack, zip(*kept, strict=True)))


def square_root(matrix: jax.Array) -> jax.Array:
    """The lower triangular L of positive diagonal with L L' = matrix matrix'; matrix is square or wide."""
    upper = jnp.linalg.qr(matrix.T, mode="r")
    return (upper * jnp.where(jnp.diag(upper) < 0.0, -1.0, 1.0)[:, None]).T


def posterior(prior: Chain, seen: jax.Array, sites: Sites) -> Posterior:
    """The prior times its sites, normalized.

    Args:
        prior: runs from the first index to the last.
        seen: H, of shape (values, states).
        sites: one for each index.
    """
    _, states = prior.offset.shape
    start = jnp.zeros(states), jnp.zeros((states, states))

    def step(before, now):
        predicted = _predicted(before, now[0])
        (mean, root), evidence = _updated(*predicted, seen, now[1])
        return (mean, root), ((mean, root), evidence)

    _, ((means, roots), evidence) = jax.lax.scan(step, start, (prior, sites))
    following = jax.tree.map(lambda leaf: leaf[1:], prior)
    back = jax.vmap(_backward)(means[:-1], roots[:-1], following)
    last = Chain(jnp.zeros((states, states)), means[-1], square_root(roots[-1]))
    chain = jax.tree.map(lambda some, one: jnp.concatenate([some, one[None]]), back, last)
    return Posterior(chain, jnp.sum(evidence))


def _predicted(before: tuple[jax.Array, jax.Array], step: Chain) -> tuple[jax.Array, jax.Array]:
    """Mean and square root of the covariance, a step on."""
    mean, root = before
    return step.matrix @ mean + step.offset, square_root(jnp.hstack([step.matrix @ root, step.factor]))


def _updated(
    mean: jax.Array, root: jax.Array, seen: jax.Array, site: Sites
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """N(mean, root root') times a site: mean and square root of the covariance, and the log of the integral.

    With C the root, the covariance is C (I + C' H' Λ H C)^-1 C', for a Λ of any rank.
    """
    weight = jnp.linalg.cholesky(jnp.eye(len(mean)) + root.T @ seen.T @ site.precision @ seen @ root)
    new = solve_triangular(weight, root.T, lower=True).T
    value = seen @ mean
    innovation = site.linear - site.precision @ value
    move = new.T @ seen.T @ innovation
    evidence = (
        -jnp.sum(jnp.log(jnp.diag(weight))) + 0.5 * (site.linear + innovation) @ value + 0.5 * move @ move
    )
    return (mean + new @ move, new), evidence


def _backward(mean: jax.Array, root: jax.Array, following: Chain) -> Chain:
    """The step from z_{t+1} to z_t, given what was seen up to t.

    One QR of the joint square root of (z_{t+1}, z_t): no difference of covariances, which short steps would
    cancel.
    """
    states = len(mean)
    joint = jnp.block([[following.matrix @ root, following.factor], [root, jnp.zeros_like(root)]])
    lower = square_root(joint)
    ahead, both, rest = lower[:states, :states], lower[states:, :states], lower[states:, states:]
    gain = solve_triangular(ahead, both.T, lower=True, trans=1).T
    return Chain(gain, mean - gain @ (following.matrix @ mean + following.offset), rest)


def moments(chain: Chain, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
    """Mean and covariance of each state: shapes (times, states) and (times, states, states).

    Args:
        chain: a prior, or the chain of a posterior.
        reverse: the chain runs from the last to the first, as a posterior's does.
    """
    _, states = chain.offset.shape
    start = jnp.zeros(states), jnp.zeros((states, states))

    def step(before, now):
        mean = now.matrix @ before[0] + now.offset
        covariance = now.matrix @ before[1] @ now.matrix.T + now.factor @ now.factor.T
        return (mean, covariance), (mean, covariance)

    return jax.lax.scan(step, start, chain, reverse=reverse)[1]
