"""A draw whose score is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Unscored(Estimator):
    """BIASED in derivative, not in value. Needs nothing; one evaluation; adds no variance of its own.

        d/dtheta E[f(x; theta)] is taken to be E[f'(x; theta)]

    as if the law of `x` did not depend on the parameters. What is left out, `E[f(x) d/dtheta log p(x)]`, may
    be small beside its own noise. Filtering bounds are mostly trained so: the score of the ancestors is
    dropped, `ppl.infer.Multinomial(Unscored())`.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def cost(p):
        ...     b = ppl.flip(p).using(ppl.estimators.Unscored()) @ "b"
        ...     return p * b
        >>> float(cost.grad(jax.random.key(0), 0.4, num_samples=100_000).round(1))  # unbiased: 0.8
        0.4

    References:
        Maddison, Lawson, Tucker, Heess, Norouzi, Mnih, Doucet, Teh, "Filtering variational objectives", 2017;
        Naesseth, Linderman, Ranganath, Blei, "Variational sequential Monte Carlo", 2018;
        Le, Igl, Rainforth, Jin, Wood, "Auto-encoding sequential Monte Carlo", 2018.
    """

    biased: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Every family."""
        return True

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw alone."""
        return Contribution(
            jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        )
