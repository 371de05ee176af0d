"""The score function with several draws of one choice, each the baseline of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, Estimator, magic_box
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeaveOneOut(Estimator):
    """Needs only a density; `samples - 1` more evaluations for each instance; medium variance.

    With `k = samples` independent draws `x_0, ..., x_{k-1}` of the choice, the first of them its value, and
    the rest of the program run for each with the same other noise,

        d/dtheta E[f(x)] = E[ 1/k sum_j d log p(x_j; theta) (f(x_j) - mean of the others' f) ].

    The baseline is free: no function to fit, no constant to choose. Since all other randomness is the same
    in the `k` runs, what does not depend on the choice cancels. Right for any rest of the program,
    discontinuous too, and to every order. An array of choices and each step of a loop are replaced one
    instance at a time.

    As with `Reinforce`, values of probability zero are never drawn: where a probability that is a parameter
    itself is exactly 0 or 1, use `MeasureValued` or `Enumerate`.

    Attributes:
        samples: how many draws of the choice, 2 or more.

    Raises:
        ValueError: `samples` is less than 2.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def tail(mean):
        ...     x = ppl.normal(mean, 1.0).using(ppl.estimators.LeaveOneOut(samples=4)) @ "x"
        ...     return jax.numpy.where(x > 0.0, 1.0, 0.0)
        >>> float(tail.grad(jax.random.key(0), 0.0, num_samples=100_000).round(1))
        0.4

    References:
        Salimans, Knowles, "On using control variates with stochastic approximation for variational Bayes
        and its connection to stochastic linear regression", 2014.
        Kool, van Hoof, Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019.
    """

    samples: int = field(metadata={"static": True})
    usage: ClassVar[str] = "LeaveOneOut(samples)"

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(
                f"LeaveOneOut compares two draws or more, got samples={self.samples}. For one draw use "
                "ppl.estimators.Reinforce()."
            )

    @override
    def admits(self, distribution: Any) -> bool:
        """Every family."""
        return True

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and the further draws as phantoms.

        With `a_j = m_j - 1` and the magic box `m_j` of `log p(x_j)`, the coefficient of `f(x_j)` above is
        `(a_j - mean(a)) / (k - 1)`. The `k` coefficients sum to zero, so that each phantom weighs
        `f(x_j) - f(x_0)`. Since `E[a_j g(x_j)] = sum (p - q) g` as a function of the parameters, the weights
        are right to every order.
        """
        fixed = jax.tree.map(jax.lax.stop_gradient, distribution)
        value = jax.lax.stop_gradient(draw(fixed, noise))
        phantoms = jax.lax.stop_gradient(draw(fixed, noise, (self.samples - 1,)))
        draws = jnp.concatenate([value[None], phantoms])
        excess = magic_box(jax.vmap(lambda x: log_density(distribution, x))(draws)) - 1
        weights = (excess - jnp.mean(excess, axis=0)) / (self.samples - 1)
        return Contribution(value, phantoms=phantoms, weights=weights[1:])
