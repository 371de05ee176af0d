"""Fractional Brownian motion as a sum of Ornstein-Uhlenbeck processes: the best weights, in closed form.

With alpha = H + 1/2, the Riemann-Liouville process ("type II") and that of Mandelbrot and Van Ness ("type
I") are

    II:  B(t) = 1/Γ(alpha) int_0^t (t - s)^(alpha-1) dW_s
    I:   II + 1/Γ(alpha) int_-inf^0 [(t - s)^(alpha-1) - (-s)^(alpha-1)] dW_s

so that the variance of the second at time one is V_H = 1 / (Γ(2H + 1) sin(πH)), and not one. Both are
approximated by processes that share one Brownian motion, dY_k = -γ_k Y_k dt + dW:

    II:  B^(t) = sum_k w_k Y_k(t),             Y(0) = 0
    I:   B^(t) = sum_k w_k (Y_k(t) - Y_k(0)),  Y(0) ~ N(0, P),  P_ij = 1 / (γ_i + γ_j)

The expected squared error, int_0^T E(B^ - B)^2 dt = w'Aw - 2 b'w + c, has its minimum at w = A^-1 b,
which is differentiable in H.

Reference: Daems, Opper, Crevecoeur, Birdal, "Variational inference for SDEs driven by fractional noise",
2024.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammainc, gammaincc, gammaln

Kind = Literal["I", "II"]

# Of Gauss and Laguerre; where z is above the edge the rule is exact to 1e-13.
NODES = np.polynomial.laguerre.laggauss(48)
EDGE = 1.5


class QuadraticForm(NamedTuple):
    """w'Aw - 2 b'w + c."""

    a: jax.Array
    b: jax.Array
    c: jax.Array

    def error(self, weights: Any) -> jax.Array:
        """The mean squared error of these weights, relative to what is approximated."""
        return (weights @ self.a @ weights - 2.0 * self.b @ weights + self.c) / self.c


def geometric_rates(number: int, highest: float = 20.0, offset: float = 0.0) -> np.ndarray:
    """γ_k = r^(k - n), n = (K + 1) / 2 + offset, up to the highest; symmetric about one without offset."""
    ratio = highest ** (2.0 / (number - 1 - 2.0 * offset))
    return ratio ** (np.arange(1, number + 1) - (number + 1) / 2.0 - offset)


def spread_rates(number: int, lowest: float, highest: float) -> np.ndarray:
    """Geometric, between two ends: type I needs slow processes where H > 1/2."""
    return np.geomspace(lowest, highest, number)


def scaled_upper_gamma(alpha: Any, z: Any) -> jax.Array:
    """exp(z) Q(alpha, z), which neither overflows nor cancels; Q is the regularized upper incomplete gamma.

    exp(z) Γ(alpha, z) = z^(alpha-1) int_0^inf exp(-v) (1 + v/z)^(alpha-1) dv, by Gauss and Laguerre.
    """
    z = jnp.asarray(z)
    large = jnp.maximum(z, EDGE)
    nodes, weights = (jnp.asarray(part, z.dtype) for part in NODES)
    integral = jnp.sum(weights * (1.0 + nodes / large[..., None]) ** (alpha - 1.0), -1)
    rule = large ** (alpha - 1.0) * integral / jnp.exp(gammaln(alpha))
    small = jnp.minimum(z, EDGE)
    return jnp.where(z > EDGE, rule, jnp.exp(small) * gammaincc(alpha, small))


def variance_of_type_one(hurst: Any) -> jax.Array:
    """V_H: by it, type I differs from the fractional Brownian motion of unit variance."""
    return jnp.exp(-gammaln(2.0 * hurst + 1.0)) / jnp.sin(jnp.pi * hurst)


def quadratic_form(hurst: Any, rates: np.ndarray, horizon: float, kind: Kind = "II") -> QuadraticForm:
    """A, b and c of the squared error on [0, horizon]."""
    return (_type_two if kind == "II" else _type_one)(jnp.asarray(hurst), jnp.asarray(rates), horizon)


def _type_two(hurst: jax.Array, rates: jax.Array, horizon: float) -> QuadraticForm:
    alpha, sums = hurst + 0.5, rates[:, None] + rates
    a = (horizon + jnp.expm1(-sums * horizon) / sums) / sums
    lower = lambda order: gammainc(jnp.broadcast_to(order, rates.shape), rates * horizon)
    b = (horizon * lower(alpha) - alpha / rates * lower(alpha + 1.0)) / rates**alpha
    variance = jnp.exp(-2.0 * gammaln(alpha)) / (2.0 * hurst)
    return QuadraticForm(a, b, variance * horizon ** (2.0 * hurst + 1.0) / (2.0 * hurst + 1.0))


def _type_one(hurst: jax.Array, rates: jax.Array, horizon: float) -> QuadraticForm:
    alpha, sums = hurst + 0.5, rates[:, None] + rates
    decays = jnp.expm1(-rates * horizon) / rates
    a = (2.0 * horizon + decays[:, None] + decays) / sums
    b = (
        2.0 * horizon / rates**alpha
        - jnp.exp(alpha * jnp.log(horizon) - gammaln(alpha + 1.0)) / rates
        + (jnp.exp(-rates * horizon) - scaled_upper_gamma(alpha, rates * horizon)) / rates ** (alpha + 1.0)
    )
    c = variance_of_type_one(hurst) * horizon ** (2.0 * hurst + 1.0) / (2.0 * hurst + 1.0)
    return QuadraticForm(a, b, c)


class Driver(NamedTuple):
    """An approximate fractional Brownian motion.

    Attributes:
        rates: γ, of shape (K,).
        weights: w, of shape (K,).
    """

    rates: jax.Array
    weights: jax.Array


def driver(hurst: Any, rates: np.ndarray, horizon: float, kind: Kind = "II") -> Driver:
    """That of the best weights.

    Raises:
        TypeError: in single precision, where w would have no digits: A has a condition number of 1e6.
    """
    if not jax.config.jax_enable_x64:
        raise TypeError("the weights are solved for in double precision: use `with jax.enable_x64(True)`.")
    form = quadratic_form(jnp.asarray(hurst, jnp.float64), rates, horizon, kind)
    return Driver(jnp.asarray(rates), jnp.linalg.solve(form.a, form.b))


def initial_covariance(rates: Any) -> Any:
    """P, the stationary covariance of Y; type I begins with it."""
    return 1.0 / (rates[:, None] + rates)


def riemann_weights(hurst: float, rates: np.ndarray) -> np.ndarray:
    """What a Riemann sum in log γ makes of the kernel: an ablation, which the best weights have to beat.

    t^(alpha-1) = C int exp(-γt) γ^-alpha dγ,  C = 1 / Γ(1 - alpha), for H < 1/2. Each process stands for the
    rates around its own. Those below all of them are constant on [0, T] and go to the slowest process: the
    sum of all weights is C int_0^top γ^-alpha dγ = C top^(1-alpha) / (1 - alpha). For H > 1/2 the integral
    needs exp(-γt) - 1 in place of exp(-γt). Rates above the top then add the constant C int_top^inf -γ^-alpha
    dγ, and the sum of the weights is by the same formula.
    """
    from scipy.special import gamma

    alpha, ratio = hurst + 0.5, rates[1] / rates[0]
    constant = 1.0 / (gamma(alpha) * gamma(1.0 - alpha))
    weights = constant * rates ** (1.0 - alpha) * np.log(ratio)
    top = rates[-1] * ratio**0.5
    weights[0] += constant * top ** (1.0 - alpha) / (1.0 - alpha) - weights.sum()
    return weights


def equal_weights(form: QuadraticForm) -> np.ndarray:
    """The best among weights that are all the same: another ablation."""
    return np.full(len(form.b), float(form.b.sum() / form.a.sum()))
