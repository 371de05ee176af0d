"""A linear-Gaussian chain as a program."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ppl
from models.common.linear_gaussian import Chain


@ppl.gen
def markov_chain(chain: Chain, reverse: bool = False):
    """All states of a chain, of shape (times, states), at the address "state".

    A prior runs forward and a posterior in reverse; both make the same choices, so that one can guide the
    other.
    """

    def step(state, transition):
        center = transition.matrix @ state + transition.offset
        state = ppl.multivariate_normal(center, scale_tril=transition.factor) @ "state"
        return state, state

    start = jnp.zeros_like(chain.offset[0])
    return jax.lax.scan(step, start, chain, reverse=reverse)[1]
