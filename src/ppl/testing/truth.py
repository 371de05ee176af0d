"""What an estimator's mean must be: value and derivatives of a program's expected value.

Derivatives are central differences of expected values in double precision. The nodes of quadrature move with
the parameters, so that a value that crosses a jump counts as it should.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl.testing.breaks import Breaks
from ppl.testing.choices import expected_values
from ppl.testing.rules import LEVELS
from ppl.testing.worlds import NotIntegrable

_POINTS = 3  # to either side, of a central difference
_FIRST = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60
_SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / 180


class Truth(NamedTuple):
    """What an estimator's mean must be.

    Attributes:
        mean: of each quantity.
        error: how far off it may be.
        source: where it is from, in words.
        worlds: how many assignments of the choices it took.
    """

    mean: np.ndarray
    error: np.ndarray
    source: str
    worlds: int = 0


_STEP = 0.02
_MOST_ERROR = 1e-5


def differences(directions: np.ndarray, scales: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """The points of central differences, and the length of a step along each direction."""
    lengths = _STEP * shrink * np.maximum(directions**2 @ np.abs(scales), 0.25)
    offsets = [o for o in range(-_POINTS, _POINTS + 1) if o]
    rows = [np.zeros((1, directions.shape[1]))]
    rows += [(o * h * d)[None] for d, h in zip(directions, lengths, strict=True) for o in offsets]
    return np.concatenate(rows), lengths


def from_differences(values: np.ndarray, lengths: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Value and derivatives from the values at these points, and how far a lower order is off."""
    around = values[1:].reshape(len(lengths), 2 * _POINTS)
    full = np.insert(around, _POINTS, values[0], axis=1)
    first = full @ _FIRST / lengths
    lower = full @ np.array([0, 1, -8, 0, 8, -1, 0]) / 12 / lengths
    means, errors = [values[:1], first], [np.zeros(1), np.abs(first - lower) / 20]
    if order > 1:
        second = full @ _SECOND / lengths**2
        lower = full @ np.array([0, -1, 16, -30, 16, -1, 0]) / 12 / lengths**2
        means.append(second)
        errors.append(np.abs(second - lower) / 20)
    return np.concatenate(means), np.concatenate(errors)


def by_quadrature(at: Any, order: int) -> Truth:
    """Value and derivatives of an objective by sums and quadrature over its choices.

    Raises:
        NotIntegrable: its choices are of a kind, or so many, that this cannot be done.
    """
    staged = at.staged()
    for shrink in (1.0, 1 / 8, 1 / 64):
        steps, lengths = differences(at.directions, at.scales(), shrink)
        arrays = at.moved(steps)
        found, worlds = [], 0
        for level in range(LEVELS):
            integral, breaks = expected_values(staged, arrays, Breaks(), level)
            worlds = integral.worlds
            if not np.all(np.isfinite(integral.values)) or breaks.unresolved:
                break
            found.append((from_differences(integral.values, lengths, order), integral))
            if len(found) > 1 and _settled(found):
                break
        if len(found) > 1:
            (mean, error), integral = found[-1]
            (before, _), _ = found[-2]
            error = error + np.abs(mean - before)
            if np.any(np.abs(integral.mass - 1) > _MOST_ERROR):
                raise NotIntegrable(f"the densities of its choices add up to {integral.mass[0]:.6g}")
            if np.any(error > _MOST_ERROR * np.maximum(1, np.abs(mean))):
                raise NotIntegrable(f"quadrature over the choices has not settled: off by {error.max():.1g}")
            return Truth(mean, error, "sums and quadrature over the choices", worlds)
    raise NotIntegrable("the expected value is not finite nearby, or jumps in too many places")


def _settled(found: list[Any]) -> bool:
    (mean, _), integral = found[-1]
    (before, _), _ = found[-2]
    close = np.abs(mean - before) <= 1e-9 * np.maximum(1, np.abs(mean))
    return bool(np.all(close) and np.all(np.abs(integral.mass - 1) < 1e-9))
