"""The surrogate of an expectation as a function of the arrays that are differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppl.distributions import ends
from ppl.noise import SAMPLES, Token
from ppl.transforms.continuity import check_continuity
from ppl.transforms.gradient import Derived, derive
from ppl.transforms.stage import Arguments, Staged, split
from ppl.undifferentiated import fixed

_ONCE = (
    "`grad`, `value_and_grad` and `jvp` derive a program that is right for one derivative only. For higher "
    "derivatives differentiate `surrogate`: jax.hessian(lambda x: objective.surrogate(key, x))."
)


def is_float(x: Any) -> bool:
    """Whether derivatives are taken of an array."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def average(staged: Staged, key: jax.Array, num_samples: int, order: int) -> jax.Array:
    """The mean surrogate of independent runs, whose noise is drawn as one block."""
    return derived(staged, key, num_samples, order).value


def derived(
    staged: Staged, key: jax.Array, num_samples: int, order: int, averages: Any = None,
    training: bool = False, parameters: Any = None,
) -> Derived:  # fmt: skip
    """The mean of independent runs, with what trains the estimators. See `ppl.transforms.gradient.derive`."""

    def run(own: Any) -> Derived:
        return derive(
            staged.jaxpr, staged.arrays, key, Token(own), order, num_samples, averages, training, parameters
        )

    if num_samples == 1:
        return run(False)
    found = jax.vmap(run, axis_name=SAMPLES)(jnp.zeros(num_samples, bool))
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)


def samples(number: Any) -> int:
    """The number of runs to average; the mean over none would be nan, and its gradient a silent zero.

    Raises:
        TypeError: it is not whole. ValueError: it is less than one.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(f"num_samples is a whole number, for which the program is compiled, got {number!r}.")
    if operator.index(number) < 1:
        raise ValueError(f"num_samples is at least 1, got {number}.")
    return operator.index(number)


def moving_arrays(of: Any, args: tuple[Any, ...], argnums: Any) -> tuple[Arguments, list[bool]]:
    """The arguments in parts, and which of their arrays derivatives are taken of."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    wanted = {number % len(args) for number in numbers if -len(args) <= number < len(args)}
    if len(wanted) != len(numbers):
        raise TypeError(f"argnums={argnums} does not name arguments of {of!r}, which got {len(args)}")
    parts = split((args, {}), floats=True)
    flags = [i in wanted for i, arg in enumerate(args) for _ in split(arg, floats=True).arrays]
    return parts, [flag and is_float(x) for flag, x in zip(flags, parts.arrays, strict=True)]


def picked(parts: Arguments, moving: list[bool], slopes: list[Any], argnums: Any) -> Any:
    """The gradients of the arguments that were asked for."""
    grads = _gradients(parts, moving, slopes)
    return grads[argnums] if isinstance(argnums, int) else tuple(grads[number] for number in argnums)


def _gradients(parts: Arguments, moving: list[bool], slopes: list[Any]) -> Any:
    """The gradient in the structure of the arguments, `None` for whatever is not differentiated."""
    remaining = iter(slopes)
    arrays = [next(remaining) if move else None for move in moving]
    blank = parts._replace(static=tuple(s if parts.is_array(s) else None for s in parts.static))
    return blank.rebuild(arrays)[0]


def surrogate_of(
    staged: Staged, moving: list[bool], key: jax.Array, num_samples: int, *, reverse: bool,
    parameters: Any = None,
) -> tuple[Callable[[list[Any]], jax.Array], list[Any]]:  # fmt: skip
    """The surrogate, good for one derivative, as a function of the arrays that move; and these arrays.

    Raises:
        DiscontinuousReparameterization, UnsupportedProgram: the derivative would be biased.
    """
    check_continuity(staged.jaxpr, moving, reverse=reverse, supports=ends)
    staged = fixed(staged, _ONCE)

    def function(floats: list[Any]) -> jax.Array:
        remaining = iter(floats)
        arrays = [next(remaining) if move else x for x, move in zip(staged.arrays, moving, strict=True)]
        here = staged._replace(arrays=arrays)
        return derived(here, key, num_samples, order=1, parameters=parameters).value

    return function, [x for x, move in zip(staged.arrays, moving, strict=True) if move]
