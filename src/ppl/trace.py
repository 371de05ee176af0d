"""The record of one run of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax

from ppl.transforms.stage import Arguments, split


@dataclass(frozen=True)
class Trace:
    """One run of a measure; a pytree.

    Attributes:
        choices: what it drew: a `ppl.Choices` for a program, the value itself for a distribution. A
            choice under `jax.vmap` has the lane axis first, one under `jax.lax.scan` the time axis. A
            choice of a branch that was not taken is zero, and does not count in the density.
        log_density: log density of the choices, a scalar of at least float32.
        retval: what the program returned.
        args, kwargs: the arguments that it was applied to.
    """

    choices: Any
    log_density: jax.Array
    retval: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def _flatten(trace: Trace) -> tuple[tuple[Any, ...], Any]:
    # Functions and other static arguments ride along, so that a trace may leave `jax.jit` and `jax.vmap`.
    parts = split((trace.args, trace.kwargs), floats=True)
    return (trace.choices, trace.log_density, trace.retval, parts.arrays), (parts.tree, parts.static)


def _unflatten(aux: Any, children: tuple[Any, ...]) -> Trace:
    choices, log_density, retval, arrays = children
    args, kwargs = Arguments([], *aux).rebuild(arrays)
    return Trace(choices, log_density, retval, args, kwargs)


jax.tree_util.register_pytree_node(Trace, _flatten, _unflatten)
