"""Which choices each value of a staged program depends on, and along which axis.

An abstract interpretation of the jaxpr. Of each variable it keeps, for every choice that its value
depends on, directly or through the parameters of later choices, one *relation* for each axis of the
choice's instances (loops, lanes, entries of an array). A relation is

- `None`: every element of the variable may depend on every instance along that axis; or
- `(axis, low, high)`: the element with index `i` along `axis` depends on no instance but those with index
  `i + low, ..., i + high`. `(axis, 0, 0)` is a lane of its own; `(axis, -inf, 0)` the past and the
  present of a chain; `(axis, -1, 0)` a step and the one before it.

Axes of arrays count from 0; the steps of the enclosing loops are axes too, `-1` for the outermost loop,
`-2` for the next. A primitive without a rule forgets array axes, never a choice: the analysis may keep too
much, never too little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ppl.distributions.density import log_density
from ppl.inner import expect_p
from ppl.site import Site, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.axes import AXES
from ppl.transforms.naming import INNER, Count, Name, advance, next_name

Relation = tuple[int, float, float] | None
"""How the elements of a variable depend on the instances along one axis of a choice."""

Dependence = Mapping[Any, tuple[Relation, ...]]
"""For each choice that a variable depends on, a relation for each axis of its instances."""

NONE: Dependence = {}


def join(*parts: Dependence) -> Dependence:
    """What depends on whatever one of several values depends on, element by element."""
    result: dict[Any, tuple[Relation, ...]] = {}
    for part in parts:
        for name, relations in part.items():
            known = result.get(name)
            result[name] = relations if known is None else tuple(map(_hull, known, relations))
    return result


def _hull(one: Relation, other: Relation) -> Relation:
    if one is None or other is None or one[0] != other[0]:
        return None
    return one[0], min(one[1], other[1]), max(one[2], other[2])


def moved(dependence: Dependence, axis: Callable[[int], tuple[int, float, float] | None]) -> Dependence:
    """The dependence after array axes have moved: `axis(a)` is where axis `a` goes, and two shifts.

    The shifts are added to the lower and upper ends of a relation. Steps of loops stay where they are.
    """

    def one(relation: Relation) -> Relation:
        if relation is None or relation[0] < 0:
            return relation
        new = axis(relation[0])
        return None if new is None else (new[0], relation[1] + new[1], relation[2] + new[2])

    return {name: tuple(map(one, relations)) for name, relations in dependence.items()}


def forget(dependence: Dependence) -> Dependence:
    """The dependence of a value that may mix all elements of its operands."""
    return moved(dependence, lambda axis: None)


def stepped(dependence: Dependence, step: int, change: Callable[[Relation], Relation]) -> Dependence:
    """The dependence with the relations to the steps of one loop changed."""
    return {
        name: tuple(change(r) if r is not None and r[0] == step else r for r in relations)
        for name, relations in dependence.items()
    }


class Scope:
    """What is known of the variables of one jaxpr in one place of the program.

    Attributes:
        known: the dependence of each variable.
        inner: for each equation that holds a jaxpr through which terms are followed, its scope.
        lengths: of the enclosing loops.
        divisible: the variables that `ppl.transforms.terms` finds worth following.
    """

    def __init__(
        self, jaxpr: Any, inputs: Sequence[Dependence], lengths: tuple[int | None, ...] = ()
    ) -> None:
        self.jaxpr, self.lengths = jaxpr, lengths
        self.known: dict[Any, Dependence] = dict(zip(jaxpr.invars, inputs, strict=True))
        self.known.update(dict.fromkeys(jaxpr.constvars, NONE))
        self.inner: dict[int, Scope] = {}
        self.divisible: set[Any] = set()

    def read(self, atom: Any) -> Dependence:
        """The dependence of an operand."""
        return NONE if internals.is_literal(atom) else self.known[atom]

    def is_divisible(self, atom: Any) -> bool:
        """Whether terms are worth following through an operand."""
        return not internals.is_literal(atom) and atom in self.divisible

    @property
    def outputs(self) -> list[Dependence]:
        """The dependence of each output."""
        return [self.read(v) for v in self.jaxpr.outvars]


class Given(NamedTuple):
    """Stands for a choice as far as a value depends on it with all choices of its kind given.

    A value depends on the choice itself through the parameters of whatever choices come between too.
    """

    name: Name


class _Walk:
    """Where the analysis stands: which choices are watched, and the lengths of the enclosing loops.

    Attributes:
        axes: how many axes the instances of each choice have that was met.
    """

    def __init__(
        self, watched: Callable[[Name], bool], count: Count, lengths: tuple[int | None, ...] = (),
        chained: Callable[[Name], bool] = lambda name: False,
        parameters: dict[Name, Dependence] | None = None, axes: dict[Name, int] | None = None,
    ) -> None:  # fmt: skip
        self.watched, self.count, self.lengths, self.chained = watched, count, lengths, chained
        self.parameters: dict[Name, Dependence] = {} if parameters is None else parameters
        self.axes: dict[Name, int] = {} if axes is None else axes

    @property
    def step(self) -> int:
        """The axis of the steps of the next loop."""
        return -1 - len(self.lengths)

    def inside(self, *lengths: int | None) -> _Walk:
        lengths = (*self.lengths, *lengths)
        return _Walk(self.watched, dict(self.count), lengths, self.chained, self.parameters, self.axes)


def analyze(
    jaxpr: Any, watched: Callable[[Name], bool], chained: Callable[[Name], bool] = lambda name: False
) -> tuple[Scope, dict[Name, Dependence]]:
    """The dependence of every variable of a staged program on the choices that are watched.

    Args:
        jaxpr: the staged program.
        watched: which choices are looked at.
        chained: of which of them it is noted beside what depends on them with all of these given, as `Given`.

    Returns:
        What is known of the variables; and what the parameters of each choice depend on.
    """
    walk = _Walk(watched, {}, (), chained)
    scope = _scope(jaxpr, [NONE] * len(jaxpr.invars), walk)
    if internals.has_references(jaxpr):  # What goes through a mutable array is not followed.
        everything: dict[Any, tuple[Relation, ...]] = {n: (None,) * axes for n, axes in walk.axes.items()}
        everything |= {Given(name): everything[name] for name in walk.axes if chained(name)}
        scope.known, scope.inner = dict.fromkeys(scope.known, everything), {}
        return scope, dict.fromkeys(walk.parameters, everything)
    return scope, walk.parameters


def reaching(jaxpr: Any) -> set[int]:
    """The numbers of the inputs that the outputs of a staged program depend on, other than by estimators."""
    inputs: list[Dependence] = [{number: ()} for number in range(len(jaxpr.invars))]
    if internals.has_references(jaxpr):
        return set(range(len(jaxpr.invars)))
    return {
        number for output in _scope(jaxpr, inputs, _Walk(lambda name: False, {})).outputs for number in output
    }


def _scope(jaxpr: Any, inputs: Sequence[Dependence], walk: _Walk) -> Scope:
    scope = Scope(jaxpr, inputs, walk.lengths)
    for number, equation in enumerate(jaxpr.eqns):
        operands = [scope.read(v) for v in equation.invars]
        outputs, inner = _equation(equation, operands, walk)
        scope.known.update(zip(equation.outvars, outputs, strict=True))
        if inner is not None:
            scope.inner[number] = inner
    return scope


def _equation(
    equation: Any, operands: list[Dependence], walk: _Walk
) -> tuple[list[Dependence], Scope | None]:
    primitive, outputs = equation.primitive, len(equation.outvars)
    if primitive is sample_p:
        return [_choice(equation, operands, walk)], None
    if primitive is expect_p:
        next_name(walk.count, INNER)
        return [_inner(equation, operands)] * outputs, None
    if primitive in internals.CALLS:
        inner = _scope(equation.params[internals.CALLS[primitive]], operands, walk)
        return inner.outputs, inner if primitive not in internals.CUSTOM_DERIVATIVES else None
    if primitive is internals.REMAT:
        return _scope(equation.params["jaxpr"], operands, walk).outputs, None
    if primitive is internals.SCAN:
        return _scan(equation, operands, walk)
    if primitive is internals.COND:
        return _cond(equation, operands, walk), None
    if primitive is internals.WHILE:
        return _while(equation, operands, walk), None
    if not any(operands):
        return [NONE] * outputs, None
    rule = AXES.get(primitive.name)
    if rule is None:
        return [forget(join(*operands))] * outputs, None
    return [
        join(*(moved(d, rule(equation, i, o)) for i, d in enumerate(operands) if d)) for o in range(outputs)
    ], None


# --- choices --------------------------------------------------------------------------------------


def _choice(equation: Any, operands: list[Dependence], walk: _Walk) -> Dependence:
    site: Site = equation.params["site"]
    name = next_name(walk.count, site.address)
    parameters = join(*(_parameter(site, i, equation, d) for i, d in enumerate(operands) if d))
    walk.parameters[name] = join(walk.parameters.get(name, NONE), parameters)
    if not walk.watched(name):
        return parameters
    steps = tuple((-1 - loop, 0, 0) for loop in range(len(walk.lengths)))
    lanes = tuple((axis, 0, 0) for axis in range(len(site.instances)))
    own: dict[Any, tuple[Relation, ...]] = {name: steps + lanes}
    walk.axes[name] = len(own[name])
    if walk.chained(name):
        parameters = {key: value for key, value in parameters.items() if not isinstance(key, Given)}
        own[Given(name)] = own[name]
    return join(parameters, own)


def _parameter(site: Site, number: int, equation: Any, dependence: Dependence) -> Dependence:
    """What a choice depends on by way of one operand; what an estimator holds does not reach the value."""
    leaves = len(equation.invars) - site.masked
    mask = site.masked and number == leaves
    if not mask and number >= len(jax.tree.leaves(site.one_lane(equation_shapes(equation))[0])):
        return NONE
    carried = site.mapped[number] if site.mapped else ()
    lanes = [lane for lane, here in enumerate(carried) if here]
    entries = {} if mask else _entries(site, equation)
    if number not in entries and any(equation.invars[n] is equation.invars[number] for n in entries):
        return NONE  # One array in two places, of which the density uses the other.

    def axis(a: int) -> tuple[int, float, float] | None:
        if a < len(lanes):
            return lanes[a], 0, 0
        entry = entries[number][a - len(lanes)] if number in entries else None
        return None if entry is None else (len(site.lanes) + entry, 0, 0)

    return moved(dependence, axis)


def equation_shapes(equation: Any) -> list[Any]:
    """Shapes and dtypes of an equation's operands."""
    return [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]


