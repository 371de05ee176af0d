"""Families whose draw is an elementary function of normal or uniform noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular

from ppl.distributions.registry import Shape, draws, float_dtype, working_dtype
from ppl.noise import Noise


def _normal(noise: Noise, shape: Shape, dtype: Any) -> jax.Array:
    return noise.normal(shape, working_dtype(dtype)).astype(dtype)


def _affine(distribution: Any, standard: jax.Array, dtype: Any) -> jax.Array:
    return distribution.loc + distribution.scale * standard.astype(dtype)


def _uniform(noise: Noise, shape: Shape, dtype: Any) -> jax.Array:
    return noise.uniform(shape, working_dtype(dtype))


@draws(dist.Normal, reparameterized=True)
def normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + scale * n."""
    dtype = float_dtype(distribution.loc, distribution.scale)
    return _affine(distribution, _normal(noise, distribution.shape(sample_shape), dtype), dtype)


@draws(dist.Laplace, reparameterized=True)
def laplace(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The quantile at u, from the logarithm of the nearer tail so that no draw is infinite."""
    dtype = float_dtype(distribution.loc, distribution.scale)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    standard = jnp.where(u < 0.5, jnp.log(2 * u), -jnp.log(2 * (1 - u)))
    return _affine(distribution, standard, dtype)


@draws(dist.Cauchy, reparameterized=True)
def cauchy(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + scale * tan(pi (u - 1/2))."""
    dtype = float_dtype(distribution.loc, distribution.scale)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return _affine(distribution, jnp.tan(jnp.pi * (u - 0.5)), dtype)


@draws(dist.Gumbel, reparameterized=True)
def gumbel(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc - scale * log(-log u)."""
    dtype = float_dtype(distribution.loc, distribution.scale)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return _affine(distribution, -jnp.log(-jnp.log(u)), dtype)


@draws(dist.Logistic, reparameterized=True)
def logistic(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + scale * log(u / (1 - u))."""
    dtype = float_dtype(distribution.loc, distribution.scale)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return _affine(distribution, jnp.log(u) - jnp.log1p(-u), dtype)


@draws(dist.Uniform, reparameterized=True)
def uniform(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws low + (high - low) u."""
    dtype = float_dtype(distribution.low, distribution.high)
    u = _uniform(noise, distribution.shape(sample_shape), dtype).astype(dtype)
    return distribution.low + (distribution.high - distribution.low) * u


@draws(dist.Exponential, reparameterized=True)
def exponential(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """-log(u) / rate."""
    dtype = float_dtype(distribution.rate)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return -jnp.log(u).astype(dtype) / distribution.rate


@draws(dist.HalfNormal, reparameterized=True)
def half_normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws scale * |n|, where an exact zero, which is outside the support, becomes the least number."""
    dtype = float_dtype(distribution.scale)
    standard = jnp.abs(_normal(noise, distribution.shape(sample_shape), dtype))
    return distribution.scale * jnp.maximum(standard, jnp.finfo(dtype).tiny)


@draws(dist.HalfCauchy, reparameterized=True)
def half_cauchy(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws scale * tan(pi u / 2)."""
    dtype = float_dtype(distribution.scale)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return distribution.scale * jnp.tan(0.5 * jnp.pi * u).astype(dtype)


@draws(dist.Weibull, reparameterized=True)
def weibull(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws scale * (-log u)^(1 / concentration)."""
    dtype = float_dtype(distribution.scale, distribution.concentration)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    return distribution.scale * (-jnp.log(u)).astype(dtype) ** (1 / distribution.concentration)


@draws(dist.Kumaraswamy, reparameterized=True)
def kumaraswamy(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """(1 - u^(1/b))^(1/a), kept off the ends as NumPyro does."""
    dtype = float_dtype(distribution.concentration1, distribution.concentration0)
    limits = jnp.finfo(dtype)
    u = _uniform(noise, distribution.shape(sample_shape), dtype)
    log_power = jnp.log(u) / distribution.concentration0
    log_draw = jnp.log(-jnp.expm1(log_power)) / distribution.concentration1
    return jnp.clip(jnp.exp(log_draw).astype(dtype), limits.tiny, 1 - limits.eps)


@draws(dist.AsymmetricLaplace, reparameterized=True)
def asymmetric_laplace(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc - left * e + right * e', of two exponentials."""
    dtype = float_dtype(distribution.loc, distribution.scale, distribution.asymmetry)
    shape = distribution.shape(sample_shape)
    left = -jnp.log(_uniform(noise, shape, dtype)).astype(dtype)
    right = -jnp.log(_uniform(noise, shape, dtype)).astype(dtype)
    return distribution.loc - distribution.left_scale * left + distribution.right_scale * right


@draws(dist.AsymmetricLaplaceQuantile, reparameterized=True)
def asymmetric_laplace_quantile(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The same with another parameter."""
    return asymmetric_laplace(distribution._ald, noise, sample_shape)


@draws(dist.MultivariateNormal, reparameterized=True)
def multivariate_normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + L n, with L the Cholesky factor of the covariance."""
    dtype = float_dtype(distribution.loc, distribution.scale_tril)
    standard = _normal(noise, distribution.shape(sample_shape), dtype)
    return distribution.loc + (distribution.scale_tril @ standard[..., None])[..., 0]


@draws(dist.LowRankMultivariateNormal, reparameterized=True)
def low_rank_multivariate_normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + W n + sqrt(D) n'."""
    factor, diagonal = distribution.cov_factor, distribution.cov_diag
    dtype = float_dtype(distribution.loc, factor, diagonal)
    lead = (*sample_shape, *distribution.batch_shape)
    shared = _normal(noise, (*lead, factor.shape[-1]), dtype)
    own = _normal(noise, (*lead, *distribution.event_shape), dtype)
    return distribution.loc + (factor @ shared[..., None])[..., 0] + jnp.sqrt(diagonal) * own


@draws(dist.CAR, reparameterized=True)
def conditional_autoregression(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + L^-T n, with L the Cholesky factor of the precision matrix."""
    precision = jnp.asarray(distribution.precision_matrix)
    dtype = float_dtype(distribution.loc, precision)
    shape = distribution.shape(sample_shape)
    root = jnp.broadcast_to(jnp.linalg.cholesky(precision), (*shape, shape[-1]))
    standard = _normal(noise, shape, dtype)
    solved = solve_triangular(root, standard[..., None], trans="T", lower=True)
    return distribution.loc + solved[..., 0]


@draws(dist.MatrixNormal, reparameterized=True)
def matrix_normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + A n B', with the Cholesky factors A of the rows and B of the columns."""
    rows, columns = distribution.scale_tril_row, distribution.scale_tril_column
    dtype = float_dtype(distribution.loc, rows, columns)
    standard = _normal(noise, distribution.shape(sample_shape), dtype)
    return distribution.loc + rows @ standard @ jnp.swapaxes(columns, -1, -2)


@draws(dist.GaussianRandomWalk, reparameterized=True)
def gaussian_random_walk(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws scale times the running sum of n."""
    dtype = float_dtype(distribution.scale)
    steps = _normal(noise, distribution.shape(sample_shape), dtype)
    return jnp.cumsum(steps, axis=-1) * jnp.expand_dims(distribution.scale, -1)


@draws(dist.ProjectedNormal, reparameterized=True)
def projected_normal(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """(concentration + n) / |concentration + n|."""
    dtype = float_dtype(distribution.concentration)
    point = distribution.concentration + _normal(noise, distribution.shape(sample_shape), dtype)
    return point / jnp.linalg.norm(point, axis=-1, keepdims=True)


@draws(dist.Delta, reparameterized=True)
def delta(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The point itself."""
    return jnp.broadcast_to(jnp.asarray(distribution.v), distribution.shape(sample_shape))
