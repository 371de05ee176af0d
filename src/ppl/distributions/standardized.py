"""(x - location) / scale, with a derivative in terms of the quotient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


@jax.custom_jvp
def standardized(x: jax.Array, location: jax.Array, scale: jax.Array) -> jax.Array:
    """The quotient z = (x - location) / scale, with dz = (dx - dlocation - z dscale) / scale.

    JAX's own derivative of a quotient goes back to the difference, -(x - location) / scale² dscale. XLA keeps
    quotients but computes differences anew wherever they are used, with what is cheap before them: in a
    marginal over an angle, sine and cosine of every particle, twelve times instead of eight.

    Example:
        >>> jax.grad(standardized, argnums=2)(3.0, 1.0, 2.0).item()
        -0.5
    """
    return (x - location) / scale


def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    scale = primals[2]
    z = standardized(*primals)
    dx, dlocation, dscale = (None if isinstance(t, SymbolicZero) else t for t in tangents)
    moves = [dx, None if dlocation is None else -dlocation, None if dscale is None else -z * dscale]
    present = [move for move in moves if move is not None]
    if not present:
        return z, jnp.zeros_like(z)
    return z, jnp.broadcast_to(sum(present[1:], present[0]) / scale, jnp.shape(z))


standardized.defjvp(_derivative, symbolic_zeros=True)
