"""Supports that can be listed."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro.distributions import discrete

from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategorical

_MOST_VALUES = 4096  # of a joint support, the product over an event's entries


def support_values(distribution: Any) -> np.ndarray | None:
    """All values of one instance, shape `(K, *event_shape)`, if they are known now and finite in number.

    `None` for a continuous or infinite support, for bounds that are traced or differ between instances,
    and for an event with more than 4,096 joint values.

    Example:
        >>> import jax.numpy as jnp, numpyro.distributions as dist
        >>> support_values(dist.CategoricalLogits(jnp.zeros(3)))
        array([0, 1, 2], dtype=int32)
    """
    values = _values(distribution)
    return None if values is None else np.asarray(values)


@singledispatch
def _values(distribution: Any) -> np.ndarray | None:
    return None


def _range(low: Any, high: Any) -> np.ndarray | None:
    if any(isinstance(bound, Tracer) for bound in (low, high)):
        return None
    low, high = np.unique(np.asarray(low)), np.unique(np.asarray(high))
    if low.size != 1 or high.size != 1:
        return None
    return np.arange(low[0], high[0] + 1).astype(jnp.result_type(int))


@_values.register(dist.BernoulliProbs)
@_values.register(dist.BernoulliLogits)
def _(distribution: Any) -> np.ndarray | None:
    return _range(0, 1)


@_values.register(Flip)
def _(distribution: Any) -> np.ndarray | None:
    return np.array([False, True])


@_values.register(dist.CategoricalProbs)
def _(distribution: Any) -> np.ndarray | None:
    return _range(0, jnp.shape(distribution.probs)[-1] - 1)


@_values.register(dist.CategoricalLogits)
def _(distribution: Any) -> np.ndarray | None:
    return _range(0, jnp.shape(distribution.logits)[-1] - 1)


@_values.register(OneHotCategorical)
def _(distribution: Any) -> np.ndarray | None:
    return np.eye(distribution.event_shape[0])


@_values.register(dist.BinomialProbs)
@_values.register(dist.BinomialLogits)
@_values.register(dist.BetaBinomial)
def _(distribution: Any) -> np.ndarray | None:
    return _range(0, distribution.total_count)


@_values.register(dist.DiscreteUniform)
def _(distribution: Any) -> np.ndarray | None:
    return _range(distribution.low, distribution.high)


@_values.register(dist.ExpandedDistribution)
@_values.register(dist.MaskedDistribution)
@_values.register(discrete.ZeroInflatedProbs)
@_values.register(discrete.ZeroInflatedLogits)
def _(distribution: Any) -> np.ndarray | None:
    return _values(distribution.base_dist)


@_values.register(dist.MixtureSameFamily)
def _(distribution: Any) -> np.ndarray | None:
    return _values(distribution.component_distribution)


@_values.register(dist.Independent)
def _(distribution: Any) -> np.ndarray | None:
    values, event = _values(distribution.base_dist), distribution.event_shape
    if values is None or distribution.base_dist.event_shape:
        return None
    entries = int(np.prod(event))
    if len(values) ** entries > _MOST_VALUES:
        return None
    grid = np.meshgrid(*[values] * entries, indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=-1).reshape(-1, *event)
