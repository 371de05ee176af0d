"""What the cone's bounds are exactly, by quadrature in double precision: NumPy and SciPy only, no `ppl`.

Each bound is an integral over the guide's two standard normal variables (a, b), on a grid with the
trapezoidal rule. The integrands are smooth and decay like a Gaussian, where that rule converges faster
than any power of the spacing: halving it, or the width of the bins in `iwelbo`, moves no bound by 2e-5
near its optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.signal import fftconvolve
from scipy.special import i0e
from scipy.stats import norm

Z = 5.0
SPACING = 0.05
_NODES = np.arange(-7, 7 + SPACING / 2, SPACING)
_MASS = norm.pdf(_NODES) * SPACING
A, B = np.meshgrid(_NODES, _NODES, indexing="ij")
MASS = np.outer(_MASS, _MASS)


def log_joint(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(x, y, z = 5) of the cone."""
    s = x**2 + y**2
    return norm.logpdf(x, 0, 10) + norm.logpdf(y, 0, 10) + norm.logpdf(Z, s, 0.1 + s / 100)


def log_evidence() -> float:
    """log p(z = 5) = -5.323232: the posterior's mass lies well inside the square of side 10."""
    x = np.linspace(-5, 5, 2001)
    return float(np.log(np.exp(log_joint(x[:, None], x)).sum() * (x[1] - x[0]) ** 2))


def naive_log_weights(phi: Sequence[float]) -> np.ndarray:
    """log p(x, y, 5) / q(x, y) where x = mx + exp(lx) a and y = my + exp(ly) b; phi = (mx, my, lx, ly)."""
    mx, my, lx, ly = phi
    log_q = norm.logpdf(A) - lx + norm.logpdf(B) - ly
    return log_joint(mx + np.exp(lx) * A, my + np.exp(ly) * B) - log_q


def ring_log_weights(phi: Sequence[float], von_mises: bool) -> np.ndarray:
    """log p(x, y, 5) r(t | x, y) / q(t, x, y) of the ring guide; phi = (log_sd,).

    Everything is invariant under rotation, so that the angle t is 0: x = sqrt(5) + sd a, y = sd b.
    """
    sd = np.exp(phi[0])
    x, y = np.sqrt(5) + sd * A, sd * B
    log_q = norm.logpdf(A) + norm.logpdf(B) - 2 * phi[0]
    if not von_mises:  # r and q(t) are the same uniform density
        return log_joint(x, y) - log_q
    concentration = np.sqrt(5) * np.hypot(x, y) / sd**2
    # cos(atan2(y, x)) - 1, without the cancellation
    turn = -2 * np.sin(np.arctan2(y, x) / 2) ** 2
    return log_joint(x, y) - log_q + concentration * turn - np.log(i0e(concentration))


def elbo(log_weights: np.ndarray) -> float:
    """E[log w]."""
    return float((MASS * log_weights).sum())


def iwelbo(log_weights: np.ndarray, particles: int, width: float = 0.02, lowest: float = -2000.0) -> float:
    """E[log (w_1 + ... + w_n) / n] for independent weights: 2 n dimensions, by one-dimensional integrals.

    Since log S = ∫ (exp(-s) - exp(-s S)) ds / s over s > 0 (Frullani), with M(s) = E[exp(-s w)]

        E log (w_1 + ... + w_n) = ∫ (exp(-s) - M(s) ** n) ds / s.

    With s = exp(u), M is a convolution of the distribution of log w with exp(-exp(u)). The distribution
    is put on a grid of spacing `width`, each value shared between its two neighbors.
    """
    place = (np.maximum(log_weights, lowest).ravel() - lowest) / width
    left = place.astype(int)
    right_share = place - left
    size = left.max() + 2
    mass = np.bincount(left, MASS.ravel() * (1 - right_share), size)
    mass += np.bincount(left + 1, MASS.ravel() * right_share, size)
    mass /= mass.sum()
    # exp(-exp(u)) is 1 below -40 and 0 above 6; the grid of u covers both ends for every weight.
    highest = lowest + width * (size - 1)
    u = np.arange(-40 - max(highest, 0.0), 6 - lowest, width)
    kernel = lambda v: np.exp(-np.exp(np.minimum(v, 7)))
    laplace = fftconvolve(
        kernel(u[0] + lowest + width * np.arange(u.size + size - 1)), mass[::-1], mode="valid"
    )
    return float((kernel(u) - np.clip(laplace, 0, 1) ** particles).sum() * width - np.log(particles))


def highest(bound: Callable[[np.ndarray], float], start: Sequence[float]) -> float:
    """The maximum of a bound over the guide's parameters that is nearest to `start`, to 1e-5."""
    return -float(minimize(lambda phi: -bound(phi), start, method="BFGS", options={"gtol": 1e-4}).fun)


# The starts are near the optima, of which each has images under the symmetries of the cone.
def best_elbo() -> float:
    """-8.0745, at (2.2190, 0, -3.3871, -1.2765)."""
    return highest(lambda phi: elbo(naive_log_weights(phi)), (2.2, 0.05, -3.3, -1.2))


def best_iwelbo5() -> float:
    """-7.5340, at (2.1659, 0, -2.6068, -0.5851)."""
    return highest(lambda phi: iwelbo(naive_log_weights(phi), 5), (2.2, 0.05, -2.5, -0.5))


def best_uniform_ring() -> float:
    """-9.7481, at -3.05."""
    return highest(lambda phi: elbo(ring_log_weights(phi, von_mises=False)), (-3.0,))


def best_von_mises_ring() -> float:
    """-5.3233, at -3.40: the ring guide holds the posterior to 3e-5 nats."""
    return highest(lambda phi: elbo(ring_log_weights(phi, von_mises=True)), (-3.3,))
