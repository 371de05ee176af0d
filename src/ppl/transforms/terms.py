"""The additive terms of a program's result, as finely as they depend on its choices.

The result is followed backwards through whatever is linear in it (sums, differences, scaling by what no
choice moves, loops that add up) as long as that tells the dependence of its parts apart, or leaves a part
behind that no choice moves; not into a log density, which is `one_term`. Where it does not, there is a
*cut*: the array there is a term, each element with a dependence of its own. So the result is

    r = r_0 + sum over cuts k, elements e of c_k[e],

where `r_0` depends on no choice that is watched, and `c_k[e]` is the element times its coefficient in the
result. A run that scales every element by `1 + delta_k[e]` (see `ppl.transforms.interpret`) has the
derivative `c_k[e]` in `delta_k[e]` at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from ppl.transforms import jax_internals as internals
from ppl.transforms.axes import AXES, words
from ppl.transforms.dependence import Dependence, Relation, Scope, analyze, moved
from ppl.transforms.naming import Name

# Linear in every operand that depends on a choice.
ADDITIVE = frozenset(
    words(
        "add add_any sub neg convert_element_type reduce_sum broadcast_in_dim reshape transpose squeeze "
        "expand_dims slice copy copy_p cumsum rev concatenate stack split pad log_density_of name real"
    )
)
# These also bring together operands that depend on choices with such that do not.
JOINING = frozenset(words("add add_any sub concatenate stack pad select_n dynamic_update_slice"))
# Linear in one of two operands, if no choice moves the other.
BILINEAR = {"mul": (0, 1), "dot_general": (0, 1), "div": (0,)}
# Linear in these operands, if no choice moves any other.
SELECTING: dict[str, Callable[[int], Sequence[int]]] = {
    "select_n": lambda count: range(1, count),
    "dynamic_slice": lambda count: [0],
    "dynamic_update_slice": lambda count: [0, 1],
    "gather": lambda count: [0],
}


@dataclass(eq=False)
class Cut:
    """A term: an array of the program, with an axis for each enclosing loop in front.

    Attributes:
        key: names it in the feed of a run.
        shape, dtype: of the array.
        dependence: with loops and axes counted together, from the outermost loop on.
    """

    key: tuple[str, int]
    shape: tuple[int, ...]
    dtype: Any
    dependence: Dependence


@dataclass(eq=False)
class Node:
    """How the terms are followed through one jaxpr, in one place of the program.

    Attributes:
        expanded: the variables that are followed through the equation that makes them.
        cuts: the variables that are terms, as far as they are followed to.
        inputs: the numbers of the inputs that are followed further, outside.
        outputs: the numbers of the outputs that are followed.
        inner: the same for the jaxprs of equations.
    """

    scope: Scope
    expanded: set[Any] = field(default_factory=set)
    cuts: dict[Any, Cut] = field(default_factory=dict)
    inputs: set[int] = field(default_factory=set)
    outputs: set[int] = field(default_factory=set)
    inner: dict[int, Node] = field(default_factory=dict)

    @property
    def keys(self) -> set[Any]:
        """The keys of all cuts in this jaxpr and below."""
        return {cut.key for cut in self.cuts.values()}.union(*(node.keys for node in self.inner.values()))

    def linear(self, equation: Any) -> list[int]:
        """The operands that an equation is linear in and that depend on choices."""
        return linear_operands(equation, [self.scope.read(v) for v in equation.invars])


class Terms:
    """The terms of a program that returns one real number.

    Attributes:
        root: how they are followed through the program.
        cuts: all of them.
        parameters: what the parameters of each choice that is watched depend on.
    """

    def __init__(self, jaxpr: Any, watched: Callable[[Name], bool], chained: Callable[[Name], bool]) -> None:
        scope, self.parameters = analyze(jaxpr, watched, chained)
        self.cuts: list[Cut] = []
        _find_divisible(scope, [False] * len(jaxpr.invars))
        self.root = Node(scope)
        self._follow(self.root, {0})

    def _follow(self, node: Node, outputs: set[int]) -> None:
        """Follow some outputs of a jaxpr backwards."""
        scope, jaxpr = node.scope, node.scope.jaxpr
        node.outputs |= outputs
        inputs = {variable: number for number, variable in enumerate(jaxpr.invars)}

        def follow(atom: Any) -> None:
            if internals.is_literal(atom) or not scope.known[atom]:
                return
            if atom in inputs:
                node.inputs.add(inputs[atom])
            elif atom in scope.divisible:
                node.expanded.add(atom)
            elif atom not in node.cuts:
                node.cuts[atom] = self._cut(scope, atom)

        for number in outputs:
            follow(jaxpr.outvars[number])
        for number, equation in reversed(list(enumerate(jaxpr.eqns))):
            wanted = {i for i, v in enumerate(equation.outvars) if v in node.expanded}
            if wanted and number in scope.inner:
                for i in self._through(node, number, equation, wanted):
                    follow(equation.invars[i])
            elif wanted:
                for i in node.linear(equation):
                    follow(equation.invars[i])

    def _through(self, node: Node, number: int, equation: Any, wanted: set[int]) -> set[int]:
        """Follow outputs of an equation through the jaxpr that it holds; the operands that are reached."""
        inner = node.inner.setdefault(number, Node(node.scope.inner[number]))
        self._follow(inner, wanted)
        if equation.primitive is internals.SCAN:
            consts, carry = internals.scan_counts(equation.params)
            while back := {i - consts for i in inner.inputs if 0 <= i - consts < carry} - inner.outputs:
                self._follow(inner, back)
            inner.inputs |= {consts + i for i in inner.outputs if i < carry}
        return inner.inputs

    def _cut(self, scope: Scope, variable: Any) -> Cut:
        depth = len(scope.lengths)

        def place(relation: Relation) -> Relation:
            if relation is None:
                return None
            axis = -1 - relation[0] if relation[0] < 0 else depth + relation[0]
            return axis, relation[1], relation[2]

        known = scope.known[variable].items()
        dependence = {name: _distinct(tuple(map(place, relations))) for name, relations in known}
        shape = (*(length or 0 for length in scope.lengths), *variable.aval.shape)
        cut = Cut(("term", len(self.cuts)), shape, variable.aval.dtype, dependence)
        self.cuts.append(cut)
        return cut


def _distinct(relations: tuple[Relation, ...]) -> tuple[Relation, ...]:
    """Relations to different axes; a second one to the same axis is given up."""
    axes = [relation and relation[0] for relation in relations]
    return tuple(
        r if axes.index(axis) == i else None for i, (r, axis) in enumerate(zip(relations, axes, strict=True))
    )


def linear_operands(equation: Any, operands: Sequence[Dependence]) -> list[int]:
    """The operands that an equation is linear in and that depend on choices; none if others do too."""
    name, moving = equation.primitive.name, [i for i, d in enumerate(operands) if d]
    if not all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in equation.outvars):
        return []
    if name in ADDITIVE:
        allowed: Sequence[int] = range(len(operands))
    elif name in BILINEAR:
        allowed = BILINEAR[name] if len(moving) == 1 else []
    elif name in SELECTING:
        allowed = SELECTING[name](len(operands))
    else:
        return []
    linear = all(i in allowed and jnp.issubdtype(equation.invars[i].aval.dtype, jnp.floating) for i in moving)
    return moving if linear else []


def _find_divisible(scope: Scope, inputs: Sequence[bool]) -> list[bool]:
    """Note the variables worth following: behind them a part has no dependence, or a finer one."""
    scope.divisible = {v for v, divisible in zip(scope.jaxpr.invars, inputs, strict=True) if divisible}
    for number, equation in enumerate(scope.jaxpr.eqns):
        operands = list(map(scope.is_divisible, equation.invars))
        if number in scope.inner:
            found = _find_divisible_inside(scope.inner[number], equation, operands)
        else:
            found = [_is_divisible(scope, equation)] * len(equation.outvars)
        scope.divisible.update(v for v, divisible in zip(equation.outvars, found, strict=True) if divisible)
    return list(map(scope.is_divisible, scope.jaxpr.outvars))


def _find_divisible_inside(inner: Scope, equation: Any, operands: list[bool]) -> list[bool]:
    if equation.primitive is not internals.SCAN:
        return _find_divisible(inner, operands)
    consts, carry = internals.scan_counts(equation.params)
    while True:
        found = _find_divisible(inner, operands)
        merged = [
            operand or (0 <= i - consts < carry and found[i - consts]) for i, operand in enumerate(operands)
        ]
        if merged == operands:
            return found
        operands = merged


def _is_divisible(scope: Scope, equation: Any) -> bool:
    dependences = [scope.read(v) for v in equation.invars]
    linear = linear_operands(equation, dependences)
    if any(scope.is_divisible(equation.invars[i]) for i in linear):
        return True
    if any(_is_finer(scope, equation, i, dependences[i]) for i in linear):
        return True
    return bool(linear) and equation.primitive.name in JOINING and _adds_a_constant(equation, dependences)


def _adds_a_constant(equation: Any, dependences: Sequence[Dependence]) -> bool:
    """Whether an operand is a number that no choice moves, which a score need not multiply."""
    return any(
        jnp.issubdtype(v.aval.dtype, jnp.floating) and not (internals.is_literal(v) and np.all(v.val == 0))
        for v, dependence in zip(equation.invars, dependences, strict=True)
        if not dependence
    )


def _is_finer(scope: Scope, equation: Any, operand: int, dependence: Dependence) -> bool:
    """Whether an operand's dependence is finer than that of a result of the equation."""
    for number, variable in enumerate(equation.outvars):
        after = moved(dependence, AXES[equation.primitive.name](equation, operand, number))
        wider = any(
            _is_wider(new, old)
            for name, relations in dependence.items()
            for old, new in zip(relations, after[name], strict=True)
        )
        if wider or after != scope.known[variable]:
            return True
    return False


def _is_wider(new: Relation, old: Relation) -> bool:
    """Whether a relation holds more instances than before it was moved."""
    if new is None or old is None:
        return old is not None
    lost = [math.isinf(now) and not math.isinf(then) for now, then in zip(new[1:], old[1:], strict=True)]
    return any(lost) or new[2] - new[1] > old[2] - old[1]
