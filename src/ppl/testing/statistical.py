"""The mean of an estimator by drawing it, against the truth, with a test that may stop at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppl.errors import PPLError
from ppl.testing.report import BIASED, UNBIASED, UNRESOLVED, BiasReport, Row
from ppl.testing.sequential import MeanTest, detectable
from ppl.testing.truth import Truth

_BATCH = 4096
_LARGEST = 2**16
_ROUNDING = 1e-6
_PAIRED = 1e-5  # how much two programs in single precision may round apart


class Budget(NamedTuple):
    """How a sequential test is run.

    Attributes:
        key: of the draws.
        false_alarm: the probability that an unbiased estimator is called biased.
        resolution: the bias, in standard deviations of one run, at which it stops looking.
        draws: how many runs there may be.
    """

    key: jax.Array
    false_alarm: float
    resolution: float
    draws: int


Draw = Callable[[jax.Array], np.ndarray]


def drawing(quantities: Callable[..., jax.Array], arrays: Sequence[Any]) -> Draw:
    """A function from keys to runs, one row each."""
    run = jax.jit(jax.vmap(lambda key: quantities(key, *arrays)))
    return lambda keys: np.asarray(run(keys), np.float64)


def sequentially(
    names: list[str], draw: Draw, truth: Truth, budget: Budget, notes: list[str], other: Draw | None = None
) -> BiasReport:
    """Draw until a bias is found, or is known to be below the resolution.

    Args:
        names: of the quantities.
        draw: from keys to runs.
        truth: the mean that they must have.
        budget: of the test.
        notes: for the report.
        other: draws whose mean is the truth, if that is not known otherwise. They are made from the same
            keys, so that programs that draw the same noise are compared run for run.
    """
    batches = _Batches(draw, truth, budget.key, other)
    first, off = batches.next(min(_BATCH, budget.draws))
    finite = np.isfinite(first).all(axis=0)
    if not finite.all():
        raise PPLError(
            f"the estimator is not finite in some of its draws, in {names[int(np.argmin(finite))]!r}"
        )
    size = 1 + np.abs(first).max(axis=0)
    deviation = off.std(axis=0)
    constant = deviation <= (1e-7 if other is None else _PAIRED) * size
    deviation = np.maximum(deviation, 1e-7 * size)
    test, confirming = MeanTest(2 * deviation), False
    mean, seen = np.zeros(len(names)), 0
    while seen < budget.draws:
        runs, off = batches.next(min(max(_BATCH, seen), _LARGEST, budget.draws - seen))
        seen += len(runs)
        mean += (runs.mean(axis=0) - mean) * len(runs) / seen
        test.add(off)
        if test.rejects(budget.false_alarm):
            if confirming:
                break
            # The bound on the deviation is from one batch: fresh draws, with one from all, must confirm it.
            confirming, test = True, MeanTest(2 * np.maximum(deviation, test.deviations))
        elif not confirming and np.all(test.radius(budget.false_alarm) <= budget.resolution * deviation):
            break
    biased = test.rejects(budget.false_alarm)
    evidence, radius = test.log_evidence(), test.radius(budget.false_alarm)
    wanted = truth.mean if other is None else mean - test.means
    rows = []
    for i, name in enumerate(names):
        if constant[i]:
            allowed = truth.error[i] + _ROUNDING * size[i] if other is None else _PAIRED * size[i]
            verdict = UNBIASED if abs(mean[i] - wanted[i]) <= allowed else BIASED
        elif biased:
            verdict = (
                BIASED if evidence[i] >= min(-math.log(budget.false_alarm), evidence.max()) else UNRESOLVED
            )
        else:
            verdict = UNBIASED if radius[i] <= budget.resolution * deviation[i] else UNRESOLVED
        spread = 0.0 if constant[i] else float(deviation[i])
        rows.append(Row(name, float(mean[i]), float(wanted[i]), float(radius[i]), spread, verdict))
    if other is not None and constant.all() and not any(row.verdict == BIASED for row in rows):
        notes = [*notes, "both give the same numbers, run for run"]
    if other is None and any(row.verdict == BIASED and constant[i] for i, row in enumerate(rows)):
        notes = [
            *notes,
            "the same number for every key: no noise reaches it. Was a draw baked in at tracing?",
        ]
    notes = [*notes, "the deviation is measured; an alarm is confirmed by fresh draws"]
    finest = detectable(seen, len(names), budget.false_alarm)
    return BiasReport(
        tuple(rows), "statistical", truth.source, seen, budget.false_alarm, finest, tuple(notes)
    )


class _Batches:
    """Runs, and how far each is off."""

    def __init__(self, draw: Draw, truth: Truth, key: jax.Array, other: Draw | None) -> None:
        self.draw, self.truth, self.key, self.other, self.number = draw, truth, key, other, 0

    def next(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch of runs, and their differences from the truth, but for what the truth is not known to."""
        self.number += 1
        keys = jax.random.split(jax.random.fold_in(self.key, self.number), count)
        runs = self.draw(keys)
        if self.other is not None:
            return runs, runs - self.other(keys)
        off = runs - self.truth.mean
        return runs, off - np.clip(off.mean(axis=0), -self.truth.error, self.truth.error)
