"""Which instances of a choice a run replaces, and the evaluation of all such runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl.transforms.plan import Plan

APART = 3
"""For how many choices the runs that replace them are evaluated apart, at most.

A run that replaces a later choice is the base run up to there, which XLA evaluates once where the number of
the choice is known. Where it is not, all runs differ from the first choice on: twice the work for a sequence
of choices, but one program instead of one for each.
"""

CHUNK = 1024
"""How many replaced runs are evaluated at once, at most."""


class Target(NamedTuple):
    """Which instances of which choice a run replaces, and by which of their phantoms.

    Attributes:
        site: the number of the choice among those that are replaced; an integer where it is known.
        group: for each axis of its instances, the remainder of their index by the period.
        instance: the number of the group.
        phantom: the number of the phantom.
    """

    site: Any
    group: Any
    instance: Any
    phantom: Any

    def may_hit(self, number: int) -> bool:
        """Whether the run may replace instances of this choice."""
        return not isinstance(self.site, int) or self.site == number

    def hits(self, number: int, periods: Sequence[int], index: Sequence[Any]) -> Any:
        """Where the instances with these indices along each axis are replaced.

        Steps of loops are scalars; the other axes are arrays, and span the result.
        """
        arrays = [i for i in index if jnp.ndim(i)]
        hit = self.site == number
        for axis, (period, i) in enumerate(zip(periods, index, strict=True)):
            match = i % max(period, 1) == self.group[axis]
            if jnp.ndim(match):
                place = next(n for n, array in enumerate(arrays) if array is i)
                match = match.reshape(*(-1 if n == place else 1 for n in range(len(arrays))))
            hit = hit & match
        return hit


def targets(planned: Plan) -> list[Target]:
    """For each replaced choice every group of instances and every phantom, in the order of the weights."""
    rank = max((len(periods) for periods in planned.periods.values()), default=0)
    found = []
    for number, (name, item) in enumerate(planned.replaced.items()):
        periods = planned.periods[name] if item.size else (0,)
        grid = np.indices((*periods, item.site.phantoms)).reshape(len(periods) + 1, -1)
        padded = np.zeros((rank, grid.shape[1]), int)
        padded[: len(periods)] = grid[:-1]
        instance = np.arange(grid.shape[1]) // max(item.site.phantoms, 1)
        found.append(Target(number, padded.T, instance, grid[-1]))
    return found


def count_of(target: Target) -> int:
    """How many runs the targets of a choice are."""
    return len(target.phantom)


def evaluated(function: Callable[[Target], Any], planned: Plan) -> Any | None:
    """The value of a run for each target, in the order of the weights; `None` if there is none."""
    each = [target for target in targets(planned) if count_of(target)]
    if not each:
        return None
    if len(each) > APART:
        sites = np.concatenate([np.full(count_of(target), target.site) for target in each])
        rest = (np.concatenate(part) for part in zip(*(target[1:] for target in each), strict=True))
        return _mapped(function, Target(jnp.asarray(sites), *map(jnp.asarray, rest)))
    return jnp.concatenate([_of_one_choice(function, target) for target in each])


def _of_one_choice(function: Callable[[Target], Any], target: Target) -> Any:
    site, *rest = target
    if count_of(target) == 1:
        return function(Target(site, *(part[0] for part in rest)))[None]
    return _mapped(lambda rest: function(Target(site, *rest)), [jnp.asarray(part) for part in rest])


def _mapped(function: Callable[[Any], Any], over: Any) -> Any:
    count = len(jax.tree.leaves(over)[-1])
    if count <= CHUNK:
        return jax.vmap(function)(over)
    return jax.lax.map(function, over, batch_size=CHUNK)
