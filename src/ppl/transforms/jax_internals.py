"""Everything that depends on how JAX lays out its own equations, and nothing else.

JAX promises neither the parameters of its control-flow primitives nor their batching rules. This is
the only module that reads them; it is tested against the oldest and the newest JAX that `ppl`
supports.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.state.types import AbstractRef
from jax.core import eval_jaxpr
from jax.extend import core
from jax.extend.core import primitives as P

Jaxpr = Any  # `ClosedJaxpr` and `Jaxpr` are one class since JAX 0.11


class Scan(NamedTuple):
    """The parts of a `scan` equation."""

    body: Jaxpr
    consts: list[Any]
    carry: list[Any]
    xs: list[Any]
    length: int
    reverse: bool
    unroll: Any


class While(NamedTuple):
    """The parts of a `while` equation."""

    condition: Jaxpr
    condition_consts: list[Any]
    body: Jaxpr
    body_consts: list[Any]
    carry: list[Any]


def scan_parts(params: dict[str, Any], values: Sequence[Any]) -> Scan:
    """The parts of a `scan` equation, with `values` in place of its operands."""
    consts, carry, xs = (list(part) for part in params["ft_in"].update(list(values)).unpack())
    return Scan(params["jaxpr"], consts, carry, xs, params["length"], params["reverse"], params["unroll"])


def while_parts(params: dict[str, Any], values: Sequence[Any]) -> While:
    """The parts of a `while` equation, with `values` in place of its operands."""
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    return While(
        params["cond_jaxpr"], list(values[:first]), params["body_jaxpr"], list(values[first:second]),
        list(values[second:]),
    )  # fmt: skip


def scan_outputs(params: dict[str, Any], values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What a `scan` body or equation returns, as `(carry, ys)`."""
    carry = len(list(params["ft_in"].unpack()[1]))
    return list(values[:carry]), list(values[carry:])


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many constants and how many carried values the body of a `scan` equation takes."""
    consts, carry, _ = (list(part) for part in params["ft_in"].unpack())
    return len(consts), len(carry)


CALLS: dict[Any, str] = {
    P.jit_p: "jaxpr",
    P.closed_call_p: "call_jaxpr",
    P.call_p: "call_jaxpr",
    P.custom_jvp_call_p: "call_jaxpr",
    P.custom_vjp_call_p: "call_jaxpr",
}
"""Primitives that evaluate one jaxpr on their operands, and the parameter that holds it."""

CUSTOM_DERIVATIVES = (P.custom_jvp_call_p, P.custom_vjp_call_p)
SCAN, WHILE, COND, REMAT = P.scan_p, P.while_p, P.cond_p, P.remat_p


def nested(equation: Any) -> list[Jaxpr]:
    """The jaxprs that an equation holds."""
    return list(core.jaxprs_in_params(equation.params))


_HOLDS: weakref.WeakKeyDictionary[Any, dict[Any, bool]] = weakref.WeakKeyDictionary()


def holds(jaxpr: Jaxpr, kinds: frozenset[Any]) -> bool:
    """Whether an equation of one of these primitives occurs anywhere in the jaxpr."""
    known = _HOLDS.setdefault(jaxpr, {})
    if kinds not in known:
        known[kinds] = any(
            equation.primitive in kinds or any(holds(inner, kinds) for inner in nested(equation))
            for equation in jaxpr.eqns
        )
    return known[kinds]


def evaluate(jaxpr: Jaxpr, equations: Sequence[Any], environment: dict[Any, Any]) -> None:
    """Evaluate a stretch of equations as it stands, reading and writing the environment."""
    defined: set[Any] = set()
    needed: dict[Any, None] = {}
    for equation in equations:
        needed.update((v, None) for v in equation.invars if isinstance(v, core.Var) and v not in defined)
        defined.update(equation.outvars)
    outvars = [v for equation in equations for v in equation.outvars if not isinstance(v, core.DropVar)]
    stretch = jaxpr.replace(
        constvars=[], consts=[], invars=list(needed), outvars=outvars, eqns=list(equations),
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )  # fmt: skip
    values = eval_jaxpr(stretch, [], *(environment[v] for v in needed))
    environment.update(zip(outvars, values, strict=True))


def remat(equation: Any, function: Any) -> Any:
    """`function` under the checkpointing of a `remat` equation."""
    return jax.checkpoint(
        function, prevent_cse=equation.params["prevent_cse"], policy=equation.params["policy"]
    )


def has_references(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr reads or writes mutable arrays, whose contents are not in its variables."""
    return any(
        any(isinstance(v.aval, AbstractRef) for v in (*equation.invars, *equation.outvars))
        or any(map(has_references, nested(equation)))
        for equation in jaxpr.eqns
    )


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a constant written into it."""
    return isinstance(atom, core.Literal)


def literal(atom: Any) -> jax.Array:
    """The value of a constant written into an equation; a Python number stays weakly typed."""
    value = np.asarray(atom.val, atom.aval.dtype)
    weak = jnp.asarray(value.item()) if atom.aval.weak_type and not value.ndim else None
    return weak if weak is not None and weak.dtype == value.dtype else jnp.asarray(value)


def without_consts(jaxpr: Jaxpr) -> tuple[Jaxpr, list[Any]]:
    """The same jaxpr with its constants as leading inputs, and the constants."""
    inner = jaxpr.jaxpr
    opened = inner.replace(
        constvars=[], consts=[], invars=[*inner.constvars, *inner.invars],
        debug_info=inner.debug_info.with_unknown_names(),
    )  # fmt: skip
    return opened, list(jaxpr.consts)


class Cut(NamedTuple):
    """A jaxpr in three parts.

    Attributes:
        before: from the inputs to the variables that are used later.
        passed: these variables.
        equation: the one at which it is cut.
        after: from these variables, and the outputs of the equation that are kept, to the outputs.
        kept: the numbers of these outputs.
    """

    before: Jaxpr
    passed: list[Any]
    equation: Any
    after: Jaxpr
    kept: list[int]


def cut(jaxpr: Jaxpr, number: int) -> Cut:
    """The jaxpr before, at, and after the equation with this number."""
    inner = jaxpr.jaxpr
    equation, rest = inner.eqns[number], inner.eqns[number + 1 :]
    outvars = [v for v in equation.outvars if not isinstance(v, core.DropVar)]
    made = {v for e in rest for v in e.outvars} | set(outvars)
    atoms = [*equation.invars, *(v for e in rest for v in e.invars), *inner.outvars]
    passed = list(dict.fromkeys(v for v in atoms if isinstance(v, core.Var) and v not in made))
    names = inner.debug_info.with_unknown_names()
    before = inner.replace(eqns=inner.eqns[:number], outvars=passed, debug_info=names)
    invars = [*passed, *outvars]
    after = inner.replace(constvars=[], consts=[], invars=invars, eqns=rest, debug_info=names)
    kept = [i for i, v in enumerate(equation.outvars) if not isinstance(v, core.DropVar)]
    return Cut(before, passed, equation, after, kept)


def restricted(jaxpr: Jaxpr, equations: Sequence[Any], outvars: Sequence[Any]) -> Jaxpr:
    """The jaxpr with some of its equations alone, for some of its variables."""
    names = jaxpr.debug_info.with_unknown_names()
    return jaxpr.replace(eqns=list(equations), outvars=list(outvars), debug_info=names)
