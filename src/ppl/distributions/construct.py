"""From a family's arguments to a measure: conversion, shapes and messages, once for all families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
from numpyro.distributions.distribution import validation_enabled

from ppl.errors import ParameterError
from ppl.measure import Measure, distribution_measure
from ppl.source import user_line


def family(name: str, cls: Callable[..., Any], integers: tuple[str, ...] = (), **parameters: Any) -> Measure:
    """The measure of `cls(**parameters)`, parameters of value `None` left out.

    Integers become floats of the default precision, except the parameters named in `integers`; Python
    floats stay weakly typed and arrays keep their dtype.

    Raises:
        ParameterError: the parameters do not fit together, or lie outside their domains.
    """
    given = {
        key: value if key in integers else floating(value)
        for key, value in parameters.items()
        if value is not None
    }
    return distribution_measure(name, lambda: build(name, cls, given))


def build(name: str, cls: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """`cls(**parameters)`, with NumPyro's complaints about shapes turned into a `ParameterError`.

    NumPyro's own check of values is off: `check_parameters` says more, and allows a logit of -inf.
    """
    try:
        with validation_enabled(False):
            return cls(**parameters)
    except (ValueError, TypeError, AssertionError) as error:
        shapes = ", ".join(f"{key} {_describe(value)}" for key, value in parameters.items())
        raise ParameterError(
            f"{name}: the parameters do not fit together ({user_line()}): {shapes}. Shapes must broadcast "
            f"against each other, apart from the axes of one event. NumPyro says: {error}"
        ) from error


def _describe(value: Any) -> str:
    shape = getattr(value, "batch_shape", None)
    return f"has shape {jnp.shape(value)}" if shape is None else f"has batch shape {shape}"


def floating(value: Any) -> Any:
    """The value with integers and booleans converted to the default float.

    Example:
        >>> floating(1), floating([0, 1]).dtype.name, floating(0.5)
        (1.0, 'float32', 0.5)
    """
    if isinstance(value, bool | int):
        return float(value)
    if isinstance(value, float):
        return value
    # A NumPy array, a list or a concrete number stays concrete inside a program, and is checked at once.
    traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    array = jnp.asarray(value) if traced else np.asarray(value, jnp.result_type(np.asarray(value)))
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.result_type(float))


def counts(name: str, key: str, value: Any) -> Any:
    """The value, if it is of an integer dtype.

    Raises:
        ParameterError: it is not.
    """
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise ParameterError(
            f"{name}: the parameter {key} must be of an integer dtype, got {jnp.result_type(value)} "
            f"({user_line()}). Convert it with .astype(int)."
        )
    return value if isinstance(value, int | np.ndarray) else jnp.asarray(value)


def exactly_one(name: str, **alternatives: Any) -> None:
    """Checks that one of several parameterisations is given.

    Raises:
        ParameterError: none is, or more than one.
    """
    given = [key for key, value in alternatives.items() if value is not None]
    if len(given) != 1:
        wanted = " or ".join(f"{key}=" for key in alternatives)
        got = " and ".join(f"{key}=" for key in given) or "neither"
        raise ParameterError(f"{name}: give exactly one of {wanted}, got {got} ({user_line()}).")


def multinomial_of(total_count: int) -> Callable[..., Any]:
    """NumPyro's multinomial, with its count kept a Python integer.

    NumPyro reshapes the count to the batch and keeps the array in the static part of the pytree, where
    `jax.jit` cannot hash it.
    """

    def make(**parameters: Any) -> Any:
        distribution = npd.Multinomial(total_count, **parameters)
        distribution.total_count = total_count
        return distribution

    return make
