"""Equations of a jaxpr in NumPy, worlds in front: nothing is compiled anew when their number grows.

`lax` operands have equal shapes, so one that is the same in all worlds (and lacks their axis) broadcasts by
NumPy's own rule. Primitives that are missing here are compiled by JAX under `vmap`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "atan": np.arctan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "tan": np.tan,
    "log2": np.log2,
    "exp2": np.exp2,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erf_inv": scipy.special.erfinv,
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
    "sin": np.sin,
    "cos": np.cos,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "square": np.square,
    "abs": np.abs,
    "sign": np.sign,
    "logistic": scipy.special.expit,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.digamma,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.invert,
    "is_finite": np.isfinite,
    "stop_gradient": lambda x: x,
    "copy": lambda x: x,
    "floor": np.floor,
    "div": lambda x, y: _divide(x, y),
    "rem": np.fmod,
    "log_density_of": lambda x: x,
    "one_term": lambda x: x,
}


def _divide(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind == "f":
        return np.divide(x, y)
    return np.trunc(np.divide(x, y)).astype(np.asarray(x).dtype)


def _axes(axes: Any, worlds: bool) -> tuple[int, ...]:
    return tuple(a + worlds for a in axes)


def _spread(x: Any, worlds: bool, shape: Any, broadcast_dimensions: Any, **_: Any) -> Any:
    lead = x.shape[:1] if worlds else ()
    kept = [1] * len(shape)
    for axis, place in enumerate(broadcast_dimensions):
        kept[place] = x.shape[axis + worlds]
    return np.broadcast_to(x.reshape((*lead, *kept)), (*lead, *shape))


def _cut(x: Any, worlds: bool, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Any:
    steps = strides or (1,) * len(start_indices)
    parts = tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))
    return x[(slice(None),) * worlds + parts]


def _reshape(x: Any, worlds: bool, new_sizes: Any, dimensions: Any = None, **_: Any) -> Any:
    """`dimensions` are the order in which the axes are read, as the derivative of a product has them."""
    x = x if dimensions is None else np.transpose(x, (*range(worlds), *_axes(dimensions, worlds)))
    return x.reshape((*x.shape[:worlds], *new_sizes))


def _pad(x: Any, padding: Any, worlds: bool, edges: Any) -> Any:
    shape = [low + n + high for (low, high, _), n in zip(edges, x.shape[worlds:], strict=True)]
    held = tuple(slice(low, low + n) for (low, _, _), n in zip(edges, x.shape[worlds:], strict=True))
    found = np.full((*x.shape[:worlds], *shape), padding, x.dtype)
    found[(slice(None),) * worlds + held] = x
    return found


def _dot(x: Any, y: Any, mapped: list[bool], dimension_numbers: Any, **_: Any) -> Any:
    contracted, batch = (list(zip(*pair, strict=True)) for pair in dimension_numbers)
    names = iter(range(1, 52))
    axes = [[next(names) for _ in range(z.ndim - m)] for z, m in zip((x, y), mapped, strict=True)]
    for one, other in (*contracted, *batch):
        axes[1][other] = axes[0][one]
    shared = {axes[0][one] for one, _ in (*contracted, *batch)}
    out = [axes[0][one] for one, _ in batch] + [a for side in axes for a in side if a not in shared]
    with_worlds = [[0] * m + side for side, m in zip(axes, mapped, strict=True)]
    return np.einsum(x, with_worlds[0], y, with_worlds[1], [0] * any(mapped) + out, optimize=True)


def _spread_over_worlds(values: list[Any], mapped: list[bool]) -> list[Any]:
    """Operands that all have worlds in front, if any has."""
    count = next((len(x) for x, m in zip(values, mapped, strict=True) if m), None)
    if count is None:
        return values
    return [x if m else np.broadcast_to(x, (count, *x.shape)) for x, m in zip(values, mapped, strict=True)]


_STRUCTURAL: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _spread,
    "slice": _cut,
    "reshape": _reshape,
    "squeeze": lambda x, worlds, dimensions: np.squeeze(x, _axes(dimensions, worlds)),
    "transpose": lambda x, worlds, permutation: np.transpose(
        x, (*range(worlds), *_axes(permutation, worlds))
    ),
    "convert_element_type": lambda x, worlds, new_dtype, **_: x.astype(new_dtype),
    "reduce_sum": lambda x, worlds, axes, **_: np.sum(x, axis=_axes(axes, worlds)).astype(x.dtype),
    "reduce_prod": lambda x, worlds, axes, **_: np.prod(x, axis=_axes(axes, worlds)).astype(x.dtype),
    "reduce_max": lambda x, worlds, axes, **_: np.max(x, axis=_axes(axes, worlds)),
    "reduce_min": lambda x, worlds, axes, **_: np.min(x, axis=_axes(axes, worlds)),
    "reduce_and": lambda x, worlds, axes, **_: np.bitwise_and.reduce(x, axis=_axes(axes, worlds)),
    "reduce_or": lambda x, worlds, axes, **_: np.bitwise_or.reduce(x, axis=_axes(axes, worlds)),
    "cumsum": lambda x, worlds, axis, reverse: (
        np.flip(np.cumsum(np.flip(x, axis + worlds), axis + worlds), axis + worlds)
        if reverse
        else np.cumsum(x, axis + worlds)
    ),
    "rev": lambda x, worlds, dimensions: np.flip(x, _axes(dimensions, worlds)),
    "argmax": lambda x, worlds, axes, index_dtype: np.argmax(x, axes[0] + worlds),
    "integer_pow": lambda x, worlds, y: x**y if y >= 0 else 1 / x**-y,
}


def apply(equation: Any, values: list[Any], mapped: list[bool]) -> list[Any]:
    """The outputs of an equation; those inputs that are `mapped` have an axis of worlds in front.

    If any input has, so has every output.
    """
    name, worlds = equation.primitive.name, any(mapped)
    if not any(map(is_key, [v.aval for v in (*equation.invars, *equation.outvars)])):
        with np.errstate(all="ignore"):
            found = _in_numpy(equation, name, [np.asarray(x) for x in values], mapped, worlds)
        if found is not None:
            several = found if equation.primitive.multiple_results else [found]
            return [np.asarray(x, v.aval.dtype) for x, v in zip(several, equation.outvars, strict=True)]
    return _compiled(equation, values, mapped)


def _in_numpy(equation: Any, name: str, values: list[Any], mapped: list[bool], worlds: bool) -> Any:
    if name in _ELEMENTWISE:
        return _ELEMENTWISE[name](*aligned(values, mapped))
    if name == "select_n":
        return _select_n(values, mapped)
    if name in _STRUCTURAL:
        return _STRUCTURAL[name](values[0], worlds, **equation.params)
    if name == "iota":
        shape, axis = equation.params["shape"], equation.params["dimension"]
        return np.broadcast_to(
            np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
        )
    if name == "concatenate":
        return np.concatenate(_spread_over_worlds(values, mapped), axis=equation.params["dimension"] + worlds)
    if name == "stack":
        return np.stack(_spread_over_worlds(values, mapped), axis=equation.params["axis"] + worlds)
    if name == "unstack":
        return list(np.moveaxis(values[0], equation.params["axis"] + worlds, 0))
    if name == "split":
        ends = np.cumsum(equation.params["sizes"])[:-1]
        return np.split(values[0], ends, axis=equation.params["axis"] + worlds)
    if name == "clamp" and not mapped[0] and not mapped[2]:
        return np.clip(values[1], values[0], values[2])
    if name == "dot_general":
        return _dot(values[0], values[1], mapped, **equation.params)
    if name == "pad" and not mapped[1]:
        edges = equation.params["padding_config"]
        if all(low >= 0 and high >= 0 and not inside for low, high, inside in edges):
            return _pad(values[0], values[1], worlds, edges)
    return None


def aligned(values: list[Any], mapped: list[bool]) -> list[Any]:
    """Operands of equal rank after the axis of worlds, as `lax` lets a scalar meet an array."""
    rank = max(x.ndim - m for x, m in zip(values, mapped, strict=True))
    return [
        x.reshape((*x.shape[:1], *(1,) * (rank - x.ndim + 1), *x.shape[1:])) if m else x
        for x, m in zip(values, mapped, strict=True)
    ]


def _select_n(values: list[Any], mapped: list[bool]) -> Any:
    which, *cases = values
    rank = max(c.ndim - m for c, m in zip(cases, mapped[1:], strict=True))
    if which.ndim - mapped[0] < rank:  # a scalar predicate
        which = which.reshape((*which.shape, *(1,) * (rank - (which.ndim - mapped[0]))))
    found = cases[0]
    for number, case in enumerate(cases[1:], 1):
        found = np.where(which.astype(int) == number, case, found)
    return found


@functools.cache
def _function(primitive: Any, params: Any, mapped: tuple[bool, ...]) -> Any:
    equation_params = params.value

    def bind(*values: Any) -> list[Any]:
        found = primitive.bind(*values, **primitive.get_bind_params(equation_params))
        return list(found) if primitive.multiple_results else [found]

    if any(mapped):
        bind = jax.vmap(bind, in_axes=[0 if m else None for m in mapped])
    return jax.jit(bind)


class _Params:
    """Parameters compared by identity where they cannot be hashed."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        items = tuple(sorted(value.items(), key=lambda item: item[0]))
        try:
            hash(items)
            self.identity: Any = items
        except TypeError:
            self.identity = id(value)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Params) and self.identity == other.identity


def _compiled(equation: Any, values: list[Any], mapped: list[bool]) -> list[Any]:
    """By JAX; the count of worlds is padded to a power of four, so that few shapes are compiled."""
    count = next((len(x) for x, m in zip(values, mapped, strict=True) if m), 0)
    extra = 4 ** int(np.ceil(np.log(count) / np.log(4) - 1e-9)) - count if count else 0
    padded = [
        np.concatenate([x, np.broadcast_to(x[:1], (extra, *x.shape[1:]))]) if m else x
        for x, m in zip(values, mapped, strict=True)
    ]
    found = _function(equation.primitive, _Params(equation.params), tuple(mapped))(*padded)
    return [x if is_key(x) else np.asarray(x)[:count] if count else np.asarray(x) for x in found]


def is_key(x: Any) -> bool:
    """Whether a value, or what is known of it, is a random key."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.extended)
