"""Families whose draw is differentiated implicitly: the gamma and what is made of it, and von Mises."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from ppl.distributions import von_mises
from ppl.distributions.implicit_derivative import attach
from ppl.distributions.registry import Shape, draws, float_dtype, working_dtype
from ppl.noise import LOG_GAMMA, Noise

_TAIL = -30.0  # below, the gamma's distribution function is its leading power to 13 digits


def _log_gamma_velocity(log_x: Any, concentration: Any) -> tuple[Any]:
    """The derivative of a standard gamma draw's logarithm in its concentration.

    Where x is tiny, or not representable, F = x^a / Gamma(a + 1) gives (psi(a + 1) - log x) / a.
    """
    tail = log_x < _TAIL
    x = jnp.exp(jnp.where(tail, 0.0, log_x))
    inner = jax.lax.random_gamma_grad(concentration, x) / x  # pyright: ignore[reportCallIssue]
    outer = (jax.scipy.special.digamma(concentration + 1) - log_x) / concentration
    return (jnp.where(tail, outer, inner),)


def _log_gamma(family: str, concentration: Any, noise: Noise, shape: Shape) -> jax.Array:
    """Logarithms of standard gamma draws, in at least float32."""
    dtype = working_dtype(float_dtype(concentration))
    concentration = jnp.broadcast_to(jnp.asarray(concentration, dtype), shape)
    sample = noise.draw(LOG_GAMMA, shape, dtype, concentration)
    return attach(family, _log_gamma_velocity)(sample, concentration)


def _positive(log_x: Any, dtype: Any) -> jax.Array:
    """exp, kept inside the support where it underflows or overflows."""
    limits = jnp.finfo(dtype)
    return jnp.clip(jnp.exp(log_x), limits.tiny, limits.max).astype(dtype)


def _unit(x: Any, dtype: Any) -> jax.Array:
    """Kept off zero and one, as NumPyro does: the density is infinite or zero there."""
    limits = jnp.finfo(dtype)
    return jnp.clip(x.astype(dtype), limits.tiny, 1 - limits.eps)


@draws(dist.Gamma, reparameterized=True)
def gamma(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """A standard gamma draw divided by the rate, from their logarithms."""
    dtype = float_dtype(distribution.concentration, distribution.rate)
    log_x = _log_gamma("gamma", distribution.concentration, noise, distribution.shape(sample_shape))
    return _positive(log_x - jnp.log(jnp.asarray(distribution.rate, log_x.dtype)), dtype)


@draws(dist.InverseGamma, reparameterized=True)
def inverse_gamma(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The reciprocal of a gamma draw, taken before a small one underflows."""
    dtype = float_dtype(distribution.concentration, distribution.rate)
    shape = distribution.shape(sample_shape)
    log_x = _log_gamma("inverse_gamma", distribution.concentration, noise, shape)
    return _positive(jnp.log(jnp.asarray(distribution.rate, log_x.dtype)) - log_x, dtype)


@draws(dist.Beta, reparameterized=True)
def beta(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """g1 / (g1 + g0), from the difference of logarithms."""
    dtype = float_dtype(distribution.concentration1, distribution.concentration0)
    shape = distribution.shape(sample_shape)
    one = _log_gamma("beta", distribution.concentration1, noise, shape)
    zero = _log_gamma("beta", distribution.concentration0, noise, shape)
    return _unit(jax.nn.sigmoid(one - zero), dtype)


@draws(dist.Dirichlet, reparameterized=True)
def dirichlet(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Gamma draws divided by their sum."""
    dtype = float_dtype(distribution.concentration)
    log_gammas = _log_gamma("dirichlet", distribution.concentration, noise, distribution.shape(sample_shape))
    return _unit(jax.nn.softmax(log_gammas, axis=-1), dtype)


def _student_scale(family: str, df: Any, noise: Noise, shape: Shape) -> jax.Array:
    """sqrt(df / chi2(df)), as exp((log(df / 2) - log gamma(df / 2)) / 2)."""
    log_gamma = _log_gamma(family, 0.5 * df, noise, shape)
    return jnp.exp(0.5 * (jnp.log(0.5 * jnp.asarray(df, log_gamma.dtype)) - log_gamma))


@draws(dist.StudentT, reparameterized=True)
def student_t(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + scale * n * sqrt(df / chi2)."""
    dtype = float_dtype(distribution.df, distribution.loc, distribution.scale)
    shape = distribution.shape(sample_shape)
    spread = _student_scale("student_t", distribution.df, noise, shape)
    standard = (noise.normal(shape, working_dtype(dtype)) * spread).astype(dtype)
    return distribution.loc + distribution.scale * standard


@draws(dist.MultivariateStudentT, reparameterized=True)
def multivariate_student_t(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Draws loc + L n * sqrt(df / chi2), one chi2 for the whole vector."""
    dtype = float_dtype(distribution.df, distribution.loc, distribution.scale_tril)
    shape = distribution.shape(sample_shape)
    spread = _student_scale("multivariate_student_t", distribution.df, noise, shape[:-1])
    standard = (noise.normal(shape, working_dtype(dtype)) * spread[..., None]).astype(dtype)
    return distribution.loc + (distribution.scale_tril @ standard[..., None])[..., 0]


@draws(dist.VonMises, reparameterized=True)
def circular(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """A centered draw turned by loc, on [-pi, pi); see `von_mises.velocity` for its derivative."""
    dtype = float_dtype(distribution.loc, distribution.concentration)
    shape = distribution.shape(sample_shape)
    loc, concentration = (
        jnp.broadcast_to(jnp.asarray(parameter, working_dtype(dtype)), shape)
        for parameter in (distribution.loc, distribution.concentration)
    )
    centered = noise.draw(von_mises.VON_MISES, shape, working_dtype(dtype), concentration)
    turned = von_mises.wrap(centered + jax.lax.stop_gradient(loc))
    return attach("von_mises", von_mises.velocity)(turned, loc, concentration).astype(dtype)
