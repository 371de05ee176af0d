"""Checks of parameters whose values are known only when the compiled program runs."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from jax.experimental import checkify

from ppl.distributions.density import parameter_predicates
from ppl.site import Site

_ON = contextvars.ContextVar("ppl_checks", default=False)


@contextlib.contextmanager
def checks() -> Iterator[None]:
    """Check the parameters of every choice at run time, through `jax.experimental.checkify`.

    Where parameters are concrete they are always checked. Inside this context those computed by a
    compiled program are checked too: the methods of measures and expectations raise
    `ppl.errors.ParameterError`, naming the family, the parameter and the line. A choice in a branch or lane
    that is not taken is not checked. It costs time; use it to find a fault, not to train.

    Under an outer `jax.jit` the methods cannot raise: functionalize that function with
    `jax.experimental.checkify.checkify`.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model(scale):
        ...     ppl.normal(0.0, scale - 2.0) @ "x"
        >>> with ppl.checks():
        ...     model(1.0).simulate(jax.random.key(0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ppl.errors.ParameterError: 'x' (normal, ...): the parameter scale is outside its domain...
    """
    token = _ON.set(True)
    try:
        yield
    finally:
        _ON.reset(token)


def checking() -> bool:
    """Whether parameters are to be checked at run time."""
    return _ON.get()


def check_at_run_time(site: Site, operands: Sequence[Any]) -> None:
    """Inside `checks`, check the parameters of a choice where it is made."""
    if not checking():
        return
    named: list[tuple[str, str]] = []

    def predicates(distribution: Any, _: Any) -> list[Any]:
        found = parameter_predicates(distribution)
        named[:] = [(name, constraint) for name, constraint, _ in found]
        return [jnp.all(holds) for _, _, holds in found]

    held = site.per_lane(predicates, operands)
    mask = site.mask_over(operands, ())
    for (name, constraint), holds in zip(named, held, strict=True):
        _check(holds if mask is None else holds | ~mask, site.where, name, constraint)


def check_distribution(distribution: Any, where: str) -> None:
    """Inside `checks`, check the parameters of a distribution."""
    if checking():
        for name, constraint, holds in parameter_predicates(distribution):
            _check(holds, where, name, constraint)


def _check(holds: Any, where: str, name: str, constraint: str) -> None:
    message = f"{where}: the parameter {name} is outside its domain ({constraint})"
    checkify.check(jnp.all(holds), message)
