"""A family of finite support as a table: its values, and the probability of each.

`K` is the number of values, `b` the batch shape of the distribution, `e` its event shape. Values come as
`(K, *e)`, probabilities as `(K, *b)`, and a value of the table as an *indicator*, a boolean array of shape
`(K, *b)` that holds at one of the `K` places: sums over it are cheaper than gathers and differentiable.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from ppl.distributions.density import mass
from ppl.noise import CATEGORICAL, Noise


def is_masked(distribution: Any) -> bool:
    """Whether some instances may be masked: their density is one everywhere, and no table sums to one.

    Example:
        >>> import numpyro.distributions as dist
        >>> coin = dist.Bernoulli(0.3)
        >>> is_masked(coin), is_masked(coin.mask(False))
        (False, True)
    """
    if isinstance(distribution, dist.MaskedDistribution):
        return True
    inner = (getattr(distribution, name, None) for name in ("base_dist", "component_distribution"))
    return any(is_masked(part) for part in inner if part is not None)


def masses(distribution: Any, support: Any) -> jax.Array:
    """The probability of each value of the support, shape `(K, *b)`; it moves with the parameters.

    Example:
        >>> import jax.numpy as jnp, numpyro.distributions as dist
        >>> masses(dist.BinomialProbs(0.5, 2), jnp.arange(3)).round(2).tolist()
        [0.25, 0.5, 0.25]
    """
    shape = (*distribution.batch_shape, *distribution.event_shape)
    return jax.vmap(lambda value: mass(distribution, jnp.broadcast_to(value, shape)))(support)


def indicator(value: Any, support: Any) -> jax.Array:
    """Where in the table each instance of `value`, shape `(*b, *e)`, stands: shape `(K, *b)`."""
    event = support.ndim - 1
    batch = value.ndim - event
    same = value[None] == support.reshape(len(support), *(1,) * batch, *support.shape[1:])
    return jnp.all(same, axis=tuple(range(1 + batch, same.ndim)))


def at(place: Any, table: Any) -> jax.Array:
    """The entry of a table of shape `(K, *b)` at an indicator of the same shape: shape `b`."""
    return jnp.sum(jnp.where(place, table, 0), axis=0)


def pick(probabilities: Any, noise: Noise) -> jax.Array:
    """The indicator of one draw, from probabilities of shape `(K, *b)` that need not sum to one."""
    count, *batch = probabilities.shape
    logits = jnp.log(jnp.moveaxis(probabilities, 0, -1))
    index = noise.draw(CATEGORICAL, tuple(batch), jnp.result_type(int), logits)
    return index[None] == jnp.arange(count).reshape(count, *(1,) * len(batch))


def value_at(place: Any, support: Any) -> jax.Array:
    """The value of the support at an indicator: shape `(*b, *e)`."""
    return support[jnp.argmax(place, axis=0)]
