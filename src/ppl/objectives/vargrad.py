"""The evidence lower bound, its guide's gradient that of half a variance of log ratios."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppl.detached import with_fixed_support
from ppl.estimators.protocol import moved
from ppl.measure import Measure
from ppl.objectives.particles import check_attached, frozen
from ppl.objectives.supports import check_supports
from ppl.refusal import differentiated_once
from ppl.transforms.one_term import one_term
from ppl.weights import at_least

_ONCE = (
    "vargrad is right for a first derivative only: that of the variance is the one of the divergence, the "
    "second is not. Differentiate `ppl.elbo`, which is right to every order."
)


def vargrad(particles: int) -> Callable[[Measure, Measure], jax.Array]:
    """The ELBO by several draws, its score function with a baseline that costs nothing.

    With `x_1, ..., x_n` drawn from the guide, whose draws carry no derivative, and `f_i = log q(x_i) - log
    p(x_i)`, the gradient in the guide's parameters is that of minus half the sample variance of `f`,

        1 / (n - 1) sum_i (mean(f) - f_i) d/dtheta log q(x_i; theta),

    whose expected value is the gradient of the ELBO: the score function under the mean of all particles as a
    baseline. The gradient in the model's parameters is plain. The value is the mean of n ELBO draws.

    Every choice of the guide is drawn without a derivative, whatever its estimator, so densities need not be
    smooth, nor choices continuous. Use the result linearly: add, scale and sum over data.

    Raises:
        ValueError: fewer than two particles.
        UnsupportedProgram: a second derivative is taken; or the first, where a parameter of the guide moves
            an end of its support.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(mean):
        ...     ppl.normal(mean, 0.5**0.5) @ "x"
        >>> target = model().condition({"y": 1.0})
        >>> objective = ppl.expectation(lambda mean: ppl.vargrad(4)(target, guide(mean)))
        >>> abs(objective.grad(jax.random.key(0), 0.5).round(4).item())  # q is exact
        0.0

    Reference: Richter, Boustati, Nüsken, Ruiz, Akyildiz, "VarGrad: a low-variance gradient estimator for
    variational inference", 2020, eq. 10.
    """
    at_least(2, particles, "vargrad")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        check_attached(guide, "vargrad")
        proposal = frozen(guide)

        def particle(_: jax.Array) -> tuple[jax.Array, jax.Array]:
            choices = proposal.propose().choices
            log_q = with_fixed_support(guide, choices, guide.log_density(choices))
            return target.log_density(choices), log_q

        log_p, log_q = jax.vmap(particle)(jnp.arange(particles))
        check_supports(target, guide, "vargrad")
        ratios = log_q - jax.lax.stop_gradient(log_p)
        bound = jnp.mean(one_term(log_p - jax.lax.stop_gradient(log_q))) - moved(
            0.5 * jnp.var(ratios, ddof=1)
        )
        return differentiated_once(bound, jnp.sum(log_q), _ONCE)

    return objective
