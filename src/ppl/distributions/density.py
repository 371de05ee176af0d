"""Log densities: NumPyro's numbers inside the support, minus infinity outside."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln

from ppl.distributions.finite_support import support_values
from ppl.distributions.one_hot import OneHotCategorical
from ppl.distributions.parameters import check_parameters, parameter_predicates
from ppl.distributions.standardized import standardized
from ppl.distributions.support import (
    base_constraint,
    inside,
    is_whole_space,
    states_support,
    support_of,
)
from ppl.transforms.one_term import one_term

__all__ = [
    "check_parameters",
    "log_density",
    "mass",
    "parameter_predicates",
    "relaxed_log_density",
    "support_values",
]


def log_density(distribution: Any, value: Any) -> jax.Array:
    """The log density of `value`, an array of the batch shape, in float32 or better.

    Inside the support it is NumPyro's `log_prob`. Outside it is minus infinity with derivative zero in
    the value and in the parameters, never NaN: NumPyro is asked about a point of the support there. A
    family whose support is the whole space pays nothing for this.

    bfloat16 and float16 parameters and values are converted to float32 first: a sum of a thousand log
    densities of eight bits each has no correct digit.

    Each entry is one term of whatever it is added to (`ppl.one_term`). A score multiplies terms that depend
    on its choice, and a density with its normalizing constant is nearer to zero than in parts: a Poisson
    variable's `n log r - r` without `-log n!` has many times the variance under a score. Of `Independent`
    distributions these are the entries before they are added up.

    Example:
        >>> import numpyro.distributions as dist
        >>> log_density(dist.Exponential(2.0), -1.0).item()
        -inf
    """
    return _terms(at_least_float32(distribution), _widened(distribution, jnp.asarray(value)))


def _terms(distribution: Any, value: Any) -> jax.Array:
    density = _log_density(distribution, value)
    return density if isinstance(distribution, dist.Independent) else one_term(density)


def _widened(distribution: Any, value: Any) -> Any:
    """The value in float32 or better.

    A vector of probabilities in eleven bits sums to one within their rounding only, which in float32 lies
    outside the simplex: it is divided by its sum, if that rounding explains it.
    """
    wide = at_least_float32(value)
    support = None if wide.dtype == value.dtype else support_of(distribution)
    if not isinstance(base_constraint(support), type(dist.constraints.simplex)):
        return wide
    total = jnp.sum(wide, axis=-1, keepdims=True)
    near = jnp.abs(total - 1) < 8 * float(jnp.finfo(value.dtype).eps)
    return jnp.where(near, wide / jnp.where(near, total, 1), wide)


def at_least_float32(tree: Any) -> Any:
    """The same with arrays of narrow floats converted to float32."""

    def convert(leaf: Any) -> Any:
        dtype = jnp.result_type(leaf)
        narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
        return jnp.asarray(leaf, jnp.float32) if narrow else leaf

    return jax.tree.map(convert, tree)


@singledispatch
def _log_density(distribution: Any, value: Any) -> jax.Array:
    return _with_support(distribution, value)


def _with_support(distribution: Any, value: Any) -> jax.Array:
    if is_whole_space(distribution):
        return jnp.asarray(distribution.log_prob(value))
    held = _held(distribution, value)
    spread = held.reshape(*held.shape, *(1 for _ in range(distribution.event_dim)))
    shape = jnp.broadcast_shapes(spread.shape, value.shape)
    point = jnp.asarray(feasible(distribution, jnp.broadcast_to(value, shape)))
    safe = jnp.where(spread, value, jax.lax.stop_gradient(point).astype(value.dtype))
    if _indexes(distribution):
        safe = safe.astype(jnp.result_type(int))  # NumPyro indexes by the value
    return jnp.where(held, distribution.log_prob(safe), -jnp.inf)


def _held(distribution: Any, value: Any) -> jax.Array:
    held = inside(distribution, value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return held
    # Infinity is greater than zero, but no number: NumPyro's density there may have nan for a derivative.
    return held & jnp.all(jnp.isfinite(value), axis=tuple(range(-distribution.event_dim, 0)))


def feasible(distribution: Any, prototype: Any) -> Any:
    """A point of the support, in every entry of the shape of `prototype`."""
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return feasible(distribution.base_dist, prototype)
    if isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution):
        base, steps = distribution.base_dist, distribution.transforms
        for step in reversed(steps):
            prototype = jnp.zeros(step.inverse_shape(jnp.shape(prototype)), jnp.result_type(prototype))
        point = feasible(base, prototype)
        for step in steps:
            point = step(point)
        return point
    if isinstance(support_of(distribution), type(dist.constraints.real)):
        return jnp.zeros_like(prototype)
    return support_of(distribution).feasible_like(prototype)


def _indexes(distribution: Any) -> bool:
    inner = getattr(distribution, "_component_distribution", getattr(distribution, "base_dist", None))
    if inner is not None:
        return _indexes(inner)
    return isinstance(distribution, dist.CategoricalProbs | dist.CategoricalLogits)


@_log_density.register(dist.MaskedDistribution)
def _(distribution: Any, value: Any) -> jax.Array:
    density = _log_density(distribution.base_dist, value)
    return jnp.where(distribution._mask, density, 0.0)


@_log_density.register(dist.Independent)
def _(distribution: Any, value: Any) -> jax.Array:
    entries = _terms(distribution.base_dist, value)
    axes = tuple(range(-distribution.reinterpreted_batch_ndims, 0))
    if not (_masked(distribution) or is_whole_space(distribution)):
        held = _held(distribution, value)
        entries = jnp.where(jnp.expand_dims(held, axes), entries, -jnp.inf)
    return jnp.sum(entries, axis=axes)


@_log_density.register(dist.ExpandedDistribution)
def _(distribution: Any, value: Any) -> jax.Array:
    if not _masked(distribution):
        return _with_support(distribution, value)
    lead = value.shape[: value.ndim - distribution.event_dim]
    shape = jnp.broadcast_shapes(distribution.batch_shape, lead)
    return jnp.broadcast_to(_log_density(distribution.base_dist, value), shape)


@_log_density.register(dist.Normal)
def _(distribution: Any, value: Any) -> jax.Array:
    if type(distribution).log_prob is not dist.Normal.log_prob:
        return _with_support(distribution, value)
    z = standardized(value, distribution.loc, distribution.scale)
    return -0.5 * z**2 - (jnp.log(distribution.scale) + 0.5 * math.log(2 * math.pi))


@_log_density.register(dist.BernoulliProbs)
def _(distribution: Any, value: Any) -> jax.Array:
    # NumPyro clamps the probability, which at 0 and 1 takes its derivative away.
    held, one = inside(distribution, value), value == 1
    p = jnp.asarray(distribution.probs)
    score = jnp.log(jnp.where(one, p, 1)) + jnp.log1p(-jnp.where(one, 0, p))
    return jnp.where(held, score, -jnp.inf)


@_log_density.register(dist.GammaPoisson)
def _(distribution: Any, value: Any) -> jax.Array:
    wide = jnp.result_type(float) == jnp.float64
    if not (wide and type(distribution).log_prob is dist.GammaPoisson.log_prob):
        return _with_support(distribution, value)
    # NumPyro calls `betaln`, which in JAX is wrong by up to 1e-6 once an argument passes 8.
    a, rate = distribution.concentration, distribution.rate
    held = inside(distribution, value)
    n = jnp.where(held, value, 0).astype(jnp.float64)
    ways = gammaln(a + n) - gammaln(a) - gammaln(n + 1)
    return jnp.where(held, ways - a * jnp.log1p(1 / rate) - n * jnp.log1p(rate), -jnp.inf)


def relaxed_log_density(distribution: Any, value: Any) -> jax.Array:
    """The log density, of a coin extended linearly to values between zero and one: a relaxed coin has one.

    Outside the interval it is minus infinity. A family of one-hot vectors extends to the simplex by itself.

    Example:
        >>> import numpyro.distributions as dist
        >>> relaxed_log_density(dist.BernoulliProbs(0.25), 0.5).round(4).item()
        -0.837
    """
    return _relaxed(at_least_float32(distribution), at_least_float32(jnp.asarray(value)))


@singledispatch
def _relaxed(distribution: Any, value: Any) -> jax.Array:
    return _log_density(distribution, value)


@_relaxed.register(dist.BernoulliProbs)
@_relaxed.register(dist.BernoulliLogits)
def _(distribution: Any, value: Any) -> jax.Array:
    one, zero = (_log_density(distribution, jnp.full(distribution.batch_shape, v)) for v in (1, 0))
    score = _share(value, one) + _share(1 - value, zero)
    return jnp.where((value >= 0) & (value <= 1), score, -jnp.inf)


def _share(weight: Any, score: Any) -> jax.Array:
    """`weight * score`, zero times minus infinity being zero; its derivative in the weight is the score."""
    possible = jnp.isfinite(score)
    lost = jax.lax.stop_gradient(jnp.where(possible, 0.0, -jnp.inf) * weight)
    return weight * jnp.where(possible, score, 0.0) + jnp.where(jnp.isnan(lost), 0.0, lost)


def mass(distribution: Any, value: Any) -> jax.Array:
    """The probability of `value`, an array of the batch shape, for a family of finite support.

    Unlike the exponential of the log density it has its derivative at probability zero too.
    """
    return _mass(at_least_float32(distribution), value)


@singledispatch
def _mass(distribution: Any, value: Any) -> jax.Array:
    return jnp.exp(log_density(distribution, value))


@_mass.register(dist.BernoulliProbs)
@_mass.register(dist.BernoulliLogits)
def _(distribution: Any, value: Any) -> jax.Array:
    p = jnp.asarray(distribution.probs)
    return jnp.where(value == 1, p, 1 - p)


@_mass.register(dist.CategoricalProbs)
@_mass.register(dist.CategoricalLogits)
def _(distribution: Any, value: Any) -> jax.Array:
    probs = jnp.asarray(distribution.probs)
    index = jnp.broadcast_to(value, jnp.broadcast_shapes(jnp.shape(value), probs.shape[:-1]))[..., None]
    probs = jnp.broadcast_to(probs, (*index.shape[:-1], probs.shape[-1]))
    return jnp.take_along_axis(probs, index, axis=-1)[..., 0]


@_mass.register(OneHotCategorical)
def _(distribution: Any, value: Any) -> jax.Array:
    return jnp.sum(jnp.asarray(distribution.probs) * value, axis=-1)


def _masked(distribution: Any) -> bool:
    """Whether some instances are masked: these count nowhere, inside the support or out."""
    inner = getattr(distribution, "base_dist", None)
    return isinstance(distribution, dist.MaskedDistribution) or (inner is not None and _masked(inner))
