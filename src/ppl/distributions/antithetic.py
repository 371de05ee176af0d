r"""Antithetic pairs of a finite support: two draws of one law that differ as often as they can.

Let `p` be the probabilities of `K` values, and `top` the largest of them. The pair `(x, y)` has the joint law

    q(i, j) = p_i p_j (g_i + g_j) / (e + t),      i != j,

with `e = max(0, 1 - 2 top)`, `g_i = e / (1 - 2 p_i)`, which is one at the largest, and `t = sum_k p_k g_k`.
It is symmetric, and both of its margins are `p`, since for `top <= 1/2`

    sum_{j != i} q(i, j) = p_i (g_i (1 - 2 p_i) + t) / (e + t) = p_i.

So two draws are then never equal; this is the design of Brewer (1963) and Durbin (1967) for two units
without replacement. If `top > 1/2`, one of the two is always the most probable value, both are with the
remaining probability `2 top - 1`, and no pair of one law differs more often. With two values this is
`1[u < p]` and `1[u > 1 - p]` of one uniform number `u`.

A derivative `dp` of the probabilities is carried by the pair as a *flow*. For a function `h` of the values,

    E[(h(y) - h(x)) (f(y) - f(x))] = sum_j f(j) 2 sum_i q(i, j) (h(j) - h(i)),

so this is `sum_j f(j) dp_j` for every `f` if `sum_i q(i, j) (h(j) - h(i)) = dp_j / 2`. These are the
equations of a potential `h` in a network of conductances `q`. Of all weights of the pair that are unbiased,
those of a potential have the least `sum_ij q(i, j) w(i, j)^2` (Thomson's principle), and so the least
variance where nothing is known of `f`. Here they have a solution in closed form: with `sum_k p_k h_k = 0`,

    h_j = ((e + t) s_j / 2 + c) / (g_j + t),      s_j = dp_j / p_j,
    c = -(e + t) / 2 sum_k p_k s_k / (g_k + t)  /  sum_k p_k / (g_k + t).

References:
    Brewer, "A model of systematic sampling with unequal probabilities", 1963.
    Durbin, "Design of multi-stage surveys for the estimation of sampling errors", 1967.
    Doyle, Snell, "Random walks and electric networks", 1984 (Thomson's principle).
    Dong, Mnih, Tucker, "Coupled gradient estimators for discrete latent variables", 2021.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.distributions.masses import at


class _Coupling(NamedTuple):
    """`g`, shape `(K, *b)`, and `e` and `t`, shape `b`."""

    tilt: Any
    slack: Any
    total: Any


def _coupling(probabilities: Any) -> _Coupling:
    top = jnp.max(probabilities, axis=0)
    slack = jnp.maximum(1 - 2 * top, 0)
    room = jnp.maximum(1 - 2 * probabilities, jnp.finfo(probabilities.dtype).tiny)
    tilt = jnp.where(probabilities == top, 1, slack / room)
    return _Coupling(tilt, slack, jnp.sum(probabilities * tilt, axis=0))


def partner(probabilities: Any, place: Any) -> jax.Array:
    """The law of the second of a pair given the first, whose indicator is `place`; all of shape `(K, *b)`.

    Example:
        >>> import jax.numpy as jnp
        >>> heads = jnp.array([False, True])
        >>> partner(jnp.array([0.25, 0.75]), heads).round(4).tolist()
        [0.3333, 0.6667]
    """
    tilt, slack, total = _coupling(probabilities)
    other = probabilities * (at(place, tilt) + tilt) / (slack + total)
    other = jnp.where(place, 0, other)
    # The rest is rounding if the largest probability is at most a half: the two are never equal then.
    stay = jnp.where(jnp.max(probabilities, axis=0) > 0.5, 1 - jnp.sum(other, axis=0), 0)
    alone = jnp.sum(probabilities > 0, axis=0) == 1
    return jnp.where(place, jnp.where(alone, 1, jnp.maximum(stay, 0)), other)


def potential(probabilities: Any, change: Any) -> jax.Array:
    """`h` for the derivative `change` of the probabilities, in which it is linear; shape `(K, *b)`.

    Example:
        >>> import jax.numpy as jnp
        >>> h = potential(jnp.array([0.25, 0.75]), jnp.array([-1.0, 1.0]))
        >>> float(h[1] - h[0])  # dp / (2 min(p, 1 - p))
        2.0
    """
    tilt, slack, total = _coupling(probabilities)
    held = probabilities > 0
    score = jnp.where(held, change / jnp.where(held, probabilities, 1), 0)
    scale = (slack + total) / 2
    mean = lambda x: jnp.sum(probabilities * x / (tilt + total), axis=0)
    center = -scale * mean(score) / mean(jnp.ones_like(score))
    return (scale * score + center) / (tilt + total)
