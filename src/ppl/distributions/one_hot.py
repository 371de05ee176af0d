"""One of K categories as a one-hot vector of floats."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints


class OneHotCategorical(Distribution):
    """A category as a one-hot vector of floats: the vertices of the simplex.

    The log density is linear in the value, `sum(value * log p)`, so that it extends to the whole simplex,
    where relaxed values lie. The support is therefore stated as the simplex; draws are its vertices.
    NumPyro has no such class.

    Example:
        >>> import jax.numpy as jnp
        >>> law = OneHotCategoricalProbs(jnp.array([0.5, 0.25, 0.25]))
        >>> law.log_prob(jnp.array([0.0, 1.0, 0.0])).round(4).item()
        -1.3863
        >>> law.log_prob(jnp.array([0.5, 0.5, 0.0])).round(4).item()
        -1.0397
    """

    support: Any = constraints.simplex
    has_enumerate_support = True

    def __init__(self, parameter: Any, *, validate_args: bool | None = None) -> None:
        shape = jnp.shape(parameter)
        if not shape:
            raise ValueError("the parameter must be at least one-dimensional.")
        super().__init__(batch_shape=shape[:-1], event_shape=shape[-1:], validate_args=validate_args)

    @property
    def probs(self) -> jax.Array:
        """The probability of each category."""
        return jnp.exp(self.log_probs)

    @property
    def log_probs(self) -> jax.Array:
        """The log probability of each category."""
        raise NotImplementedError

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """One-hot vectors of shape `sample_shape + batch_shape + (K,)`."""
        log_probs = self.log_probs
        index = jax.random.categorical(key, log_probs, shape=(*sample_shape, *self.batch_shape))
        return jax.nn.one_hot(index, self.event_shape[0], dtype=log_probs.dtype)

    def log_prob(self, value: Any) -> jax.Array:
        """`sum(value * log p)`, with derivative `log p` in the value, wherever it lies."""
        log_probs = self.log_probs
        possible = jnp.isfinite(log_probs)
        score = jnp.sum(value * jnp.where(possible, log_probs, 0.0), axis=-1)
        # Minus infinity for a category that is ruled out and yet has a share, by a test for NaN: it is no
        # comparison at which the density of a moving value would jump.
        lost = jax.lax.stop_gradient(jnp.where(possible, 0.0, -jnp.inf) * value)
        return score + jnp.sum(jnp.where(jnp.isnan(lost), 0.0, lost), axis=-1)

    def enumerate_support(self, expand: bool = True) -> jax.Array:
        """The vertices, in front of the batch axes."""
        size = self.event_shape[0]
        values = jnp.eye(size, dtype=self.log_probs.dtype).reshape(size, *(1 for _ in self.batch_shape), size)
        return jnp.broadcast_to(values, (size, *self.batch_shape, size)) if expand else values

    @property
    def mean(self) -> jax.Array:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> jax.Array:
        """Of each entry."""
        return self.probs * (1 - self.probs)


class OneHotCategoricalProbs(OneHotCategorical):
    """A one-hot category of probabilities `probs`, along the last axis."""

    arg_constraints: ClassVar[dict[str, Any]] = {"probs": constraints.simplex}
    probs: Any = None

    def __init__(self, probs: Any, *, validate_args: bool | None = None) -> None:
        self.probs = probs
        super().__init__(probs, validate_args=validate_args)

    @property
    def log_probs(self) -> jax.Array:
        """Their logarithms; the derivative at probability zero is left out."""
        probs = jnp.asarray(self.probs)
        positive = probs > 0
        return jnp.where(positive, jnp.log(jnp.where(positive, probs, 1)), -jnp.inf)


class OneHotCategoricalLogits(OneHotCategorical):
    """A one-hot category of unnormalized log probabilities `logits`, along the last axis."""

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real_vector}

    def __init__(self, logits: Any, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits, validate_args=validate_args)

    @property
    def log_probs(self) -> jax.Array:
        """The logits, normalized."""
        return jax.nn.log_softmax(jnp.asarray(self.logits), axis=-1)
