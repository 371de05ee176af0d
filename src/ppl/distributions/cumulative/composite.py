"""Distributions that are made of others: transformed, truncated, mixed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

from ppl.distributions.cumulative.core import (
    Tails,
    distribution_function,
    has_distribution_function,
    log_tails,
    nearer_tail,
    of_number,
    rule,
    standardize,
)
from ppl.distributions.density import at_least_float32


def _of_base(distribution: Any) -> bool:
    return has_distribution_function(distribution.base_dist)


def _inverse(distribution: Any, x: Any) -> Any:
    for transform in reversed(distribution.transforms):
        x = transform.inv(x)
    return x


def _sign(distribution: Any) -> Any:
    """Whether the transforms preserve order, 1, or reverse it, -1."""
    sign: Any = 1
    for transform in distribution.transforms:
        sign = sign * transform.sign
    return sign


def _is_monotone(distribution: Any) -> bool:
    try:
        _sign(distribution)
    except NotImplementedError:  # NumPyro's way to say that it is not known
        return False
    return _of_base(distribution)


def _transformed_tails(distribution: Any, x: Any) -> Tails:
    low, high = log_tails(distribution.base_dist, _inverse(distribution, x))
    rises = jnp.asarray(_sign(distribution)) > 0
    return jnp.where(rises, low, high), jnp.where(rises, high, low)


def _between(distribution: Any) -> tuple[Any, Any]:
    """F of the base at the two ends that a truncated distribution keeps."""
    base = distribution.base_dist
    low, high = getattr(distribution, "low", None), getattr(distribution, "high", None)
    return (
        0.0 if low is None else distribution_function(base, low),
        1.0 if high is None else distribution_function(base, high),
    )


def _truncated(distribution: Any, x: Any) -> Any:
    low, high = _between(distribution)
    return (distribution_function(distribution.base_dist, x) - low) / (high - low)


def _mixed_tails(distribution: Any, x: Any) -> Tails:
    weights = mixing_weights(distribution)
    low, high = log_tails(distribution.component_distribution, x[..., None])
    weights = jnp.broadcast_to(weights, low.shape)
    return logsumexp(low, axis=-1, b=weights), logsumexp(high, axis=-1, b=weights)


def mixing_weights(mixture: Any) -> jax.Array:
    """The probabilities of a mixture's components; they sum to one even if those given do not."""
    probs = at_least_float32(jnp.asarray(mixture.mixing_distribution.probs))
    return probs / jnp.sum(probs, axis=-1, keepdims=True)


rule(
    dist.ExpandedDistribution,
    lambda d, x: standardize(d.base_dist, x),
    lambda d, x: log_tails(d.base_dist, x),
    _of_base,
)
rule(
    (dist.TransformedDistribution, dist.LogNormal, dist.InverseGamma),
    lambda d, x: standardize(d.base_dist, _inverse(d, x)),
    _transformed_tails,
    _is_monotone,
)
rule(
    (
        dist.LeftTruncatedDistribution,
        dist.RightTruncatedDistribution,
        dist.TwoSidedTruncatedDistribution,
        dist.LeftTruncatedGamma,
        dist.RightTruncatedGamma,
        dist.TwoSidedTruncatedGamma,
    ),
    *of_number(_truncated),
    _of_base,
)
rule(
    dist.MixtureSameFamily,
    nearer_tail(_mixed_tails),
    _mixed_tails,
    lambda d: has_distribution_function(d.component_distribution),
)
