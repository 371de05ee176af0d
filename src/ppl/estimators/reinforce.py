"""The score-function estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw
from ppl.estimators.baselines import Baseline, Learned, as_baseline
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reinforce(Estimator):
    """Needs only a density; one evaluation; high variance, less with a good baseline.

        d/dtheta E[f(x)] = E[f'(x) + (R - baseline) d/dtheta log p(x; theta)]

    where R, the return, is the part of the result that depends on the choice: of independent lanes each is
    weighed by its own, of a chain each step by what comes after it. Unbiased for any rest of the program,
    discontinuous too, and to every order: each term of the result is multiplied by the magic boxes of the
    choices that it depends on.

    The score weighs the values that are drawn. A value of probability zero never is: where a parameter
    lies at the very end of its range, such as a coin's probability 0 or 1, the derivative lacks that value's
    share. Keep parameters inside, or use `Enumerate` or `MeasureValued`, which are right there too.

    Attributes:
        baseline: subtracted from the return where it multiplies the score: a number or an array, which may
            depend on anything but the choice itself and carries no derivative; `"loo"`, `"average"`, or one
            of `ppl.estimators.baselines`.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "baseline", as_baseline(self.baseline))

    @override
    def admits(self, distribution: Any) -> bool:
        """Every family."""
        return True

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, its score, and its baseline as far as that is known here."""
        value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        score = log_density(distribution, value)
        baseline = self.baseline.prediction if isinstance(self.baseline, Learned) else self.baseline
        if baseline is None or isinstance(baseline, Baseline):
            return Contribution(value, score)
        shape = jnp.shape(score)
        return Contribution(value, score, jnp.broadcast_to(jnp.asarray(baseline, score.dtype), shape))
