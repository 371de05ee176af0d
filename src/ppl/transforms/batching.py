"""`jax.vmap` over control flow that holds random choices.

JAX turns a conditional with a mapped predicate into both branches and a `select`, and a loop with a
mapped condition into one that runs until the last lane is done. Values come out right, but the choices
of lanes that did not take a branch must not count. So for control flow that holds choices, and only
there, these rules stand before JAX's own: they hand each choice the mask of the lanes that make it.
A conditional that holds noise is treated alike, because JAX's rule would map the lane token that comes to it
from outside, and so draw independently in lanes that are to share their noise.
A `scan` is re-entered only to note that the new lanes lie outside the loop, which orders the axes of
the trace.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, override

import jax
import jax.numpy as jnp
from jax.interpreters import batching

from ppl.errors import UnsupportedProgram
from ppl.joint import joint_p, masked
from ppl.noise import noise_p
from ppl.site import Site, add_mask, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import Joint, Outcome, Rule, walk
from ppl.transforms.naming import CHOICES, Name
from ppl.transforms.position import Here, start

_conditionals = itertools.count()
_RANDOM = CHOICES | {noise_p}


class _Mask(Rule):
    """The same program, its choices made only where `active` holds."""

    evaluates = False

    def __init__(self, active: Any, branch: tuple[int, int] | None, loops: int) -> None:
        self.active, self.branch, self.loops = active, branch, loops

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        site = replace(site, loops=max(site.loops, self.loops + len(here.loops)))
        if self.active is not None:
            site, operands = add_mask(site, operands, self.active, self.branch)
        return Outcome(sample_p.bind(*operands, site=site))

    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        loops = self.loops + len(here.loops)
        sites = tuple(replace(s, loops=max(s.loops, loops)) for s in equation.params["sites"])
        if self.active is not None:
            sites, operands = masked(sites, operands, self.active, self.branch)
        return Joint(joint_p.bind(*operands, **{**equation.params, "sites": sites}))


def _masked(
    jaxpr: Any, active: Any, branch: tuple[int, int] | None, values: Any, loops: int = 0
) -> list[Any]:
    return walk(jaxpr, list(values), _Mask(active, branch, loops), start()).outputs


def _over(axis_data: Any, function: Callable[..., Any], in_axes: Any) -> Callable[..., Any]:
    """`jax.vmap` over the axis that is being batched, under its name if it has one."""
    name = axis_data.name if isinstance(axis_data.name, str) else None
    return jax.vmap(function, in_axes=in_axes, axis_size=axis_data.size, axis_name=name)


def _select(active: Any, new: Any, old: Any) -> Any:
    return jnp.where(active.reshape(active.shape + (1,) * (jnp.ndim(new) - 1)), new, old)


def _batch_cond(axis_data: Any, args: Any, dims: Any, *, branches: Any, **params: Any) -> Any:
    if dims[0] is None or not any(internals.holds(branch, _RANDOM) for branch in branches):
        return _plain_cond(axis_data, args, dims, branches=branches, **params)
    index = jnp.moveaxis(args[0], dims[0], 0).astype(int)
    conditional = next(_conditionals)

    def lanes(number: int, branch: Any) -> list[Any]:
        def lane(active: Any, *operands: Any) -> list[Any]:
            # As JAX does: lanes that do not take the branch send no gradient through it.
            held = [
                jnp.where(active, x, jax.lax.stop_gradient(x)) if jnp.issubdtype(x.dtype, jnp.inexact) else x
                for x in operands
            ]
            return _masked(branch, active, (conditional, number), held)

        return _over(axis_data, lane, (0, *dims[1:]))(index == number, *args[1:])

    outputs = [lanes(number, branch) for number, branch in enumerate(branches)]
    chosen = []
    for values in zip(*outputs, strict=True):
        picked = values[0]
        for number, value in enumerate(values[1:], 1):
            picked = _select(index == number, value, picked)
        chosen.append(picked)
    return chosen, [0] * len(chosen)


def _batch_while(axis_data: Any, args: Any, dims: Any, **params: Any) -> Any:
    loop, axes = internals.while_parts(params, args), internals.while_parts(params, dims)
    if not internals.holds(loop.body, CHOICES):
        if internals.holds(loop.condition, CHOICES):
            raise UnsupportedProgram(
                "the condition of a while loop makes a random choice. Make the choice in the body and "
                "carry its value to the condition."
            )
        return _plain_while(axis_data, args, dims, **params)
    size = axis_data.size

    def going(carry: Any) -> Any:
        return _over(
            axis_data,
            lambda consts, carry: _masked(loop.condition, None, None, [*consts, *carry])[0],
            (axes.condition_consts, 0),
        )(loop.condition_consts, carry)

    def body(carry: Any) -> Any:
        active = going(carry)
        new = _over(
            axis_data,
            lambda active, consts, carry: _masked(loop.body, active, None, [*consts, *carry], loops=1),
            (0, axes.body_consts, 0),
        )(active, loop.body_consts, carry)
        return [_select(active, n, o) for n, o in zip(new, carry, strict=True)]

    carry = [_in_front(x, d, size) for x, d in zip(loop.carry, axes.carry, strict=True)]
    outputs = jax.lax.while_loop(lambda carry: jnp.any(going(carry)), body, carry)
    return outputs, [0] * len(outputs)


def _batch_scan(axis_data: Any, args: Any, dims: Any, **params: Any) -> Any:
    scan, axes = internals.scan_parts(params, args), internals.scan_parts(params, dims)
    if not internals.holds(scan.body, CHOICES):
        return _plain_scan(axis_data, args, dims, **params)
    size = axis_data.size
    in_axes = (axes.consts, 0, [None if d is None else 0 for d in axes.xs])

    def lane(consts: Any, carry: Any, xs: Any) -> Any:
        return _masked(scan.body, None, None, [*consts, *carry, *xs], loops=1)

    def body(carry: Any, xs: Any) -> Any:
        outputs = _over(axis_data, lane, in_axes)(scan.consts, carry, xs)
        return outputs[: len(carry)], outputs[len(carry) :]

    carry = [_in_front(x, d, size) for x, d in zip(scan.carry, axes.carry, strict=True)]
    xs = [x if d is None else jnp.moveaxis(x, d, 1) for x, d in zip(scan.xs, axes.xs, strict=True)]
    carry, ys = jax.lax.scan(body, carry, xs, scan.length, scan.reverse, scan.unroll)
    return [*carry, *ys], [0] * len(carry) + [1] * len(ys)


def _in_front(x: Any, dim: int | None, size: int) -> Any:
    return jnp.broadcast_to(x, (size, *jnp.shape(x))) if dim is None else jnp.moveaxis(x, dim, 0)


def _before(primitive: Any, rule: Callable[..., Any]) -> Callable[..., Any]:
    """Put a rule before JAX's own, which is returned."""
    plain = batching.fancy_primitive_batchers[primitive]
    batching.fancy_primitive_batchers[primitive] = rule
    return plain


_plain_cond = _before(internals.COND, _batch_cond)
_plain_while = _before(internals.WHILE, _batch_while)
_plain_scan = _before(internals.SCAN, _batch_scan)
