"""Where a distribution has mass: membership, and ends that parameters move."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints, discrete, transforms


def base_constraint(support: Any) -> Any:
    """The constraint on the innermost event."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


@singledispatch
def support_of(distribution: Any) -> Any:
    """The constraint on a value, or `None` if NumPyro does not say."""
    return distribution.support


@support_of.register(dist.Independent)
def _(distribution: Any) -> Any:
    return constraints.independent(support_of(distribution.base_dist), distribution.reinterpreted_batch_ndims)


@support_of.register(dist.Levy)
def _(distribution: Any) -> Any:
    return constraints.greater_than(distribution.loc)  # NumPyro's own is lost when the pytree is rebuilt


def is_whole_space(distribution: Any) -> bool:
    """Whether every real value of the right shape is in the support."""
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return is_whole_space(distribution.base_dist)
    transformed = isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution)
    if transformed and not is_whole_space(distribution.base_dist):
        return False  # `AffineTransform` calls its range the real line whatever its domain
    if support_of(distribution) is None:
        return True
    return isinstance(base_constraint(support_of(distribution)), type(constraints.real))


def states_support(distribution: Any) -> bool:
    """Whether a transformed distribution's class states its support itself, as `LogNormal` does."""
    return type(distribution).support is not dist.TransformedDistribution.support


@singledispatch
def inside(distribution: Any, value: Any) -> Any:
    """Whether each event of `value` lies in the support; shape of the batch, broadcast with `value`'s."""
    return member(support_of(distribution), value, distribution.event_dim)


def member(support: Any, value: Any, event_dim: int) -> Any:
    """Whether `value` satisfies a constraint, each event as a whole."""
    innermost = base_constraint(support)
    if isinstance(innermost, type(constraints.simplex)):
        held = _on_simplex(value)
    elif isinstance(innermost, constraints.multinomial):
        held = innermost(value) & jnp.all(jnp.mod(value, 1) == 0, axis=-1)
    else:
        held = innermost(value)
    held = jnp.asarray(held)
    extra = held.ndim - (jnp.ndim(value) - event_dim)
    return jnp.all(held, axis=tuple(range(-extra, 0))) if extra > 0 else held


def _on_simplex(value: Any) -> Any:
    """NumPyro's test with a tolerance that grows with the rounding of the sum."""
    value = jnp.asarray(value)
    rounding = 4 * value.shape[-1] * float(jnp.finfo(jnp.result_type(value, float)).eps)
    return jnp.all(value >= 0, axis=-1) & (jnp.abs(jnp.sum(value, axis=-1) - 1) < max(1e-6, rounding))


@inside.register(dist.ExpandedDistribution)
def _(distribution: Any, value: Any) -> Any:
    return inside(distribution.base_dist, value)


@inside.register(dist.Independent)
def _(distribution: Any, value: Any) -> Any:
    entries = jnp.asarray(inside(distribution.base_dist, value))
    return jnp.all(entries, axis=tuple(range(-distribution.reinterpreted_batch_ndims, 0)))


@inside.register(dist.TransformedDistribution)
def _(distribution: Any, value: Any) -> Any:
    held = member(support_of(distribution), value, distribution.event_dim)
    base = distribution.base_dist
    if states_support(distribution) or is_whole_space(base):
        return held
    # The last transform's codomain may be wider than the range: an affine map of a half line.
    safe = value
    if not isinstance(base_constraint(support_of(distribution)), type(constraints.real)):
        feasible = jnp.broadcast_to(support_of(distribution).feasible_like(value), jnp.shape(value))
        safe = jnp.where(_over_event(held, distribution.event_dim), value, feasible)
    for transform in reversed(distribution.transforms):
        safe = transform.inv(safe)
    within = inside(base, safe)
    extra = within.ndim - held.ndim
    return held & (jnp.all(within, axis=tuple(range(-extra, 0))) if extra > 0 else within)


