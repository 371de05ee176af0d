"""The Gumbel-softmax, or concrete, relaxation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax

from ppl.distributions.relaxation import relaxation, relaxed_draw, value_dtype
from ppl.estimators.protocol import Contribution
from ppl.estimators.relaxed_value import RelaxedValue, check_temperature
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GumbelSoftmax(RelaxedValue):
    """BIASED, in value and derivative. Needs a smooth rest of the program; one evaluation; low variance.

    The choice is replaced by a continuous one: a coin by `sigmoid(z / temperature)` with `z` the logistic
    variable of location `log(p / (1 - p))`, a one-hot category by `softmax(z / temperature)` with Gumbel
    variables of locations `log p_k`. Value and derivatives are unbiased for *that* program, whose expected
    value differs from that of the discrete one. The difference vanishes with the temperature, while the
    variance of the derivative grows as its reciprocal.

    The rest of the program is run at values between zero and one: it must be written for floats, and a jump
    in it is refused. Densities of the choice at such a value are linear in it. `simulate`, `generate` and
    `exact` know nothing of estimators: they are of the discrete program.

    Attributes:
        temperature: a positive number or scalar array; may be traced.

    Raises:
        DiscontinuousReparameterization: the value reaches a jump.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def cost(p):
        ...     b = ppl.flip(p).using(ppl.estimators.GumbelSoftmax(0.5)) @ "b"
        ...     return (b - 0.45) ** 2
        >>> round(float(cost.grad(jax.random.key(0), 0.4, num_samples=100_000)), 2)  # unbiased: 0.1
        0.03

    References:
        Jang, Gu, Poole, "Categorical reparameterization with Gumbel-softmax", 2017.
        Maddison, Mnih, Teh, "The concrete distribution: A continuous relaxation of discrete random
        variables", 2017.
    """

    temperature: Any
    usage: ClassVar[str] = "GumbelSoftmax(temperature)"

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The relaxed value, differentiable in the parameters."""
        check_temperature(self.temperature)
        rule = relaxation(distribution)
        assert rule is not None, "admits() has said that there is one"
        value = rule.soft(relaxed_draw(distribution, noise) / self.temperature)
        return Contribution(value.astype(value_dtype(distribution)))
