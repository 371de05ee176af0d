"""The walk through a jaxpr in NumPy, in all worlds at once.

What is drawn is up to the caller: a *leaf* is a primitive with a handler that may split the worlds. Loops
that hold a leaf are unrolled; of a conditional that holds one every branch is walked, and each world keeps
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from ppl.testing.evaluate import aligned, apply, is_key
from ppl.testing.worlds import NO_KEY, KeyCases, KeyRows, NotIntegrable, PerWorld, Worlds
from ppl.transforms import jax_internals as internals
from ppl.transforms.axes import words

LONGEST_LOOP = 64
"""Steps of a loop of unknown length, at most."""

Leaves = Mapping[Any, Callable[[Any, list[Any], Worlds], list[Any]]]


class NotWalkable(NotIntegrable):
    """The program holds what this walk has no rule for."""


def walk(jaxpr: Any, arguments: Sequence[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    """The outputs of a closed jaxpr, each an array or a `PerWorld`."""
    environment: dict[Any, Any] = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return (
            np.asarray(atom.val, getattr(atom.aval, "dtype", None))
            if isinstance(atom, Literal)
            else environment[atom]
        )

    for equation in jaxpr.eqns:
        outputs = _equation(equation, [read(v) for v in equation.invars], worlds, leaves)
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _equation(equation: Any, values: list[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive in leaves:
        return leaves[primitive](equation, values, worlds)
    if primitive in internals.CALLS:
        return walk(params[internals.CALLS[primitive]], values, worlds, leaves)
    if primitive is internals.REMAT:
        return walk(params["jaxpr"], values, worlds, leaves)
    if primitive is internals.SCAN:
        return _scan(params, values, worlds, leaves)
    if primitive is internals.COND:
        return _cond(params["branches"], values[0], values[1:], worlds, leaves)
    held = any(internals.holds(inner, frozenset(leaves)) for inner in internals.nested(equation))
    if primitive is internals.WHILE and (held or any(isinstance(x, PerWorld) for x in values)):
        return _while(params, values, worlds, leaves)
    if held:
        raise NotWalkable(f"a random choice inside {primitive}")
    if primitive.name == "select_n" and _alike(values[1:]):
        return [values[1]]  # a mapped conditional selects between each operand and itself
    if any(isinstance(x, KeyCases) for x in values):
        return _by_cases(equation, values, worlds, leaves)
    if any(x is NO_KEY or isinstance(x, KeyRows) for x in values):
        return [NO_KEY] * len(equation.outvars)
    mapped = [isinstance(x, PerWorld) for x in values]
    if any(is_key(v.aval) for v in equation.outvars) and any(mapped):
        return [NO_KEY] * len(equation.outvars)
    arrays = [worlds.read(x) for x in values]
    if any(mapped) and primitive.name in _WATCHED:
        with np.errstate(all="ignore"):  # two infinities that are compared have no difference
            _watch(primitive.name, values, arrays, worlds)
    outputs = apply(equation, arrays, mapped)
    return [worlds.wrap(x) for x in outputs] if any(mapped) else outputs


def _by_cases(equation: Any, values: list[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    """An operation on a key that a conditional has handed on: on the key of each branch."""
    first = next(x for x in values if isinstance(x, KeyCases))
    outputs = []
    for i in range(len(first.cases)):
        case = lambda x, i=i: x.cases[i] if isinstance(x, KeyCases) and x.picks is first.picks else x
        outputs.append(_equation(equation, [case(x) for x in values], worlds, leaves))
    return [_choose(first.picks, list(cases), worlds) for cases in zip(*outputs, strict=True)]


_WATCHED = words("lt le gt ge eq ne max min abs sign floor ceil round clamp sort argmax argmin")
_ENTRIES = 64  # of an array that is compared; more are not looked at


def _watch(name: str, values: list[Any], arrays: list[Any], worlds: Worlds) -> None:
    """Let the breaks see where the function jumps or bends."""
    if not np.issubdtype(np.asarray(arrays[-1 if name == "clamp" else 0]).dtype, np.floating):
        return
    full = aligned([np.asarray(worlds.full(x)) for x in values], [True] * len(values))
    if name in ("abs", "sign"):
        differences = [full[0]]
    elif name in ("floor", "ceil", "round"):
        differences = _steps(full[0], 0.5 if name == "round" else 0.0)
    elif name == "clamp":
        differences = [full[1] - full[0], full[1] - full[2]]
    elif name in ("sort", "argmax", "argmin"):
        differences = [a - b for a, b in _pairs(full[0])]
    else:
        differences = [full[0] - full[1]]
    for difference in differences:
        columns = difference.reshape(len(difference), -1)
        for column in columns.T[:_ENTRIES]:
            worlds.breaks.watch(np.asarray(column, float), worlds)


def _steps(x: np.ndarray, offset: float) -> list[np.ndarray]:
    low, high = np.floor(np.nanmin(x)), np.ceil(np.nanmax(x))
    if not high - low <= 2 * _ENTRIES:
        return []
    return [x - (step + offset) for step in np.arange(low, high + 1)]


def _pairs(x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    columns = x.reshape(len(x), -1).T
    if len(columns) ** 2 > 2 * _ENTRIES:
        return []
    return [(columns[i], columns[j]) for i in range(len(columns)) for j in range(i)]


def _scan(params: dict[str, Any], values: list[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    scan = internals.scan_parts(params, values)
    carry, columns = scan.carry, []
    for step in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        xs = [_row(x, step, worlds) for x in scan.xs]
        outputs = walk(scan.body, [*scan.consts, *carry, *xs], worlds, leaves)
        carry, ys = outputs[: len(carry)], outputs[len(carry) :]
        columns.append(ys)
    if scan.reverse:
        columns.reverse()
    avals = scan.body.out_avals[len(carry) :]
    return [*carry, *(_stack([ys[i] for ys in columns], aval, worlds) for i, aval in enumerate(avals))]


def _row(x: Any, step: int, worlds: Worlds) -> Any:
    if isinstance(x, KeyRows):
        return x.rows[step]
    if isinstance(x, KeyCases):
        return KeyCases(x.picks, tuple(_row(case, step, worlds) for case in x.cases))
    return worlds.wrap(worlds.read(x)[:, step]) if isinstance(x, PerWorld) else x if x is NO_KEY else x[step]


def _stack(values: list[Any], aval: Any, worlds: Worlds) -> Any:
    if not values:
        return np.zeros((0, *aval.shape), aval.dtype) if not is_key(aval) else NO_KEY
    if not is_key(aval):
        values = [worlds.settled(x) for x in values]
    if all(map(is_key, values)):
        return jnp.stack(values)
    if any(x is NO_KEY or isinstance(x, KeyCases | KeyRows) or is_key(x) for x in values):
        return KeyRows(tuple(values))
    if not any(isinstance(x, PerWorld) for x in values):
        return np.stack([np.asarray(x) for x in values])
    return worlds.wrap(np.stack([worlds.full(x) for x in values], axis=1))


def _choose(picks: PerWorld, cases: list[Any], worlds: Worlds) -> Any:
    """In each world, the case that `picks` says."""
    if any(is_key(x) or isinstance(x, KeyCases | KeyRows) or x is NO_KEY for x in cases):
        return cases[0] if _alike(cases) else KeyCases(picks, tuple(cases))
    if all(_is_number(x) for x in cases):  # perhaps the numbers of steps, which become part of a key
        return cases[0] if _alike(cases) else KeyCases(picks, tuple(cases))
    full = np.stack([worlds.full(x) for x in cases], axis=1)
    return worlds.wrap(full[np.arange(len(full)), worlds.full(picks).astype(int)])


def _holds_key(x: Any) -> bool:
    return is_key(x) or x is NO_KEY or (isinstance(x, KeyCases) and any(map(_holds_key, x.cases)))


def _is_number(x: Any) -> bool:
    """Whether a value is an integer or a few of them, the same in all worlds."""
    return not isinstance(x, PerWorld) and np.size(x) <= _ENTRIES and np.asarray(x).dtype.kind in "iu"


def _alike(values: list[Any]) -> bool:
    """Whether values are the same in all worlds, and each other's equals."""
    if any(isinstance(x, PerWorld | KeyCases | KeyRows) or x is NO_KEY for x in values):
        return False
    arrays = [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in values]
    return all(np.array_equal(x, arrays[0]) for x in arrays)


