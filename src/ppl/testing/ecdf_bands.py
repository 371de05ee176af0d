"""Simultaneous bands for the distribution function of ranks, with exact coverage."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import stats


class Bands(NamedTuple):
    """Bands that the counts of uniform ranks stay in, all of them at once, with a stated probability.

    Attributes:
        points: where the distribution function is looked at, `1/(L+1), ..., L/(L+1)`; shape `(L,)`.
        lower, upper: the least and largest count of ranks that lie below each point.
        coverage: the probability to stay inside: exact, and at least what was asked for.
    """

    points: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    coverage: float


def bands(replicates: int, draws: int, rate: float) -> Bands:
    r"""Bands for the counts `N F(z)` of `N` ranks that are uniform on `0, ..., L`, at `z = i/(L+1)`.

    A count at one point is binomial. The band is the central interval of each at one common level `gamma`,
    the largest for which all counts together leave it with probability `rate` at most. That probability is
    computed and not simulated: given their sum, independent Poisson counts of the bins are multinomial, so
    that the probability of staying inside is a chain of `L` convolutions over the sum so far.

    Args:
        replicates: the number `N` of ranks.
        draws: the largest rank `L`.
        rate: the probability to leave the bands.

    Example:
        >>> found = bands(1000, 99, 0.01)
        >>> int(found.lower[49]), int(found.upper[49]), bool(found.coverage >= 0.99)  # at one half
        (445, 555, True)

    Reference: Säilynoja, Bürkner, Vehtari, "Graphical test for discrete uniformity and its applications in
    goodness-of-fit evaluation and multiple sample comparison", 2022, section 2.
    """
    below, above = _tables(replicates, draws)
    low, high = 0.0, rate
    for _ in range(50):
        middle = (low + high) / 2
        if leaving(below, above, middle) <= rate:
            low = middle
        else:
            high = middle
    lower, upper = _limits(below, above, low)
    points = np.arange(1, draws + 1) / (draws + 1)
    return Bands(points, lower, upper, 1 - leaving(below, above, low))


def p_value(ranks: np.ndarray, draws: int) -> float:
    """The probability that uniform ranks come as far out, somewhere, as these do: of the level they touch.

    It is below a rate exactly where the ranks leave the bands of that rate.
    """
    counts = below_points(ranks, draws)
    below, above = _tables(len(ranks), draws)
    at = np.arange(draws)
    level = 2 * float(np.minimum(below[at, counts], above[at, counts]).min())
    return leaving(below, above, level)


def below_points(ranks: np.ndarray, draws: int) -> np.ndarray:
    """How many of the ranks lie below `1, ..., L`: the counts that the bands are for; shape `(L,)`."""
    return np.cumsum(np.bincount(np.asarray(ranks, int), minlength=draws + 1))[:-1]


@functools.lru_cache(maxsize=8)
def _tables(replicates: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of at most, and of at least, each count at each point; shapes `(L, N + 1)`."""
    points = np.arange(1, draws + 1)[:, None] / (draws + 1)
    counts = np.arange(replicates + 1)
    return stats.binom.cdf(counts, replicates, points), stats.binom.sf(counts - 1, replicates, points)


def _limits(below: np.ndarray, above: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The counts with more than half the level on either side."""
    # By symmetry many probabilities are equal but for rounding.
    half = level / 2 * (1 + 1e-9)
    return (below <= half).sum(1), (above > half).sum(1) - 1


def leaving(below: np.ndarray, above: np.ndarray, level: float) -> float:
    """The probability that some count leaves its central interval at this level."""
    (draws, size), replicates = below.shape, below.shape[1] - 1
    lower, upper = _limits(below, above, level)
    if (lower > upper).any():
        return 1.0
    bin_mass = stats.poisson.pmf(np.arange(size), replicates / (draws + 1))
    bin_mass = bin_mass[: np.flatnonzero(bin_mass > 1e-300)[-1] + 1]
    first, inside = 0, np.ones(1)
    for low, high in zip([*lower, replicates], [*upper, replicates], strict=True):
        whole = np.convolve(inside, bin_mass)
        kept = np.zeros(high - low + 1)
        start, stop = max(low, first), min(high, first + len(whole) - 1)
        kept[start - low : stop - low + 1] = whole[start - first : stop - first + 1]
        first, inside = low, kept
    sum_mass = math.exp(replicates * math.log(replicates) - replicates - math.lgamma(replicates + 1))
    return min(max(1 - float(inside[0]) / sum_mass, 0.0), 1.0)
