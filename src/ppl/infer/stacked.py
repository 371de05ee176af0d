"""Pytrees of particles, along a leading axis."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def at(particles: Any, index: Any) -> Any:
    """One particle, or those that an array of indices names."""
    return jax.tree.map(lambda x: x[index], particles)


def alone(particle: Any) -> Any:
    """One particle as all there are."""
    return jax.tree.map(lambda x: x[None], particle)


def prepended(first: Any, others: Any) -> Any:
    """All particles: one, and the others after it."""
    return jax.tree.map(lambda x, rest: jnp.concatenate([x[None], rest]), first, others)


def with_first(first: Any, particles: Any) -> Any:
    """As many particles, of which the first is another one."""
    return jax.tree.map(lambda x, some: some.at[0].set(x), first, particles)


def rest(particles: Any) -> Any:
    """All but the first."""
    return jax.tree.map(lambda x: x[1:], particles)
