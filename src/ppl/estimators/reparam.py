"""The reparameterised, or pathwise, estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.sampling import draw, is_reparameterized
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reparam(Estimator):
    """Needs a continuous rest of the program; one evaluation; low variance.

    The draw is a differentiable function `x = g(noise; theta)` of the parameters, explicitly or by
    implicit differentiation of the distribution function, so that

        d/dtheta E[f(x)] = E[f'(x) dg/dtheta].

    A value drawn this way that reaches a discontinuity is refused when the program is staged, because
    the identity does not hold there.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def second_moment(mean):
        ...     x = ppl.normal(mean, 1.0).using(ppl.estimators.Reparam()) @ "x"
        ...     return x**2
        >>> float(second_moment.grad(jax.random.key(0), 0.5, num_samples=10_000).round(1))
        1.0

    References:
        Kingma, Welling, "Auto-encoding variational Bayes", 2014.
        Figurnov, Mohamed, Mnih, "Implicit reparameterization gradients", 2018.
    """

    pathwise: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Families with a differentiable draw."""
        return is_reparameterized(distribution)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, differentiable in the parameters."""
        return Contribution(draw(distribution, noise))
