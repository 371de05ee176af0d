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
        function = _opened(function)
        _check_closures(function)
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


def _opened(tree: Any) -> Any:
    """With every `functools.partial` as one of JAX's, whose arguments are a pytree."""

    def opened(leaf: Any) -> Any:
        if not isinstance(leaf, functools.partial):
            return leaf
        return jax.tree_util.Partial(_opened(leaf.func), *_opened(leaf.args), **_opened(leaf.keywords))

    return jax.tree.map(opened, tree)


def _check_closures(tree: Any, inside: tuple[Any, ...] = ()) -> None:
    functions = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, types.FunctionType)]
    if isinstance(tree, functools.partial):  # whose function is no leaf of it
        functions += [tree.func] if isinstance(tree.func, types.FunctionType) else []
    for function in functions:
        if function in inside:
            continue
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            contents = _opened(_contents(cell))
            if any(isinstance(x, Tracer) for x in jax.tree.leaves(contents)):
                raise PPLError(
                    f"the function {function.__qualname__} is a closure over {name!r}, which is traced. Hand "
                    f"it over as an argument, functools.partial(function, {name}), so that it is part of the "
                    "program."
                )
            _check_closures(contents, (*inside, function))


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None
