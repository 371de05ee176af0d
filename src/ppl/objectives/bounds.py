"""The bounds and divergences that the other objectives estimate with less variance."""

from __future__ import annotations

from collections.abc import Callable

import jax

from ppl.measure import Measure
from ppl.objectives.particles import log_weights
from ppl.objectives.supports import check_supports
from ppl.weights import at_least, log_mean_exp


def elbo(target: Measure, guide: Measure) -> jax.Array:
    """The evidence lower bound: `E_q[log p(x) - log q(x)] <= log Z`, with equality where `q = p / Z`.

    Args:
        target: scored at the guide's choices.
        guide: proposes them.

    Returns:
        One draw, a scalar.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(mean):
        ...     ppl.normal(mean, 0.5**0.5) @ "x"
        >>> @ppl.expectation
        ... def objective(mean):
        ...     return ppl.elbo(model().condition({"y": 1.0}), guide(mean))
        >>> float(objective.estimate(jax.random.key(0), 0.5).round(4))  # log N(1; 0, sqrt(2)): q is exact
        -1.5155

    Reference: Jordan, Ghahramani, Jaakkola, Saul, "An introduction to variational methods for graphical
    models", 1999.
    """
    trace = guide.propose()
    bound = target.log_density(trace.choices) - trace.log_density
    check_supports(target, guide, "elbo")
    return bound


def iwelbo(particles: int) -> Callable[[Measure, Measure], jax.Array]:
    """The importance-weighted bound `E[log (1/n) sum_i p(x_i) / q(x_i)] <= log Z`, with `x_i ~ q`.

    It is the ELBO for one particle and grows with their number. `iwelbo(n)(target, guide)` is one draw.
    For latents of each datum apply it to each, `jax.vmap(lambda y: iwelbo(n)(model(y), guide(y)))(data)`,
    and sum; for global ones, once.

    Reference: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, eq. 8.
    """
    at_least(1, particles, "iwelbo")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        bound = log_mean_exp(log_weights(target, guide, particles))
        check_supports(target, guide, "iwelbo", zero_weights=True)
        return bound

    return objective


def forward_kl(source: Measure, guide: Measure) -> jax.Array:
    """The divergence `KL(p || q) = E_p[log p(x) - log q(x)] >= 0` from a source that can be drawn from.

    Args:
        source: draws traces: a model, whose own parameters the expectation may depend on.
        guide: scored at them.

    Reference: Kullback, Leibler, "On information and sufficiency", 1951.
    """
    trace = source.propose()
    divergence = trace.log_density - guide.log_density(trace.choices)
    check_supports(source, guide, "forward_kl", forward=True)
    return divergence
