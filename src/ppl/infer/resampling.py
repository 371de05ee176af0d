"""Resampling: which particles go on, given their weights.

Each scheme draws the indices of `n` ancestors such that each particle is expected `n` times its normalized
weight often.

Reference: Douc, Cappé, Moulines, "Comparison of resampling schemes for particle filtering", 2005.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.errors import UnsupportedProgram
from ppl.estimators.protocol import Estimator
from ppl.estimators.reinforce import Reinforce
from ppl.families import categorical, uniform
from ppl.program import gen


@gen
def _indices(log_weights: Any, count: int, estimator: Estimator) -> Any:
    one = lambda _: categorical(logits=log_weights).using(estimator) @ "ancestor"
    return jax.vmap(one)(jnp.arange(count))


@gen
def _positions(count: int) -> Any:
    return uniform(jnp.zeros(count), 1.0) @ "ancestor"


class Resampling(ABC):
    """A scheme; a value."""

    exchangeable: ClassVar[bool] = False

    @abstractmethod
    def ancestors(self, log_weights: jax.Array, count: int) -> jax.Array:
        """Inside a program: the indices of `count` ancestors."""

    def lines(self, log_weights: jax.Array, keeps: bool) -> jax.Array:
        """Inside a program: an ancestor for each particle; with `keeps`, the first is its own."""
        count = len(log_weights)
        if not keeps:
            return self.ancestors(log_weights, count).astype(int)
        first = jnp.zeros(1, int)
        if count == 1:
            return first
        return jnp.concatenate([first, self.ancestors(log_weights, count - 1).astype(int)])

    def check_keeps(self, algorithm: str) -> None:
        """Refuse a scheme that cannot keep a particle.

        Raises:
            UnsupportedProgram: `algorithm` is asked for the density of given choices.
        """
        if not self.exchangeable:
            raise UnsupportedProgram(
                f"the density of given choices needs particles that are resampled around them, which "
                f"{self!r} has no form of: use {algorithm}(..., resampling=Multinomial())."
            )


@dataclass(frozen=True)
class Multinomial(Resampling):
    """Independent draws: `n` indices, a choice at `"ancestor"`.

    The only scheme whose choice depends on the weights in a way that has unbiased derivatives, and the only
    one that can keep a particle, as the density of given choices needs it.

    Args:
        estimator: of the indices. `ppl.estimators.Unscored()`, biased, leaves out the derivative of
            resampling.
    """

    estimator: Estimator = field(default_factory=Reinforce)
    exchangeable: ClassVar[bool] = True

    @override
    def ancestors(self, log_weights: jax.Array, count: int) -> jax.Array:
        return _indices(log_weights, count, self.estimator).propose().retval


@dataclass(frozen=True)
class Stratified(Resampling):
    """One uniform number in each of `n` strata: copies vary by less in number than for independent draws.

    Its indices jump where a weight moves, so a derivative with respect to what weights depend on is refused.
    """

    @override
    def ancestors(self, log_weights: jax.Array, count: int) -> jax.Array:
        return _at(log_weights, (jnp.arange(count) + _positions(count).propose().retval) / count)


@dataclass(frozen=True)
class Systematic(Resampling):
    """One uniform number for all strata: a particle of weight `w` has `n w` copies, rounded up or down.

    Its indices jump where a weight moves, so a derivative with respect to what weights depend on is refused.
    """

    @override
    def ancestors(self, log_weights: jax.Array, count: int) -> jax.Array:
        return _at(log_weights, (jnp.arange(count) + _positions(1).propose().retval) / count)


@dataclass(frozen=True)
class Residual(Resampling):
    """`n w` copies rounded down, and independent draws of what is left.

    Its indices jump where a weight moves, so a derivative with respect to what weights depend on is refused.
    """

    @override
    def ancestors(self, log_weights: jax.Array, count: int) -> jax.Array:
        expected = count * jax.nn.softmax(log_weights)
        whole = jnp.floor(expected)
        # Where nothing is left over the draws are not used, but their score must be finite.
        left = jnp.maximum(expected - whole, jnp.finfo(expected.dtype).tiny)
        rest = _indices(jnp.log(left), count, Reinforce()).propose().retval
        ends = jnp.cumsum(whole)
        place = jnp.arange(count)
        kept = jnp.searchsorted(ends, place, side="right")
        return jnp.where(place < ends[-1], jnp.minimum(kept, len(log_weights) - 1), rest)


def check_threshold(threshold: float | None) -> None:
    """Refuse what is no share of the particles."""
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold is a share of the particles, in (0, 1], got {threshold!r}")


def _at(log_weights: jax.Array, positions: jax.Array) -> jax.Array:
    """The particles in whose share of the unit interval these positions lie."""
    ends = jnp.cumsum(jax.nn.softmax(log_weights))
    found = jnp.searchsorted(ends / ends[-1], positions, side="right")
    return jnp.minimum(found, len(log_weights) - 1)
