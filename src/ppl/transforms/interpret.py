"""The walk through a staged program, written once for every interpreter.

A staged program is a jaxpr in which each random choice is one `sample` equation. An interpreter is a
`Rule`: it says what happens at a choice, which totals add up along the run (a log density, a score)
and which arrays are recorded. The walk does the rest: it evaluates stretches without choices as they
stand, goes through calls, and re-enters control flow through `jax.lax.scan`, `cond`, `while_loop`
and `jax.checkpoint`, so that interpreters compose with every transformation of JAX.

A choice below any other primitive is refused: no rule, no guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.extend.core import Var

from ppl.address import Address, Folds, Path
from ppl.errors import UnsupportedProgram
from ppl.inner import expect_p
from ppl.runtime_checks import check_at_run_time
from ppl.site import Site, sample_p
from ppl.source import equation_line
from ppl.transforms import jax_internals as internals

Name = tuple[Address, int]
"""One choice of a program: its address, and how many choices with that address came before it."""

INNER: Address = ("<expect>",)
"""The address under which inner expectations are counted."""

CHOICES = frozenset({sample_p, expect_p})


class Loop(NamedTuple):
    """A loop that the walk is inside of: the current step, and how many there are if that is known."""

    step: Any
    length: int | None


class Here(NamedTuple):
    """Where in the program the walk stands.

    Attributes:
        key: the key of the whole run.
        token: asks for independent noise in each lane of an enclosing `vmap` over the whole run.
        loops: the enclosing loops, outermost first.
        feed: arrays handed to choices, sliced to the current step of every enclosing loop.
        count: how often each address has come up.
        folds: the numbers that stand for address components in keys.
        roots: the keys of the first components, as far as they are derived already.
    """

    key: Any
    token: Any
    loops: tuple[Loop, ...]
    feed: dict[Any, Any]
    count: dict[Address, int]
    folds: Folds
    roots: dict[Any, Any]

    def next(self, address: Address) -> Name:
        """The name of the next choice with this address."""
        occurrence = self.count.get(address, 0)
        self.count[address] = occurrence + 1
        return address, occurrence

    def key_of(self, name: Name, site: Site | None = None) -> jax.Array:
        """The key of a choice: a function of its address path and of the steps it is drawn at."""
        path = self.folds.distinct(_full_path(name, site, len(self.loops)))
        steps = iter(self.loops)
        key = self.key
        if path[0] in self.roots:
            key, path = self.roots[path[0]], path[1:]
        for part in path:
            key = jax.random.fold_in(key, next(steps).step if part is None else self.folds.number(part))
        return key

    def inside(self, loop: Loop, feed: dict[Any, Any]) -> Here:
        """The position inside one more loop."""
        return self._replace(loops=(*self.loops, loop), feed=self.feed | feed, count=dict(self.count))


def _full_path(name: Name, site: Site | None, loops: int) -> Path:
    """The path of a choice, from the outermost of its loops on."""
    path: Path = (site and site.path) or name[0]
    again = () if name[1] == 0 else (f"#{name[1]}",)
    return ((None,) * (loops - sum(part is None for part in path))) + path + again


def start(key: Any = None, token: Any = False, feed: dict[Any, Any] | None = None, jaxpr: Any = None) -> Here:
    """The position before the first equation of a run.

    With the `jaxpr` that will be run, the keys of the first address components are derived together: one
    vectorized operation compiles faster than one for each choice.
    """
    folds, roots = Folds(), {}
    if jaxpr is not None:
        paths = [_full_path(item.name, item.site, len(item.lengths)) for item in occurrences(jaxpr)]
        first = list(dict.fromkeys(path[0] for path in paths if path[0] is not None))
        if len(first) > 1:
            numbers = jnp.asarray([folds.number(part) for part in first], jnp.uint32)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
            roots = {part: keys[number] for number, part in enumerate(first)}
    return Here(key, token, (), {} if feed is None else feed, {}, folds, roots)


NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Outcome(NamedTuple):
    """What an interpreter makes of a choice: its value, and what it adds to totals and records."""

    value: Any
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

    def other(self, equation: Any, operands: list[Any], here: Here) -> tuple[list[Any], dict[str, Any]]:
        """The meaning of an equation of any further primitive in `kinds`: outputs and totals."""
        raise NotImplementedError


class Result(NamedTuple):
    """What a walk returns: the program's outputs, the totals and the records."""

    outputs: list[Any]
    totals: dict[str, Any]
    records: dict[Any, Any]


