"""Calling a function through `jax.jit`, with whatever is not an array held static."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from ppl.transforms.stage import Arguments, split


class _Call:
    """A function and the static part of its arguments, as a hashable value."""

    def __init__(self, function: Callable[..., Any], arguments: Arguments) -> None:
        self.function, self.arguments = function, arguments._replace(arrays=[])
        self.identity = (function, self.arguments.tree, tuple(map(_typed, self.arguments.static)))
        self.hash = hash(self.identity)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.identity == other.identity


def _typed(leaf: Any) -> Any:
    # 1, 1.0 and True are equal, but a program may tell them apart.
    return type(leaf), leaf


@partial(jax.jit, static_argnums=0)
def _run(call: _Call, arrays: list[Any]) -> Any:
    return call.function(*call.arguments.rebuild(arrays))


def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, compiled once for each structure, static values and shapes.

    Under a transformation of JAX the call is inlined. Arguments that cannot be hashed are evaluated
    without compilation.
    """
    parts = split(arguments, floats=True)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in parts.arrays):
        return function(*arguments)
    try:
        call = _Call(function, parts)
    except TypeError:
        return function(*arguments)
    return _run(call, parts.arrays)
