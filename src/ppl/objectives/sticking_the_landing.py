"""The evidence lower bound without the score of the guide."""

from __future__ import annotations

from typing import Any

import jax

from ppl.detached import detached
from ppl.measure import Measure
from ppl.objectives.particles import check_attached
from ppl.objectives.supports import check_supports
from ppl.refusal import differentiated_once

_ONCE = (
    "sticking_the_landing is right for a first derivative only: what it drops has expectation zero, but its "
    "derivative has not. Differentiate `ppl.elbo`, which is right to every order."
)


def sticking_the_landing(target: Measure, guide: Measure, coefficient: Any = 1.0) -> jax.Array:
    """The ELBO, its gradient without the guide's score: no variance at all where `q = p / Z`.

        log p(x) - (1 - a) log q(x) - a log detached(q)(x),    x ~ q

    with the coefficient `a`. Its value is that of `ppl.elbo`. The gradient lacks `a` times the score
    `d/dtheta log q(x; theta)` at fixed `x`, whose expectation is zero, so it is unbiased for every `a`, under
    any estimator of the guide's choices. Under `Reparam` what remains at `a = 1` is
    `d/dx (log p(x) - log q(x)) dx/dtheta`, zero for each draw where the guide is exact. Far from there the
    score may be a good control variate, and the best `a` lies between zero (`ppl.elbo`) and one.

    Use the result linearly: add, scale and sum over data. Under weights that depend on the draws, such as
    those of a `logsumexp` over particles, the score that is dropped has an expectation: that is `ppl.dreg`.

    Args:
        target: scored at the guide's choices.
        guide: proposes them.
        coefficient: `a`, any number; it may be traced, must not depend on the choices, and carries no
            derivative.

    Returns:
        One draw, a scalar.

    Raises:
        UnsupportedProgram: a second derivative is taken; or the first, where a parameter of the guide moves
            an end of its support, so that the expected score is not zero.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(mean):
        ...     ppl.normal(mean, 0.5**0.5) @ "x"
        >>> objective = ppl.expectation(
        ...     lambda mean: ppl.sticking_the_landing(model().condition({"y": 1.0}), guide(mean))
        ... )
        >>> objective.grad(jax.random.key(0), 0.5).round(5).item()  # q is exact
        0.0

    References:
        Roeder, Wu, Duvenaud, "Sticking the landing: simple, lower-variance gradient estimators for
        variational inference", 2017.
        Geffner, Domke, "Approximation based variance reduction for reparameterization gradients", 2020.
    """
    check_attached(guide, "sticking_the_landing")
    trace = guide.propose()
    share = jax.lax.stop_gradient(coefficient)
    log_q = (1 - share) * trace.log_density + share * detached(guide).log_density(trace.choices)
    bound = target.log_density(trace.choices) - log_q
    check_supports(target, guide, "sticking_the_landing")
    return differentiated_once(bound, trace.log_density, _ONCE)
