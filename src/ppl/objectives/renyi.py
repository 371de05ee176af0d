"""The variational Rényi bound."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppl.measure import Measure
from ppl.objectives.particles import log_weights
from ppl.objectives.supports import check_supports
from ppl.weights import at_least, finite_number, log_mean_exp


def renyi(alpha: float, particles: int) -> Callable[[Measure, Measure], jax.Array]:
    """The variational Rényi (VR) bound, by importance weights `w_i = p(x_i) / q(x_i)` with `x_i ~ q`.

        1 / (1 - alpha) log (1/n) sum_i w_i^(1 - alpha),

    the logarithm of a power mean of weights. At `alpha = 0` it is `ppl.iwelbo(n)`; at `alpha = 1` the limit,
    the mean of the log weights, which is `n` draws of `ppl.elbo` averaged. To be maximized for `alpha >= 0`.

    What it bounds: for every `alpha >= 0` and every `n` the expected value is at most `log Z`, because a
    power mean does not grow with `alpha`: draw by draw it lies below that of `iwelbo(n)`. For `alpha < 0` the
    limit for many particles is above `log Z`, but the expected value for `n` of them is below that limit
    (for one particle it is the ELBO), so it bounds nothing: see `ppl.objectives.chi_moment`.

    Its bias: as an estimate of the VR bound itself, `1 / (1 - alpha) log E_q[w^(1 - alpha)]`, it is biased,
    downwards for `alpha < 1` and upwards for `alpha > 1`, by `O(1/n)`. Its derivative is unbiased for the
    objective as written, with `n` particles; not for that limit.

    Args:
        alpha: a Python number, since one is a case of its own. Rounding is amplified by
            `1 / |1 - alpha|`: closer to one than `1e-3`, give one itself.
        particles: `n`.

    Returns:
        `objective(target, guide)`, one draw, a scalar.

    Raises:
        TypeError: `alpha` is no Python number.
        ValueError: fewer than one particle, or an `alpha` that is not finite.
        SupportMismatch: `alpha >= 1`, and the guide has values that the target never has.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> target = model().condition({"y": 1.0})
        >>> guide = ppl.gen(lambda sd: ppl.normal(0.5, sd) @ "x")
        >>> bound = ppl.expectation(lambda sd: ppl.objectives.renyi(0.5, 8)(target, guide(sd)))
        >>> float(bound.estimate(jax.random.key(0), 0.5**0.5).round(4))  # log N(1; 0, sqrt(2)): q is exact
        -1.5155

    Reference: Li, Turner, "Rényi divergence variational inference", 2016, theorems 1 and 2.
    """
    at_least(1, particles, "renyi")
    order = 1 - finite_number(alpha, "the order alpha of renyi")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        weights = log_weights(target, guide, particles)
        check_supports(target, guide, "renyi", zero_weights=order > 0)
        return log_mean_exp(order * weights) / order if order else jnp.mean(weights)

    return objective
