"""A function as part of an estimator: its arrays traced, the rest of it static."""

from __future__ import annotations

import functools
import types
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ppl.errors import PPLError

_TRACED: Any = "traced"


class TracedFunction:
    """A callable that is a pytree of the arrays in it, whatever else it holds.

    A function of one argument: a plain function, a `functools.partial` over arrays, or a callable pytree such
    as an Equinox module. Arrays and Python floats in it are traced, so that they may be parameters of the
    program and be differentiated; everything else (functions, integers, names) is static, and compiled
    methods are found again as long as it is equal. A `lambda` written inside a program is a new function at
    each call.

    Raises:
        PPLError: the function is not callable, or is a closure over a traced value, which could not be found
            again when the program is run.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> line = TracedFunction(functools.partial(lambda slope, z: slope * z, 2.0))
        >>> jax.tree.leaves(line), line(3.0)
        ([2.0], 6.0)
    """

    def __init__(self, function: Any) -> None:
        if not callable(function):
            raise PPLError(f"expected a function of the relaxed variable, got {function!r}")
        if isinstance(function, functools.partial):
            function = jax.tree_util.Partial(function.func, *function.args, **function.keywords)
        _check_closure(function)
        leaves, self._tree = jax.tree.flatten(function)
        self._arrays = [leaf for leaf in leaves if _is_array(leaf)]
        self._static = tuple(_TRACED if _is_array(leaf) else leaf for leaf in leaves)

    def __call__(self, argument: Any) -> Any:
        """The function's value."""
        remaining = iter(self._arrays)
        leaves = [next(remaining) if leaf is _TRACED else leaf for leaf in self._static]
        return jax.tree.unflatten(self._tree, leaves)(argument)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._tree})"

    def flatten(self) -> tuple[tuple[Any, ...], Any]:
        """The arrays, and what is left without them."""
        return tuple(self._arrays), (self._tree, self._static)

    @classmethod
    def unflatten(cls, static: Any, arrays: Any) -> TracedFunction:
        """The function with other arrays."""
        self = object.__new__(cls)
        self._tree, self._static = static
        self._arrays = list(arrays)
        return self


jax.tree_util.register_pytree_node(TracedFunction, TracedFunction.flatten, TracedFunction.unflatten)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)


def _check_closure(function: Any) -> None:
    for leaf in [function, getattr(function, "func", None), *jax.tree.leaves(function)]:
        if not isinstance(leaf, types.FunctionType):
            continue
        for name, cell in zip(leaf.__code__.co_freevars, leaf.__closure__ or (), strict=True):
            if any(isinstance(x, Tracer) for x in jax.tree.leaves(_contents(cell))):
                raise PPLError(
                    f"the function {leaf.__qualname__} is a closure over {name!r}, which is traced. Hand it "
                    f"over as an argument, functools.partial(function, {name}), so that it is part of the "
                    "program."
                )


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None