def total_dtype() -> Any:
    """The dtype in which totals add up: never below float32."""
    return jnp.promote_types(jnp.float32, jax.dtypes.canonicalize_dtype(float))


def walk(jaxpr: Any, arguments: Sequence[Any], rule: Rule, here: Here) -> Result:
    """Interpret a staged program.

    Args:
        jaxpr: a closed jaxpr.
        arguments: one array for each of its inputs.
        rule: the interpreter.
        here: where this program stands in the whole.
    """
    environment: dict[Any, Any] = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    environment.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))
    totals = rule.zeros()
    records: dict[Any, Any] = {}
    stretch: list[Any] = []

    def read(atom: Any) -> Any:
        return environment[atom] if isinstance(atom, Var) else jnp.asarray(atom.val, atom.aval.dtype)

    for equation in (*jaxpr.jaxpr.eqns, None):
        if equation is not None and not _concerns(equation, rule):
            stretch.append(equation)
            continue
        if stretch:
            internals.evaluate(jaxpr.jaxpr, stretch, environment)
            stretch = []
        if equation is None:
            break
        result = _step(equation, [read(v) for v in equation.invars], rule, here)
        environment.update(zip(equation.outvars, result.outputs, strict=True))
        totals = {name: totals[name] + result.totals.get(name, 0) for name in totals}
        merge_records(records, result.records)
    return Result([read(v) for v in jaxpr.jaxpr.outvars], totals, records)


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


def _step(equation: Any, values: list[Any], rule: Rule, here: Here) -> Result:
    primitive = equation.primitive
    if primitive is sample_p:
        site = equation.params["site"]
        if rule.evaluates:
            check_at_run_time(site, values)
        value, totals, records = rule.choose(here.next(site.address), site, values, here)
        totals = {name: jnp.asarray(x, total_dtype()) for name, x in totals.items()}
        return Result([value], totals, dict(records))
    if primitive is expect_p:
        return Result(rule.expect(here.next(INNER), equation, values, here), {}, {})
    if primitive in rule.kinds:
        return Result(*rule.other(equation, values, here), {})
    if primitive in internals.CALLS:
        return walk(equation.params[internals.CALLS[primitive]], values, rule, here)
    if primitive is internals.SCAN:
        return _scan(internals.scan_parts(equation.params, values), rule, here)
    if primitive is internals.COND:
        return _cond(equation.params["branches"], values[0], values[1:], rule, here)
    if primitive is internals.WHILE:
        return _while(equation, internals.while_parts(equation.params, values), rule, here)
    if primitive is internals.REMAT:
        return _remat(equation, values, rule, here)
    raise _no_rule(equation)


_REENTERED = frozenset({*internals.CALLS, internals.SCAN, internals.WHILE, internals.REMAT})


def _no_rule(equation: Any) -> UnsupportedProgram:
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
    return first_choice(next(e for e in inner if e.primitive is sample_p or _holds_choice(e)))


def _holds_choice(equation: Any) -> bool:
    return any(internals.holds(inner, frozenset({sample_p})) for inner in internals.nested(equation))


class _Keyed:
    """Records as a list, for crossing a JAX control-flow boundary; their keys stay outside."""

    def __init__(self) -> None:
        self.keys: list[Any] = []

    def pack(self, records: dict[Any, Any]) -> list[Any]:
        self.keys = list(records)
        return list(records.values())

    def unpack(self, values: Sequence[Any]) -> dict[Any, Any]:
        return dict(zip(self.keys, values, strict=True))


def _names_in(jaxpr: Any, here: Here) -> list[Occurrence]:
    return list(occurrences(jaxpr, dict(here.count)))


