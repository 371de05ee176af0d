"""Quadrature rules and supports for the laws of noise, from SciPy and NumPy alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import scipy.stats


class Rule(NamedTuple):
    """Nodes and weights of a law, or of a number that `transform(node, *parameters)` turns into it."""

    nodes: np.ndarray
    weights: np.ndarray
    transform: Callable[..., np.ndarray] = lambda node: node


def gauss_hermite(count: int) -> Rule:
    """Exact for a polynomial of a normal number up to degree 2 count - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return Rule(nodes, weights / np.sqrt(2 * np.pi))


def trapezoid(step: float = 0.5, reach: float = 7.5) -> Rule:
    """The trapezoidal rule for a function of a normal number that is analytic near the real line."""
    nodes = np.arange(-reach, reach + step / 2, step)
    return Rule(nodes, step * scipy.stats.norm.pdf(nodes))


def uniform_panels(breaks: Sequence[float], step: float = 1 / 8) -> Rule:
    """`tanh_sinh` between the places where a function of a uniform number jumps."""
    edges, rule = np.unique([0.0, *breaks, 1.0]), tanh_sinh(step)
    nodes = [a + (b - a) * rule.nodes for a, b in itertools.pairwise(edges)]
    return Rule(np.concatenate(nodes), np.concatenate([w * rule.weights for w in np.diff(edges)]))


def normal_panels(
    breaks: Sequence[float], count: int = 24, inner: Sequence[float] = (-6, -3, 0, 3, 6)
) -> Rule:
    """Gauss–Legendre on panels of [-9, 9], for a function of a normal number that jumps at `breaks`."""
    edges = np.unique([-9, *inner, 9, *breaks])
    nodes, weights = panels(edges, count)
    return Rule(nodes, weights * scipy.stats.norm.pdf(nodes))


def panels(edges: Sequence[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on each panel between neighboring edges."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    middles, halves = np.add(edges[1:], edges[:-1]) / 2, np.subtract(edges[1:], edges[:-1]) / 2
    return (middles[:, None] + halves[:, None] * nodes).ravel(), (halves[:, None] * weights).ravel()


def tanh_sinh(step: float = 1 / 8, reach: float = 3.1) -> Rule:
    """The double exponential rule on (0, 1): exponents and logarithms at the ends do no harm.

    Reference: Takahasi, Mori, "Double exponential formulas for numerical integration", 1974.
    """
    t = np.arange(-reach, reach + step / 2, step)
    exponent = np.pi * np.sinh(t)
    nodes = scipy.special.expit(exponent)  # the last is short of one, whose logarithm no draw has
    weights = step * np.pi * np.cosh(t) * nodes * scipy.special.expit(-exponent)
    return Rule(nodes, weights)


def log_gamma(rule: Rule) -> Rule:
    """A rule for a normal number as one for the logarithm of a standard gamma number."""
    return rule._replace(transform=_log_gamma)


def _log_gamma(node: np.ndarray, concentration: np.ndarray) -> np.ndarray:
    """The quantile of the logarithm of a standard gamma number, at the quantile of a normal one."""
    low = scipy.special.gammaincinv(concentration, scipy.stats.norm.cdf(node))
    high = scipy.special.gammainccinv(concentration, scipy.stats.norm.sf(node))
    return np.log(np.where(node < 0, low, high))


RULES: dict[str, Rule] = {
    "normal": trapezoid(0.36),
    "uniform": tanh_sinh(),
    "log_gamma": log_gamma(trapezoid(0.4)),
}


def support_probabilities(law: str, parameters: list[Any]) -> np.ndarray:
    """Probabilities of 0, 1, ... under a discrete law, in each world, but for a tail of 1e-22."""
    return _PROBABILITIES[law](*parameters)


def _poisson(rate: np.ndarray) -> np.ndarray:
    most = int(3 * rate.max()) + 45
    return scipy.stats.poisson.pmf(np.arange(most), rate[:, None])


def _geometric(probs: np.ndarray) -> np.ndarray:
    most = int(np.ceil(np.log(1e-22) / np.log1p(-probs.min()))) + 1
    return probs[:, None] * (1 - probs[:, None]) ** np.arange(most)


def _binomial(probs: np.ndarray, count: np.ndarray) -> np.ndarray:
    return scipy.stats.binom.pmf(np.arange(int(count.max()) + 1), count[:, None], probs[:, None])


_PROBABILITIES: dict[str, Callable[..., np.ndarray]] = {
    "bernoulli": lambda probs: np.stack([1 - probs, probs], axis=1),
    "categorical": lambda logits: scipy.special.softmax(logits, axis=-1),
    "poisson": _poisson,
    "geometric": _geometric,
    "binomial": _binomial,
}
