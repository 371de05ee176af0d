"""What the cone's five bounds reach at best, without sampling: NumPy and SciPy only, no `ppl`.

ELBO, IWELBO(5) and HVI are quadratures of `examples/cone_exact.py`. IWHVI and DIWHVI have five auxiliary
variables for each point, too many for a grid. But the density that the guide's marginal says of a point is
a mean of independent terms, given the point's radius: the law of its logarithm is computed, from the law of
one term, by an operation on grids, `law_of_log_sum`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import i0e
from scipy.stats import norm

sys.path.append(str(Path(__file__).parents[1] / "examples"))
cone_exact: Any = importlib.import_module("cone_exact")

RADIUS = np.sqrt(5.0)
WIDTH = 0.04
"""The spacing of a law's grid. A quarter of it moves the bounds by 3e-6 and 1.3e-4."""


class Law(NamedTuple):
    """Laws of real numbers, one a row, on the grid lowest, lowest + width, ...; shape (rows, points)."""

    mass: np.ndarray
    lowest: float
    width: float

    @property
    def points(self) -> np.ndarray:
        return self.lowest + self.width * np.arange(self.mass.shape[1])


def law_of(values: np.ndarray, mass: np.ndarray, lowest: float, highest: float, width: float) -> Law:
    """Weighted values on the grid, each shared between its two neighbors, which keeps the mean.

    Values below the lowest are moved there.
    """
    rows, size = len(values), round((highest - lowest) / width) + 2
    place = (np.maximum(values, lowest) - lowest) / width
    left = place.astype(int)
    share, index = place - left, left + size * np.arange(rows)[:, None]
    found = np.bincount(index.ravel(), (mass * (1 - share)).ravel(), rows * size)
    found += np.bincount(index.ravel() + 1, (mass * share).ravel(), rows * size)
    return Law(found.reshape(rows, size), lowest, width)


def law_of_log_sum(one: Law, other: Law) -> Law:
    """The law of log(exp(a) + exp(b)) for independent a and b.

    Pairs of points at the same distance are moved by the same amount, log(1 + exp(-distance)), above the
    larger of the two: one pass over the grid for each distance.
    """
    (a, lowest, width), b = one, other.mass
    size = a.shape[1]
    more = int(np.log(2) / width) + 2
    found = np.zeros((len(a), size + more))
    for distance in range(size):
        pairs = a[:, distance:] * b[:, : size - distance]
        if distance:
            pairs = pairs + a[:, : size - distance] * b[:, distance:]
        place = np.log1p(np.exp(-distance * width)) / width
        left = int(place)
        found[:, distance + left : size + left] += pairs * (1 - (place - left))
        found[:, distance + left + 1 : size + left + 1] += pairs * (place - left)
    return Law(found, lowest, width)


def padded(law: Law, size: int) -> Law:
    return law._replace(mass=np.pad(law.mass, ((0, 0), (0, size - law.mass.shape[1]))))


def law_of_log_sum_of_five(one: Law) -> Law:
    two = law_of_log_sum(one, one)
    four = law_of_log_sum(two, two)
    return law_of_log_sum(padded(one, four.mass.shape[1]), four)


