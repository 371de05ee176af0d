"""The importance-weighted bound for guides that are scored: a baseline for each particle from the others."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppl.detached import detached
from ppl.estimators.protocol import moved
from ppl.measure import Measure
from ppl.objectives.particles import check_attached
from ppl.objectives.supports import check_supports
from ppl.transforms.one_term import one_term
from ppl.weights import at_least, log_mean_exp


def vimco(particles: int) -> Callable[[Measure, Measure], jax.Array]:
    """`iwelbo`, with a baseline for the score of each particle: for discrete guides and scored ones.

    With log weights `l_i = log p(x_i) - log q(x_i)` and the bound `L = log (1/n) sum_i exp(l_i)`,

        L + sum_i b_i (q0(x_i) / q(x_i) - 1),

    where `q0` is the detached guide and `b_i` the bound with `l_i` replaced by the mean of the others, that
    is, its weight by their geometric mean. Under `Reinforce` the score of particle `i` is then multiplied by
    `L - b_i` in place of `L`, which all particles share and which tells little of any one of them.

    The value is that of `ppl.iwelbo(particles)`: the control is zero. Its expected value is zero at every
    parameter, since `b_i` does not depend on `x_i`; so all derivatives are unbiased, to every order and under
    any estimator. For choices that are reparameterized, enumerated or measure-valued it is only noise: use
    `ppl.iwelbo` or `ppl.dreg` if all are. Use the result linearly: add, scale and sum over data.

    Raises:
        ValueError: fewer than two particles.
        UnsupportedProgram: when a derivative is taken along which a parameter of the guide moves an end of
            its support.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     rain = ppl.flip(0.3) @ "rain"
        ...     ppl.normal(jax.numpy.where(rain, 1.0, -1.0), 1.0) @ "wet"
        >>> @ppl.gen
        ... def guide(p):
        ...     ppl.flip(p).using(ppl.estimators.Reinforce()) @ "rain"
        >>> target = model().condition({"wet": 0.5})
        >>> objective = ppl.expectation(lambda p: ppl.vimco(5)(target, guide(p)))
        >>> objective.grad(jax.random.key(0), 0.4, num_samples=10_000).round(1).item()
        0.1

    Reference: Mnih, Rezende, "Variational inference for Monte Carlo objectives", 2016, eq. 10 and 11.
    """
    at_least(2, particles, "vimco")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        check_attached(guide, "vimco")

        def particle(_: jax.Array) -> tuple[jax.Array, jax.Array]:
            trace = guide.propose()
            fixed = detached(guide).log_density(trace.choices)
            return target.log_density(trace.choices) - trace.log_density, fixed - trace.log_density

        log_weights, log_ratios = jax.vmap(particle)(jnp.arange(particles))
        check_supports(target, guide, "vimco", zero_weights=True)
        baselines = jax.lax.stop_gradient(_without_each(log_weights))
        return one_term(log_mean_exp(log_weights)) + jnp.sum(baselines * jnp.expm1(moved(log_ratios)))

    return objective


def _without_each(log_weights: jax.Array) -> jax.Array:
    """For each particle, the bound with its log weight replaced by the mean of the others.

    A sum over the others, not a difference from the sum over all, so that nothing cancels. Where it is not
    finite there is no baseline.
    """
    count = len(log_weights)
    itself = jnp.eye(count, dtype=bool)
    mean = jnp.sum(jnp.where(itself, 0, log_weights), axis=1, keepdims=True) / (count - 1)
    bounds = log_mean_exp(jnp.where(itself, mean, log_weights))
    return jnp.where(jnp.isfinite(bounds), bounds, 0)
