"""The parameters of a distribution as real numbers, and the distribution with others in their place.

Which parameters there are and where they may lie, NumPyro's `arg_constraints` say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.util import lazy_property

from ppl.distributions.ends import moving_support
from ppl.distributions.support import base_constraint, states_support


class Reals(NamedTuple):
    """How a parameter becomes real numbers, and back."""

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]


def free_parameters(distribution: Any) -> dict[str, jax.Array]:
    """The float parameters that move no end of the support, as real numbers, one for each instance.

    The law: `with_parameters(distribution, free_parameters(distribution))` is the distribution itself.

    Example:
        >>> import numpyro.distributions as npd
        >>> {name: float(x) for name, x in free_parameters(npd.Gamma(1.0, 1.0)).items()}
        {'concentration': 0.0, 'rate': 0.0}
        >>> free_parameters(npd.Uniform(0.0, 1.0))
        {}
    """
    inner = _inner(distribution)
    lead = distribution.batch_shape if inner is distribution else _inner_shape(distribution)
    return {
        name: reals.to(_spread(getattr(inner, name), lead, constraint))
        for name, (constraint, reals) in _free(inner).items()
    }


def with_parameters(distribution: Any, reals: Mapping[str, jax.Array]) -> Any:
    """The distribution with these of its parameters, as real numbers, and its own others."""
    if isinstance(distribution, npd.Independent):
        made = with_parameters(distribution.base_dist, reals)
        return made.to_event(distribution.reinterpreted_batch_ndims)
    if isinstance(distribution, npd.ExpandedDistribution):
        return with_parameters(distribution.base_dist, reals).expand(distribution.batch_shape)
    if _is_composed(distribution):
        made = with_parameters(distribution.base_dist, reals)
        return npd.TransformedDistribution(made, distribution.transforms)
    free = _free(distribution)
    changed = {name: free[name][1].back(x) for name, x in reals.items()}
    cls, arguments = _constructor(distribution)
    return cls(**arguments | changed)


def _inner(distribution: Any) -> Any:
    """What its parameters are parameters of."""
    wrapped = isinstance(distribution, npd.Independent | npd.ExpandedDistribution)
    return _inner(distribution.base_dist) if wrapped or _is_composed(distribution) else distribution


def _inner_shape(distribution: Any) -> tuple[int, ...]:
    """The batch shape of the innermost distribution, with the axes that wrappers have added in front."""
    if isinstance(distribution, npd.Independent) or _is_composed(distribution):
        return _inner_shape(distribution.base_dist)
    return distribution.batch_shape


def _is_composed(distribution: Any) -> bool:
    """Whether it is a transformed distribution of no class of its own."""
    return isinstance(distribution, npd.TransformedDistribution) and not states_support(distribution)


def _free(distribution: Any) -> dict[str, tuple[Any, Reals]]:
    if isinstance(distribution, npd.Delta | npd.Unit):  # their parameters are densities, not those of a law
        return {}
    ends = moving_support(distribution)
    cls, known = _constructor(distribution)
    found = {}
    for name, constraint in cls.arg_constraints.items():
        is_float = name in known and jnp.issubdtype(jnp.result_type(known[name]), jnp.floating)
        reals = _reals(constraint) if is_float and name not in ends else None
        if reals is not None:
            found[name] = constraint, reals
    return found


def _reals(constraint: Any) -> Reals | None:
    innermost = base_constraint(constraint)
    if isinstance(innermost, type(constraints.simplex)):
        return Reals(_log, lambda x: jax.nn.softmax(x, axis=-1))
    if isinstance(innermost, type(constraints.unit_interval)):
        return Reals(lambda x: _log(x) - _log(1 - x), jax.nn.sigmoid)
    if getattr(innermost, "is_discrete", False) or innermost is constraints.dependent:
        return None
    try:
        transform = biject_to(constraint)
    except NotImplementedError:
        return None
    return Reals(transform.inv, transform)


def _log(x: Any) -> jax.Array:
    """The logarithm, whose derivative at zero is zero."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)


def _spread(value: Any, lead: tuple[int, ...], constraint: Any) -> jax.Array:
    """The parameter, with every axis of the instances."""
    value = jnp.asarray(value)
    own = value.shape[value.ndim - constraint.event_dim :] if constraint.event_dim else ()
    return jnp.broadcast_to(value, (*lead, *own))


def _constructor(distribution: Any) -> tuple[Any, dict[str, Any]]:
    """The class that makes it, and of what: the nearest one all of whose arguments are stored."""
    stored = vars(distribution)
    for cls in type(distribution).__mro__:
        if cls is npd.Distribution or cls.sample is not type(distribution).sample:
            break
        arguments = inspect.signature(cls).parameters.values()
        # A form that is computed from another (the covariance, from the Cholesky factor) is not stored.
        known = {
            argument.name: stored[argument.name]
            for argument in arguments
            if stored.get(argument.name) is not None and not _is_computed(cls, argument.name)
        }
        if all(a.name in known or a.default is not a.empty for a in arguments):
            return cls, known
    return type(distribution), {}


def _is_computed(cls: Any, name: str) -> bool:
    return isinstance(inspect.getattr_static(cls, name, None), lazy_property)
