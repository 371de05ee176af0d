"""Exponential growth and its inverse, with their derivatives at rate zero."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

_NEAR, _TERMS = 0.1, 12  # below, as many terms of the series are exact to rounding in double precision


def growth(rate: Any, time: Any) -> Any:
    """The integral of exp(rate s) from 0 to `time`: (exp(rate time) - 1) / rate, or `time` at rate zero.

    Example:
        >>> float(growth(0.0, 3.0))
        3.0
    """
    near = jnp.abs(rate * time) < _NEAR
    small, safe = jnp.where(near, rate * time, 0.0), jnp.where(near, 1.0, rate)
    series = jnp.ones_like(small)
    for n in range(_TERMS, 1, -1):
        series = 1 + small / n * series
    return jnp.where(near, time * series, jnp.expm1(jnp.where(near, 0.0, safe * time)) / safe)


def time_to_grow(rate: Any, size: Any) -> Any:
    """The time at which `growth` is `size`: log(1 + rate size) / rate, or `size` at rate zero."""
    near = jnp.abs(rate * size) < _NEAR
    small, safe = jnp.where(near, rate * size, 0.0), jnp.where(near, 1.0, rate)
    series = jnp.zeros_like(small)
    for n in range(_TERMS, 0, -1):
        series = 1 / n - small * series
    return jnp.where(near, size * series, jnp.log1p(jnp.where(near, 0.0, safe * size)) / safe)
