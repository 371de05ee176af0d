"""Numbers that refuse derivatives which would be wrong, or that count as constants.

These are primitives with a rule of their own and no custom derivatives of JAX: once a function inside
`jit` or `scan` has been differentiated in reverse mode, JAX keeps the numbers that it needs again without
their custom rules, and a second derivative would pass unseen.

None of them computes anything; they cost nothing in the compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ppl.errors import UnsupportedProgram


def _first_operand(name: str, differentiate: Callable[..., Any]) -> Primitive:
    """A primitive that returns the first of its operands, with a derivative rule."""
    primitive = Primitive(name)
    primitive.def_impl(lambda x, *_, why: x)
    primitive.def_abstract_eval(lambda x, *_, why: x)
    mlir.register_lowering(primitive, lambda ctx, x, *_, why: [x])
    ad.primitive_jvps[primitive] = differentiate

    def batch(axis_data: Any, operands: Any, dims: Any, *, why: str) -> Any:
        if dims[0] is None:
            # Of a witness it only matters whether it moves: one number stands for all lanes.
            witnesses = [
                w if d is None else jnp.sum(w, d) for w, d in zip(operands[1:], dims[1:], strict=True)
            ]
            return primitive.bind(operands[0], *witnesses, why=why), None
        size = axis_data.size
        lanes = [
            jnp.broadcast_to(x, (size, *jnp.shape(x))) if d is None else jnp.moveaxis(x, d, 0)
            for x, d in zip(operands, dims, strict=True)
        ]
        return primitive.bind(*lanes, why=why), 0

    batching.fancy_primitive_batchers[primitive] = batch
    return primitive


def _is_moved(tangent: Any) -> bool:
    return type(tangent) is not ad.Zero


def _undifferentiated(primals: Any, tangents: Any, *, why: str) -> Any:
    raise UnsupportedProgram(why)


def _unmoved(primals: Any, tangents: Any, *, why: str) -> Any:
    if any(map(_is_moved, tangents[1:])):
        raise UnsupportedProgram(why)
    return unmoved_p.bind(*primals, why=why), tangents[0]


def _differentiated_once(primals: Any, tangents: Any, *, why: str) -> Any:
    x, *witnesses = map(jnp.asarray, primals)
    one = jnp.where(jnp.zeros(x.shape, bool), sum(witnesses, x), 1.0).astype(x.dtype)
    slope = tangents[0]
    if not _is_moved(slope):
        # A zero that is computed from the witness's slope, so that `one` is needed to compute it.
        slope = jnp.zeros_like(x)
        for tangent in filter(_is_moved, tangents[1:]):
            slope = jnp.where(jnp.zeros(x.shape, bool), tangent, slope)
    return once_p.bind(*primals, why=why), slope * undifferentiated_p.bind(one, why=why)


def _constant(primals: Any, tangents: Any, *, why: str) -> Any:
    out = constant_p.bind(*primals, why=why)
    return out, ad.Zero(jax.typeof(out).to_tangent_aval())


undifferentiated_p = _first_operand("undifferentiated", _undifferentiated)
unmoved_p = _first_operand("unmoved", _unmoved)
once_p = _first_operand("differentiated_once", _differentiated_once)
constant_p = _first_operand("held_constant", _constant)


def undifferentiated(tree: Any, why: str) -> Any:
    """The same arrays; a derivative through them raises `UnsupportedProgram` with this explanation."""
    return jax.tree.map(lambda x: undifferentiated_p.bind(x, why=why) if _is_float(x) else x, tree)


def unmoved(x: jax.Array, witness: jax.Array, why: str) -> jax.Array:
    """The number `x`; a derivative along which the number `witness` moves raises `UnsupportedProgram`."""
    return unmoved_p.bind(x, witness, why=why)


def differentiated_once(x: jax.Array, witness: jax.Array, why: str) -> jax.Array:
    """The number `x`; a second derivative along which it or the number `witness` moves is refused."""
    return once_p.bind(x, witness, why=why)


def held_constant(tree: Any) -> Any:
    """The same arrays, which count as constants: for what an objective is *defined* to hold fixed.

    Unlike `stop_gradient` it also says that the objective's value is not meant to follow them, so that a jump
    where they cross it is none. Where they move with the parameters through a choice made before, a
    derivative is refused: estimators of that choice would not agree on what is held.
    """
    return jax.tree.map(lambda x: constant_p.bind(x, why=""), tree)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)
