"""Symmetric divergences: between two measures, and between a posterior and a guide over simulated data."""

from __future__ import annotations

import jax

from ppl.measure import Measure
from ppl.objectives.bounds import forward_kl
from ppl.objectives.simulations import Addresses, Inverse, simulation
from ppl.objectives.supports import check_supports


def jeffreys(source: Measure, guide: Measure) -> jax.Array:
    """The symmetric divergence `KL(p || q) + KL(q || p)`. To be minimized.

        E_p[log p(x) - log q(x)] + E_q[log q(x) - log p(x)] >= 0,    zero where q = p.

    Args:
        source: `p`, drawn from and scored: a measure that is normalized.
        guide: `q`, over the same choices.

    Returns:
        One draw of each, a scalar. The derivative is unbiased, in the parameters of both.

    Raises:
        SupportMismatch: one of the two has values that the other never has.
        UnsupportedProgram: the source is conditioned, and cannot be drawn.

    Example:
        >>> import jax, ppl
        >>> objective = ppl.expectation(lambda p: ppl.objectives.jeffreys(ppl.flip(0.3), ppl.flip(p)))
        >>> float(objective.exact(0.5).round(4))  # (0.5 - 0.3) log(0.7 / 0.3)
        0.1695

    Reference: Jeffreys, "An invariant form for the prior probability in estimation problems", 1946.
    """
    return forward_kl(source, guide) + forward_kl(guide, source)


def simulation_jeffreys(model: Measure, guide: Inverse, observed: Addresses) -> jax.Array:
    """The symmetric divergence between the posterior and the guide, over simulated data. To be minimized.

        E_{p(x, y)}[log p(x, y) - log q(x | y)] - E_{p(y) q(x | y)}[log p(x, y) - log q(x | y)]
            = E_{p(y)}[KL(p(x | y) || q(x | y)) + KL(q(x | y) || p(x | y))] >= 0,

    zero where the guide is the posterior of whatever data the model simulates. The evidence `log p(y)` is not
    needed: it cancels, because both terms have the same data.

    Args:
        model: over latents and data, not conditioned.
        guide: a function from the observed choices to a measure over the rest.
        observed: the addresses of the data, or what they begin with.

    Returns:
        One draw, a scalar. The derivative is unbiased, in the parameters of both.

    Raises:
        UnknownAddress: the model has no choice at an address that is observed.
        TypeError: the guide is not a function that returns a measure.
        SupportMismatch: one of the two has values that the other never has.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> @ppl.gen
        ... def model():
        ...     rain = ppl.flip(0.5) @ "rain"
        ...     ppl.flip(jnp.where(rain, 0.8, 0.2)) @ "wet"
        >>> @ppl.gen
        ... def guide(wet, p):
        ...     ppl.flip(jnp.where(wet, p, 1 - p)) @ "rain"
        >>> objective = ppl.expectation(
        ...     lambda p: ppl.objectives.simulation_jeffreys(model(), lambda y: guide(y["wet"], p), "wet")
        ... )
        >>> float(objective.exact(0.5).round(4)), float(abs(objective.exact(0.8)).round(4))
        (0.4159, 0.0)

    Reference: the symmetric divergence over simulations of Becker, Lew, Wang, Ghavami, Huot, Rinard,
    Mansinghka, "Probabilistic programming with programmable variational inference", 2024.
    """
    drawn = simulation(model, guide, observed, "simulation_jeffreys")
    back = drawn.guide.propose()
    forward = drawn.log_density - drawn.guide.log_density(drawn.latents)
    reverse = back.log_density - model.log_density(back.choices | drawn.data)
    check_supports(model, drawn.guide, "simulation_jeffreys", forward=True)
    check_supports(model, drawn.guide, "simulation_jeffreys")
    return forward + reverse
