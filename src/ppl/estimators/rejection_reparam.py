"""Reparameterization through an acceptance-rejection sampler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax

from ppl.distributions.gamma_path import by_rejection
from ppl.distributions.implicit import is_made_of_gammas
from ppl.distributions.scored_gammas import draw_with_score
from ppl.errors import ParameterError
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RejectionReparam(Estimator):
    """Needs gamma draws and a continuous rest of the program; one evaluation; low variance with `boost`.

    As `GeneralizedReparam`, with the proposal of Marsaglia and Tsang's sampler as noise: a gamma draw of
    concentration a >= 1 is

        h(eps; a) = (a - 1/3) (1 + eps / sqrt(9 a - 3))^3

    of an accepted eps, which is nearly standard normal, and the more so the greater a. A draw of
    concentration a is made of one of concentration a + B by B uniform numbers, z u_1^(1/a) ... u_B^(1/(a + B
    - 1)), so that `boost` B leaves ever less to the score. What is computed for each of the B grows with it,
    the evaluations of the program do not.

    The noise ends at -sqrt(9 a - 3), where its density vanishes: a derivative of order n is unbiased where
    a + boost > n / 3 and of finite variance where a + boost > 2 n / 3. With the default that is 12 and 6.

    Attributes:
        boost: by how much concentrations are raised, at least 1.

    Raises:
        ParameterError: `boost` is not a positive Python integer.

    Example:
        >>> import ppl
        >>> @ppl.expectation
        ... def mean(a):
        ...     return ppl.beta(a, 1.0).using(ppl.estimators.RejectionReparam(boost=3)) @ "x"
        >>> slope = mean.grad(jax.random.key(0), 2.0, num_samples=100_000)
        >>> round(float(slope), 2)  # of a / (a + 1)
        0.11

    References:
        Naesseth, Ruiz, Linderman, Blei, "Reparameterization gradients through acceptance-rejection sampling
        algorithms", 2017.
    """

    boost: int = field(default=4, metadata={"static": True})
    pathwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.boost, int) or self.boost < 1:
            raise ParameterError(
                f"RejectionReparam: boost must be a Python integer, 1 or more, got {self.boost!r}. It raises "
                "the concentration of each gamma draw above 1, where the sampler's transformation is valid."
            )

    @override
    def admits(self, distribution: Any) -> bool:
        """Families made of gamma draws: gamma, beta, Dirichlet, Student's t, inverse gamma, Wishart, LKJ."""
        return is_made_of_gammas(distribution)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, which moves, and the score of its noise."""
        value, score = draw_with_score(distribution, noise, by_rejection, self.boost)
        return Contribution(value, score)
