"""Families whose draw is differentiated implicitly: those made of gamma draws, and von Mises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.distributions.util import signed_stick_breaking_tril, vec_to_tril_matrix

from ppl.distributions import gamma_path, von_mises
from ppl.distributions.gamma_path import LogGammas
from ppl.distributions.implicit_derivative import attach
from ppl.distributions.registry import Shape, draws, float_dtype, inherited, working_dtype
from ppl.noise import LOG_GAMMA, Noise

GammaRule = Callable[[Any, LogGammas, Noise, Shape], jax.Array]
"""`(distribution, log_gammas, noise, shape) -> value`: a draw as a function of gamma draws and noise."""

_GAMMA_RULES: dict[type, GammaRule] = {}


def draw_log_gamma(noise: Noise, concentration: Any, shape: Shape) -> tuple[jax.Array, jax.Array]:
    """Logarithms of standard gamma draws, without a derivative, and the concentration in their shape."""
    dtype = working_dtype(float_dtype(concentration))
    concentration = jnp.broadcast_to(jnp.asarray(concentration, dtype), shape)
    return noise.draw(LOG_GAMMA, shape, dtype, concentration), concentration


def _implicit(family: str, noise: Noise) -> LogGammas:
    differentiable = attach(family, gamma_path.velocity)
    return lambda concentration, shape: differentiable(*draw_log_gamma(noise, concentration, shape))


def _of_gammas(family: str, *classes: type) -> Callable[[GammaRule], GammaRule]:
    """Registers a rule, and the draw of `classes` that it makes of implicitly differentiated gamma draws."""

    def register(rule: GammaRule) -> GammaRule:
        @draws(*classes, reparameterized=True)
        def implicitly(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
            return rule(distribution, _implicit(family, noise), noise, distribution.shape(sample_shape))

        _GAMMA_RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def is_made_of_gammas(distribution: Any) -> bool:
    """Whether a draw is an elementary function of gamma draws and parameter-free noise.

    Example:
        >>> is_made_of_gammas(dist.Beta(1.0, 2.0)), is_made_of_gammas(dist.Normal(0.0, 1.0))
        (True, False)
    """
    if inherited(_GAMMA_RULES, distribution, "sample") is not None:
        return True
    wrapped = isinstance(distribution, dist.Independent | dist.TransformedDistribution)
    return wrapped and is_made_of_gammas(distribution.base_dist)


def draw_from_gammas(distribution: Any, log_gammas: LogGammas, noise: Noise) -> jax.Array:
    """A draw made of the given gamma draws, of a distribution that is made of such."""
    rule = inherited(_GAMMA_RULES, distribution, "sample")
    if rule is not None:
        return rule(distribution, log_gammas, noise, distribution.shape())
    value = draw_from_gammas(distribution.base_dist, log_gammas, noise)
    for transform in getattr(distribution, "transforms", ()):
        value = transform(value)
    return jnp.asarray(value)


def _positive(log_x: Any, dtype: Any) -> jax.Array:
    """exp, kept inside the support where it underflows or overflows."""
    limits = jnp.finfo(dtype)
    return jnp.clip(jnp.exp(log_x), limits.tiny, limits.max).astype(dtype)


def _unit(x: Any, dtype: Any) -> jax.Array:
    """Kept off zero and one, as NumPyro does: the density is infinite or zero there."""
    limits = jnp.finfo(dtype)
    return jnp.clip(x.astype(dtype), limits.tiny, 1 - limits.eps)


@_of_gammas("gamma", dist.Gamma)
def gamma(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """A standard gamma draw divided by the rate, from their logarithms."""
    dtype = float_dtype(distribution.concentration, distribution.rate)
    log_x = log_gammas(distribution.concentration, shape)
    return _positive(log_x - jnp.log(jnp.asarray(distribution.rate, log_x.dtype)), dtype)


@_of_gammas("inverse_gamma", dist.InverseGamma)
def inverse_gamma(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """The reciprocal of a gamma draw, taken before a small one underflows."""
    dtype = float_dtype(distribution.concentration, distribution.rate)
    log_x = log_gammas(distribution.concentration, shape)
    return _positive(jnp.log(jnp.asarray(distribution.rate, log_x.dtype)) - log_x, dtype)


@_of_gammas("beta", dist.Beta)
def beta(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """g1 / (g1 + g0), from the difference of logarithms."""
    dtype = float_dtype(distribution.concentration1, distribution.concentration0)
    one = log_gammas(distribution.concentration1, shape)
    zero = log_gammas(distribution.concentration0, shape)
    return _unit(jax.nn.sigmoid(one - zero), dtype)


@_of_gammas("dirichlet", dist.Dirichlet)
def dirichlet(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """Gamma draws divided by their sum."""
    log_x = log_gammas(distribution.concentration, shape)
    return _unit(jax.nn.softmax(log_x, axis=-1), float_dtype(distribution.concentration))


def _student_scale(df: Any, log_gammas: LogGammas, shape: Shape) -> jax.Array:
    """sqrt(df / chi2(df)), as exp((log(df / 2) - log gamma(df / 2)) / 2)."""
    log_x = log_gammas(0.5 * df, shape)
    return jnp.exp(0.5 * (jnp.log(0.5 * jnp.asarray(df, log_x.dtype)) - log_x))


@_of_gammas("student_t", dist.StudentT)
def student_t(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """Draws loc + scale * n * sqrt(df / chi2)."""
    dtype = float_dtype(distribution.df, distribution.loc, distribution.scale)
    spread = _student_scale(distribution.df, log_gammas, shape)
    standard = (noise.normal(shape, working_dtype(dtype)) * spread).astype(dtype)
    return distribution.loc + distribution.scale * standard


@_of_gammas("multivariate_student_t", dist.MultivariateStudentT)
def multivariate_student_t(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """Draws loc + L n * sqrt(df / chi2), one chi2 for the whole vector."""
    dtype = float_dtype(distribution.df, distribution.loc, distribution.scale_tril)
    spread = _student_scale(distribution.df, log_gammas, shape[:-1])
    standard = (noise.normal(shape, working_dtype(dtype)) * spread[..., None]).astype(dtype)
    return distribution.loc + (distribution.scale_tril @ standard[..., None])[..., 0]


def _bartlett(freedoms: Any, log_gammas: LogGammas, noise: Noise, shape: Shape, dtype: Any) -> jax.Array:
    """A lower triangle of normal numbers, with the roots of chi-squared numbers on its diagonal.

    Reference: Bartlett, "On the theory of statistical regression", 1933.
    """
    size, work = shape[-1], working_dtype(dtype)
    log_x = log_gammas(0.5 * freedoms, shape[:-1])
    below = noise.normal((*shape[:-2], size * (size - 1) // 2), work)
    triangle = jnp.zeros(shape, work).at[..., *jnp.tril_indices(size, -1)].set(below)
    diagonal = jnp.exp(0.5 * (log_x + jnp.log(2.0)))
    return (triangle + diagonal[..., None] * jnp.eye(size, dtype=work)).astype(dtype)


@_of_gammas("wishart", dist.WishartCholesky)
def wishart_cholesky(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """The scale's Cholesky factor times Bartlett's triangle."""
    scale, size = distribution.scale_tril, shape[-1]
    freedoms = jnp.asarray(distribution.concentration)[..., None] - jnp.arange(size)
    dtype = float_dtype(distribution.concentration, scale)
    return scale @ _bartlett(freedoms, log_gammas, noise, shape, dtype)


@_of_gammas("inverse_wishart", dist.InverseWishartCholesky)
def inverse_wishart_cholesky(
    distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape
) -> jax.Array:
    """The scale's Cholesky factor times the inverse of Bartlett's triangle, degrees of freedom ascending."""
    scale, size = distribution.scale_tril, shape[-1]
    freedoms = jnp.asarray(distribution.concentration)[..., None] + jnp.arange(1 - size, 1)
    dtype = float_dtype(distribution.concentration, scale)
    triangle = _bartlett(freedoms, log_gammas, noise, shape, dtype)
    identity = jnp.broadcast_to(jnp.eye(size, dtype=dtype), shape)
    return scale @ solve_triangular(triangle, identity, lower=True)


@_of_gammas("lkj", dist.LKJCholesky)
def lkj_cholesky(distribution: Any, log_gammas: LogGammas, noise: Noise, shape: Shape) -> jax.Array:
    """The Cholesky factor of a correlation matrix: by rows (onion) or by partial correlations (C-vine).

    Reference: Lewandowski, Kurowicka, Joe, "Generating random correlation matrices based on vines and
    extended onion method", 2009.
    """
    inner = distribution._beta
    lead = shape[:-2]
    shares = beta(inner, log_gammas, noise, (*lead, *inner.batch_shape[len(distribution.batch_shape) :]))
    if distribution.sample_method == "cvine":
        return signed_stick_breaking_tril(2 * shares - 1)
    size, dtype = shape[-1], shares.dtype
    normal = noise.normal((*lead, size * (size - 1) // 2), working_dtype(dtype))
    rows = vec_to_tril_matrix(normal, diagonal=0)
    directions = (rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)).astype(dtype)
    factor = jnp.zeros(shape, dtype).at[..., 1:, :-1].set(jnp.sqrt(shares)[..., None] * directions)
    diagonal = jnp.ones(shape[:-1], dtype).at[..., 1:].set(jnp.sqrt(1 - shares))
    return factor + diagonal[..., None] * jnp.eye(size, dtype=dtype)


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