_ENTRIES: dict[Any, dict[int, list[int | None]]] = {}


def _entries(site: Site, equation: Any) -> dict[int, list[int | None]]:
    """For each parameter, along which batch axis of the choice its axes run, beside its lanes.

    Read off the log density, whose entries belong to one instance each.
    """
    if not site.batch_shape:
        return {}
    distribution, _ = site.one_lane(equation_shapes(equation))
    leaves, tree = jax.tree.flatten(distribution)
    value = jax.ShapeDtypeStruct(site.shape, site.dtype)
    key = (tree, tuple((x.shape, str(x.dtype)) for x in (*leaves, value)))
    if key not in _ENTRIES:
        closed = jax.make_jaxpr(lambda leaves, x: log_density(jax.tree.unflatten(tree, leaves), x))(
            leaves, value
        )
        inputs: list[Dependence] = [
            {i: tuple((axis, 0, 0) for axis in range(len(x.shape)))} for i, x in enumerate(leaves)
        ]
        (found,) = _scope(closed, [*inputs, NONE], _Walk(lambda name: False, {})).outputs
        _ENTRIES[key] = {
            leaf: [None if r is None or r[1:] != (0, 0) else r[0] for r in relations]
            for leaf, relations in found.items()
        }
    return _ENTRIES[key]


