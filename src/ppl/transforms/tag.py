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
tag_p.def_impl(lambda x, **params: x)
tag_p.def_abstract_eval(lambda x, **params: ShapedArray(x.shape, x.dtype))
mlir.register_lowering(tag_p, lambda ctx, x, **params: [x])
ad.deflinear2(tag_p, lambda cotangent, x, **params: [cotangent])
batching.fancy_primitive_batchers[tag_p] = lambda axis_data, args, dims, **params: (
    tag_p.bind(args[0], **params),
    dims[0],
)


def tagged(log_density: Any, name: str, detail: str = "") -> Any:
    """The same number, marked as the log density of the choice called `name`.

    `detail` says more of the choice: its family, shape and line.
    """
    return tag_p.bind(log_density, name=name, detail=detail)
