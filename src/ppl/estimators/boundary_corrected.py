"""Reparameterization with the boundary term of declared discontinuities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.distribution_function import distribution_function, has_distribution_function
from ppl.distributions.sampling import draw, is_reparameterized
from ppl.distributions.support import inside
from ppl.errors import ParameterError, UnsupportedProgram
from ppl.estimators.protocol import Contribution, Estimator, moved
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BoundaryCorrected(Estimator):
    """Needs the constants that the value is compared with; two more evaluations for each; low variance.

    A pathwise derivative misses what jumps where the value x crosses a constant c. The program is run just
    above and just below each declared c, and with F the distribution function of x

        d/dtheta E[f(x)] = E[f'(x) dx/dtheta] + sum_c (f(c+) - f(c-)) (-dF(c; theta)/dtheta).

    The static check knows that comparisons of the value itself with a declared constant are accounted for.
    Anything else that jumps stays refused: a comparison with another number, or of a function of the value.
    Entries of an array, lanes and steps are replaced one at a time, everything after them drawn again from
    the same noise.

    Attributes:
        at: the constants, Python numbers.

    Raises:
        ParameterError: `at` is not a tuple of finite numbers.
        UnsupportedProgram: a second derivative is asked for.

    Example:
        >>> import ppl
        >>> @ppl.expectation
        ... def payoff(mean):
        ...     x = ppl.normal(mean, 1.0).using(ppl.estimators.BoundaryCorrected(at=(0.0,))) @ "x"
        ...     return jnp.where(x > 0.0, 1.0, 0.0)
        >>> round(float(payoff.grad(jax.random.key(0), 0.0)), 3)  # the density at zero; from one draw
        0.399

    References:
        Lee, Yu, Yang, "Reparameterization gradient for non-differentiable models", 2018, theorem 1.
    """

    at: tuple[float, ...] = field(metadata={"static": True})
    pathwise: ClassVar[bool] = True
    usage: ClassVar[str] = "BoundaryCorrected(at=(c,))"

    def __post_init__(self) -> None:
        numbers = isinstance(self.at, tuple) and all(isinstance(c, int | float) for c in self.at)
        if not numbers or not self.at or not all(map(math.isfinite, self.at)):
            raise ParameterError(
                "BoundaryCorrected: at must be a tuple of finite Python numbers, those that the value is "
                f"compared with, such as at=(0.0,), got {self.at!r}."
            )

    @property
    def corrects(self) -> tuple[float, ...]:
        """The declared constants."""
        return self.at

    @override
    def admits(self, distribution: Any) -> bool:
        """Univariate families with a differentiable draw and a differentiable distribution function."""
        return is_reparameterized(distribution) and has_distribution_function(distribution)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, which moves, and its neighbors of each constant; outside the support there are none."""
        if order > 1:
            raise UnsupportedProgram(
                f"BoundaryCorrected, chosen for {type(distribution).__name__}, is right for a first "
                "derivative only. Take it by `grad`, `value_and_grad` or `jvp`; for `surrogate` and higher "
                "derivatives use ppl.estimators.Reinforce(), which is right to every order."
            )
        value = draw(distribution, noise)
        drawn = jax.lax.stop_gradient(value)
        fixed = jax.tree.map(jax.lax.stop_gradient, distribution)
        phantoms, weights = [], []
        for constant in sorted(set(self.at)):
            c = jnp.full_like(drawn, constant)
            above, below = _neighbor(c, jnp.inf), _neighbor(c, -jnp.inf)
            reached = inside(fixed, above) & inside(fixed, below)
            phantoms += [jnp.where(reached, side, drawn) for side in (above, below)]
            shift = moved(distribution_function(distribution, jnp.where(reached, c, drawn)))
            weights += [jnp.where(reached, -shift, 0), jnp.where(reached, shift, 0)]
        return Contribution(value, phantoms=jnp.stack(phantoms), weights=jnp.stack(weights))


def _neighbor(c: Any, towards: float) -> Any:
    """The next float, and about zero the next normal one: compiled code takes a subnormal number for zero."""
    tiny = jnp.finfo(c.dtype).tiny
    return jnp.where(jnp.abs(c) <= tiny, c + jnp.sign(towards) * 2 * tiny, jnp.nextafter(c, towards))