def _inner(equation: Any, operands: list[Dependence]) -> Dependence:
    """An inner expectation is taken anew in each lane; its own choices are not seen from outside."""
    mapped = equation.params["mapped"]

    def one(number: int, dependence: Dependence) -> Dependence:
        lanes = [lane for lane, here in enumerate(mapped[number]) if here]
        return moved(dependence, lambda a: (lanes[a], 0, 0) if a < len(lanes) else None)

    return join(*(one(i, d) for i, d in enumerate(operands) if d))


# --- control flow ---------------------------------------------------------------------------------


def _cond(equation: Any, operands: list[Dependence], walk: _Walk) -> list[Dependence]:
    cases = [_scope(branch, operands[1:], walk).outputs for branch in equation.params["branches"]]
    return [join(operands[0], *case) for case in zip(*cases, strict=True)]


def _settle(
    carry: list[Dependence], step: Callable[[list[Dependence]], list[Dependence]]
) -> list[Dependence]:
    """The least dependences that hold before every step: those that go on growing have no end."""
    first = True
    while True:  # Each turn adds a choice or loses an end of a relation.
        merged = [join(*pair) for pair in zip(carry, step(carry), strict=True)]
        if merged == carry:
            return carry
        carry = merged if first else [_widened(old, new) for old, new in zip(carry, merged, strict=True)]
        first = False


