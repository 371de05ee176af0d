"""The random choices of a staged program, as a list."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ppl.errors import UnsupportedProgram
from ppl.inner import expect_p
from ppl.joint import joint_p
from ppl.site import Site, sample_p
from ppl.source import equation_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.naming import INNER, Count, Name, next_name

REENTERED = frozenset({*internals.CALLS, internals.SCAN, internals.WHILE, internals.COND, internals.REMAT})
"""The primitives that may hold choices."""


def no_rule(equation: Any) -> UnsupportedProgram:
    """The refusal of a choice inside a primitive that no interpreter knows."""
    return UnsupportedProgram(
        f"the choice {first_choice(equation).where} lies inside `{equation.primitive.name}` "
        f"({equation_line(equation)}), for which ppl has no rule. Move the choice out of it, or use "
        "jax.vmap, lax.scan, lax.fori_loop, lax.cond, lax.switch, jax.jit or jax.checkpoint."
    )


def first_choice(equation: Any) -> Site:
    """The first random choice below an equation."""
    if equation.primitive is sample_p:
        return equation.params["site"]
    inner = [e for jaxpr in internals.nested(equation) for e in jaxpr.eqns]
    return first_choice(next(e for e in inner if e.primitive is sample_p or holds_choice(e)))


def holds_choice(equation: Any) -> bool:
    """Whether a random choice lies below an equation."""
    return any(internals.holds(inner, frozenset({sample_p})) for inner in internals.nested(equation))


class Occurrence(NamedTuple):
    """A random choice as it stands in a staged program.

    Attributes:
        name: its address and occurrence, as the walk names it.
        site: the choice.
        lengths: the lengths of the enclosing loops, outermost first; `None` where unknown.
        branches: the enclosing conditionals, as (conditional, branch).
        calls: the equations that lead to it, outermost first, itself last.
    """

    name: Name
    site: Site
    lengths: tuple[int | None, ...]
    branches: tuple[tuple[Any, int], ...]
    calls: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many instances it stands for, in loops of known lengths."""
        return math.prod(length or 0 for length in self.lengths) * math.prod(self.site.instances)

    @property
    def is_joint(self) -> bool:
        """Whether it is part of a joint choice, without a distribution and an estimator of its own."""
        return self.calls[-1].primitive is joint_p

    @property
    def distribution(self) -> Any:
        """The distribution of one lane, with shapes and dtypes in place of arrays."""
        return self.site.one_lane([variable.aval for variable in self.calls[-1].invars])[0]

    @property
    def estimator(self) -> Any:
        """The gradient estimator of one lane, with shapes and dtypes in place of arrays."""
        return self.site.one_lane([variable.aval for variable in self.calls[-1].invars])[1]

    def excludes(self, other: Occurrence) -> bool:
        """Whether the two lie in different branches of one conditional."""
        mine = dict(self.branches)
        return self.site.excludes(other.site) or any(
            mine.get(conditional, branch) != branch for conditional, branch in other.branches
        )


def occurrences(jaxpr: Any, count: Count | None = None) -> Iterator[Occurrence]:
    """Every random choice of a staged program, in the order and with the names of the walk.

    Raises:
        UnsupportedProgram: a choice lies inside a primitive for which the walk has no rule.
    """
    yield from _occurrences(jaxpr, {} if count is None else count, (), (), ())


def expectations(jaxpr: Any) -> Iterator[Any]:
    """The equations of the inner expectations of a staged program, without those within them."""
    for equation in jaxpr.eqns:
        if equation.primitive is expect_p:
            yield equation
        else:
            for nested in internals.nested(equation):
                yield from expectations(nested)


def choice_equations(jaxpr: Any) -> Iterator[Any]:
    """The equation of every random choice of a staged program, also of those in inner expectations."""
    for equation in jaxpr.eqns:
        if equation.primitive is sample_p:
            yield equation
        for nested in internals.nested(equation):
            yield from choice_equations(nested)


def _occurrences(jaxpr: Any, count: Count, lengths: Any, branches: Any, calls: Any) -> Iterator[Occurrence]:
    for equation in jaxpr.eqns:
        primitive, path = equation.primitive, (*calls, equation)
        if primitive is sample_p:
            site = equation.params["site"]
            yield Occurrence(next_name(count, site.address), site, lengths, branches, path)
        elif primitive is expect_p:
            next_name(count, INNER)
        elif primitive is joint_p:
            for nested in internals.nested(equation):  # its hidden choices are counted, no more
                collections.deque(_occurrences(nested, count, lengths, branches, path), maxlen=0)
            for site in equation.params["sites"]:
                yield Occurrence(next_name(count, site.address), site, lengths, branches, path)
        elif primitive is internals.COND:
            conditional = object()
            for number, branch in enumerate(equation.params["branches"]):
                yield from _occurrences(branch, count, lengths, (*branches, (conditional, number)), path)
        elif holds_choice(equation):
            if primitive not in REENTERED:
                raise no_rule(equation)
            length = {internals.SCAN: equation.params.get("length"), internals.WHILE: None}
            inner = (*lengths, length[primitive]) if primitive in length else lengths
            for nested in internals.nested(equation):
                yield from _occurrences(nested, count, inner, branches, path)
