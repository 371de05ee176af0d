"""Traces that are changed: some choices given anew, or drawn anew, and what that weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ppl.address import Address, canonical, nearest, show
from ppl.choices import Choices
from ppl.errors import ChoiceShapeError, UnknownAddress, UnusedChoice
from ppl.given import below, prepared
from ppl.trace import Trace
from ppl.transforms.edit import MADE, Edit, Kept
from ppl.transforms.interpret import Result, walk
from ppl.transforms.one_choice import Rebind
from ppl.transforms.position import start
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import to_trace
from ppl.undifferentiated import DRAWS, fixed, undifferentiated


class Stageable(Protocol):
    """A generative function applied to arguments."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def stage(self) -> Staged:
        """As a jaxpr."""
        ...


def update(
    program: Stageable, before: Stageable, key: jax.Array, trace: Trace, changed: Choices
) -> tuple[Trace, jax.Array]:
    """See `ppl.Measure.update`; `before` is the program that the trace is of."""
    trace, changed = undifferentiated((trace, changed), DRAWS)
    staged = fixed(program.stage(), DRAWS)
    known = _made(before, key, trace)
    for address, value in prepared(staged, changed, complete=False).items():
        everywhere = jnp.ones(_instances(staged, address), bool)
        known[address] = Kept(value, everywhere, everywhere)
    new, found = _edited(program, staged, key, known)
    return new, found.totals["weight"] - trace.log_density


def regenerate(
    program: Stageable, before: Stageable, key: jax.Array, trace: Trace, addresses: tuple[str | Address, ...],
    observed: Choices,
) -> tuple[Trace, jax.Array]:  # fmt: skip
    """See `ppl.Measure.regenerate`; `before` is the program of the trace, and `observed` stays as it is."""
    trace = undifferentiated(trace, DRAWS)
    staged = fixed(program.stage(), DRAWS)
    selected = chosen(program, staged, addresses, observed)
    old = _made(before, key, trace)
    rest = {address: kept for address, kept in old.items() if address not in selected}
    for address, value in prepared(staged, observed, complete=False).items():
        everywhere = jnp.ones(_instances(staged, address), bool)
        rest[address] = Kept(value, everywhere, everywhere)
    new, found = _edited(program, staged, key, rest)
    # Of the old run counts what is kept, if the new one makes it: what it does not make would be drawn again
    # on the way back.
    seen = dict(observed.leaves())
    weighed = {a: kept._replace(weighed=jnp.zeros_like(kept.where)) for a, kept in old.items()}
    weighed |= {
        a: kept._replace(weighed=kept.where if a in seen else kept.where & found.records[a, MADE])
        for a, kept in rest.items()
    }
    _, again = _edited(before, fixed(before.stage(), DRAWS), key, weighed)
    return new, found.totals["weight"] - again.totals["weight"]


def chosen(
    program: Any, staged: Staged, addresses: tuple[str | Address, ...], observed: Choices
) -> frozenset[Address]:
    """The choices of a program that are to be drawn anew.

    Raises:
        UnknownAddress: the program has no choice at, or below, one of the addresses.
        UnusedChoice: one of them is observed.
    """
    for address in addresses:
        if not below(staged, [address]):
            name, known = show(canonical(address)), [show(a) for a in staged.choices]
            raise UnknownAddress(f"{name!r} is no choice of {program!r}.{nearest(name, known)}")
    selected = below(staged, addresses)
    for address, _ in observed.leaves():
        if address in selected:
            raise UnusedChoice(
                f"{staged.choices[address][0].site.where} is observed, and cannot be drawn anew."
            )
    return selected


class Redrawn(NamedTuple):
    """Some choices of a program drawn anew, inside another program.

    Attributes:
        choices: all of the program's that are not observed; zero where they are not made.
        forward: log of the density of what was drawn.
        backward: log of the density of what would be drawn to come back.
    """

    choices: Choices
    forward: jax.Array
    backward: jax.Array


def redrawn(
    program: Stageable,
    observed: Choices,
    choices: Choices,
    addresses: tuple[str | Address, ...],
    bind: Rebind,
) -> Redrawn:
    """Inside a program: `choices`, some of them drawn anew.

    The others are kept where they had been made; where another branch makes what had not been made it is
    drawn too, and lane by lane.
    """
    staged = program.stage()
    selected = chosen(program, staged, addresses, observed)
    seen = {a: Kept(x) for a, x in prepared(staged, observed, complete=False).items()}
    given = prepared(staged, choices, complete=False)

    def run(feed: dict[Address, Kept]) -> Result:
        return walk(staged.jaxpr, staged.arrays, Edit(bind), start(feed=feed))

    before = {a: Kept(x) for a, x in given.items()}
    kept = {a: Kept(x) for a, x in given.items() if a not in selected}
    varies = [a for a in kept if conditional(staged, a)]
    if varies:
        made = run(seen | before).records
        kept |= {a: Kept(given[a], made[a, MADE]) for a in varies}
    after = run(seen | kept)
    back = {a: Kept(given[a], None, jnp.ones(_instances(staged, a), bool)) for a in selected}
    back |= {a: Kept(given[a], None, ~after.records[a, MADE]) for a in varies}
    again = run(seen | before | back)
    records = {a: to_trace(staged.choices[a][0], after.records[a]) for a in given}
    return Redrawn(Choices(records), after.totals["drawn"], again.totals["weight"])


def conditional(staged: Staged, address: Address) -> bool:
    """Whether a choice is made in some branches only."""
    return any(item.branches or item.site.masked for item in staged.choices[address])


def _made(program: Stageable, key: jax.Array, trace: Trace) -> dict[Address, Kept]:
    """All that a trace holds, and where its program has made it."""
    staged = fixed(program.stage(), DRAWS)
    feed = prepared(staged, trace.choices, complete=True)
    flags = {a: jnp.ones(_instances(staged, a), bool) for a in feed}
    _, found = _edited(program, staged, key, {a: Kept(x, flags[a], flags[a]) for a, x in feed.items()})
    made = {a: found.records[a, MADE] for a in feed}
    return {a: Kept(x, made[a], made[a]) for a, x in feed.items()}


def _edited(
    program: Stageable, staged: Staged, key: jax.Array, known: Mapping[Address, Kept]
) -> tuple[Trace, Result]:
    """A run that keeps what is known, and draws the rest."""
    feed = {address: kept for address, kept in known.items() if address in staged.choices}
    for address, kept in feed.items():
        item = staged.choices[address][0]
        shape = (*_instances(staged, address), *item.site.shape)
        if kept.values.shape != shape:
            raise ChoiceShapeError(
                f"the choice {item.site.where} has shape {kept.values.shape} in the trace, and "
                f"{shape} in the program. Change it: give it a value."
            )
    result = walk(staged.jaxpr, staged.arrays, Edit(), start(key, feed=feed, jaxpr=staged.jaxpr))
    records = {a: x for a, x in result.records.items() if a in staged.choices}
    choices = {a: to_trace(staged.choices[a][0], value) for a, value in records.items()}
    retval = staged.returned(result.outputs)
    trace = Trace(Choices(choices), result.totals["log_density"], retval, program.args, program.kwargs)
    return trace, result


def _instances(staged: Staged, address: Address) -> tuple[int, ...]:
    """The loops and lanes of a choice, as the walk orders them."""
    item = staged.choices[address][0]
    return (*(length or 0 for length in item.lengths), *item.site.lanes)
