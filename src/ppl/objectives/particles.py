"""What objectives over several particles, and over detached guides, share."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ppl.detached import Detached, held
from ppl.errors import UnsupportedProgram
from ppl.estimators.protocol import Estimator
from ppl.estimators.reinforce import Reinforce
from ppl.measure import Distribution, Measure


def check_attached(guide: Measure, objective: str) -> None:
    """Refuse a guide that is detached already, whose own derivative would be lost.

    Raises:
        UnsupportedProgram: it is.
    """
    if isinstance(guide, Detached):
        raise UnsupportedProgram(
            f"{objective} was given {guide!r}. Pass the guide itself: {objective} holds fixed what it has "
            "to, and needs the rest."
        )


def log_weights(target: Measure, guide: Measure, particles: int) -> jax.Array:
    """The logarithms of importance weights `p(x_i) / q(x_i)`, with `x_i` drawn from the guide."""

    def log_weight(_: jax.Array) -> jax.Array:
        trace = guide.propose()
        return target.log_density(trace.choices) - trace.log_density

    return jax.vmap(log_weight)(jnp.arange(particles))


def bounded(log_weights: jax.Array) -> jax.Array:
    """With the least finite number for minus infinity: a share of zero times it is zero, not NaN."""
    return jnp.maximum(log_weights, jnp.finfo(log_weights.dtype).min)


def frozen(measure: Measure) -> Measure:
    """The measure with its parameters held fixed; no estimator does work for draws that carry no derivative.

    Raises:
        UnsupportedProgram: the measure is of a class of its own, whose parameters are not known.
    """
    return held(measure).using(Reinforce() if isinstance(measure, Distribution) else _scored)


def _scored(address: str, family: str) -> Estimator:
    return Reinforce()
