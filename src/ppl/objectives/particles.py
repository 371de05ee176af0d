"""What objectives over several particles, and over detached guides, share."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ppl.detached import Detached
from ppl.errors import UnsupportedProgram
from ppl.measure import Measure


def at_least(least: int, particles: int, objective: str) -> None:
    """Refuse too few particles.

    Raises:
        TypeError: the number is not whole; names the objective.
        ValueError: it is too small.
    """
    if isinstance(particles, bool) or not hasattr(particles, "__index__"):
        raise TypeError(f"the number of particles of {objective} is a Python integer, got {particles!r}")
    if particles < least:
        number = {1: "one particle", 2: "two particles"}[least]
        raise ValueError(f"{objective} needs at least {number}, got {particles}")


def log_mean_exp(log_weights: jax.Array) -> jax.Array:
    """The logarithm of the mean of weights, along the last axis."""
    return jax.nn.logsumexp(log_weights, axis=-1) - jnp.log(log_weights.shape[-1])


def check_attached(guide: Measure, objective: str) -> None:
    """Refuse a guide that is detached already, whose own derivative would be lost.

    Raises:
        UnsupportedProgram: it is.
    """
    if isinstance(guide, Detached):
        raise UnsupportedProgram(
            f"{objective} was given {guide!r}. Pass the guide itself: {objective} holds fixed what it has "
            "to, and needs the rest."
        )
