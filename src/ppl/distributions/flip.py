"""A coin: the Bernoulli distribution whose values are truth values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import BernoulliProbs


class Flip(BernoulliProbs):
    """True with probability `probs`: NumPyro's `BernoulliProbs` with values of dtype bool.

    Example:
        >>> import jax
        >>> Flip(0.25).log_prob(True).round(4).item()
        -1.3863
        >>> Flip(1.0).sample(jax.random.key(0)).item()
        True
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Booleans of shape `sample_shape + batch_shape`."""
        return jax.random.bernoulli(key, self.probs, (*sample_shape, *self.batch_shape))

    def enumerate_support(self, expand: bool = True) -> jax.Array:
        """False, then true, in front of the batch axes."""
        return super().enumerate_support(expand).astype(jnp.bool_)
