"""How a beta draw moves with its concentrations at a fixed value of its distribution function.

JAX's incomplete beta function has no derivative in its concentrations. Here it is, relative to the density,
from a series where the draw is small and from an integral elsewhere.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma

_TERMS = 24
_SMALL, _FLAT = 0.3, 0.5  # the series is used where x and x b are below these: its terms fall like 0.3^n
_LOWEST, _COUNT, _REACH = -3.2, 96, 40.0  # of the double exponential rule; exp(-_REACH) is where it stops


def velocity(s: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """ds/da and ds/db of the logit `s` of a beta draw, -(dF/da) / q(s) and -(dF/db) / q(s); q is its density.

    All arrays have one shape. The two are mirror images: 1 - x is a beta draw with `a` and `b` exchanged, and
    logit -s. Relative error below 1e-7 in double precision for concentrations from 0.01 to 1,000.
    """
    return _velocity(s, a, b), -_velocity(-s, b, a)


def _velocity(s: Any, a: Any, b: Any) -> Any:
    small = (jax.nn.sigmoid(s) < _SMALL) & (b * jax.nn.sigmoid(s) < _FLAT)
    return jnp.where(small, _by_series(jnp.where(small, s, -5.0), a, b), _by_integral(s, a, b))


def _by_series(s: Any, a: Any, b: Any) -> Any:
    """From F = x^a / B(a, b) sum_n c_n x^n / (a + n), with c_n = (1 - b)_n / n!.

    Differentiated term by term, divided by q(s) = x^a (1 - x)^b / B(a, b).
    """
    x, log_x = jax.nn.sigmoid(s), -jax.nn.softplus(-s)
    base = (
        log_x - digamma(a + 1) + digamma(a + b)
    )  # log x - psi(a) + psi(a + b) - 1 / a, without a difference
    total, power = base / a, jnp.ones_like(x)
    for n in range(1, _TERMS):
        power = power * x * (n - b) / n
        total = total + power / (a + n) * (base + n / (a * (a + n)))  # 1 / a - 1 / (a + n)
    return -total * jnp.exp(b * jax.nn.softplus(s))


def _by_integral(s: Any, a: Any, b: Any) -> Any:
    """From dF/da = int_{-inf}^s (log x(t) - m) q(t) dt, with x = sigmoid and m = psi(a) - psi(a + b).

    The integrand changes sign where log x = m, and over the whole line the integral is zero. So it is taken
    to the left of s below that point and to the right of s above it, and nothing cancels. On either side log
    q is concave, falls at s by 1 within `width`, and at last with the slope `rate`; the nodes are geometric
    in between.
    """
    mean, log_x = -_digamma_difference(a, b), -jax.nn.softplus(-s)
    left = log_x < mean
    sign, rate, other = jnp.where(left, -1.0, 1.0), jnp.where(left, a, b), jnp.where(left, b, a)
    x = jax.nn.sigmoid(-sign * s)  # the weight of the side that is left behind
    slope, bend = rate * (1 - x) - other * x, (a + b) * x * (1 - x)
    width = 2 / (slope + jnp.sqrt(slope**2 + 2 * bend))
    highest = jnp.log(_REACH / (rate * width) + _REACH)
    step = (highest - _LOWEST) / (_COUNT - 1)

    def term(index: Any) -> Any:
        z = _LOWEST + step * index
        y = width * jnp.exp(z - jnp.exp(-z))
        t = s + sign * y
        low, high = jax.nn.softplus(-t), jax.nn.softplus(t)
        height = jnp.exp(a * (-log_x - low) + b * (jax.nn.softplus(s) - high))
        return height * jnp.abs(low + mean) * y * (1 + jnp.exp(-z)) * step

    return jnp.sum(jax.vmap(term)(jnp.asarray(np.arange(_COUNT), s.dtype)), axis=0)


def _digamma_difference(a: Any, b: Any) -> Any:
    """psi(a + b) - psi(a) as a sum of positive terms, so that it keeps its digits where b is far below a."""
    shifts = range(10)
    low, high = a + len(shifts), a + b + len(shifts)
    first = sum(b / ((a + j) * (a + b + j)) for j in shifts)  # by psi(z + 1) = psi(z) + 1 / z
    u, v = 1 / low**2, 1 / high**2
    gap = b * (low + high) * u * v  # u - v
    # The asymptotic series of psi: log z - 1 / 2z - 1 / 12z^2 + 1 / 120z^4 - 1 / 252z^6 + ...
    tail = gap * (1 / 12 - (u + v) / 120 + (u * u + u * v + v * v) / 252)
    return first + jnp.log1p(b / low) + b / (2 * low * high) + tail
