"""The mean of an estimator by integrating over its own noise, against the truth."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from ppl.testing.breaks import Breaks
from ppl.testing.compared import Point, labels
from ppl.testing.integrate import jaxpr_of, over_noise
from ppl.testing.report import BIASED, UNBIASED, UNRESOLVED, BiasReport, Row
from ppl.testing.rules import LEVELS
from ppl.testing.truth import Truth
from ppl.testing.worlds import NotIntegrable
from ppl.transforms.occurrences import occurrences
from ppl.transforms.plan import instances, plan

TOLERANCE = 1e-7
"""Relative error that an exact mean may have."""


class Moments(NamedTuple):
    """Of each quantity over the noise.

    Attributes:
        mean, deviation: of one run.
        error: of the mean.
        draws: how many numbers of noise there are.
        worlds: how many assignments of them were summed over.
    """

    mean: np.ndarray
    deviation: np.ndarray
    error: np.ndarray
    draws: int
    worlds: int


def moments(quantities: Any, at: Point, key: jax.Array) -> Moments:
    """Mean and standard deviation of an estimator, by two rules of quadrature that agree.

    Raises:
        NotIntegrable: there is too much noise, or of a kind that cannot be integrated over.
    """

    def both(key: jax.Array, *arrays: Any) -> Any:
        found = quantities(key, *arrays)
        return found, found**2

    closed, tree = jaxpr_of(both, key, *at.parts.arrays)
    arguments = (key, *map(np.asarray, at.parts.arrays))
    before, error = None, np.inf
    for level in range(LEVELS):
        integral, breaks = over_noise(closed, tree, arguments, Breaks(), level)
        if breaks.unresolved:
            raise NotIntegrable("it jumps in more places than can be told apart")
        mean, square = integral.mean
        if before is not None:
            error = np.abs(mean - before)
            if np.all(error <= TOLERANCE / 10 * np.maximum(1, np.abs(mean))):
                deviation = np.sqrt(np.maximum(square - mean**2, 0))
                return Moments(mean, deviation, error, integral.draws, integral.worlds)
        before = mean
    raise NotIntegrable(f"the integral has not settled: two rules differ by {np.max(error):.1g}")


def exactly(at: Point, quantities: Any, truth: Truth, order: int, key: Any, notes: list[str]) -> BiasReport:
    """The report of an estimator whose noise can be integrated over.

    Raises:
        NotIntegrable: it cannot.
    """
    found = moments(quantities, at, key)
    size = np.maximum(1, np.abs(truth.mean))
    slack = TOLERANCE * size + 10 * (found.error + truth.error)
    rows = []
    for i, name in enumerate(labels(at, order)):
        verdict = UNBIASED if abs(found.mean[i] - truth.mean[i]) <= slack[i] else BIASED
        if verdict == UNBIASED and slack[i] > 1e-4 * size[i]:
            verdict = UNRESOLVED  # the truth itself is not known well enough
        mean, wanted, radius, spread = (float(x[i]) for x in (found.mean, truth.mean, slack, found.deviation))
        rows.append(Row(name, mean, wanted, radius, spread, verdict))
    notes = [*notes, _on_noise(at, found.draws)]
    return BiasReport(tuple(rows), "exact", truth.source, found.worlds, 0.0, 0.0, tuple(notes))


def _on_noise(at: Point, draws: int) -> str:
    """Whether enough numbers were drawn for the choices that need one."""
    jaxpr = at.staged().jaxpr
    planned = plan(jaxpr, 1)
    summed = {*planned.joint, *(planned.chain.items if planned.chain else ())}
    items = [item for item in occurrences(jaxpr) if item.name not in summed and None not in item.lengths]
    needed = sum(math.prod(instances(item)) for item in items)
    if draws >= needed:
        return f"{draws} numbers of noise, for {needed} random choices that are not summed over"
    where = ", ".join(dict.fromkeys(item.site.where for item in items))
    return f"only {draws} numbers of noise for {needed} random choices: a draw is baked in, among {where}"
