"""How a gamma draw moves with its concentration: implicitly, or as a function of other noise.

`log_x` is the logarithm of a standard gamma draw throughout; small draws have no other representation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.scipy.special import digamma, gammaln, polygamma

_TAIL = -30.0  # below, the gamma's distribution function is its leading power to 13 digits

LogGammas = Callable[[Any, tuple[int, ...]], jax.Array]
"""`(concentration, shape) -> log_x`: logarithms of standard gamma draws, in at least float32."""

Transformation = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""`(log_x, concentration) -> (log_x, score)`: a draw without a derivative as a differentiable function
h(eps; concentration) of noise eps, the same number, and the log density of eps but for a constant."""


def velocity(log_x: Any, concentration: Any) -> tuple[Any]:
    """The derivative of a standard gamma draw's logarithm in its concentration, at a fixed F(x).

    Where x is tiny, or not representable, F = x^a / Gamma(a + 1) gives (psi(a + 1) - log x) / a.
    """
    tail = log_x < _TAIL
    x = jnp.exp(jnp.where(tail, 0.0, log_x))
    inner = jax.lax.random_gamma_grad(concentration, x) / x  # pyright: ignore[reportCallIssue]
    outer = (digamma(concentration + 1) - log_x) / concentration
    return (jnp.where(tail, outer, inner),)


def _moved(x: Any) -> Any:
    return x - stop_gradient(x)


def _log_density(log_x: Any, concentration: Any) -> Any:
    """Of the logarithm of a standard gamma draw."""
    return concentration * log_x - jnp.exp(log_x) - gammaln(concentration)


def by_moments(log_x: Any, concentration: Any) -> tuple[Any, Any]:
    """The standardized logarithm as noise: eps = (log x - psi(a)) / sqrt(psi'(a)), any real number.

    Mean and variance of eps do not depend on the concentration a, though its law does. In value log h(eps; a)
    is log x; it is written as log x and what moves it, so that nothing is lost to rounding.

    Reference: Ruiz, Titsias, Blei, "The generalized reparameterization gradient", 2016, section 3.
    """
    mean, spread = digamma(concentration), jnp.sqrt(polygamma(1, concentration))
    noise = stop_gradient((log_x - mean) / spread)
    moving = stop_gradient(log_x) + _moved(mean) + _moved(spread) * noise
    return moving, _log_density(moving, concentration) + jnp.log(spread)


def by_rejection(log_x: Any, concentration: Any) -> tuple[Any, Any]:
    """The normal proposal of Marsaglia and Tsang's sampler as noise, once it is accepted.

    h(eps; a) = c (1 + eps / k)^3 with c = a - 1/3 and k = sqrt(9 c). The law of the accepted eps is close to
    the standard normal, whatever a is, and the closer the greater a.

    It ends at -k, where its density vanishes like (1 + eps / k)^(3 a - 1): a derivative of order n is right
    where a > n / 3, and of finite variance where a > 2 n / 3.

    References:
        Marsaglia, Tsang, "A simple method for generating gamma variables", 2000.
        Naesseth, Ruiz, Linderman, Blei, "Reparameterization gradients through acceptance-rejection sampling
        algorithms", 2017, section 4.
    """
    center = concentration - 1 / 3
    root = jnp.sqrt(9 * center)
    held = stop_gradient(jnp.exp((log_x - jnp.log(center)) / 3))  # 1 + eps / k
    factor = held + _moved(stop_gradient(root) / root) * (held - 1)
    moving = stop_gradient(log_x) + _moved(jnp.log(center)) + 3 * _moved(jnp.log(factor))
    # The log density of h, and the logarithm of dh / deps = 3 c factor^2 / k over h = c factor^3.
    return moving, _log_density(moving, concentration) - jnp.log(factor) - jnp.log(root)
