"""A key for code of other libraries, drawn as a choice like any other."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import constraints

from ppl.families import dist
from ppl.program import gen


class KeyBits(npd.Distribution):
    """The bits of a key of JAX: independent fair coins, in words of 32."""

    support = constraints.independent(constraints.nonnegative_integer, 1)  # pyright: ignore

    def __init__(self, *, validate_args: Any = None) -> None:
        super().__init__((), (_words(),), validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Words of shape `sample_shape + (words,)`."""
        return jax.random.bits(key, (*sample_shape, *self.event_shape), jnp.uint32)

    def log_prob(self, value: Any) -> jax.Array:
        """Minus 32 log 2 for each word."""
        return jnp.full(jnp.shape(value)[:-1], -32 * math.log(2) * self.event_shape[0])


def _words() -> int:
    """How many there are in a key of the default generator."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape[0]


@gen
def _bits() -> Any:
    return dist(KeyBits()) @ "bits"


def fresh_key() -> jax.Array:
    """Inside a program: a key; whatever is drawn by it belongs to the choice at `"bits"`.

    No derivative goes through what it draws, so whoever draws by it has to refuse them.
    """
    return jax.random.wrap_key_data(_bits().propose().retval)
