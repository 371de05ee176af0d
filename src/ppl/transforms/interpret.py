"""The walk through a staged program, written once for every interpreter.

A staged program is a jaxpr in which each random choice is one `sample` equation. An interpreter is a
`Rule`: it says what happens at a choice, which totals add up along the run (a log density, a score)
and which arrays are recorded. The walk does the rest: it evaluates stretches without choices as they
stand, goes through calls, and re-enters control flow through `jax.lax.scan`, `cond`, `while_loop`
and `jax.checkpoint`, so that interpreters compose with every transformation of JAX.

A choice below any other primitive is refused: no rule, no guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.extend.core import Var

from ppl.errors import UnsupportedProgram
from ppl.inner import expect_p
from ppl.joint import joint_p
from ppl.runtime_checks import check_at_run_time
from ppl.site import Site, sample_p
from ppl.source import equation_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.naming import CHOICES, INNER, Count, Name, advance, next_name
from ppl.transforms.occurrences import Occurrence, first_choice, no_rule, occurrences
from ppl.transforms.position import Here, Loop
from ppl.transforms.terms import Node
from ppl.transforms.vouched import continuous, user_vouches

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Outcome(NamedTuple):
    """What an interpreter makes of a choice: its value, and what it adds to totals and records."""

    value: Any
    totals: Mapping[str, Any] = NOTHING
    records: Mapping[Any, Any] = NOTHING


class Joint(NamedTuple):
    """What an interpreter makes of a joint choice: its values, totals and records."""

    values: list[Any]
    totals: Mapping[str, Any] = NOTHING
    records: Mapping[Any, Any] = NOTHING


class Rule:
    """An interpreter: the meaning of a random choice.

    Attributes:
        kinds: the primitives whose equations the rule wants to see.
        totals: the names of the scalars that it adds up.
        evaluates: whether this is a run of the program; otherwise it becomes part of another program.
    """

    kinds: frozenset[Any] = CHOICES
    evaluates: bool = True
    totals: tuple[str, ...] = ()

    def zeros(self) -> dict[str, Any]:
        """Where the totals start."""
        return {name: jnp.zeros((), total_dtype()) for name in self.totals}

    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        """The meaning of one random choice."""
        raise NotImplementedError

    def recorded(self, name: Name, site: Site) -> dict[Any, tuple[tuple[int, ...], Any]]:
        """Shape and dtype of each record that `choose` makes there, without the axes of loops."""
        return {}

    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        """The meaning of an inner expectation; by default it stays what it is."""
        return equation.primitive.bind(*operands, **equation.params)

    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        """The meaning of a joint choice; by default it stays what it is."""
        return Joint(equation.primitive.bind(*operands, **equation.params))

    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        """The meaning of an equation of any further primitive in `kinds`: outputs and totals."""
        raise NotImplementedError


class Result(NamedTuple):
    """What a walk returns: the program's outputs, the totals and the records.

    `weighted` are the outputs, by number, with their terms weighted, of those that are followed.
    """

    outputs: list[Any]
    totals: dict[str, Any]
    records: dict[Any, Any]
    weighted: Mapping[int, Any] = NOTHING


def total_dtype() -> Any:
    """The dtype in which totals add up: never below float32."""
    return jnp.promote_types(jnp.float32, jax.dtypes.canonicalize_dtype(float))


def walk(
    jaxpr: Any, arguments: Sequence[Any], rule: Rule, here: Here, terms: Node | None = None,
    weighted: Mapping[int, Any] = NOTHING,
) -> Result:  # fmt: skip
    """Interpret a staged program.

    Args:
        jaxpr: a closed jaxpr.
        arguments: one array for each of its inputs.
        rule: the interpreter.
        here: where this program stands in the whole.
        terms: how the additive terms of the result are followed. Each element of a term is then scaled by
            one plus what the feed holds for it, in a second version of whatever is linear in it.
        weighted: the second version of some inputs.
    """
    environment: dict[Any, Any] = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    environment.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))
    follower = None if terms is None else _Weighted(terms, environment, weighted, here)
    totals = rule.zeros()
    records: dict[Any, Any] = {}
    stretch: list[Any] = []

    def read(atom: Any) -> Any:
        return environment[atom] if isinstance(atom, Var) else internals.literal(atom)

    for number, equation in enumerate((*jaxpr.jaxpr.eqns, None)):
        inner = None if terms is None else terms.inner.get(number)
        if equation is not None and inner is None and not _concerns(equation, rule):
            stretch.append(equation)
            continue
        if stretch:
            internals.evaluate(jaxpr.jaxpr, stretch, environment)
            if follower is not None:
                follower.through(stretch)
            stretch = []
        if equation is None:
            break
        operands = [read(v) for v in equation.invars]
        if follower is None or inner is None:
            result = _step(equation, operands, rule, here)
        else:
            followed = {i: follower.read(equation.invars[i]) for i in inner.inputs}
            result = _step(equation, operands, rule, here, inner, followed)
            follower.keep(equation, result.weighted)
        environment.update(zip(equation.outvars, result.outputs, strict=True))
        totals = {name: totals[name] + result.totals.get(name, 0) for name in totals}
        merge_records(records, result.records)
    outputs = [read(v) for v in jaxpr.jaxpr.outvars]
    if terms is None or follower is None:
        return Result(outputs, totals, records)
    found = {number: follower.read(jaxpr.jaxpr.outvars[number]) for number in terms.outputs}
    return Result(outputs, totals, records, found)


class _Weighted:
    """The second version of the variables that are linear in terms, along the walk through one jaxpr."""

    def __init__(
        self, terms: Node, environment: dict[Any, Any], weighted: Mapping[int, Any], here: Here
    ) -> None:
        self.terms, self.plain, self.here = terms, environment, here
        variables = terms.scope.jaxpr.invars
        self.known = {variables[number]: value for number, value in weighted.items()}

    def read(self, atom: Any) -> Any:
        """The second version of a value; where it depends on no choice, the value itself."""
        if internals.is_literal(atom):
            return jnp.asarray(atom.val, atom.aval.dtype)
        if atom not in self.known and atom in self.terms.cuts:
            change = self.here.feed[self.terms.cuts[atom].key]
            self.known[atom] = self.plain[atom] * (1 + change)
        return self.known.get(atom, self.plain[atom])

    def through(self, equations: Sequence[Any]) -> None:
        """Go through linear equations that have been evaluated."""
        for equation in equations:
            if any(v in self.terms.expanded for v in equation.outvars):
                linear = [equation.invars[i] for i in self.terms.linear(equation)]
                environment = {v: self.plain[v] for v in equation.invars if not internals.is_literal(v)}
                environment |= {v: self.read(v) for v in linear}
                internals.evaluate(self.terms.scope.jaxpr, [equation], environment)
                self.known.update((v, environment[v]) for v in equation.outvars if v in environment)

    def keep(self, equation: Any, weighted: Mapping[int, Any]) -> None:
        """Keep what followed outputs have become."""
        self.known.update((equation.outvars[number], value) for number, value in weighted.items())


def _concerns(equation: Any, rule: Rule) -> bool:
    return equation.primitive in rule.kinds or any(
        internals.holds(inner, rule.kinds) for inner in internals.nested(equation)
    )


def merge_records(records: dict[Any, Any], new: Mapping[Any, Any]) -> None:
    """Add records; one that is there already was made in another lane or branch, and is zero here."""
    for key, value in new.items():
        if key not in records:
            records[key] = value
        elif value.dtype == bool:
            records[key] = records[key] | value
        else:
            records[key] = records[key] + value


def _step(
    equation: Any, values: list[Any], rule: Rule, here: Here, terms: Node | None = None,
    weighted: Mapping[int, Any] = NOTHING,
) -> Result:  # fmt: skip
    primitive = equation.primitive
    if primitive is sample_p:
        site = equation.params["site"]
        if rule.evaluates:
            check_at_run_time(site, values)
        value, totals, records = rule.choose(next_name(here.count, site.address), site, values, here)
        totals = {name: jnp.asarray(x, total_dtype()) for name, x in totals.items()}
        return Result([value], totals, dict(records))
    if primitive is expect_p:
        return Result(rule.expect(next_name(here.count, INNER), equation, values, here), {}, {})
    if primitive is joint_p:
        made = rule.joint(equation, values, here)
        totals = {name: jnp.asarray(x, total_dtype()) for name, x in made.totals.items()}
        return Result(list(made.values), totals, dict(made.records))
    if primitive in rule.kinds:
        return Result(*rule.other(equation, values, here), {})
    if user_vouches(equation) and not rule.evaluates:
        return _vouched(equation, values, rule, here)
    if primitive in internals.CALLS:
        return walk(equation.params[internals.CALLS[primitive]], values, rule, here, terms, weighted)
    if primitive is internals.SCAN:
        return _scan(internals.scan_parts(equation.params, values), rule, here, terms, weighted)
    if primitive is internals.COND:
        return _cond(equation.params["branches"], values[0], values[1:], rule, here)
    if primitive is internals.WHILE:
        return _while(equation, internals.while_parts(equation.params, values), rule, here)
    if primitive is internals.REMAT:
        return _remat(equation, values, rule, here)
    raise no_rule(equation)


class _Keyed:
    """Records as a list, for crossing a JAX control-flow boundary; their keys stay outside."""

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def pack(self, records: dict[Any, Any]) -> list[Any]:
        self.keys = list(records)
        return list(records.values())

    def unpack(self, values: Sequence[Any]) -> dict[Any, Any]:
        return dict(zip(self.keys, values, strict=True))


def _vouched(equation: Any, values: list[Any], rule: Rule, here: Here) -> Result:
    """Code that the user vouches for stays marked in the program that it becomes part of."""
    keyed = _Keyed()

    def run(*values: Any) -> Any:
        result = walk(equation.params["jaxpr"], values, rule, here)
        return result.outputs, result.totals, keyed.pack(result.records)

    outputs, totals, records = continuous(run)(*values)
    return Result(outputs, totals, keyed.unpack(records))


def _names_in(jaxpr: Any, here: Here) -> list[Occurrence]:
    return list(occurrences(jaxpr, dict(here.count)))


def _scan(
    scan: internals.Scan, rule: Rule, here: Here, terms: Node | None, weighted: Mapping[int, Any]
) -> Result:
    keyed = _Keyed()
    inner = {key for item in _names_in(scan.body, here) for key in (item.name, item.name[0])}
    inner |= set() if terms is None else terms.keys
    feed = {key: value for key, value in here.feed.items() if key in inner}
    final: Count = {}
    consts, count = len(scan.consts), len(scan.carry)
    followed = frozenset() if terms is None else terms.outputs
    fixed = {i: x for i, x in weighted.items() if i < consts}
    handed = {i: x for i, x in weighted.items() if consts <= i < consts + count}
    sliced = {i: x for i, x in weighted.items() if i >= consts + count}

    def body(state: Any, inputs: Any) -> Any:
        (carry, second), (step, xs, fed, parts) = state, inputs
        inside = here.inside(Loop(step, scan.length), dict(zip(feed, fed, strict=True)))
        operands = [*scan.consts, *carry, *xs]
        result = walk(scan.body, operands, rule, inside, terms, fixed | second | parts)
        final.update(inside.count)
        outputs = result.outputs
        state = outputs[:count], {i: result.weighted[i - consts] for i in second}
        rows = {i: x for i, x in result.weighted.items() if i >= count}
        return state, (outputs[count:], rows, result.totals, keyed.pack(result.records))

    steps = jnp.arange(scan.length)
    (carry, second), (ys, rows, totals, records) = jax.lax.scan(
        body,
        (scan.carry, handed),
        (steps, scan.xs, list(feed.values()), sliced),
        scan.length,
        scan.reverse,
        scan.unroll,
    )
    advance(here.count, final)
    totals = {name: jnp.sum(total, axis=0) for name, total in totals.items()}
    found = {i - consts: x for i, x in second.items()} | rows
    found = {i: x for i, x in found.items() if i in followed}
    return Result([*carry, *ys], totals, keyed.unpack(records), found)


def _cond(branches: Sequence[Any], index: Any, operands: list[Any], rule: Rule, here: Here) -> Result:
    shapes: dict[Any, Any] = {}
    counts: list[Count] = []
    for branch in branches:
        counts.append(dict(here.count))
        for item in occurrences(branch, here.count):
            for key, (shape, dtype) in rule.recorded(item.name, item.site).items():
                shapes[key] = jax.ShapeDtypeStruct((*item.lengths, *shape), dtype)

    def taken(branch: Any, count: Count) -> Any:
        def run(*operands: Any) -> Any:
            result = walk(branch, operands, rule, here._replace(count=dict(count)))
            blank = {key: jnp.zeros(s.shape, s.dtype) for key, s in shapes.items()}
            filled = blank | result.records
            return result.outputs, result.totals, [filled[key] for key in shapes]

        return run

    runs = [taken(branch, count) for branch, count in zip(branches, counts, strict=True)]
    outputs, totals, records = jax.lax.switch(index, runs, *operands)
    return Result(list(outputs), totals, dict(zip(shapes, records, strict=True)))


def _while(equation: Any, loop: internals.While, rule: Rule, here: Here) -> Result:
    if internals.holds(loop.condition, CHOICES):
        raise UnsupportedProgram(
            f"the condition of the while loop at {equation_line(equation)} makes a random choice. Make "
            "the choice in the body and carry its value to the condition."
        )
    inside_count = dict(here.count)

    def body(state: Any) -> Any:
        step, totals, carry = state
        inside = here.inside(Loop(step, None), {})
        result = walk(loop.body, [*loop.body_consts, *carry], rule, inside)
        inside_count.update(inside.count)
        if result.records:
            raise UnsupportedProgram(
                f"the choice {first_choice(equation).where} lies inside a while loop at "
                f"{equation_line(equation)} whose number of steps is not known, so its values have no "
                "array to be recorded in. Use lax.scan or a lax.fori_loop with static bounds."
            )
        totals = {name: totals[name] + result.totals[name] for name in totals}
        return step + 1, totals, result.outputs

    def condition(state: Any) -> Any:
        return eval_jaxpr(loop.condition.jaxpr, loop.condition.consts, *loop.condition_consts, *state[2])[0]

    totals = rule.zeros()
    _, totals, carry = jax.lax.while_loop(condition, body, (jnp.asarray(0), totals, loop.carry))
    advance(here.count, inside_count)
    return Result(list(carry), totals, {})


def _remat(equation: Any, values: list[Any], rule: Rule, here: Here) -> Result:
    keyed = _Keyed()
    count = dict(here.count)

    def run(*values: Any) -> Any:
        inside = here._replace(count=dict(here.count))
        result = walk(equation.params["jaxpr"], values, rule, inside)
        count.update(inside.count)
        return result.outputs, result.totals, keyed.pack(result.records)

    outputs, totals, records = internals.remat(equation, run)(*values)
    advance(here.count, count)
    return Result(outputs, totals, keyed.unpack(records))
