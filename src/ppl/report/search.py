"""The estimators with the least variance times time, by coordinate descent over the choices."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import jax

from ppl.errors import PPLError
from ppl.estimators.protocol import Estimator
from ppl.expectation import Expectation
from ppl.noise import check_key
from ppl.report.alternatives import Spot, spots
from ppl.report.compare import compare
from ppl.report.measure import Batch, Measurement, Task, gradient_batch, measured
from ppl.report.parts import measured_parts

_PASSES = 4
"""How often the search goes over all choices, at most."""


def choose_estimators(
    objective: Expectation, key: jax.Array, *args: Any, argnums: Any = 0, num_samples: int = 4,
    num_runs: int = 500, candidates: Any = None, budget: float = 60.0, timed: bool = True,
) -> dict[str, Estimator]:  # fmt: skip
    """The estimators with the least measured variance times time, as a mapping for `using`.

    One choice after another, those whose part of the gradient varies most first, gets the estimator that is
    best with all others as they are by then. Every unbiased one that exists for it is measured. The cheapest
    is taken if it is cheaper than the present one by more than the uncertainty of their ratio; of several
    that cannot be told apart, the one that takes the least time. This goes on until a whole round changes
    nothing, or the budget is spent. Since two noisy choices may hide what either would gain alone, the
    estimators of least variance are then tried all at once, and if that is better the search goes on from
    there. Variance and time are those of the gradient at these arguments: far from them another estimator may
    be best.

    Args:
        objective: what `@ppl.expectation` makes.
        key: a key made by `jax.random.key`.
        *args: the arguments of the objective.
        argnums: which of them are differentiated.
        num_samples: how many runs an estimate averages, as in training.
        num_runs: how many independent estimates are made of each gradient.
        candidates: what is tried, as for `variance_report`; biased estimators never are.
        budget: seconds, most of which go into compilation. It is looked at before each compilation, so the
            last may run over.
        timed: weigh variance by measured time; or else by how often the program is run for a gradient, so
            that the result is a function of the key.

    Returns:
        From address to estimator, for the choices whose estimator should change: `objective.using(found)`.

    Raises:
        PPLError: the program is refused as it is.
        ValueError: too few runs.

    Example:
        >>> import jax, ppl
        >>> from ppl.estimators import MeasureValued, Reinforce, Reparam
        >>> @ppl.expectation
        ... def objective(mean):
        ...     return (ppl.normal(mean, 1.0).using(Reinforce()) @ "x") ** 2
        >>> tried = [Reparam(), MeasureValued()]
        >>> ppl.choose_estimators(objective, jax.random.key(0), 1.0, candidates=tried, timed=False)
        {'x': Reparam()}
    """
    task = Task(args, argnums, num_samples, num_runs)
    search = _Search(objective, check_key(key), task, time.monotonic() + budget, timed)
    ordered = _by_variance(objective, spots(objective, args, candidates), key, task)
    for _ in range(_PASSES):
        before = dict(search.taken)
        for spot in ordered:
            search.improve(spot)
        if search.taken == before and not search.leap():
            break
    return search.chosen


def _by_variance(objective: Expectation, found: list[Spot], key: jax.Array, task: Task) -> list[Spot]:
    """The choices that have alternatives, those whose part of the gradient varies most first."""
    tried = [spot for spot in found if spot.candidates]
    if len(tried) < 2:
        return tried
    parts = measured_parts(objective, [spot.address for spot in found], key, task)
    variance = {spot.address: part.variance for spot, part in zip(found, parts, strict=False)}
    return sorted(tried, key=lambda spot: -variance[spot.address])


class _Search:
    """Where the search stands.

    Attributes:
        options: what can be chosen at each address: `None`, which leaves it as it is, and the candidates.
        taken: the number of the option that is taken at each.
        quietest: the number of the one with the least variance, with the others as they were then.
        compiled: the batches that are compiled, by what is taken; `None` where the program is refused.
    """

    def __init__(self, objective: Expectation, key: jax.Array, task: Task, end: float, timed: bool) -> None:
        self.objective, self.key, self.task, self.end, self.timed = objective, key, task, end, timed
        self.options: dict[str, list[Estimator | None]] = {}
        self.taken: dict[str, int] = {}
        self.quietest: dict[str, int] = {}
        self.compiled: dict[tuple[tuple[str, int], ...], Batch | None] = {}

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() >= self.end

    @property
    def chosen(self) -> dict[str, Estimator]:
        """The estimators that differ from the program's own."""
        return self._using(self.taken)

    def _using(self, taken: Mapping[str, int]) -> dict[str, Estimator]:
        options = {pattern: self.options[pattern][number] for pattern, number in taken.items()}
        return {pattern: estimator for pattern, estimator in options.items() if estimator is not None}

    def improve(self, spot: Spot) -> None:
        """Give the choices at one address their best estimator, all others as they are."""
        unbiased = [estimator for estimator in spot.candidates if not estimator.biased]
        self.options[spot.pattern] = [None, *unbiased]
        present = self.taken.setdefault(spot.pattern, 0)
        others = (number for number in range(1 + len(unbiased)) if number != present)
        found = self._measured({number: self.taken | {spot.pattern: number} for number in (present, *others)})
        self.taken[spot.pattern] = self._best(found, present)
        finite = [number for number in found if math.isfinite(found[number].variance)]
        self.quietest[spot.pattern] = min(finite, key=lambda n: found[n].variance, default=present)

    def leap(self) -> bool:
        """Take the quietest estimators all at once, if that is better; whether it is."""
        if self.quietest == self.taken or self.is_over:
            return False
        found = self._measured({0: self.taken, 1: dict(self.quietest)})
        if not self._best(found, 0):
            return False
        self.taken = dict(self.quietest)
        return True

    def _measured(self, settings: Mapping[int, Mapping[str, int]]) -> dict[int, Measurement]:
        """The gradients with these options taken, but for those that cannot be had."""
        batches, configurations = {}, {}
        for name, taken in settings.items():
            batch = self._batch(taken)
            if batch is not None:
                batches[name] = batch
                configurations[name] = self.objective.using(self._using(taken))
        self.key, key = jax.random.split(self.key)
        return measured(configurations, batches, key, self.task)

    def _batch(self, taken: Mapping[str, int]) -> Batch | None:
        """The compiled batch, unless the program is refused or there is no time left."""
        name = tuple(sorted((pattern, number) for pattern, number in taken.items() if number))
        if name not in self.compiled:
            if name and self.is_over:
                return None
            try:
                self.compiled[name] = gradient_batch(self.objective.using(self._using(taken)), self.task)
            except PPLError:
                if not name:
                    raise
                self.compiled[name] = None
        return self.compiled[name]

    def _best(self, found: Mapping[int, Measurement], present: int) -> int:
        """The option that is better than the present one and cheapest; of several tied, the quickest."""
        ratios = {
            n: compare(new, found[present], timed=self.timed) for n, new in found.items() if n != present
        }
        better = [number for number, ratio in ratios.items() if ratio.is_better]
        if not better:
            return present
        least = found[min(better, key=lambda number: ratios[number].cost)]
        tied = [number for number in better if not compare(found[number], least, timed=self.timed).is_worse]
        return min(tied, key=lambda number: (ratios[number].effort, ratios[number].cost))
