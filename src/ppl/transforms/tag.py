"""Log densities carry the address of their choice.

`tag_p` is the identity; it costs nothing in the compiled program. Diagnosis reads it: when a run of
training meets a number that is not finite, the first choice whose log density is not is named.
"""

from __future__ import annotations

from typing import Any

from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

tag_p = Primitive("log_density_of")
tag_p.def_impl(lambda x, *, name: x)
tag_p.def_abstract_eval(lambda x, *, name: ShapedArray(x.shape, x.dtype))
mlir.register_lowering(tag_p, lambda ctx, x, *, name: [x])
ad.deflinear2(tag_p, lambda cotangent, x, *, name: [cotangent])
batching.fancy_primitive_batchers[tag_p] = lambda axis_data, args, dims, *, name: (
    tag_p.bind(args[0], name=name),
    dims[0],
)


def tagged(log_density: Any, name: str) -> Any:
    """The same number, marked as the log density of the choice called `name`."""
    return tag_p.bind(log_density, name=name)
