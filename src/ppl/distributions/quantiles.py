"""Families that are drawn by their quantile function, differentiated as it stands or implicitly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import ndtr

from ppl.distributions.distribution_function import has_distribution_function, quantile
from ppl.distributions.growth import growth, time_to_grow
from ppl.distributions.registry import Shape, draw, draws, float_dtype, working_dtype
from ppl.noise import Noise


def _uniform(distribution: Any, noise: Noise, sample_shape: Shape) -> tuple[jax.Array, Any]:
    dtype = float_dtype(*jax.tree.leaves(distribution))
    return noise.uniform(distribution.shape(sample_shape), working_dtype(dtype)), dtype


@draws(dist.SoftLaplace, dist.Gompertz, dist.Levy, reparameterized=True)
def by_quantile(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """NumPyro's quantile function at u; its derivative at fixed u is that of the draw."""
    u, dtype = _uniform(distribution, noise, sample_shape)
    return jnp.asarray(distribution.icdf(u)).astype(dtype)


@draws(dist.LeftTruncatedGamma, dist.RightTruncatedGamma, dist.TwoSidedTruncatedGamma, reparameterized=True)
def by_implicit_quantile(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """NumPyro's quantile function at u, differentiated by way of the distribution function."""
    u, dtype = _uniform(distribution, noise, sample_shape)
    return quantile(distribution, u).astype(dtype)


def _is_elementary(truncated: Any) -> bool:
    # Student's quantile inverts an incomplete beta function.
    return isinstance(
        truncated.base_dist, dist.Normal | dist.Cauchy | dist.Laplace | dist.Logistic | dist.SoftLaplace
    )


@draws(
    dist.LeftTruncatedDistribution,
    dist.RightTruncatedDistribution,
    dist.TwoSidedTruncatedDistribution,
    reparameterized=lambda distribution: (
        _is_elementary(distribution) or has_distribution_function(distribution)
    ),
)
def truncated(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The quantile of what is left of the base."""
    rule = by_quantile if _is_elementary(distribution) else by_implicit_quantile
    return rule(distribution, noise, sample_shape)


@draws(dist.Dagum, reparameterized=True)
def dagum(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws scale * (u^(-1 / concentration) - 1)^(-1 / sharpness)."""
    u, dtype = _uniform(distribution, noise, sample_shape)
    odds = jnp.log(jnp.expm1(-jnp.log(u) / distribution.concentration))
    return (distribution.scale * jnp.exp(-odds / distribution.sharpness)).astype(dtype)


@draws(dist.LowerTruncatedPowerLaw, reparameterized=True)
def lower_truncated_power_law(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws low * u^(1 / (1 + alpha)), above low after rounding too."""
    u, dtype = _uniform(distribution, noise, sample_shape)
    excess = jnp.expm1(jnp.log(u) / (1 + distribution.alpha))
    return (distribution.low * (1 + jnp.maximum(excess, jnp.finfo(dtype).eps))).astype(dtype)


@draws(dist.DoublyTruncatedPowerLaw, reparameterized=True)
def doubly_truncated_power_law(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """In the logarithm of x / low, exponential growth cut at log(high / low)."""
    u, dtype = _uniform(distribution, noise, sample_shape)
    low, high, rate = distribution.low, distribution.high, 1 + distribution.alpha
    size = u * growth(rate, jnp.log(high) - jnp.log(low))
    return jnp.clip(low * jnp.exp(time_to_grow(rate, size)), low, high).astype(dtype)


def _margins_are_known(copula: Any) -> bool:
    marginal = copula.marginal_dist
    has_quantile = type(marginal).icdf is not dist.Distribution.icdf
    return has_quantile and has_distribution_function(marginal)


@draws(dist.GaussianCopula, dist.GaussianCopulaBeta, reparameterized=_margins_are_known)
def gaussian_copula(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Quantiles of the margins at the distribution function of correlated normal numbers."""
    marginal, shape = distribution.marginal_dist, distribution.shape(sample_shape)
    normal = draw(distribution.base_dist.expand(shape[:-1]), noise)
    dtype = float_dtype(*jax.tree.leaves(marginal))
    limits = jnp.finfo(working_dtype(dtype))
    u = jnp.clip(ndtr(normal.astype(limits.dtype)), limits.tiny, 1 - limits.epsneg)
    return quantile(marginal, u).astype(dtype)
