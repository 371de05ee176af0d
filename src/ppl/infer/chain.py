"""A target as a chain of steps, each proposing and weighing: what one particle does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from ppl.address import Address
from ppl.choices import Choices
from ppl.errors import ChoiceShapeError, UnsupportedProgram, UnusedChoice
from ppl.given import prepared
from ppl.joint import joint_p
from ppl.measure import Measure
from ppl.program import Conditioned, Program
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import total_dtype
from ppl.transforms.run import Run
from ppl.transforms.sequence import Outputs, Sequenced, at, sequence
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import raw_axes, to_trace, trace_shape

Feed = dict[Address, Any]


class Parts(NamedTuple):
    """Given choices, by the part of the program that they belong to; those of steps have the steps first."""

    before: Feed
    steps: Feed
    after: Feed


class State(NamedTuple):
    """What a particle carries: of each program, what was passed on to its loop, and the loop's carry."""

    sides: list[tuple[list[Any], list[Any]]]

    def of(self, side: Side, sides: list[Side]) -> tuple[list[Any], list[Any]]:
        """All that was passed on, and the carry."""
        varying, carry = self.sides[sides.index(side)]
        return side.whole(varying), carry


class Moved(NamedTuple):
    """A particle after one part.

    Attributes:
        state: what it carries.
        weight: log of what it is to be multiplied by.
        log_density: of the target's choices in this part.
        records: of the target.
        outputs: of the loop of each program.
    """

    state: State
    weight: Any
    log_density: Any
    records: dict[Any, Any]
    outputs: list[list[Any]]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two programs, target or proposal."""

    program: Program
    staged: Staged
    sequence: Sequenced
    constants: list[Any]

    @staticmethod
    def of(program: Program) -> Side:
        """The program, cut at its loop."""
        staged = program.stage()
        cut = sequence(staged, "SMC")
        return Side(program, staged, cut, cut.constants())

    def parts(self, feed: Feed) -> Parts:
        """Given choices by part."""
        parts = Parts({}, {}, {})
        for address, value in feed.items():
            parts[self.place(address)][address] = value
        return parts

    def place(self, address: Address) -> int:
        """The number of the part that makes a choice."""
        equations = list(self.staged.jaxpr.eqns)
        loop = equations.index(self.sequence.cut.equation)
        place = equations.index(self.staged.choices[address][0].calls[0])
        return (place > loop) + (place >= loop)

    def rule(self, weighed: Any) -> Run:
        """Draws as choices of the surrounding program."""
        return Run(self.program._bind((), False), weighed=weighed)

    def varying(self, passed: list[Any]) -> list[Any]:
        """The passed values that depend on the particle."""
        return [x for x, varies in zip(passed, self.sequence.varies, strict=True) if varies]

    def whole(self, varying: list[Any]) -> list[Any]:
        """All passed values of a particle."""
        own = iter(varying)
        flags = zip(self.constants, self.sequence.varies, strict=True)
        return [next(own) if varies else x for x, varies in flags]

    def split(self, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """The values of a step: the carry, and the outputs."""
        count = len(self.sequence.scan.carry)
        return values[:count], values[count:]


class _Part(NamedTuple):
    values: list[tuple[Side, list[Any]]]
    found: Outputs
    weight: Any

    def moved(self, state: State, outputs: list[list[Any]]) -> Moved:
        return Moved(state, self.weight, self.found.totals["log_density"], self.found.records, outputs)


class Chain(NamedTuple):
    """A target and perhaps a proposal, in step with each other."""

    target: Side
    observed: Parts
    proposal: Side | None

    @property
    def sides(self) -> list[Side]:
        """The target, and the proposal if there is one."""
        return [self.target] if self.proposal is None else [self.target, self.proposal]

    @property
    def length(self) -> int:
        """How many steps there are."""
        return self.target.sequence.length

    @property
    def continues(self) -> bool:
        """Whether choices are made after the loop."""
        return any(side.sequence.continues for side in self.sides)

    def check_exact(self) -> None:
        """Refuse densities that are themselves estimated."""
        for side in self.sides:
            if internals.holds(side.staged.jaxpr, frozenset({joint_p})):
                raise UnsupportedProgram(
                    f"{side.program!r} holds a marginal or a normalized measure, whose estimates SMC does "
                    "not keep for the density of given choices."
                )

    def given(self, choices: Choices) -> Parts:
        """The choices of one particle, all given, by part."""
        feed = prepared(self.target.staged, choices, complete=False)
        return self.target.parts(feed)

    def choices(self, records: Mapping[Address, Any]) -> Choices:
        """The target's choices from the records of one particle."""
        items = self.target.staged.choices
        return Choices({a: to_trace(items[a][0], value) for a, value in records.items()})

    def begin(self, given: Feed) -> Moved:
        """What comes before the loop."""
        part = self._part(
            given, self.observed.before, lambda side, rule, feed: side.sequence.before(rule, feed)
        )
        states = [
            (side.varying(passed), [jnp.asarray(x) for x in side.sequence.carried(passed)])
            for side, passed in part.values
        ]
        return part.moved(State(states), [])

    def step(self, given: Feed, number: Any, state: State) -> Moved:
        """One turn of the loop."""

        def run(side: Side, rule: Run, feed: Feed) -> Outputs:
            return side.sequence.step(rule, feed, number, *state.of(side, self.sides))

        seen = {address: at(x, number) for address, x in self.observed.steps.items()}
        part = self._part(given, seen, run)
        split = [side.split(values) for side, values in part.values]
        kept = [passed for passed, _ in state.sides]
        states = [(passed, carry) for passed, (carry, _) in zip(kept, split, strict=True)]
        return part.moved(State(states), [outputs for _, outputs in split])

    def end(self, given: Feed, state: State, outputs: list[list[Any]]) -> Moved:
        """What comes after the loop."""

        def run(side: Side, rule: Run, feed: Feed) -> Outputs:
            passed, carry = state.of(side, self.sides)
            return side.sequence.after(rule, feed, passed, [*carry, *outputs[self.sides.index(side)]])

        return self._part(given, self.observed.after, run).moved(state, [])

    def _part(self, given: Feed, seen: Feed, run: Callable[..., Outputs]) -> _Part:
        """One part of the proposal, and then of the target given what it proposes."""
        proposed: Feed = {}
        score: Any = jnp.zeros((), total_dtype())
        values = []
        if self.proposal is not None:
            own = {a: x for a, x in given.items() if a in self.proposal.staged.choices}
            made = run(self.proposal, self.proposal.rule(()), own)
            proposed, score = made.records, made.totals["log_density"]
            values = [(self.proposal, made.values)]
        weighed = frozenset((*seen, *proposed))
        found = run(self.target, self.target.rule(weighed), seen | proposed | given)
        return _Part([(self.target, found.values), *values], found, found.totals["weight"] - score)