@inside.register(dist.FoldedDistribution)
def _(distribution: Any, value: Any) -> Any:
    return value >= 0  # not a bijection; zero has the base's density there, twice


@inside.register(discrete.ZeroInflatedProbs)
@inside.register(discrete.ZeroInflatedLogits)
@inside.register(dist.HurdleProbs)
@inside.register(dist.HurdleLogits)
def _(distribution: Any, value: Any) -> Any:
    return inside(distribution.base_dist, value) | (value == 0)


def _over_event(held: Any, event_dim: int) -> Any:
    return held.reshape(*held.shape, *(1 for _ in range(event_dim)))


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
    if is_whole_space(base):
        return ()
    moved = ("base_dist",) if moving_support(base) else ()
    fixed = (transforms.ExpTransform, transforms.SigmoidTransform, transforms.AbsTransform)
    if all(isinstance(transform, fixed) for transform in distribution.transforms):
        return moved
    return (*moved, "transforms")


@_moving.register(dist.Independent)
@_moving.register(dist.ExpandedDistribution)
@_moving.register(dist.MaskedDistribution)
def _(distribution: Any) -> tuple[str, ...]:
    return ("base_dist",) if moving_support(distribution.base_dist) else ()


class Extent(NamedTuple):
    """How far a support reaches, whatever the parameters.

    Attributes:
        size: 2 for the whole line, 1 for half of it, 0 for a bounded part.
        discrete: whether its values can be counted.
        simplex: whether its vectors sum to one.
        words: for messages.
    """

    size: int
    discrete: bool
    simplex: bool
    words: str


_WHOLE = (constraints.real,)
_HALF = (
    constraints.positive, constraints.nonnegative, constraints.nonnegative_integer,
    constraints.positive_integer, constraints.greater_than(0.0), constraints.greater_than_eq(0.0),
)  # fmt: skip
_BOUNDED = (
    constraints.unit_interval, constraints.interval(0.0, 1.0), constraints.open_interval(0.0, 1.0),
    constraints.boolean, constraints.integer_interval(0, 1), constraints.circular,
)  # fmt: skip


def extent(distribution: Any) -> Extent | None:
    """How far the support reaches, if its class alone says so.

    Example:
        >>> import numpyro.distributions as dist
        >>> extent(dist.Gamma(2.0)).words, extent(dist.Beta(2.0, 1.0)).size
        ('values without an upper end', 0)
    """
    found: list[Extent | None] = []
    # NumPyro computes the range of a transform with its parameters, of which only shapes may be known here.
    jax.eval_shape(lambda distribution: found.append(_extent(distribution)), distribution)
    return found[0]


def _is_onto(steps: Any) -> bool:
    """Whether there is one transform, which takes the whole space to all of its codomain."""
    onto = (
        transforms.ExpTransform, transforms.SigmoidTransform, transforms.SoftplusTransform,
        transforms.StickBreakingTransform,
    )  # fmt: skip
    return len(steps) == 1 and type(steps[0]) in onto


def _extent(distribution: Any) -> Extent | None:
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return _extent(distribution.base_dist)
    if isinstance(distribution, dist.MaskedDistribution | dist.Delta):
        return None
    if isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution):
        if is_whole_space(distribution):
            return Extent(2, False, False, "the whole real line")
        if not (is_whole_space(distribution.base_dist) and _is_onto(distribution.transforms)):
            return None
    innermost = base_constraint(support_of(distribution))
    kind, discrete = type(innermost), bool(innermost is not None and innermost.is_discrete)
    if isinstance(innermost, type(constraints.simplex)):
        return Extent(0, discrete, True, "vectors that sum to one")
    for size, known, words in (
        (2, _WHOLE, "the whole real line"), (1, _HALF, "values without an upper end"),
        (0, _BOUNDED, "values in a bounded interval"),
    ):  # fmt: skip
        if kind in {type(c) for c in known}:
            return Extent(size, discrete, False, words)
    return None
