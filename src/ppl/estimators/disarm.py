"""The antithetic pair, with its uniform number integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.antithetic import partner, potential
from ppl.distributions.density import log_density
from ppl.distributions.masses import at, pick, value_at
from ppl.estimators.finite import FiniteEstimator
from ppl.estimators.protocol import Contribution, moved
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DisARM(FiniteEstimator):
    """Needs a finite support; one more evaluation, for a whole array too; low variance.

    A second value `y` is drawn that has the law of the draw `x` and differs from it as often as two such
    values can. For a coin of probability `p` both come from one uniform number,

        x = 1[u < p],  y = 1[u > 1 - p],  d/dtheta E[f(x)] = E[w (f(y) - f(x))],
        w = (y - x) dp / (2 min(p, 1 - p)),

    which for a logit `a` is `(y - x) sigmoid(|a|) da / 2`: `ARM` given the two values. All entries of an
    array share the second evaluation, each with a weight of its own.

    For more than two values the pair is Brewer's (`ppl.distributions.antithetic`): never equal, if no value
    has more than half of the probability. Its weights are those of least variance for the pair if nothing
    is known of `f`. The more values there are, the less there is to gain over two independent draws.

    The weights are right once; from the second derivative on the score function takes over. As with
    `Reinforce`, values of probability zero are never drawn: where a probability that is a parameter
    itself is exactly 0 or 1, use `MeasureValued` or `Enumerate`.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def bet(p):
        ...     win = ppl.flip(p).using(ppl.estimators.DisARM()) @ "win"
        ...     return jax.numpy.where(win, 0.0, -p / 2)
        >>> float(bet.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))
        -0.1

    References:
        Dong, Mnih, Tucker, "DisARM: An antithetic gradient estimator for binary latent variables", 2020.
        Yin, Ho, Yan, Qian, Zhou, "Probabilistic best subset selection via gradient-based optimization",
        2020 (the same estimator as U2G).
        Dong, Mnih, Tucker, "Coupled gradient estimators for discrete latent variables", 2021.
    """

    together: ClassVar[bool] = True
    score_beyond_first: ClassVar[bool] = True

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and its antithetic partner as the one phantom."""
        drawn = self._draw(distribution, noise)
        if order > 1:
            return Contribution(drawn.value, score=log_density(distribution, drawn.value))
        probabilities = jax.lax.stop_gradient(drawn.masses)
        other = pick(partner(probabilities, drawn.place), noise)
        heights = potential(probabilities, moved(drawn.masses))
        weight = at(other, heights) - at(drawn.place, heights)
        phantom = value_at(other, drawn.support)
        return Contribution(drawn.value, phantoms=phantom[None], weights=weight[None])
