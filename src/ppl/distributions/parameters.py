"""Whether a distribution's parameters lie in their domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro.distributions import constraints

from ppl.distributions.one_hot import OneHotCategoricalLogits
from ppl.distributions.support import base_constraint, member
from ppl.errors import ParameterError


class Condition(NamedTuple):
    """One parameter, what is asked of it in words, its value, and where the value complies."""

    name: str
    text: str
    value: Any
    holds: Any


_WORDS = {
    type(constraints.positive): "must be positive",
    type(constraints.nonnegative): "must not be negative",
    type(constraints.real): "must be finite",
    type(constraints.unit_interval): "must lie between 0 and 1",
    type(constraints.simplex): "must not be negative and must sum to 1 along the last axis",
    type(constraints.positive_definite): "must be symmetric and positive definite",
    type(constraints.lower_cholesky): "must be lower triangular with a positive diagonal",
    type(constraints.nonnegative_integer): "must be an integer, 0 or more",
    type(constraints.positive_integer): "must be an integer, 1 or more",
}


def parameter_predicates(distribution: Any) -> list[tuple[str, str, jax.Array]]:
    """For each constrained parameter: its name, what is asked of it, and where it complies.

    The arrays have the parameter's batch shape. They may be traced: this is what a check at run time
    evaluates.

    Example:
        >>> import jax.numpy as jnp, numpyro.distributions as dist
        >>> parameter_predicates(dist.Exponential(jnp.array([1.0, -1.0]), validate_args=False))
        [('rate', 'must be positive', Array([ True, False], dtype=bool))]
    """
    return [(c.name, c.text, jnp.asarray(c.holds)) for c in _conditions(distribution, traced=True)]


def check_parameters(distribution: Any, line: str, family: str) -> None:
    """Checks the parameters whose values are known now; traced ones pass.

    Raises:
        ParameterError: a parameter lies outside its domain.
    """
    with jax.ensure_compile_time_eval():
        for condition in _conditions(distribution, traced=False):
            holds = np.asarray(condition.holds)
            if not holds.all():
                raise _outside(condition, holds, line, family)


def _outside(condition: Condition, holds: np.ndarray, line: str, family: str) -> ParameterError:
    index = tuple(int(i) for i in np.argwhere(~holds)[0])
    value = np.asarray(condition.value)
    entry = np.broadcast_to(value, (*holds.shape, *value.shape[holds.ndim :]))[index]
    place = f" at index {index}" if index else ""
    return ParameterError(
        f"{family}: the parameter {condition.name} {condition.text}, got {entry.tolist()}{place} ({line}). "
        "Map an unconstrained number into the domain, for example by jax.numpy.exp, jax.nn.softplus or "
        "jax.nn.sigmoid."
    )


def _conditions(distribution: Any, traced: bool) -> Iterator[Condition]:
    stated = {**distribution.arg_constraints}
    known = {name: distribution.__dict__.get(name) for name in stated}
    if not traced:
        known = {name: None if _is_traced(value) else value for name, value in known.items()}
    for name, constraint in stated.items():
        value = known[name]
        if value is None or constraints.is_dependent(constraint):
            continue
        yield _condition(distribution, name, constraint, value, traced)
    if {"low", "high"} <= stated.keys() and known["low"] is not None and known["high"] is not None:
        low, high = _array(known["low"], traced), _array(known["high"], traced)
        ordered = low <= high if isinstance(distribution, dist.DiscreteUniform) else low < high
        yield Condition("low", "must be below high", low, ordered)
    if isinstance(distribution, dist.TransformedDistribution) and stated:
        return  # its base holds the same parameters under other names
    for part in ("base_dist", "_component_distribution", "_mixing_distribution"):
        inner = distribution.__dict__.get(part)
        if inner is not None:
            yield from _conditions(inner, traced)


def _condition(distribution: Any, name: str, constraint: Any, value: Any, traced: bool) -> Condition:
    array = _array(value, traced)
    if name == "logits" and isinstance(distribution, dist.CategoricalLogits | OneHotCategoricalLogits):
        # Minus infinity rules a category out, which is common practice.
        allowed = (array < np.inf).all(-1) & (array > -np.inf).any(-1)
        return Condition(name, "must be finite or -inf, and not -inf throughout", value, allowed)
    innermost = base_constraint(constraint)
    text = _WORDS.get(type(innermost), f"must satisfy {innermost!r}")
    if isinstance(innermost, constraints.greater_than_eq) and type(innermost) not in _WORDS:
        text = f"must be at least {innermost.lower_bound}"
    return Condition(name, text, value, member(constraint, array, constraint.event_dim))


def _array(value: Any, traced: bool) -> Any:
    return jnp.asarray(value) if traced else np.asarray(value)


def _is_traced(value: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
