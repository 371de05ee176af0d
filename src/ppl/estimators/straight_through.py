"""Straight-through estimators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.relaxation import relaxation, relaxed_given, value_dtype
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, moved
from ppl.estimators.relaxed_value import RelaxedValue, check_temperature
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StraightThrough(RelaxedValue):
    """BIASED in derivative, not in value. Needs a smooth rest of the program; one evaluation; low variance.

    The value is the discrete draw `b`. Its derivative is made up: without a temperature that of its mean, so
    that the estimate is `f'(b) dp/dtheta`; with one, that of the relaxed value `softmax(z / temperature)` (a
    sigmoid for a coin), where `b` is the rounding of `z`.

    Without a temperature the derivative is unbiased for a rest of the program that is linear in the value,
    and no other: of a quadratic one it misses the term of second order.

    Attributes:
        temperature: a positive number or scalar array, which may be traced; `None` for the derivative of the
            mean.

    Raises:
        DiscontinuousReparameterization: the value reaches a jump, where its derivative would be zero.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def cost(p):
        ...     b = ppl.flip(p).using(ppl.estimators.StraightThrough()) @ "b"
        ...     return (b - 0.45) ** 2
        >>> float(cost.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))  # unbiased: 0.1
        -0.1

    References:
        Bengio, Léonard, Courville, "Estimating or propagating gradients through stochastic neurons for
        conditional computation", 2013.
        Jang, Gu, Poole, "Categorical reparameterization with Gumbel-softmax", 2017 (section 2.2).
    """

    temperature: Any = None
    usage: ClassVar[str] = "StraightThrough()"

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, with the derivative of its mean or of a relaxed value."""
        if self.temperature is None:
            fixed = jax.tree.map(jax.lax.stop_gradient, distribution)
            value = draw(fixed, noise).astype(value_dtype(distribution))
            return Contribution(jax.lax.stop_gradient(value) + moved(distribution.probs).astype(value.dtype))
        return through_relaxed(distribution, noise, self.temperature, 1)


def through_relaxed(distribution: Any, noise: Noise, temperature: Any, count: int) -> Contribution:
    """The draw, with the mean derivative of `count` relaxed values that round to it."""
    check_temperature(temperature)
    rule = relaxation(distribution)
    assert rule is not None, "admits() has said that there is one"
    value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
    soft = rule.soft(relaxed_given(distribution, value, noise, count) / temperature)
    dtype = value_dtype(distribution)
    return Contribution(value.astype(dtype) + moved(jax.numpy.mean(soft, axis=0)).astype(dtype))
