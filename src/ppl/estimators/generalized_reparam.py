"""The generalized reparameterization estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.gamma_path import by_moments
from ppl.distributions.implicit import is_made_of_gammas
from ppl.distributions.scored_gammas import draw_with_score
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GeneralizedReparam(Estimator):
    """Needs gamma draws and a continuous rest of the program; one evaluation; low variance, to every order.

    The draw is a function `z = h(eps; theta)` of noise whose law still depends on the parameters a little:
    for a gamma draw of concentration a, the standardized logarithm

        eps = (log z - psi(a)) / sqrt(psi'(a)),

    of mean 0 and variance 1 at every a. The derivative goes through h, and a score makes up for the rest:

        d/dtheta E[f(z)] = E[f'(z) dh/dtheta + f(z) d/dtheta log p(eps; theta)].

    Implicit derivatives (`Reparam`) have less variance, but no second derivative: this is right to every
    order.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def second_moment(a):  # a (a + 1)
        ...     return (ppl.gamma(a, 1.0).using(ppl.estimators.GeneralizedReparam()) @ "x") ** 2
        >>> surrogate = lambda a: second_moment.surrogate(jax.random.key(0), a, num_samples=100_000)
        >>> bend = jax.grad(jax.grad(surrogate))(3.0)
        >>> abs(float(bend) - 2.0) < 0.3
        True

    References:
        Ruiz, Titsias, Blei, "The generalized reparameterization gradient", 2016.
    """

    pathwise: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Families made of gamma draws: gamma, beta, Dirichlet, Student's t, inverse gamma, Wishart, LKJ."""
        return is_made_of_gammas(distribution)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, which moves, and the score of its noise."""
        value, score = draw_with_score(distribution, noise, by_moments)
        return Contribution(value, score)
