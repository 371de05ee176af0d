"""The law of Burr, type XII: NumPyro has none, and any distribution of NumPyro's kind is a measure."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import constraints


class BurrXII(npd.Distribution):
    """P(s > x) = (1 + (x / scale)^c)^(-d): tails like x^(-c d), and with c < 1 a pole at zero.

    Reference: Burr, "Cumulative frequency functions", 1942.
    """

    arg_constraints = dict.fromkeys(("c", "d", "scale"), constraints.positive)
    support = constraints.positive
    reparametrized_params = ("c", "d", "scale")
    pytree_data_fields = ("c", "d", "scale")

    def __init__(self, c: Any, d: Any, scale: Any = 1.0, *, validate_args: Any = None) -> None:
        self.c, self.d, self.scale = c, d, scale
        shape = jnp.broadcast_shapes(*(jnp.shape(x) for x in (c, d, scale)))
        super().__init__(shape, validate_args=validate_args)

    @override
    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        exponential = jax.random.exponential(key, self.shape(sample_shape))
        return self.scale * jnp.expm1(exponential / self.d) ** (1.0 / self.c)

    @override
    def log_prob(self, value: Any) -> jax.Array:
        log_ratio = jnp.log(value / self.scale)
        constant = jnp.log(self.c * self.d) - jnp.log(value)
        return constant + self.c * log_ratio - (self.d + 1.0) * jax.nn.softplus(self.c * log_ratio)
