"""Kernels of infinitely wide networks, as functions of Gram matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_jvp
def angular(cosine: jax.Array) -> jax.Array:
    """(sin t + (pi - t) cos t) / pi of the angle t, from its cosine.

    Its derivative, 1 - t / pi, is finite where that of each part is not: at equal inputs.
    """
    cosine = jnp.clip(cosine, -1.0, 1.0)
    return (jnp.sqrt(1.0 - cosine**2) + (jnp.pi - jnp.arccos(cosine)) * cosine) / jnp.pi


@angular.defjvp
def _angular_jvp(primals, tangents):
    (cosine,), (moved,) = primals, tangents
    return angular(cosine), (1.0 - jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / jnp.pi) * moved


def arc_cosine(gram: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """2 E[relu(f) relu(f')] of Gaussian f, f' with covariance `gram` and variances `left`, `right`.

    The factor makes it keep variances. Shapes (n, m), (n,), (m,).

    Reference: Cho, Saul, "Kernel methods for deep learning", 2009.
    """
    scale = jnp.sqrt(left[:, None] * right)
    return scale * angular(gram / scale)


def nngp(x: jax.Array, y: jax.Array, weight: jax.Array, bias: float = 1.0, depth: int = 3) -> jax.Array:
    """The covariance of a network of ReLU layers without end in width, at the rows of x and of y.

        K_0 = s_b + s_w x.y / d,        K_(l + 1) = s_b + s_w E[relu(f) relu(f')],  f ~ N(0, K_l)

    Args:
        x: inputs, (n, d).
        y: inputs, (m, d).
        weight: s_w, the variance of weights times the width of their layer.
        bias: s_b, the variance of biases.
        depth: how many hidden layers.

    Reference: Lee, Bahri, Novak, Schoenholz, Pennington, Sohl-Dickstein, "Deep neural networks as Gaussian
    processes", 2018.
    """
    inner = lambda one, other: bias + weight * one @ other.T / x.shape[1]
    gram = inner(x, y)
    left, right = (bias + weight * jnp.sum(z**2, axis=1) / x.shape[1] for z in (x, y))
    for _ in range(depth):
        gram = bias + weight / 2 * arc_cosine(gram, left, right)
        left, right = (bias + weight / 2 * variance for variance in (left, right))
    return gram


def nngp_variance(x: jax.Array, weight: jax.Array, bias: float = 1.0, depth: int = 3) -> jax.Array:
    """The diagonal of `nngp(x, x)`."""
    variance = bias + weight * jnp.sum(x**2, axis=1) / x.shape[1]
    for _ in range(depth):
        variance = bias + weight / 2 * variance
    return variance