def _advance(here: Here, *counts: dict[Address, int]) -> None:
    for count in counts:
        for address, occurrence in count.items():
            here.count[address] = max(here.count.get(address, 0), occurrence)


def _scan(scan: internals.Scan, rule: Rule, here: Here) -> Result:
    keyed = _Keyed()
    inner = {key for item in _names_in(scan.body, here) for key in (item.name, item.name[0])}
    feed = {key: value for key, value in here.feed.items() if key in inner}
    final: dict[Address, int] = {}

    def body(carry: Any, inputs: Any) -> Any:
        step, xs, fed = inputs
        inside = here.inside(Loop(step, scan.length), fed)
        result = walk(scan.body, [*scan.consts, *carry, *xs], rule, inside)
        final.update(inside.count)
        outputs = result.outputs
        return outputs[: len(carry)], (outputs[len(carry) :], result.totals, keyed.pack(result.records))

    steps = jnp.arange(scan.length)
    carry, (ys, totals, records) = jax.lax.scan(
        body, scan.carry, (steps, scan.xs, feed), scan.length, scan.reverse, scan.unroll
    )
    _advance(here, final)
    totals = {name: jnp.sum(total, axis=0) for name, total in totals.items()}
    return Result([*carry, *ys], totals, keyed.unpack(records))


def _cond(branches: Sequence[Any], index: Any, operands: list[Any], rule: Rule, here: Here) -> Result:
    shapes: dict[Any, Any] = {}
    for branch in branches:
        for item in _names_in(branch, here):
            for key, (shape, dtype) in rule.recorded(item.name, item.site).items():
                shapes[key] = jax.ShapeDtypeStruct((*item.lengths, *shape), dtype)
    counts: list[dict[Address, int]] = []

    def taken(branch: Any) -> Any:
        def run(*operands: Any) -> Any:
            inside = here._replace(count=dict(here.count))
            result = walk(branch, operands, rule, inside)
            counts.append(inside.count)
            blank = {key: jnp.zeros(s.shape, s.dtype) for key, s in shapes.items()}
            filled = blank | result.records
            return result.outputs, result.totals, [filled[key] for key in shapes]

        return run

    outputs, totals, records = jax.lax.switch(index, [taken(branch) for branch in branches], *operands)
    _advance(here, *counts)
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
    _advance(here, inside_count)
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
    _advance(here, count)
    return Result(outputs, totals, keyed.unpack(records))


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

    def excludes(self, other: Occurrence) -> bool:
        """Whether the two lie in different branches of one conditional."""
        mine = dict(self.branches)
        return self.site.excludes(other.site) or any(
            mine.get(conditional, branch) != branch for conditional, branch in other.branches
        )


def occurrences(jaxpr: Any, count: dict[Address, int] | None = None) -> Iterator[Occurrence]:
    """Every random choice of a staged program, in the order and with the names of the walk.

    Raises:
        UnsupportedProgram: a choice lies inside a primitive for which the walk has no rule.
    """
    yield from _occurrences(jaxpr, start()._replace(count={} if count is None else count), (), (), ())


def _occurrences(jaxpr: Any, here: Here, lengths: Any, branches: Any, calls: Any) -> Iterator[Occurrence]:
    for equation in jaxpr.eqns:
        primitive, path = equation.primitive, (*calls, equation)
        if primitive is sample_p:
            site = equation.params["site"]
            yield Occurrence(here.next(site.address), site, lengths, branches, path)
        elif primitive is expect_p:
            here.next(INNER)
        elif primitive is internals.COND:
            counts, conditional = [], object()
            for number, branch in enumerate(equation.params["branches"]):
                inside = here._replace(count=dict(here.count))
                taken = (*branches, (conditional, number))
                yield from _occurrences(branch, inside, lengths, taken, path)
                counts.append(inside.count)
            _advance(here, *counts)
        elif _holds_choice(equation):
            if primitive not in _REENTERED:
                raise _no_rule(equation)
            length = {internals.SCAN: equation.params.get("length"), internals.WHILE: None}
            inner = (*lengths, length[primitive]) if primitive in length else lengths
            for nested in internals.nested(equation):
                yield from _occurrences(nested, here, inner, branches, path)
