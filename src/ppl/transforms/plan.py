"""How each choice of a program is treated when its estimator is derived: summed over, replaced or scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppl.address import show
from ppl.errors import UnsupportedProgram
from ppl.estimators.baselines import Baseline
from ppl.site import Site
from ppl.transforms.chain import LANES_LIMIT, Chain, chain_of, independent
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence, occurrences
from ppl.transforms.terms import Cut, Terms

JOINT_LIMIT = 2**16
"""How many combinations of enumerated values are evaluated at once, at most."""

REPLACED_LIMIT = 2**22
"""How many runs with one group of instances replaced a gradient takes, at most."""


class Plan(NamedTuple):
    """How each choice of a program is treated.

    Attributes:
        joint: choices that are summed over, with their support; all lanes of one take the same value at once.
        lanes: those of them that are made in several lanes, each independent of the others.
        chain: choices in one loop that are summed over step by step.
        replaced: choices whose instances are replaced by phantoms.
        scored: choices whose score multiplies their return.
        loose: scored choices in loops of unknown length, whose score multiplies the whole result.
        terms: the terms of the result, if any choice has a use for them.
        periods: for each replaced choice and each axis of its instances, how far apart instances lie that are
            replaced in one run, because no term depends on two of them.
    """

    joint: dict[Name, np.ndarray]
    lanes: dict[Name, Occurrence]
    chain: Chain | None
    replaced: dict[Name, Occurrence]
    scored: dict[Name, Occurrence]
    loose: dict[Name, Occurrence]
    terms: Terms | None
    periods: dict[Name, tuple[int, ...]]

    @property
    def cuts(self) -> list[Cut]:
        """The terms of the result."""
        return [] if self.terms is None else self.terms.cuts


def static(site: Site) -> tuple[Any, Any]:
    """The distribution and estimator of a choice, with placeholders for arrays."""
    leaves = [np.zeros(())] * site.tree.num_leaves
    return jax.tree.unflatten(site.tree, leaves)


def instances(item: Occurrence) -> tuple[int, ...]:
    """The shape of the instances of a choice, loops first."""
    return (*(length or 0 for length in item.lengths), *item.site.instances)


def kept(item: Occurrence) -> tuple[int, ...] | None:
    """The shape of the average return that is kept from step to step, if the choice's baseline is one."""
    baseline, site = getattr(static(item.site)[1], "baseline", None), item.site
    if not (isinstance(baseline, Baseline) and baseline.averaged):
        return None
    loops = tuple(length or 0 for length in item.lengths)
    return baseline.kept(loops, site.lanes, site.batch_shape)


def plan(jaxpr: Any, order: int, everything: bool = False) -> Plan:
    """Decide choice by choice, for a value alone (`order` zero), a first derivative, or any (2).

    With `everything`, every choice of finite support counts as enumerated, whatever its estimator.

    Raises:
        UnsupportedProgram: an enumerated or measure-valued choice lies in a loop of unknown length, or
            there are more joint combinations than `JOINT_LIMIT`, or more further runs than
            `REPLACED_LIMIT`.
    """
    joint: dict[Name, np.ndarray] = {}
    lanes, steps, replaced, scored, loose = {}, {}, {}, {}, {}
    for item in occurrences(jaxpr):
        site, estimator = item.site, static(item.site)[1]
        free = not (item.branches or site.masked) and None not in item.lengths
        if (everything or estimator.joint) and free and site.support is not None:
            if item.lengths:
                steps[item.name] = item
            elif site.instances:
                lanes[item.name] = item
            else:
                joint[item.name] = site.support
            continue
        if order and site.phantoms and not (order > 1 and estimator.score_beyond_first):
            replaced[item.name] = _replaceable(item)
        if 0 < site.score <= order:
            (loose if None in item.lengths else scored)[item.name] = item
    if not everything:
        _check_size(joint)
    watched = {*lanes, *steps, *replaced, *scored}
    terms = Terms(jaxpr, watched.__contains__, steps.__contains__) if watched else None
    cuts = [] if terms is None else terms.cuts
    together, size = [], math.prod(map(len, joint.values()))
    for name, item in lanes.items():
        if size * len(item.site.support) <= LANES_LIMIT and independent(name, item.site, cuts):
            size *= len(item.site.support)
            together.append(name)
    # What is summed over neither jointly nor as a chain is replaced, instance by instance.
    chain = chain_of(steps, terms, [*lanes, *replaced, *scored, *loose], size)
    if order:
        replaced |= {name: item for name, item in lanes.items() if name not in together}
        replaced |= {} if chain else steps
    lanes = {name: lanes[name] for name in together}
    joint |= {name: item.site.support for name, item in lanes.items()}
    # The telescope over several replaced choices needs one instance a run from the second order on.
    periods = {
        name: _periods(item, cuts) if order == 1 else instances(item) for name, item in replaced.items()
    }
    if order:
        _check_replaced(replaced, periods)
    return Plan(joint, lanes, chain, replaced, scored, loose, terms, periods)


