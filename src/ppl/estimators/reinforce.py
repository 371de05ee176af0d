"""The score-function estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, override

import jax

from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, Estimator, magic_box
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reinforce(Estimator):
    """Needs only a density; one evaluation; high variance, less with a good baseline.

        d/dtheta E[f(x)] = E[f'(x) + (f(x) - baseline) d/dtheta log p(x; theta)]

    Unbiased for any rest of the program, discontinuous too, and to every order: the surrogate is
    `f(x) m + baseline (1 - m)` with the magic box `m` of `log p(x; theta)`.

    The score weighs the values that are drawn. A value of probability zero never is: where a parameter
    lies at the very end of its range, such as a coin's probability 0 or 1, the derivative lacks that value's
    share. Keep parameters inside, or use `Enumerate` or `MeasureValued`, which are right there too.

    Attributes:
        baseline: subtracted from the result where it multiplies the score. A number or a scalar array;
            it may depend on anything but the choice itself. It carries no derivative.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def tail(mean):
        ...     x = ppl.normal(mean, 1.0).using(ppl.estimators.Reinforce(baseline=0.5)) @ "x"
        ...     return jax.numpy.where(x > 0.0, 1.0, 0.0)
        >>> float(tail.grad(jax.random.key(0), 0.0, num_samples=100_000).round(1))
        0.4

    References:
        Glynn, "Likelihood ratio gradient estimation for stochastic systems", 1990.
        Williams, "Simple statistical gradient-following algorithms", 1992.
        Foerster et al., "DiCE: The infinitely differentiable Monte Carlo estimator", 2018.
    """

    baseline: Any = None

    @override
    def admits(self, distribution: Any) -> bool:
        """Every family."""
        return True

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw and its score; the control `b (1 - m)` has expectation zero at every parameter."""
        value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        score = log_density(distribution, value)
        if self.baseline is None:
            return Contribution(value, score)
        baseline = jax.lax.stop_gradient(jax.numpy.asarray(self.baseline, score.dtype))
        return Contribution(value, score, control=baseline * (1 - magic_box(score)))
