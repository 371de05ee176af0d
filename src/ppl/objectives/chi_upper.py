"""The chi upper bound: its logarithm by several particles, and its moment, which is unbiased."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppl.measure import Measure
from ppl.objectives.particles import log_weights
from ppl.objectives.supports import check_supports
from ppl.weights import at_least, finite_number, log_mean_exp


def chi_upper(particles: int, order: float = 2.0) -> Callable[[Measure, Measure], jax.Array]:
    """The chi upper bound (CUBO), estimated by importance weights `w_i = p(x_i) / q(x_i)`, with `x_i ~ q`.

        1 / k log (1/n) sum_i w_i^k,    an estimate of    CUBO_k = 1 / k log E_q[w^k] >= log Z.

    To be minimized. The bound is equal to `log Z` where `q = p / Z`, and grows with the order `k`.

    For finite `n` the estimate bounds nothing: its expected value is below `CUBO_k`, by Jensen's inequality,
    by `O(1/n)`; for one particle it would be the ELBO, a lower bound, which must not be minimized. Its
    derivative is unbiased for the objective as written. `chi_moment` has no such bias. It is
    `renyi(1 - order, particles)`.

    The guide must have mass wherever the target has: what it never draws is not seen, and the bound fails.

    Args:
        particles: `n`, at least two.
        order: `k`, a Python number above one.

    Returns:
        `objective(target, guide)`, one draw, a scalar.

    Raises:
        ValueError: fewer than two particles; an order that is not above one.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(sd):
        ...     ppl.normal(0.5, sd) @ "x"
        >>> target = model().condition({"y": 1.0})
        >>> bound = ppl.expectation(lambda sd: ppl.objectives.chi_upper(1000)(target, guide(sd)))
        >>> float(bound.estimate(jax.random.key(0), 1.0, num_samples=20).round(1))  # log Z is -1.52
        -1.4

    Reference: Dieng, Tran, Ranganath, Paisley, Blei, "Variational inference via chi upper bound
    minimization", 2017, section 2.
    """
    at_least(2, particles, "chi_upper")
    k = _above_one(order, "chi_upper")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        weights = log_weights(target, guide, particles)
        check_supports(target, guide, "chi_upper", zero_weights=True)
        return log_mean_exp(k * weights) / k

    return objective


def chi_moment(order: float = 2.0, log_scale: Any = 0.0) -> Callable[[Measure, Measure], jax.Array]:
    """The exponentiated chi upper bound: one draw of `(w / c)^k`, with `w = p(x) / q(x)` and `x ~ q`.

        E_q[(w / c)^k] = exp(k (CUBO_k - log c)) >= (Z / c)^k,

    without bias, and an upper bound in expectation. To be minimized; the guide that does minimizes `CUBO_k`.
    Its variance is large where the guide is far from the target: average draws by `num_samples`.

    Args:
        order: `k`, a Python number above one.
        log_scale: `log c`, a number near `log Z`, so that the result is near one. It may be traced, must not
            depend on the choices, and carries no derivative.

    Returns:
        `objective(target, guide)`, one draw, a scalar.

    Raises:
        ValueError: an order that is not above one.

    Example:
        >>> import jax, ppl
        >>> target, guide = ppl.normal(0.0, 1.0), lambda sd: ppl.normal(0.0, sd)  # Z is one
        >>> moment = ppl.expectation(lambda sd: ppl.objectives.chi_moment()(target, guide(sd)))
        >>> value = moment.estimate(jax.random.key(0), 1.2, num_samples=10_000)
        >>> f"{value:.2f}"  # 1.44 / sqrt(1.88)
        '1.05'

    Reference: Dieng, Tran, Ranganath, Paisley, Blei, "Variational inference via chi upper bound
    minimization", 2017, section 2.
    """
    k = _above_one(order, "chi_moment")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        trace = guide.propose()
        log_weight = target.log_density(trace.choices) - trace.log_density
        check_supports(target, guide, "chi_moment", zero_weights=True)
        return jnp.exp(k * (log_weight - jax.lax.stop_gradient(log_scale)))

    return objective


def _above_one(order: float, objective: str) -> float:
    k = finite_number(order, f"the order of {objective}")
    if k <= 1:
        raise ValueError(f"{objective} needs an order above one, got {order!r}; at one it is `ppl.iwelbo`")
    return k
