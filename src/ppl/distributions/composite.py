"""Distributions made from others: transformed, independent, expanded, masked, inflated at zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import discrete

from ppl.distributions.registry import Shape, draw, draws, is_reparameterized
from ppl.noise import BERNOULLI, Noise


def _of_base(distribution: Any) -> bool:
    return is_reparameterized(distribution.base_dist)


@draws(dist.TransformedDistribution, dist.FoldedDistribution, reparameterized=_of_base)
def transformed(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The base's draw through the transforms."""
    value = draw(distribution.base_dist, noise, sample_shape)
    for transform in distribution.transforms:
        value = transform(value)
    return jnp.asarray(value)


@draws(dist.Independent, dist.MaskedDistribution, reparameterized=_of_base)
def wrapped(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The base's draw: only the density differs."""
    return draw(distribution.base_dist, noise, sample_shape)


@draws(dist.ExpandedDistribution, reparameterized=_of_base)
def expanded(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Independent draws of the base along every axis that was added or stretched."""
    base = distribution.base_dist
    added = len(distribution.batch_shape) - len(base.batch_shape)
    padded = (1,) * added + tuple(base.batch_shape)
    repeated = tuple(i for i, size in enumerate(padded) if size != distribution.batch_shape[i])
    sizes = tuple(distribution.batch_shape[i] for i in repeated)
    value = draw(base, noise, (*sample_shape, *sizes))
    lead, rank = len(sample_shape), len(padded)
    value = value.reshape(*sample_shape, *sizes, *padded, *base.event_shape)
    for j, i in enumerate(repeated):  # each repeated axis changes places with the 1 that it fills
        value = jnp.swapaxes(value, lead + j, lead + len(sizes) + i)
    assert value.ndim == lead + len(sizes) + rank + len(base.event_shape)
    return value.reshape(distribution.shape(sample_shape))


@draws(discrete.ZeroInflatedProbs, discrete.ZeroInflatedLogits, reparameterized=False)
def zero_inflated(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Zero with the probability of the gate, else the base's draw."""
    shape = distribution.shape(sample_shape)
    zero = noise.draw(BERNOULLI, shape, jnp.bool_, distribution.gate)
    value = draw(distribution.base_dist, noise, sample_shape)
    return jnp.where(zero, jnp.zeros_like(value), value)
