"""A staged program as a sequence of parts: what comes before its loop, the steps, and what comes after.

An algorithm that resamples between the steps of a `lax.scan` runs many copies of a program side by side. Each
part is a walk over one copy, to be mapped over all of them; what does not depend on a random choice is
evaluated once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.core import eval_jaxpr

from ppl.errors import UnsupportedProgram
from ppl.source import equation_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import Rule, walk
from ppl.transforms.naming import CHOICES
from ppl.transforms.position import Loop, start
from ppl.transforms.stage import Staged


class Outputs(NamedTuple):
    """What one part of one copy gives.

    Attributes:
        values: the outputs.
        totals, records: of the rule.
    """

    values: list[Any]
    totals: dict[str, Any]
    records: dict[Any, Any]


class Sequenced(NamedTuple):
    """A staged program, cut at its loop.

    Attributes:
        arrays: its inputs.
        cut: the parts of its jaxpr.
        scan: the loop, with the positions of `cut.passed` (or literals) in place of its operands.
        varies: for each passed value, whether it depends on a random choice.
        fixed: the part before the loop that depends on none, for the passed values that do not.
    """

    arrays: list[Any]
    cut: internals.Cut
    scan: internals.Scan
    varies: list[bool]
    fixed: Any

    @property
    def length(self) -> int:
        """How many steps there are."""
        return self.scan.length

    @property
    def continues(self) -> bool:
        """Whether there are choices after the loop."""
        return internals.holds(self.cut.after, CHOICES)

    def constants(self) -> list[Any]:
        """The passed values that are the same in all copies; `None` in the place of the others."""
        values = iter(eval_jaxpr(self.fixed, self.fixed.consts, *self.arrays))
        return [None if varies else next(values) for varies in self.varies]

    def before(self, rule: Rule, feed: Mapping[Any, Any]) -> Outputs:
        """The first part of one copy; its values are what is passed on."""
        result = walk(self.cut.before, self.arrays, rule, start(feed=dict(feed)))
        return Outputs(result.outputs, result.totals, result.records)

    def carried(self, passed: Sequence[Any]) -> list[Any]:
        """The carry of the loop at its start, from what was passed on."""
        return self._read(self.scan.carry, passed)

    def step(
        self, rule: Rule, feed: Mapping[Any, Any], number: Any, passed: Sequence[Any], carry: Sequence[Any]
    ) -> Outputs:
        """One step of one copy; its values are the new carry, and what the step puts out."""
        xs = [at(x, number) for x in self._read(self.scan.xs, passed)]
        operands = [*self._read(self.scan.consts, passed), *carry, *xs]
        here = start().inside(Loop(number, self.length), dict(feed))
        result = walk(self.scan.body, operands, rule, here)
        return Outputs(result.outputs, result.totals, result.records)

    def after(
        self, rule: Rule, feed: Mapping[Any, Any], passed: Sequence[Any], outputs: Sequence[Any]
    ) -> Outputs:
        """The last part of one copy."""
        kept = [outputs[number] for number in self.cut.kept]
        result = walk(self.cut.after, [*passed, *kept], rule, start(feed=dict(feed)))
        return Outputs(result.outputs, result.totals, result.records)

    def _read(self, places: Sequence[Any], passed: Sequence[Any]) -> list[Any]:
        return [passed[place] if isinstance(place, int) else place.val for place in places]


def at(x: Any, number: Any) -> Any:
    """The row of a step; of a loop without steps, whose body is staged but never run, zeros."""
    return x[number] if x.shape[0] else jnp.zeros(x.shape[1:], x.dtype)


def sequence(staged: Staged, what: str) -> Sequenced:
    """The program cut at its loop.

    Raises:
        UnsupportedProgram: it has no `lax.scan` that makes choices, or several, or one within a call.
    """
    concerned = [
        (number, equation)
        for number, equation in enumerate(staged.jaxpr.eqns)
        if any(internals.holds(inner, CHOICES) for inner in internals.nested(equation))
    ]
    loops = [(number, equation) for number, equation in concerned if equation.primitive is internals.SCAN]
    if len(loops) != 1:
        found = ", ".join(equation_line(equation) for _, equation in loops) or "none"
        raise UnsupportedProgram(
            f"{what} resamples between the steps of the one lax.scan in which a program makes choices, at "
            f"its top level and not inside jax.jit or another loop; loops found: {found}."
        )
    number, equation = loops[0]
    cut = internals.cut(staged.jaxpr, number)
    places = {v: place for place, v in enumerate(cut.passed)}
    atoms = [v if internals.is_literal(v) else places[v] for v in equation.invars]
    scan = internals.scan_parts(equation.params, atoms)
    if scan.reverse:
        raise UnsupportedProgram(
            f"the lax.scan at {equation_line(equation)} runs in reverse, and {what} resamples between its "
            "steps in order. Reverse the arrays instead."
        )
    random = _random(cut.before)
    fixed = [e for e in cut.before.eqns if not any(v in random for v in e.outvars)]
    same = [v for v in cut.passed if v not in random]
    fixed = internals.restricted(cut.before, fixed, same)
    return Sequenced(staged.arrays, cut, scan, [v in random for v in cut.passed], fixed)


def _random(jaxpr: Any) -> set[Any]:
    """The variables that depend on a random choice."""
    found: set[Any] = set()
    for equation in jaxpr.eqns:
        makes = equation.primitive in CHOICES or any(
            internals.holds(inner, CHOICES) for inner in internals.nested(equation)
        )
        if makes or any(not internals.is_literal(v) and v in found for v in equation.invars):
            found.update(equation.outvars)
    return found
