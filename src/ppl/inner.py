"""The primitive of an inner expectation: a program within a program, differentiated on its own.

Its operands are the inputs of a staged program that returns one real number. Like a random choice it
has no meaning of its own; `ppl.transforms` gives it one.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from ppl.errors import ChoiceOutsideProgram

expect_p = Primitive("expect")
expect_p.multiple_results = True


@expect_p.def_abstract_eval
def _abstract(*operands: Any, jaxpr: Any, lanes: tuple[int, ...], mapped: Any, source: str) -> Any:
    return [ShapedArray((*lanes, *aval.shape), aval.dtype) for aval in jaxpr.out_avals]


def _outside(*operands: Any, source: str, **params: Any) -> Any:
    raise ChoiceOutsideProgram(
        f"the inner expectation at {source} was taken outside any program. Use the methods of "
        "@ppl.expectation there: `expectation(f).estimate(key, *args)`."
    )


expect_p.def_impl(_outside)
mlir.register_lowering(expect_p, lambda ctx, *operands, source, **params: _outside(source=source))


def _batch(
    axis_data: Any, operands: Any, dims: Any, *, jaxpr: Any, lanes: Any, mapped: Any, source: str
) -> Any:
    operands = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, dims, strict=True)]
    mapped = tuple((d is not None, *rest) for d, rest in zip(dims, mapped, strict=True))
    lanes = (axis_data.size, *lanes)
    outputs = expect_p.bind(*operands, jaxpr=jaxpr, lanes=lanes, mapped=mapped, source=source)
    return outputs, [0] * len(outputs)


batching.fancy_primitive_batchers[expect_p] = _batch
