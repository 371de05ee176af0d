"""Calling a function through `jax.jit`, with whatever is not an array held static."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.core import Tracer
from jax.experimental import checkify

from ppl.errors import ParameterError
from ppl.runtime_checks import checking
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
    if any(isinstance(leaf, Tracer) for leaf in parts.arrays):
        return function(*arguments)
    if checking():
        return _checked(function, parts)
    try:
        call = _Call(function, parts)
    except TypeError:
        return function(*arguments)
    return _run(call, parts.arrays)


def _checked(function: Callable[..., Any], parts: Arguments) -> Any:
    """The call with the checks of parameters that it holds, which raise here."""
    checked = checkify.checkify(lambda arrays: function(*parts.rebuild(arrays)), errors=checkify.user_checks)
    error, result = jax.jit(checked)(parts.arrays)
    message = error.get()
    if message is not None:
        raise ParameterError(message.removesuffix(" (`check` failed)"))
    return result
