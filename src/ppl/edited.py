"""Traces that are changed: some choices given anew, or drawn anew, and what that weighs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ppl.address import Address, canonical, nearest, show
from ppl.choices import Choices
from ppl.errors import ChoiceShapeError, UnknownAddress
from ppl.given import below, prepared
from ppl.trace import Trace
from ppl.transforms.edit import MADE, Edit, Kept
from ppl.transforms.interpret import Result, walk
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
    program: Stageable, before: Stageable, key: jax.Array, trace: Trace, addresses: tuple[str | Address, ...]
) -> tuple[Trace, jax.Array]:
    """See `ppl.Measure.regenerate`; `before` is the program that the trace is of."""
    trace = undifferentiated(trace, DRAWS)
    staged = fixed(program.stage(), DRAWS)
    for address in addresses:
        if not below(staged, [address]):
            name, known = show(canonical(address)), [show(a) for a in staged.choices]
            raise UnknownAddress(f"{name!r} is no choice of {program!r}.{nearest(name, known)}")
    selected = below(staged, addresses)
    old = _made(before, key, trace)
    rest = {address: kept for address, kept in old.items() if address not in selected}
    new, found = _edited(program, staged, key, rest)
    # Of the old run counts what is kept, if the new one makes it: what it does not make would be drawn again
    # on the way back.
    weighed = {a: kept._replace(weighed=jnp.zeros_like(kept.where)) for a, kept in old.items()}
    weighed |= {a: kept._replace(weighed=kept.where & found.records[a, MADE]) for a, kept in rest.items()}
    _, again = _edited(before, fixed(before.stage(), DRAWS), key, weighed)
    return new, found.totals["weight"] - again.totals["weight"]


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
    feed: dict[Address, Kept] = {}
    for address, (item, *_) in staged.choices.items():
        shape = (*_instances(staged, address), *item.site.shape)
        nowhere = jnp.zeros(_instances(staged, address), bool)
        feed[address] = known.get(address, Kept(jnp.zeros(shape, item.site.dtype), nowhere, nowhere))
        if feed[address].values.shape != shape:
            raise ChoiceShapeError(
                f"the choice {item.site.where} has shape {feed[address].values.shape} in the trace, and "
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
