"""Exact covariances: of fractional Brownian motion, its approximation, what is driven by it; and exact paths.

None of them uses the weights' closed form, and data are never simulated from the approximation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special
from scipy.integrate import quad

from models.processes.fractional_noise.coefficients import Driver, Kind


def fractional(hurst: float, times: np.ndarray, kind: Kind = "II") -> np.ndarray:
    """Cov(B(t), B(s)) of positive times.

    II: s^alpha t^(alpha-1) / (alpha Γ(alpha)^2) 2F1(1 - alpha, 1; 1 + alpha; s/t) for s <= t;
    I: V_H / 2 (t^2H + s^2H - |t - s|^2H).
    """
    later, earlier = np.maximum(times[:, None], times), np.minimum(times[:, None], times)
    if kind == "I":
        variance = 1.0 / (special.gamma(2 * hurst + 1) * np.sin(np.pi * hurst))
        power = lambda t: t ** (2 * hurst)
        return variance / 2 * (power(later) + power(earlier) - power(later - earlier))
    alpha = hurst + 0.5
    scale = earlier**alpha * later ** (alpha - 1) / (alpha * special.gamma(alpha) ** 2)
    return scale * special.hyp2f1(1 - alpha, 1, 1 + alpha, earlier / later)


def approximate(driver: Driver, times: np.ndarray, kind: Kind = "II", dt: float = 0.0) -> np.ndarray:
    """Cov(B^(t), B^(s)) of the weighted sum: in continuous time, or of Euler's steps of length dt.

    With a = exp(-γ_i t) and b = exp(-γ_j s), s <= t, the covariance of Y_i(t) - Y_i(0) and Y_j(s) - Y_j(0) is
    (a exp(γ_i s) - a b) / (γ_i + γ_j) + P_ij (1 - a) (1 - b), where P = 0 in type II. In steps exp(-γ dt) is
    1 - γ dt, and γ_i + γ_j is (1 - (1 - γ_i dt) (1 - γ_j dt)) / dt.
    """
    rates, weights = np.asarray(driver.rates), np.asarray(driver.weights)
    later, earlier = np.maximum(times[:, None], times), np.minimum(times[:, None], times)
    one, other = rates[:, None, None, None], rates[:, None, None]  # of the later and the earlier time
    decay = lambda rate, time: (1.0 - rate * dt) ** np.round(time / dt) if dt else np.exp(-rate * time)
    total = one + other - one * other * dt
    pairs = decay(one, later - earlier) * (1.0 - decay(one, earlier) * decay(other, earlier)) / total
    if kind == "I":
        pairs = pairs + (1.0 - decay(one, later)) * (1.0 - decay(other, earlier)) / (one + other)
    return np.einsum("i,j,ijts->ts", weights, weights, pairs)


def driven_kernel(hurst: float, pull: float, lag: float) -> float:
    """κ with X(t) = int_0^t κ(t - s) dW_s for dX = -θ X dt + dB of type II, at a positive lag.

    κ(τ) Γ(alpha) = τ^(alpha-1) - θ int_0^τ exp(-θ(τ - r)) r^(alpha-1) dr
    """
    alpha = hurst + 0.5
    # The integral is τ^alpha / alpha 1F1(1; alpha + 1; -θ τ).
    inner = lag**alpha / alpha * special.hyp1f1(1.0, alpha + 1, -pull * lag)
    return (lag ** (alpha - 1) - pull * inner) / special.gamma(alpha)


def driven(hurst: float, pull: float, later: float, earlier: float) -> float:
    """Cov(X(t), X(s)) for dX = -θ X dt + dB of type II, X(0) = 0, and s <= t: by quadrature.

    int_0^s κ(t - s + v) κ(v) dv. At zero κ(v) goes like v^(alpha-1), so v = s z^p makes it smooth.
    """
    power = max(1.0, 1.5 / hurst)

    def integrand(z: float) -> float:
        v = earlier * z**power
        kernels = driven_kernel(hurst, pull, later - earlier + v) * driven_kernel(hurst, pull, v)
        return kernels * earlier * power * z ** (power - 1.0)

    return quad(integrand, 0.0, 1.0, epsabs=1e-10, epsrel=1e-10, limit=200)[0]


def bridge_variance(hurst: float, pull: float, times: np.ndarray, end: float, noise: float) -> np.ndarray:
    """The variance of X at these times, given a noisy observation at the end."""
    own = np.array([driven(hurst, pull, t, t) for t in times])
    cross = np.array([driven(hurst, pull, end, t) for t in times])
    return own - cross**2 / (driven(hurst, pull, end, end) + noise**2)


def stationary_variance(hurst: float, pull: float) -> float:
    """Of dX = -θ X dt + dB in the long run, where B has unit variance at time one."""
    return special.gamma(2 * hurst + 1) / 2 * pull ** (-2 * hurst)


def paths(random: Any, covariance: np.ndarray, number: int) -> np.ndarray:
    """Exact draws, of shape (number, times)."""
    return random.standard_normal((number, len(covariance))) @ np.linalg.cholesky(covariance).T
