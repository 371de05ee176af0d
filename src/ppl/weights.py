"""What everything that draws several weighted particles shares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.core import Tracer


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


def finite_number(number: float, what: str) -> float:
    """The number, if it is one that Python can compare.

    Raises:
        TypeError: it is not; a traced number is not.
        ValueError: it is not finite.
    """
    if isinstance(number, bool | Tracer) or not hasattr(number, "__float__"):
        raise TypeError(f"{what} is a Python number, got {number!r}")
    value = float(number)
    if not abs(value) < float("inf"):
        raise ValueError(f"{what} is finite, got {number!r}")
    return value


def log_mean_exp(log_weights: jax.Array) -> jax.Array:
    """The logarithm of the mean of weights, along the last axis."""
    return jax.nn.logsumexp(log_weights, axis=-1) - jnp.log(log_weights.shape[-1])
