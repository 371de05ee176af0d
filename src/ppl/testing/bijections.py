"""From the line to the support of a choice, for quadrature: without the ends that NumPyro's own cut off."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import biject_to


class SoftPlus:
    """From the line to what lies above, or below, a bound; straight far from it.

    A density that falls off exponentially to either side does so in the coordinate too.
    """

    def __init__(self, bound: Any, sign: float) -> None:
        self.bound, self.way = bound, sign

    def __call__(self, x: Any) -> Any:
        """The value at a number of the line."""
        return self.bound + self.way * jax.nn.softplus(x)

    def _inverse(self, y: Any) -> Any:  # by the name that NumPyro's transforms have for it
        z = self.way * (y - self.bound)
        return z + jnp.log(-jnp.expm1(-z))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """Of the map, at a number of the line."""
        return -jax.nn.softplus(-x)


class Logistic:
    """From the line to an interval, without the ends cut off."""

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = low, high

    def __call__(self, x: Any) -> Any:
        """The value at a number of the line."""
        return self.low + (self.high - self.low) * jax.nn.sigmoid(x)

    def _inverse(self, y: Any) -> Any:  # by the name that NumPyro's transforms have for it
        z = (y - self.low) / (self.high - self.low)
        return jnp.log(z) - jnp.log1p(-z)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """Of the map, at a number of the line."""
        return jnp.log(self.high - self.low) - jax.nn.softplus(x) - jax.nn.softplus(-x)


def bijection(distribution: Any, entry: tuple[int, ...]) -> Any:
    """From unconstrained numbers to the support of an entry."""
    batch = distribution.batch_shape

    def at(x: Any) -> Any:
        x = jnp.asarray(x)
        return jnp.broadcast_to(x, batch)[entry] if 0 < x.ndim <= len(batch) else x

    leaves, tree = jax.tree.flatten(distribution.support)
    support = jax.tree.unflatten(tree, [at(x) for x in leaves])
    if hasattr(support, "lower_bound") and hasattr(support, "upper_bound"):
        return Logistic(support.lower_bound, support.upper_bound)
    if hasattr(support, "lower_bound"):
        return SoftPlus(support.lower_bound, 1.0)
    if hasattr(support, "upper_bound"):
        return SoftPlus(support.upper_bound, -1.0)
    return biject_to(support)
