"""Exact summation over a finite support."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import mass, support_values
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, Estimator, moved
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Enumerate(Estimator):
    """Needs a finite support of K values; K evaluations, vectorized; no variance of its own.

        d/dtheta E[f(x)] = d/dtheta sum_v p(v; theta) f(v)

    A single choice outside loops, lanes and branches is summed over, jointly with the others of its
    kind: the rest of the program is evaluated once under `vmap`, and value and derivative are exact.
    Inside `vmap`, `scan`, `cond` or for an array of choices the sum is taken over one instance at a
    time, all others keeping their randomness; the value is then a draw, the derivative unbiased.

    Attributes:
        support: the values of one instance, shape `(K, *event)`; filled in where the choice is made.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def bet(p):
        ...     return jax.numpy.where(ppl.flip(p) @ "win", 0.0, -p / 2)
        >>> value, slope = bet.value_and_grad(jax.random.key(0), 0.4)
        >>> round(float(value), 4), round(float(slope), 4)
        (-0.12, -0.1)

    References:
        Titsias, Lázaro-Gredilla, "Local expectation gradients for black box variational inference",
        2015.
    """

    support: Any = field(default=None, repr=False)
    joint: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Families whose support is finite and known when the program is staged."""
        return self.support is not None or support_values(distribution) is not None

    @override
    def prepare(self, support: Any) -> Estimator:
        """Keep the support: its bounds may be parameters, which are concrete only where they are made."""
        return replace(self, support=support)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and every other value as a phantom.

        With `v` the draw and `q` the current probabilities, `sum_u (p(u) - q(u)) (f(u) - f(v))` has the
        derivatives of `sum_u p(u) f(u)` to every order; the term `u = v` vanishes.
        """
        value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        support = jnp.asarray(self.support).astype(value.dtype)
        event = len(distribution.event_shape)
        same = value[None] == support.reshape(len(support), *(1,) * (value.ndim - event), *support.shape[1:])
        index = jnp.argmax(jnp.all(same, axis=tuple(range(1 + value.ndim - event, same.ndim))), axis=0)
        others = (index[None] + jnp.arange(1, len(support)).reshape(-1, *(1,) * index.ndim)) % len(support)
        phantoms = support[others]
        weights = jax.vmap(lambda u: moved(mass(distribution, u)))(phantoms)
        return Contribution(value, phantoms=phantoms, weights=weights)
