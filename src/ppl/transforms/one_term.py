"""A number that counts as one additive term, however it was added up."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

one_term_p = Primitive("one_term")
one_term_p.def_impl(lambda x: x)
one_term_p.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
mlir.register_lowering(one_term_p, lambda ctx, x: [x])
ad.deflinear2(one_term_p, lambda cotangent, x: [cotangent])
batching.fancy_primitive_batchers[one_term_p] = lambda axis_data, args, dims: (
    one_term_p.bind(args[0]),
    dims[0],
)


def one_term(x: Any) -> jax.Array:
    """The same number, as one additive term of a result: a score multiplies all of it, or nothing.

    A score multiplies only those terms of a result that depend on its choice. A control variate that is
    written into an objective, such as a baseline times a score, is written for a certain return; where the
    objective is a sum, part of which does not depend on the choice, this keeps the return whole.

    Args:
        x: a real number or an array of them, of which each entry is a term.

    Example:
        >>> import jax, ppl
        >>> from ppl.estimators import Reinforce
        >>> def reward(p, whole):
        ...     total = 100.0 + (ppl.flip(p).using(Reinforce()) @ "win")
        ...     return ppl.one_term(total) if whole else total
        >>> slopes = jax.vmap(ppl.expectation(reward).grad, (0, None, None))
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> float(slopes(keys, 0.5, False).std().round()), float(slopes(keys, 0.5, True).std().round())
        (1.0, 201.0)
    """
    return one_term_p.bind(jnp.asarray(x))
