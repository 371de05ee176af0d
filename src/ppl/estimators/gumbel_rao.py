"""The Gumbel-Rao estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax

from ppl.errors import ParameterError
from ppl.estimators.protocol import Contribution
from ppl.estimators.relaxed_value import RelaxedValue
from ppl.estimators.straight_through import through_relaxed
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GumbelRao(RelaxedValue):
    """BIASED in derivative, not in value. Needs a smooth rest of the program; one evaluation; lower variance.

    `StraightThrough(temperature)` with the derivative of the relaxed value averaged over the relaxed
    variables that round to the draw (Rao and Blackwell): `samples` of them are drawn given `b`. The bias is
    that of `StraightThrough(temperature)`, whatever `samples` is; the variance is never greater, and falls
    with `samples`. The program itself is run once, at `b`.

    Attributes:
        temperature: a positive number or scalar array; may be traced.
        samples: how many relaxed variables are averaged over; a Python integer, 1 or more.

    Raises:
        DiscontinuousReparameterization: the value reaches a jump, where its derivative would be zero.

    Example:
        >>> import ppl, jax
        >>> import jax.numpy as jnp
        >>> @ppl.expectation
        ... def cost(logits):
        ...     b = ppl.families.one_hot_categorical(logits=logits).using(
        ...         ppl.estimators.GumbelRao(0.5, samples=20)) @ "b"
        ...     return b @ jnp.array([1.0, 2.0, 4.0])
        >>> grads = cost.grad(jax.random.key(0), jnp.array([2.0, 0.0, 0.0]), num_samples=100_000)
        >>> [round(float(x), 2) for x in grads]  # unbiased: -0.33, 0.07, 0.28
        [-0.4, 0.1, 0.3]

    References:
        Paulus, Maddison, Krause, "Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator",
        2021.
    """

    temperature: Any
    samples: int = field(default=10, metadata={"static": True})
    usage: ClassVar[str] = "GumbelRao(temperature)"

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, with the derivative of a mean of relaxed values."""
        if self.samples < 1:
            raise ParameterError(f"GumbelRao averages over 1 sample or more, got {self.samples}")
        return through_relaxed(distribution, noise, self.temperature, self.samples)