def ring_log_weight(log_sd: float, width: float) -> Law:
    """The law of log p(x, y, 5) - log mean_j q(x, y | u_j) over five angles, of which u_0 drew (x, y).

    By rotation everything depends on the radius and on angles from the point: given the radius, q is
    proportional to exp(k (cos t - 1)), with t of the retained angle von Mises, and of the others uniform.
    """
    sd, lowest = np.exp(log_sd), -45.0  # less than exp(-45) of the largest term is lost
    radius = RADIUS + sd * np.linspace(-7, 7, 71)
    radius = radius[radius > 0]
    # The Rice law of the radius.
    density = radius * np.exp(-(((radius - RADIUS) / sd) ** 2) / 2) * i0e(RADIUS * radius / sd**2)
    density = density / density.sum()
    concentration = RADIUS * radius / sd**2
    # Angles, dense where the density is large: t = pi s**3, by the midpoint rule in s.
    s = (np.arange(8000) + 0.5) / 8000
    log_term = -2 * concentration[:, None] * np.sin(np.pi * s**3 / 2) ** 2
    others = np.broadcast_to(3 * s**2 / 8000, log_term.shape)
    retained = others * np.exp(log_term)
    retained = retained / retained.sum(1, keepdims=True)
    term = law_of(log_term, others, lowest, 0.0, width)
    two = law_of_log_sum(term, term)
    four = law_of_log_sum(two, two)
    first = padded(law_of(log_term, retained, lowest, 0.0, width), four.mass.shape[1])
    total = law_of_log_sum(first, four)
    log_q = -(((radius - RADIUS) / sd) ** 2) / 2 - np.log(2 * np.pi * sd**2) - np.log(5)
    log_p = cone_exact.log_joint(radius, np.zeros_like(radius))
    values = log_p[:, None] - log_q[:, None] - total.points
    mass = density[:, None] * total.mass
    kept = mass > 1e-15
    values, mass = values[kept][None], mass[kept][None]
    return law_of(values, mass, -120.0, float(values.max()), width)


def mean(law: Law) -> float:
    return float((law.mass[0] * law.points).sum() / law.mass.sum())


def iwhvi5(log_sd: float, width: float = WIDTH) -> float:
    """E[log w]."""
    return mean(ring_log_weight(log_sd, width))


def diwhvi55(log_sd: float, width: float = WIDTH) -> float:
    """E[log (w_1 + ... + w_5) / 5]."""
    return mean(law_of_log_sum_of_five(ring_log_weight(log_sd, width))) - float(np.log(5))


def best(bound: Callable[..., float], lower: float, upper: float) -> float:
    """The maximum over log sd. A coarse grid says where it is, to 0.01; the value is of the fine grid."""
    coarse = lambda log_sd: -bound(log_sd, 4 * WIDTH)
    found: Any = minimize_scalar(coarse, bounds=(lower, upper), method="bounded", options={"xatol": 0.01})
    return bound(found.x)


class Optimum(NamedTuple):
    """How to compute the value, and how it is then known."""

    value: Callable[[], float]
    how: str


GRID = "quadrature"
LAW = "law of log sums on a grid"
OPTIMA = {
    "ELBO": Optimum(cone_exact.best_elbo, GRID),
    "IWELBO(5)": Optimum(cone_exact.best_iwelbo5, GRID),
    "HVI": Optimum(cone_exact.best_uniform_ring, GRID),
    "IWHVI(5,1)": Optimum(lambda: best(iwhvi5, -3.3, -2.8), LAW),
    "DIWHVI(5,5)": Optimum(lambda: best(diwhvi55, -2.3, -1.8), LAW),
}


class Simulated(NamedTuple):
    value: float
    error: float


def simulated(log_sd: float, points: int, draws: int, seed: int = 0) -> Simulated:
    """The bound of `points` points with five angles each, by plain NumPy: mean and standard error.

    An independent check of the laws, and of everybody's values.
    """
    random, sd = np.random.default_rng(seed), np.exp(log_sd)
    angle = random.uniform(-np.pi, np.pi, (draws, points, 5))
    center = RADIUS * np.cos(angle), RADIUS * np.sin(angle)
    x, y = (c[..., 0] + sd * random.normal(size=(draws, points)) for c in center)
    log_q = norm.logpdf(x[..., None], center[0], sd) + norm.logpdf(y[..., None], center[1], sd)
    log_weight = cone_exact.log_joint(x, y) - np.logaddexp.reduce(log_q, -1) + np.log(5)
    values = np.logaddexp.reduce(log_weight, -1) - np.log(points)
    return Simulated(float(values.mean()), float(values.std() / draws**0.5))
