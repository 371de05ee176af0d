"""A window on a canvas, and back: resampled by two small matrix products, as there is no rotation.

Reference: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, "Spatial transformer networks", 2015.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def centers(size: int) -> jax.Array:
    """Of pixels, in coordinates of which the picture's edges are -1 and 1."""
    return (2 * jnp.arange(size, dtype=jnp.float32) + 1.0) / size - 1


def hat(at: jax.Array, size: int) -> jax.Array:
    """The matrix that interpolates `size` pixels linearly at coordinates `at`; zero beyond the picture."""
    position = ((at + 1) * size - 1) / 2
    return jnp.maximum(0.0, 1 - jnp.abs(position[:, None] - jnp.arange(size)))


def place(window: jax.Array, where: jax.Array, canvas: int) -> jax.Array:
    """A canvas with the window on it: pixel (u, v) is the window's at (s u + x, s v + y)."""
    scale, x, y = where
    rows, columns = (hat(scale * centers(canvas) + shift, len(window)) for shift in (y, x))
    return rows @ window @ columns.T


def attend(image: jax.Array, where: jax.Array, window: int) -> jax.Array:
    """What the window shows of the image: the inverse of `place`."""
    scale, x, y = where
    rows, columns = (hat((centers(window) - shift) / scale, len(image)) for shift in (y, x))
    return rows @ image @ columns.T
