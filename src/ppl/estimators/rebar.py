"""REBAR: the score function, with the rest of the program at a relaxed value as its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax

from ppl.distributions.relaxation import relaxation
from ppl.estimators.protocol import Contribution, Differentiated, Estimator
from ppl.estimators.relax import controlled, relaxed_shape
from ppl.estimators.relaxed_value import check_temperature
from ppl.estimators.traced_function import TracedFunction
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rebar(Estimator):
    """Needs a flip or category, and the rest of the program at a relaxed value; one evaluation; low variance.

    `Relax` with the control `c(z) = scale * relaxed(sigmoid(z / temperature))`, a softmax for a category. The
    library does not run a program that was written for zeros and ones on what lies between, so `relaxed` is
    for the user to say; any continuous function is right, a good one has low variance. So do `temperature`
    and `scale` change the variance, never the mean.

    Attributes:
        relaxed: from the relaxed value of one instance to a scalar. Of a coin the value is a number between
            zero and one, of a category a point of the simplex, shape `(K,)`. Its arrays are
            traced.
        temperature: a positive number or scalar array; may be traced.
        scale: a number or scalar array; may be traced.
        whole: as of `Relax`: whether `relaxed` takes the relaxed values of the whole array of choices.

    Raises:
        PPLError: `relaxed` is no function, or a closure over a traced value.
        DiscontinuousReparameterization: `relaxed` jumps, so that its derivative would be biased.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def cost(p):
        ...     rebar = ppl.estimators.Rebar(lambda b: (b - 0.45) ** 2, temperature=0.1)
        ...     return (ppl.flip(p).using(rebar) @ "b" - 0.45) ** 2
        >>> float(cost.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))
        0.1

    References:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, "REBAR: Low-variance, unbiased gradient estimates for
        discrete latent variable models", 2017.
    """

    relaxed: Callable[[Any], Any]
    temperature: Any = 0.5
    scale: Any = 1.0
    whole: bool = field(default=False, metadata={"static": True})
    usage: ClassVar[str] = "Rebar(relaxed)"

    def __post_init__(self) -> None:
        if not isinstance(self.relaxed, TracedFunction):
            object.__setattr__(self, "relaxed", TracedFunction(self.relaxed))

    @override
    def admits(self, distribution: Any) -> bool:
        """Families with a relaxation in `ppl.distributions.relaxation`."""
        return relaxation(distribution) is not None

    @override
    def differentiates(self, distribution: Any) -> tuple[Differentiated, ...]:
        return (Differentiated(self.relaxed, relaxed_shape(distribution, self.whole)),)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, its score and the control, which has expectation zero at every parameter."""
        check_temperature(self.temperature)
        rule = relaxation(distribution)
        assert rule is not None, "admits() has said that there is one"

        def control(z: Any) -> Any:
            return self.scale * self.relaxed(rule.soft(z / self.temperature))

        return controlled(control, self.whole, distribution, noise, order)
