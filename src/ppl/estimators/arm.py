"""Augment, REINFORCE, merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.antithetic import partner
from ppl.distributions.density import log_density, support_values
from ppl.distributions.masses import pick, value_at
from ppl.estimators.finite import FiniteEstimator
from ppl.estimators.protocol import Contribution, moved
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ARM(FiniteEstimator):
    """Needs a support of two values; one more evaluation, for a whole array too; `DisARM` has less variance.

    With `p` the probability of the second value, `a` its logit and `u` uniform,

        x = 1[u < p],  y = 1[u > 1 - p],  d/dtheta E[f(x)] = E[(u - 1/2) da (f(y) - f(x))].

    `DisARM` is the mean of this given `x` and `y`, and costs the same; `ARM` is here to compare with.

    The weights are right once; from the second derivative on the score function takes over. As with
    `Reinforce`, values of probability zero are never drawn.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def bet(p):
        ...     win = ppl.flip(p).using(ppl.estimators.ARM()) @ "win"
        ...     return jax.numpy.where(win, 0.0, -p / 2)
        >>> float(bet.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))
        -0.1

    References:
        Yin, Zhou, "ARM: Augment-REINFORCE-merge gradient for stochastic binary networks", 2019, theorem 1.
    """

    together: ClassVar[bool] = True
    score_beyond_first: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Families of two values."""
        support = support_values(distribution) if self.support is None else self.support
        return super().admits(distribution) and support is not None and len(support) == 2

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and its antithetic partner as the one phantom.

        The pair is drawn first, and the uniform number given the pair: the draw is then that of the family.
        """
        drawn = self._draw(distribution, noise)
        if order > 1:
            return Contribution(drawn.value, score=log_density(distribution, drawn.value))
        probabilities = jax.lax.stop_gradient(drawn.masses)
        other = pick(partner(probabilities, drawn.place), noise)
        least = jnp.min(probabilities, axis=0)
        v = noise.uniform(least.shape, least.dtype)
        ends = jnp.where(drawn.place[1], least * v, 1 - least * v)
        u = jnp.where(drawn.place[1] == other[1], least + (1 - 2 * least) * v, ends)
        low, high = moved(drawn.masses) / jnp.where(probabilities > 0, probabilities, 1)
        weight = (u - 0.5) * jnp.where(least > 0, high - low, 0)
        phantom = value_at(other, drawn.support)
        return Contribution(drawn.value, phantoms=phantom[None], weights=weight[None])
