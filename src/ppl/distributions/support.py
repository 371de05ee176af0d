"""Where a distribution has mass."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints, discrete, transforms

# What takes the real line onto a part of it whose ends are no parameters.
TO_ENDS = {
    transforms.ExpTransform, transforms.SigmoidTransform, transforms.SoftplusTransform,
    transforms.StickBreakingTransform,
}  # fmt: skip


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
    if isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution):
        return fills_codomain(distribution) and _is_real(_codomain(flat(distribution.transforms)[-1]))
    if support_of(distribution) is None:
        return True
    return _is_real(base_constraint(support_of(distribution)))


def _is_real(constraint: Any) -> bool:
    return isinstance(constraint, type(constraints.real))


def states_support(distribution: Any) -> bool:
    """Whether a transformed distribution's class states its support itself, as `LogNormal` does."""
    return type(distribution).support is not dist.TransformedDistribution.support


def fills_codomain(distribution: Any) -> bool:
    """Whether a transformed distribution has all of the last transform's codomain for its support.

    `AffineTransform` calls its codomain the real line, whatever it is applied to.
    """
    return _fill(distribution.base_dist, flat(distribution.transforms))


def _fill(base: Any, steps: list[Any]) -> bool:
    *before, last = steps
    domain = _domain(last)
    if _is_real(domain):
        return is_whole_space(base) and all(map(_keeps_whole_space, before))
    # One that says what it is applied to says rightly what it makes of it.
    ranges = {type(constraints.unit_interval), type(constraints.positive)}
    alike = bool(before) and type(_codomain(before[-1])) is type(domain)
    return alike and type(domain) in ranges and _fill(base, before)


def _keeps_whole_space(step: Any) -> bool:
    return _is_real(_domain(step)) and _is_real(_codomain(step))


def _domain(step: Any) -> Any:
    """The innermost constraint on what a transform takes."""
    inner = _one_event(step)
    return _codomain(inner._inv) if isinstance(inner, _Inverse) else base_constraint(inner.domain)


def _codomain(step: Any) -> Any:
    """The innermost constraint on what a transform makes; of a shifted range `dependent`.

    The ends of a shifted range are not asked for: its parameters may be shapes, of which NumPyro cannot
    tell the sign.
    """
    inner = _one_event(step)
    if isinstance(inner, _Inverse):
        return _domain(inner._inv)
    if isinstance(inner, transforms.AffineTransform):
        return constraints.real if _is_real(inner.domain) else constraints.dependent
    return base_constraint(inner.codomain)


def _one_event(step: Any) -> Any:
    while isinstance(step, transforms.IndependentTransform):
        step = step.base_transform
    return step


_Inverse = type(transforms.ExpTransform().inv)


def flat(steps: Any) -> list[Any]:
    """The transforms one by one, with those that are composed taken apart."""
    parts = [flat(step.parts) if isinstance(step, transforms.ComposeTransform) else [step] for step in steps]
    return [part for each in parts for part in each]


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
    support = support_of(distribution)
    held = member(support, value, distribution.event_dim)
    if states_support(distribution) or fills_codomain(distribution):
        return held
    # The last transform's codomain may be wider than the range: an affine map of a half line.
    steps, x = flat(distribution.transforms), value
    for index in reversed(range(len(steps))):
        x = steps[index].inv(_within(held, steps[index].codomain, x))
        if index > 0:
            held = held & member(steps[index - 1].codomain, x, jnp.ndim(x) - held.ndim)
    within = inside(distribution.base_dist, x)
    extra = within.ndim - held.ndim
    return held & (jnp.all(within, axis=tuple(range(-extra, 0))) if extra > 0 else within)


def _within(held: Any, constraint: Any, value: Any) -> Any:
    """The value, and another that satisfies the constraint where it does not."""
    if isinstance(base_constraint(constraint), type(constraints.real)):
        return value
    shape = jnp.broadcast_shapes(jnp.shape(value), (*held.shape, *(1,) * (jnp.ndim(value) - held.ndim)))
    feasible = jnp.broadcast_to(constraint.feasible_like(value), shape)
    return jnp.where(_over_event(held, jnp.ndim(value) - held.ndim), value, feasible)


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


def _extent(distribution: Any) -> Extent | None:
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return _extent(distribution.base_dist)
    if isinstance(distribution, dist.MaskedDistribution | dist.Delta):
        return None
    if isinstance(distribution, dist.TransformedDistribution) and not states_support(distribution):
        if is_whole_space(distribution):
            return Extent(2, False, False, "the whole real line")
        if not (fills_codomain(distribution) and type(flat(distribution.transforms)[-1]) in TO_ENDS):
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