def chain(target: Measure, proposal: Measure | None) -> Chain:
    """A target as a chain of steps.

    Raises:
        UnsupportedProgram: it is no program with one loop, or the proposal is none with a loop as long.
        UnusedChoice: the proposal draws what the target does not, or what is observed.
    """
    program, given = target, Choices()
    if isinstance(target, Conditioned):
        program, given = target.program, target.observed
    side = Side.of(_program(program, "the target"))
    observed = side.parts(prepared(side.staged, given, complete=False))
    if proposal is None:
        return Chain(side, observed, None)
    other = Side.of(_program(proposal, "the proposal"))
    if other.sequence.length != side.sequence.length:
        raise UnsupportedProgram(
            f"the loop of the proposal {proposal!r} has {other.sequence.length} steps, that of the target "
            f"{side.sequence.length}."
        )
    seen = dict(given.leaves())
    for address, items in other.staged.choices.items():
        if address not in side.staged.choices or address in seen:
            what = "which is observed" if address in seen else "which the target does not"
            raise UnusedChoice(f"the proposal draws {items[0].site.where}, {what}.")
        _check_same(side, other, address)
    return Chain(side, observed, other)


_PLACES = ("before the loop", "in the loop", "after the loop")


def _check_same(target: Side, proposal: Side, address: Address) -> None:
    """Refuse a choice that the two make in different parts, or of another kind.

    Particles hand values over as they are, part by part: one that is proposed in another part would be
    weighed there, and drawn once more here.
    """
    mine, theirs = (side.staged.choices[address][0] for side in (target, proposal))
    one, other = (_PLACES[side.place(address)] for side in (target, proposal))
    if one != other:
        raise UnsupportedProgram(
            f"the proposal draws {theirs.site.where} {other}, the target {one}: {mine.site.where}. Draw it "
            "in the same part."
        )
    shapes = [(trace_shape(item), jnp.dtype(item.site.dtype), raw_axes(item)) for item in (mine, theirs)]
    if shapes[0] != shapes[1]:
        raise ChoiceShapeError(
            f"the proposal's choice {theirs.site.where} has shape {shapes[1][0]} and dtype {shapes[1][1]}, "
            f"the target's {shapes[0][0]} and {shapes[0][1]}: {mine.site.where}. Make it in the same loops "
            "and lanes, of a family with the same kind of values."
        )


def _program(measure: Any, what: str) -> Program:
    if isinstance(measure, Program):
        return measure
    raise UnsupportedProgram(
        f"SMC runs the steps of a generative function, and {what} is {measure!r}, a {type(measure).__name__}."
    )
