"""Mixtures: how they are drawn, and which of them have a differentiable draw."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.lax import stop_gradient
from numpyro.distributions import constraints

from ppl.distributions.distribution_function import has_distribution_function
from ppl.distributions.ends import moving_support
from ppl.distributions.mixture_path import attach, components, entries, is_normal
from ppl.distributions.registry import Shape, draw, draws
from ppl.distributions.support import (
    base_constraint,
    fills_codomain,
    states_support,
    support_of,
)
from ppl.noise import Noise


def _has_path(mixture: Any) -> bool:
    """Whether the distributional transform of the mixture is differentiable in every float parameter.

    The components are normal vectors, or each entry of an event is independent within its component and has a
    known distribution function. And they share one support, without parameters: where there is a gap between
    supports, probability jumps across it, which no motion of draws can follow.
    """
    parts = components(mixture)
    supports = {type(base_constraint(support_of(part))) for part in parts}
    if len(supports) != 1 or not issubclass(supports.pop(), constraints.ParameterFreeConstraint):
        return False
    if all(map(is_normal, parts)):
        return True
    return all(has_distribution_function(entries(part)) and _fills_support(part) for part in parts)


def _fills_support(part: Any) -> bool:
    inner = entries(part)
    if isinstance(inner, dist.TransformedDistribution) and not states_support(inner):
        return fills_codomain(inner)
    return not moving_support(inner)


def _draw_components(mixture: Any, noise: Noise, batch: Shape) -> jax.Array:
    """A draw of every component, along an axis before the event's."""
    if isinstance(mixture, dist.MixtureSameFamily):
        return draw(mixture.component_distribution.expand((*batch, mixture.mixture_size)), noise)
    values = [draw(part.expand(batch), noise) for part in mixture.component_distributions]
    return jnp.stack(values, axis=len(batch))


@draws(dist.MixtureSameFamily, dist.MixtureGeneral, reparameterized=_has_path)
def mixture(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """A component by its weight, then that component's draw; it moves as `mixture_path` says."""
    batch = (*sample_shape, *distribution.batch_shape)
    fixed = jax.tree.map(stop_gradient, distribution)
    values = _draw_components(fixed, noise, batch)
    which = draw(fixed.mixing_distribution.expand(batch), noise)
    axis = len(batch)
    which = which.reshape(*batch, 1, *(1 for _ in distribution.event_shape))
    value = jnp.squeeze(jnp.take_along_axis(values, which, axis=axis), axis)
    return attach(value, distribution) if _has_path(distribution) else value
