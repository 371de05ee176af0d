"""The ends of a support: which parameters move them, and what brings a draw between them."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import transforms

from ppl.distributions.support import (
    TO_ENDS,
    base_constraint,
    fills_codomain,
    flat,
    is_whole_space,
    states_support,
    support_of,
)


def moving_support(distribution: Any) -> tuple[str, ...]:
    """Names of the float parameters on which the ends of the support depend.

    The density of such a family jumps where its parameters move the end, so neither the score function
    nor `log_density` at a fixed value sees the whole derivative in them.

    Example:
        >>> import numpyro.distributions as dist
        >>> moving_support(dist.Uniform(0.0, 1.0)), moving_support(dist.Gamma(2.0))
        (('low', 'high'), ())
    """
    names = _moving(distribution)
    return tuple(name for name in names if _is_float(getattr(distribution, name)))


def _is_float(parameter: Any) -> bool:
    leaves = jax.tree.leaves(parameter)
    return any(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves)


def transformed(distribution: Any) -> tuple[Any, list[Any]] | None:
    """The distribution that is transformed, and the transforms in their order.

    `None` for others, and for a class that states its support itself.
    """
    while isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        distribution = distribution.base_dist
    if isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution):
        return distribution.base_dist, distribution.transforms
    return None


@singledispatch
def _moving(distribution: Any) -> tuple[str, ...]:
    return _named_ends(distribution)


def _named_ends(distribution: Any) -> tuple[str, ...]:
    """By NumPyro's naming: `low` and `high` are ends; otherwise every location and scale may be one."""
    if not jax.tree.leaves(base_constraint(support_of(distribution))):
        return ()
    ends = ("low", "high", "loc", "scale")
    known = tuple(name for name in ends if name in distribution.arg_constraints)
    return tuple(name for name in known if name in ("low", "high")) or known


@_moving.register(dist.Levy)
def _(distribution: Any) -> tuple[str, ...]:
    return ("loc",)


@_moving.register(dist.Delta)
def _(distribution: Any) -> tuple[str, ...]:
    return ("v",)


@_moving.register(dist.TransformedDistribution)
def _(distribution: Any) -> tuple[str, ...]:
    base = distribution.base_dist
    if states_support(distribution):
        return _named_ends(distribution)
    steps = flat(distribution.transforms)
    if is_whole_space(distribution):
        return ()
    if fills_codomain(distribution) and type(steps[-1]) in _FIXED:
        return ()
    if _is_normal(base) and all(type(step) in _LINEAR | TO_ENDS for step in steps):
        return ()  # its density falls to zero at the ends, so that nothing is lost where they move
    moved = ("base_dist",) if moving_support(base) else ()
    if all(type(step) in _FIXED for step in steps):
        return moved
    return (*moved, "transforms")


_LINEAR = {transforms.AffineTransform, transforms.LowerCholeskyAffine, transforms.PermuteTransform}
_FIXED = TO_ENDS | {transforms.AbsTransform}


def _is_normal(distribution: Any) -> bool:
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return _is_normal(distribution.base_dist)
    return type(distribution) in (dist.Normal, dist.MultivariateNormal, dist.LowRankMultivariateNormal)


@_moving.register(dist.Independent)
@_moving.register(dist.ExpandedDistribution)
@_moving.register(dist.MaskedDistribution)
def _(distribution: Any) -> tuple[str, ...]:
    return ("base_dist",) if moving_support(distribution.base_dist) else ()
