"""The exact expectation of an estimator over its own noise.

A derived program draws from `ppl.noise.noise_p` alone. This interpreter walks its jaxpr and splits the
*world* at every draw: a world is one assignment of nodes to the noise so far, with its weight. Draws of a
normal or a uniform law become the nodes of a quadrature rule, those of a discrete law the values of their
support. What comes out is E[G], to rounding, where Monte Carlo would give G.

Noise is keyed by its concrete key (keys never depend on noise): two draws from one key are one node, so a
key that is used twice changes the result. Draws of a discrete law from one key under different
parameters (a run and its replaced runs) are coupled by the quantile of one latent uniform number.

Loops that hold noise are unrolled; of a conditional that holds noise every branch is walked, and each world
keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal
from jax.interpreters import partial_eval

from ppl.noise import noise_p
from ppl.transforms import jax_internals as internals

from .evaluate import apply, is_key
from .rules import RULES, Rule
from .worlds import NO_KEY, PerWorld, Worlds, draw_noise


class Integral(NamedTuple):
    """Exact means of the outputs, in the structure of the function; and how many numbers were drawn."""

    mean: Any
    draws: int
    worlds: int


def integrate(
    function: Callable[..., Any], *arguments: Any, rules: dict[str, Rule] | None = None
) -> Integral:
    """The expected value of `function(*arguments)`, whose arguments are keys and arrays, over its noise.

    Args:
        function: uses no randomness but `noise_p`.
        arguments: concrete.
        rules: nodes and weights by the name of a law, in place of the ones in `rules.RULES`.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    closed = _without_dead_code(closed)
    worlds = Worlds(RULES | (rules or {}))
    outputs = _walk(closed, jax.tree.leaves(arguments), worlds)
    means = [worlds.mean(x) for x in outputs]
    return Integral(jax.tree.unflatten(jax.tree.structure(shape), means), worlds.draws, len(worlds.weights))


def _without_dead_code(closed: Any) -> Any:
    opened, consts = internals.without_consts(closed)
    live, used = partial_eval.dce_jaxpr(opened, [True] * len(opened.outvars), instantiate=True)
    assert all(used)
    return live.replace(
        constvars=live.invars[: len(consts)], invars=live.invars[len(consts) :], consts=consts,
        debug_info=live.debug_info.with_unknown_names(),
    )  # fmt: skip


def _holds_noise(jaxpr: Any) -> bool:
    return internals.holds(jaxpr, frozenset({noise_p}))


def _walk(jaxpr: Any, arguments: Sequence[Any], worlds: Worlds) -> list[Any]:
    environment: dict[Any, Any] = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else environment[atom]

    for equation in jaxpr.eqns:
        outputs = _equation(equation, [read(v) for v in equation.invars], worlds)
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _equation(equation: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive is noise_p:
        return [draw_noise(values, params, worlds)]
    if primitive in internals.CALLS:
        return _walk(params[internals.CALLS[primitive]], values, worlds)
    if primitive is internals.REMAT:
        return _walk(params["jaxpr"], values, worlds)
    if primitive is internals.SCAN:
        return _scan(params, values, worlds)
    if primitive is internals.COND:
        return _cond(params["branches"], values[0], values[1:], worlds)
    if primitive is internals.WHILE and any(map(_holds_noise, internals.nested(equation))):
        return _while(params, values, worlds)
    if any(map(_holds_noise, internals.nested(equation))):
        raise NotImplementedError(f"noise inside {primitive}")
    if primitive.name == "select_n" and _alike(values[1:]):
        return [values[1]]  # a mapped conditional selects between each operand and itself
    if any(is_key(v.aval) for v in equation.outvars) and any(isinstance(x, PerWorld) for x in values):
        return [NO_KEY] * len(equation.outvars)
    mapped = [isinstance(x, PerWorld) for x in values]
    outputs = apply(equation, [worlds.read(x) for x in values], mapped)
    return [worlds.wrap(x) for x in outputs] if any(mapped) else outputs


def _scan(params: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    scan = internals.scan_parts(params, values)
    carry, columns = scan.carry, []
    for step in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        xs = [worlds.wrap(worlds.read(x)[:, step]) if isinstance(x, PerWorld) else x[step] for x in scan.xs]
        outputs = _walk(scan.body, [*scan.consts, *carry, *xs], worlds)
        carry, ys = outputs[: len(carry)], outputs[len(carry) :]
        columns.append(ys)
    if scan.reverse:
        columns.reverse()
    avals = scan.body.out_avals[len(carry) :]
    return [*carry, *(_stack([ys[i] for ys in columns], aval, worlds) for i, aval in enumerate(avals))]


def _stack(values: list[Any], aval: Any, worlds: Worlds) -> Any:
    if not values:
        return np.zeros((0, *aval.shape), aval.dtype)
    if not any(isinstance(x, PerWorld) for x in values):
        return np.stack([np.asarray(x) for x in values])
    return worlds.wrap(np.stack([worlds.full(x) for x in values], axis=1))


def _choose(picks: Any, cases: list[Any], worlds: Worlds) -> Any:
    """In each world, the case that `picks` says.

    Keys reach here as residuals of a branch, which nothing draws from again, as `draw_noise` checks.
    """
    if any(is_key(x) or x is NO_KEY for x in cases):
        return cases[0] if _alike(cases) else NO_KEY
    full = np.stack([worlds.full(x) for x in cases], axis=1)
    return worlds.wrap(full[np.arange(len(full)), picks])


def _alike(values: list[Any]) -> bool:
    """Whether values are the same in all worlds, and each other's equals."""
    if any(isinstance(x, PerWorld) or x is NO_KEY for x in values):
        return False
    arrays = [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in values]
    return all(np.array_equal(x, arrays[0]) for x in arrays)


def _cond(branches: Any, index: Any, operands: list[Any], worlds: Worlds) -> list[Any]:
    if not isinstance(index, PerWorld):
        return _walk(branches[int(np.clip(int(index), 0, len(branches) - 1))], operands, worlds)
    outputs = [_walk(branch, operands, worlds) for branch in branches]
    picks = np.clip(worlds.read(index).astype(int), 0, len(branches) - 1)
    return [_choose(picks, list(cases), worlds) for cases in zip(*outputs, strict=True)]


def _while(params: Any, values: list[Any], worlds: Worlds) -> list[Any]:
    loop = internals.while_parts(params, values)
    carry = loop.carry
    for _ in range(64):
        (going,) = _walk(loop.condition, [*loop.condition_consts, *carry], worlds)
        active = np.asarray(worlds.read(going)) if isinstance(going, PerWorld) else np.asarray([bool(going)])
        if not active.any():
            return carry
        held = [_common(x, active, worlds) for x in carry]
        new = _walk(loop.body, [*loop.body_consts, *held], worlds)
        if active.all():
            carry = new
            continue
        picks = worlds.read(going).astype(int)
        carry = [_choose(picks, [old, x], worlds) for old, x in zip(carry, new, strict=True)]
    raise RuntimeError("a loop of more than 64 steps")


def _common(x: Any, active: np.ndarray, worlds: Worlds) -> Any:
    """The value without a world axis, if it is an integer and the same wherever the loop goes on."""
    if not isinstance(x, PerWorld):
        return x
    array = np.asarray(worlds.read(x))
    alike = array.ndim == 1 and array.dtype.kind == "i" and len(np.unique(array[active])) == 1
    return array[active][0] if alike else x
