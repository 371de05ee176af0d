"""Which instances of a choice belong to which elements of a term, as linear maps between arrays.

`spread` adds up, for every element of every term, what the instances that it depends on hold (their scores,
say). Its transpose is the *return*: for every instance, the part of the result that depends on it,

    R_i = sum of the term elements c_k[e] that depend on instance i.

A score multiplies its own return and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.transforms.dependence import Relation
from ppl.transforms.interpret import total_dtype
from ppl.transforms.terms import Cut

_WIDE = 8
"""Up to this width a window is added up entry by entry; beyond, by differences of running sums."""


def spread(cuts: Sequence[Cut], held: Mapping[Any, Any], dtype: Any) -> list[Any]:
    """For each term an array that broadcasts to it: the sum over the instances that an element depends on.

    Args:
        cuts: the terms.
        held: for each choice, an array with an entry for each instance, loops first.
        dtype: of the sums.
    """
    names = list(held)
    totals = jnp.stack([jnp.sum(held[name]).astype(dtype) for name in names])
    whole = np.zeros((len(cuts), len(names)))
    fine: list[list[Any]] = [[] for _ in cuts]
    for number, cut in enumerate(cuts):
        for column, name in enumerate(names):
            if name not in cut.dependence:
                continue
            relations = cut.dependence[name]
            if any(relations):
                fine[number].append(placed(held[name], relations, cut.shape))
            else:
                whole[number, column] = 1
    coarse = jnp.asarray(whole, dtype) @ totals if whole.any() else jnp.zeros(len(cuts), dtype)
    return [sum(parts, start=coarse[number]) for number, parts in enumerate(fine)]


def gather(
    cuts: Sequence[Cut], terms: Sequence[Any], shapes: Mapping[Any, tuple[int, ...]]
) -> dict[Any, Any]:
    """The return of every instance of the choices, from the elements of the terms.

    Args:
        cuts: the terms.
        terms: an array for each.
        shapes: for each choice, the shape of its instances, loops first.
    """
    dtype = jnp.result_type(total_dtype(), *terms)
    example = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}

    def function(held: dict[Any, Any]) -> list[Any]:
        sums = spread(cuts, held, dtype)
        return [jnp.broadcast_to(x, cut.shape) for x, cut in zip(sums, cuts, strict=True)]

    names = list(example)
    transpose = jax.linear_transpose(lambda *x: function(dict(zip(names, x, strict=True))), *example.values())
    returns = transpose([term.astype(dtype) for term in terms])
    return dict(zip(names, returns, strict=True))


def placed(x: Any, relations: Sequence[Relation], shape: Sequence[int]) -> Any:
    """The sums over the instances that each element of an array depends on, ready to broadcast to it."""
    for axis in reversed(range(len(relations))):
        relation = relations[axis]
        if relation is None:
            x = jnp.sum(x, axis=axis)
        else:
            x = _windows(x, axis, relation[1], relation[2], shape[relation[0]])
    kept = [relation[0] for relation in relations if relation is not None]
    x = jnp.transpose(x, sorted(range(len(kept)), key=kept.__getitem__))
    return jnp.expand_dims(x, [axis for axis in range(len(shape)) if axis not in kept])


def _windows(x: Any, axis: int, low: float, high: float, size: int) -> Any:
    """`out[i] = sum of x[i + low], ..., x[i + high]` along an axis, for `i < size`."""
    count = x.shape[axis]
    if low == high == 0 and size == count:
        return x
    x = jnp.moveaxis(x, axis, -1)
    if high - low < _WIDE:
        out = sum(_shifted(x, int(low) + offset, size) for offset in range(int(high - low) + 1))
    elif high == math.inf:
        after = jnp.flip(jnp.cumsum(jnp.flip(x, -1), -1), -1)
        after = jnp.concatenate([after, jnp.zeros_like(x[..., :1])], -1)
        start = 0 if low == -math.inf else np.clip(np.arange(size) + int(low), 0, count)
        out = after[..., np.broadcast_to(start, size)]
    else:
        before = jnp.concatenate([jnp.zeros_like(x[..., :1]), jnp.cumsum(x, -1)], -1)
        out = before[..., np.clip(np.arange(size) + int(high) + 1, 0, count)]
        if low != -math.inf:
            out = out - before[..., np.clip(np.arange(size) + int(low), 0, count)]
    return jnp.moveaxis(out, -1, axis)


def _shifted(x: Any, offset: int, size: int) -> Any:
    """`out[i] = x[i + offset]`, zero beyond the ends."""
    index = np.arange(size) + offset
    inside = (index >= 0) & (index < x.shape[-1])
    return jnp.where(inside, x[..., np.clip(index, 0, max(x.shape[-1] - 1, 0))], 0)
