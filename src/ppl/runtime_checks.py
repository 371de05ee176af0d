"""Checks of parameters whose values are known only when the compiled program runs."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jax.experimental import checkify

from ppl.distributions.density import parameter_predicates

_ON = contextvars.ContextVar("ppl_checks", default=False)


@contextlib.contextmanager
def checks() -> Iterator[None]:
    """Check the parameters of every choice at run time, through `jax.experimental.checkify`.

    Where parameters are concrete they are always checked. Inside this context those computed by a
    compiled program are checked too: the methods of measures and expectations raise
    `ppl.errors.ParameterError`, naming the family, the parameter and the line. It costs time; use it to
    find a fault, not to train.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model(scale):
        ...     ppl.normal(0.0, scale - 2.0) @ "x"
        >>> with ppl.checks():
        ...     model(1.0).simulate(jax.random.key(0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ppl.errors.ParameterError: normal...
    """
    token = _ON.set(True)
    try:
        yield
    finally:
        _ON.reset(token)


def checking() -> bool:
    """Whether parameters are to be checked at run time."""
    return _ON.get()


def check_at_run_time(distribution: Any, family: str, line: str) -> None:
    """Inside `checks`, check the parameters when the program runs."""
    if checking():
        for name, constraint, holds in parameter_predicates(distribution):
            checkify.check(
                jnp.all(holds),
                f"{family}: the parameter {name} is outside its domain ({constraint}), at {line}",
            )
