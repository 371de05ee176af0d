"""The one random choice of a Metropolis-Hastings step: whether it is taken."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.estimators.reinforce import Reinforce
from ppl.families import flip
from ppl.program import gen


@gen
def _flip(chance: Any) -> Any:
    return flip(chance).using(Reinforce()) @ "accept"


class Decision(NamedTuple):
    """Whether a proposal is taken, and the probability that it had."""

    taken: jax.Array
    chance: jax.Array

    def of(self, proposed: Any, before: Any) -> Any:
        """What the step ends with, a pytree."""
        return jax.tree.map(lambda new, old: jnp.where(self.taken, new, old), proposed, before)


def metropolis(log_ratio: jax.Array, score: jax.Array) -> Decision:
    """Inside a program: a proposal is taken with probability `min(1, exp(log_ratio))`.

    It is a choice at `"accept"`, scored if not chosen otherwise: derivatives go through. Where the log
    density is minus infinity before the step, by `score`, anything is better.
    """
    chance = jnp.exp(jnp.minimum(jnp.where(score > -jnp.inf, log_ratio, 0.0), 0.0))
    return Decision(_flip(chance).propose().retval, chance)
