"""Quadrature rules and supports for what is drawn, from SciPy and NumPy alone."""

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


class Adaptive(NamedTuple):
    """A rule for functions that are smooth, and panels for those that jump at known places.

    Attributes:
        smooth: from the level of refinement to a rule.
        panels: from the breaks in each world and the level to nodes and weights in each world.
        transform: as for `Rule`.
        coordinate: of a node, in which a function of it is interpolated, and from there back.
    """

    smooth: Callable[[int], Rule]
    panels: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    transform: Callable[..., np.ndarray] = lambda node: node
    coordinate: tuple[Callable[..., Any], Callable[..., Any]] = (lambda node: node, lambda node: node)

    def at(self, breaks: np.ndarray | None, worlds: int, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights in each of some worlds, of shape `(worlds, nodes)`."""
        if breaks is not None:
            return self.panels(self.coordinate[1](breaks), level)
        rule = self.smooth(level)
        shape = worlds, len(rule.nodes)
        return np.broadcast_to(rule.nodes, shape), np.broadcast_to(rule.weights, shape)


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
    nodes, weights = panels(list(edges), count)
    return Rule(nodes, weights * scipy.stats.norm.pdf(nodes))


def panels(edges: Sequence[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on each panel between neighboring edges."""
    nodes, weights = panels_of(np.asarray(edges, float)[None], count)
    return nodes[0], weights[0]


def panels_of(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for each row of sorted edges."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    middles, halves = (edges[:, 1:] + edges[:, :-1]) / 2, (edges[:, 1:] - edges[:, :-1]) / 2
    found = middles[:, :, None] + halves[:, :, None] * nodes, halves[:, :, None] * weights
    return tuple(x.reshape(len(edges), -1) for x in found)  # type: ignore[return-value]


def with_breaks(ends: Sequence[float], breaks: np.ndarray) -> np.ndarray:
    """Sorted ends of panels in each world; missing breaks are made panels of no width."""
    low, high = ends[0], ends[-1]
    held = np.clip(np.where(np.isnan(breaks), high, breaks), low, high)
    return np.sort(np.concatenate([np.broadcast_to(ends, (len(breaks), len(ends))), held], axis=1), axis=1)


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


_STEPS = (0.5, 0.36, 0.25)
_COUNTS = (12, 18, 26)
_ENDS = (-8.5, -4.0, 0.0, 4.0, 8.5)


def _of_normal(breaks: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = panels_of(with_breaks(_ENDS, breaks), _COUNTS[level])
    return nodes, weights * scipy.stats.norm.pdf(nodes)


def _of_uniform(breaks: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    edges, rule = with_breaks((0.0, 1.0), breaks), tanh_sinh((1 / 6, 1 / 8, 1 / 11)[level])
    widths = edges[:, 1:] - edges[:, :-1]
    nodes = edges[:, :-1, None] + widths[:, :, None] * rule.nodes
    weights = widths[:, :, None] * rule.weights
    # The ends themselves, to which the outermost nodes may round, are never drawn.
    nodes = np.clip(nodes, np.finfo(float).tiny, np.nextafter(1.0, 0.0))
    return nodes.reshape(len(edges), -1), weights.reshape(len(edges), -1)


NORMAL = Adaptive(lambda level: trapezoid(_STEPS[level]), _of_normal)
RULES: dict[str, Adaptive] = {
    "normal": NORMAL,
    "uniform": Adaptive(
        lambda level: tanh_sinh((1 / 6, 1 / 8, 1 / 11)[level]),
        _of_uniform,
        coordinate=(scipy.special.logit, scipy.special.expit),
    ),
    "log_gamma": NORMAL._replace(transform=_log_gamma),
}
LEVELS = len(_STEPS)


def support_probabilities(law: str, parameters: list[Any]) -> np.ndarray:
    """Probabilities of 0, 1, ... under a discrete law, in each world, but for a tail of 1e-22."""
    return _PROBABILITIES[law](*parameters)


def _softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of a branch that is not taken
        return scipy.special.softmax(logits, axis=-1)


def _poisson(rate: np.ndarray) -> np.ndarray:
    most = int(3 * _largest(rate, 1e4)) + 45
    return scipy.stats.poisson.pmf(np.arange(most), rate[:, None])


def _geometric(probs: np.ndarray) -> np.ndarray:
    least = 1 - _largest(1 - probs, 1 - 1e-3)
    most = int(np.ceil(np.log(1e-22) / np.log1p(-least))) + 1
    return probs[:, None] * (1 - probs[:, None]) ** np.arange(most)


def _largest(x: np.ndarray, most: float) -> float:
    """Of the parameters that make sense; in a branch that is not taken they may be anything."""
    return float(np.max(x, where=(x >= 0) & (x <= most), initial=0.0))


def _binomial(probs: np.ndarray, count: np.ndarray) -> np.ndarray:
    return scipy.stats.binom.pmf(np.arange(int(count.max()) + 1), count[:, None], probs[:, None])


_PROBABILITIES: dict[str, Callable[..., Any]] = {
    "bernoulli": lambda probs: np.stack([1 - probs, probs], axis=1),
    "categorical": lambda logits: _softmax(logits),
    "poisson": _poisson,
    "geometric": _geometric,
    "binomial": _binomial,
}