def _replaceable(item: Occurrence) -> Occurrence:
    if None not in item.lengths:
        return item
    name = type(static(item.site)[1]).__name__
    raise UnsupportedProgram(
        f"the choice {item.site.where} is estimated by {name}, which runs the program again for each step, "
        "inside a while loop whose number of steps is not known. Use ppl.estimators.Reinforce() there, or "
        "lax.scan, or a lax.fori_loop with static bounds."
    )


def _check_size(joint: dict[Name, np.ndarray]) -> None:
    combinations = math.prod(map(len, joint.values()))
    if combinations <= JOINT_LIMIT:
        return
    largest = sorted(joint, key=lambda name: -len(joint[name]))
    kept, rest = combinations, []
    while kept > JOINT_LIMIT:
        rest.append(largest.pop(0))
        kept //= len(joint[rest[-1]])
    raise UnsupportedProgram(
        f"summing over {len(joint)} enumerated choices takes {combinations} evaluations, more than "
        f"{JOINT_LIMIT}. Sample some of them: `.using({{name: ppl.estimators.Reinforce()}})`, or "
        f"MeasureValued(), for {', '.join(repr(show(name[0])) for name in rest)} leaves {kept}."
    )


def _check_replaced(replaced: dict[Name, Occurrence], periods: dict[Name, tuple[int, ...]]) -> None:
    """Refuse what would run the program millions of times, before the list of runs is allocated."""
    runs = {name: math.prod(periods[name]) * item.site.phantoms for name, item in replaced.items()}
    if sum(runs.values()) <= REPLACED_LIMIT:
        return
    largest = sorted(runs, key=lambda name: -runs[name])
    kept, rest = sum(runs.values()), []
    while kept > REPLACED_LIMIT:
        rest.append(largest.pop(0))
        kept -= runs[rest[-1]]
    items = [
        f"{replaced[name].site.where}, {runs[name]} for {replaced[name].size} instances of "
        f"{replaced[name].site.phantoms} further values each"
        for name in rest
    ]
    raise UnsupportedProgram(
        f"a gradient would take {sum(runs.values())} further runs of the program, more than "
        f"{REPLACED_LIMIT}: {'; '.join(items)}. Terms of the result depend on several of these instances, or "
        f"a step has too many states, so that they are neither summed over together nor as a Markov chain. "
        "Sample them: `.using({name: ppl.estimators.Reinforce()})`, "
        f"for {', '.join(repr(show(name[0])) for name in rest)}."
    )


def _periods(item: Occurrence, cuts: Sequence[Cut]) -> tuple[int, ...]:
    """For each axis of the instances, how far apart two of them are that no term depends on both of."""
    shape, loops = instances(item), len(item.lengths)
    together = static(item.site)[1].together

    def period(axis: int, size: int) -> int:
        if together and axis >= loops:
            return 1
        relations = [cut.dependence[item.name][axis] for cut in cuts if item.name in cut.dependence]
        widths = [size if r is None else r[2] - r[1] + 1 for r in relations]
        return int(max(min(max(widths, default=1), size), 1))

    return tuple(period(axis, size) for axis, size in enumerate(shape))
