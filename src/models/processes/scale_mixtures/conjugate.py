"""What is known in closed form of a process of Gaussians under one inverse-gamma scale.

    s ~ InverseGamma(a, b),    y | s ~ N(0, s K)        so that    y ~ t with 2a degrees of freedom, (b / a) K

The noise of the observations is inside of K, hence scaled as well.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import digamma, gammaln


class Scale(NamedTuple):
    """An inverse-gamma law: density proportional to s^(-a - 1) exp(-b / s)."""

    a: jax.Array | float
    b: jax.Array | float


class Context(NamedTuple):
    """What observations leave behind, for one Cholesky factor and any number of rows y.

    Attributes:
        quadratic: y' K^-1 y, one a row.
        whitened: L^-1 y, (rows, n).
        root: L, with L L' = K.
    """

    quadratic: jax.Array
    whitened: jax.Array
    root: jax.Array


class Predictive(NamedTuple):
    """A location and a squared scale for each point to predict, and one number of degrees of freedom."""

    mean: jax.Array
    variance: jax.Array
    freedoms: jax.Array | float


def context(covariance: jax.Array, y: jax.Array) -> Context:
    """Observations y of shape (rows, n), each row with this covariance times a scale of its own."""
    root = jnp.linalg.cholesky(covariance)
    whitened = solve_triangular(root, y.T, lower=True).T
    return Context(jnp.sum(whitened**2, axis=1), whitened, root)


def posterior(prior: Scale, seen: Context) -> Scale:
    """The scale of each row, given the row: InverseGamma(a + n / 2, b + q / 2)."""
    return Scale(prior.a + seen.whitened.shape[1] / 2, prior.b + seen.quadratic / 2)


def log_evidence(prior: Scale, seen: Context) -> jax.Array:
    """log p(y) of each row: the density of a multivariate t."""
    n = seen.whitened.shape[1]
    half = prior.a + n / 2
    constant = gammaln(half) - gammaln(prior.a) - n / 2 * jnp.log(2 * jnp.pi * prior.b)
    return constant - _half_log_det(seen) - half * jnp.log1p(seen.quadratic / (2 * prior.b))


def log_evidence_given(scale: jax.Array | float, seen: Context) -> jax.Array:
    """log p(y | s) of each row: the Gaussian process, if the scale is one number."""
    n = seen.whitened.shape[1]
    return -n / 2 * jnp.log(2 * jnp.pi * scale) - _half_log_det(seen) - seen.quadratic / (2 * scale)


def _half_log_det(seen: Context) -> jax.Array:
    return jnp.sum(jnp.log(jnp.diag(seen.root)))


def interpolated(seen: Context, cross: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean (rows, m) and variance (m,) at a scale of one.

    Args:
        seen: the observations.
        cross: covariance of the observed with the m points to predict, (n, m).
        variance: of the points to predict, noise included, (m,).
    """
    weights = solve_triangular(seen.root, cross, lower=True)
    return seen.whitened @ weights, variance - jnp.sum(weights**2, axis=0)


def predictive(prior: Scale, seen: Context, cross: jax.Array, variance: jax.Array) -> Predictive:
    """The law of each point given the row: t, whose width adapts to the row; the mean is the Gaussian's."""
    mean, spread = interpolated(seen, cross, variance)
    after = posterior(prior, seen)
    return Predictive(mean, (after.b / after.a)[:, None] * spread, 2 * after.a)


def kl_of_scales(guide: Scale, prior: Scale) -> jax.Array:
    """KL(InverseGamma(a', b') || InverseGamma(a, b))."""
    return (
        (guide.a - prior.a) * digamma(guide.a) - gammaln(guide.a) + gammaln(prior.a)
        + prior.a * jnp.log(guide.b / prior.b) + guide.a * (prior.b - guide.b) / guide.b
    )  # fmt: skip