def _cond(branches: Any, index: Any, operands: list[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    index = worlds.settled(index)
    if not isinstance(index, PerWorld):
        return walk(branches[int(np.clip(int(index), 0, len(branches) - 1))], operands, worlds, leaves)
    picks = np.clip(worlds.read(index).astype(int), 0, len(branches) - 1)
    index = worlds.wrap(picks)
    outputs = []
    for number, branch in enumerate(branches):
        with worlds.where(worlds.wrap(worlds.read(index) == number)):
            outputs.append(walk(branch, operands, worlds, leaves))
    return [_choose(index, list(cases), worlds) for cases in zip(*outputs, strict=True)]


def _while(params: dict[str, Any], values: list[Any], worlds: Worlds, leaves: Leaves) -> list[Any]:
    loop = internals.while_parts(params, values)
    carry = loop.carry
    for _ in range(LONGEST_LOOP):
        (going,) = walk(loop.condition, [*loop.condition_consts, *carry], worlds, leaves)
        going = worlds.settled(going)
        active = np.asarray(worlds.read(going)) if isinstance(going, PerWorld) else np.asarray([bool(going)])
        if not active.any():
            return carry
        held = [_common(x, active, worlds) for x in carry]
        with worlds.where(going):
            new = walk(loop.body, [*loop.body_consts, *held], worlds, leaves)
        if active.all():
            carry = new
            continue
        carry = [_choose(going, [old, x], worlds) for old, x in zip(carry, new, strict=True)]
    raise NotWalkable(f"a loop of more than {LONGEST_LOOP} steps")


def _common(x: Any, active: np.ndarray, worlds: Worlds) -> Any:
    """The value without a world axis, if it is an integer and the same wherever the loop goes on."""
    x = worlds.settled(x) if isinstance(x, KeyCases) and not _holds_key(x) else x
    if not isinstance(x, PerWorld):
        return x
    array = np.asarray(worlds.read(x))
    alike = array.ndim == 1 and array.dtype.kind == "i" and len(np.unique(array[active])) == 1
    return array[active][0] if alike else x