def _widened(old: Dependence, new: Dependence) -> Dependence:
    def one(before: Relation, after: Relation) -> Relation:
        if before is None or after is None or before == after:
            return after
        low = after[1] if after[1] == before[1] else -math.inf
        high = after[2] if after[2] == before[2] else math.inf
        return after[0], low, high

    return {name: tuple(map(one, old.get(name, relations), relations)) for name, relations in new.items()}


def _scan(equation: Any, operands: list[Dependence], walk: _Walk) -> tuple[list[Dependence], Scope]:
    scan = internals.scan_parts(equation.params, operands)
    step, late = walk.step, 1 if scan.reverse else -1

    def sliced(axis: int) -> tuple[int, float, float]:
        return (step, 0, 0) if axis == 0 else (axis - 1, 0, 0)

    def stacked(dependence: Dependence) -> Dependence:
        shifted = moved(dependence, lambda axis: (axis + 1, 0, 0))
        return stepped(shifted, step, lambda r: r and (0, r[1], r[2]))

    def handed_on(dependence: Dependence) -> Dependence:
        return stepped(dependence, step, lambda r: r and (r[0], r[1] + late, r[2] + late))

    def body(carry: list[Dependence]) -> tuple[Scope, _Walk]:
        inside = walk.inside(scan.length)
        return _scope(scan.body, [*scan.consts, *carry, *xs], inside), inside

    xs = [moved(dependence, sliced) for dependence in scan.xs]
    count = len(scan.carry)
    carry = _settle(list(scan.carry), lambda carry: [handed_on(d) for d in body(carry)[0].outputs[:count]])
    scope, inside = body(carry)
    advance(walk.count, inside.count)
    last = [stepped(join(*pair), step, lambda r: None) for pair in zip(carry, scope.outputs, strict=False)]
    return [*last, *(stacked(d) for d in scope.outputs[count:])], scope


def _while(equation: Any, operands: list[Dependence], walk: _Walk) -> list[Dependence]:
    loop = internals.while_parts(equation.params, operands)
    step, inside = walk.step, walk

    def body(carry: list[Dependence]) -> list[Dependence]:
        nonlocal inside
        inside = walk.inside(None)
        (going,) = _scope(loop.condition, [*loop.condition_consts, *carry], inside).outputs
        outputs = _scope(loop.body, [*loop.body_consts, *carry], inside).outputs
        return [stepped(join(d, going), step, lambda r: None) for d in outputs]

    carry = _settle(list(loop.carry), body)
    advance(walk.count, inside.count)
    return carry
