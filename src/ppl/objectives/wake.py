"""The wake-sleep family: log densities that are maximized, each in the parameters of one measure alone.

Their derivatives touch disjoint parameters, and all are maximized, so that a sum of them is one objective:
`wake_model(n)(target, guide) + wake_guide(n)(target, guide)` is reweighted wake-sleep. It is no gradient
field: what is held fixed moves from step to step.

What stands for the posterior in the two wake phases is drawn by importance sampling from the guide, or by any
algorithm of `ppl.infer`.

What is held fixed are parameters. A target may depend on a choice that the same objective has made before;
scores of that choice follow the value. A pathwise derivative of it is refused, since it would stop there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppl.detached import holding
from ppl.infer.algorithm import Algorithm
from ppl.infer.importance import Importance
from ppl.measure import Measure
from ppl.objectives.particles import bounded, check_attached, frozen
from ppl.objectives.simulations import Addresses, Inverse, simulation
from ppl.objectives.supports import check_supports
from ppl.weights import at_least

Posterior = int | Algorithm | Callable[[Measure], Algorithm]
"""What draws weighted particles: how many of the guide, an algorithm, or one that is made of the guide."""


def wake_model(particles: Posterior) -> Callable[[Measure, Measure], jax.Array]:
    """The wake phase of the model: its log density at particles of a frozen guide. To be maximized.

        sum_i s_i log p(x_i, y; theta),    x_i ~ q,    s_i = w_i / sum_j w_j,    w_i = p(x_i, y) / q(x_i)

    with `q` and the shares `s` held fixed: the expected log density of one particle, resampled by weight. The
    derivative `sum_i s_i d/dtheta log p(x_i, y)` is that of `ppl.iwelbo(particles)` in the model's
    parameters, so it ascends a lower bound of `log Z`. The guide's parameters get none. The value bounds
    nothing: for many particles it is the posterior mean of `log p(x, y)`.

    For one particle it is the wake phase of Hinton et al.

    Args:
        particles: `n`; or an algorithm of `ppl.infer`, or a function from the guide to one, as in
            `wake_guide`, whose weighted particles take the place of `x_i` and `s_i`.

    Returns:
        `objective(target, guide)`, one draw, a scalar. Its derivative is unbiased for what is written, with
        `n` particles; as an estimate of one under the exact posterior it has a bias of `O(1/n)`.

    Raises:
        ValueError: fewer than one particle.
        UnsupportedProgram: the target or the guide is a measure whose parameters cannot be held fixed, such
            as a marginal.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model(sd):
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, sd) @ "y"
        >>> guide = ppl.gen(lambda mean: ppl.normal(mean, 0.7) @ "x")
        >>> objective = ppl.expectation(lambda params: ppl.objectives.wake_model(10)(
        ...     model(params["sd"]).condition({"y": 1.0}), guide(params["mean"])))
        >>> slope = objective.grad(jax.random.key(0), {"sd": 1.0, "mean": 0.5}, num_samples=1000)
        >>> float(slope["sd"].round(1)), float(slope["mean"])  # d/dsd log N(1; 0, sqrt(1 + sd**2))
        (-0.2, 0.0)

    References:
        Hinton, Dayan, Frey, Neal, "The wake-sleep algorithm for unsupervised neural networks", 1995.
        Bornschein, Bengio, "Reweighted wake-sleep", 2015, section 2.
    """
    _check(1, particles, "wake_model")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        log_p = _of_one_resampled(target, target, guide, particles)
        if not isinstance(particles, Algorithm):
            check_supports(target, guide, "wake_model", zero_weights=True)
        return log_p

    return objective


def wake_guide(particles: Posterior) -> Callable[[Measure, Measure], jax.Array]:
    """The wake phase of the guide: its log density at its own particles, weighted. To be maximized.

        sum_i s_i log q(x_i; phi),    x_i ~ q,    s_i = w_i / sum_j w_j,    w_i = p(x_i, y) / q(x_i)

    with the draws and the shares `s` held fixed. For many particles it is `E[log q(x)]` under the posterior,
    which is a constant less `KL(p / Z || q)`: the guide learns to cover the posterior, under choices of any
    kind, since none is differentiated. The model's parameters get no derivative. It bounds nothing. Nor is
    the derivative of the guide's parameters that of any bound.

    By an algorithm other than importance sampling the particles may be better ones. Along the steps of a
    chain, `wake_guide(lambda guide: ppl.infer.SMC(n, guide))` is neural adaptive sequential Monte Carlo
    (NASMC): the guide is the proposal of a particle filter, and learns from whole paths by their weights at
    the end. (Gu, Ghahramani, Turner weigh each step by the filter up to it: less variance, and for many
    particles not the posterior's derivative but that of the filter's.)

    Args:
        particles: `n`, at least two: with one the share is one and the expected derivative zero. Or an
            algorithm of `ppl.infer`, which draws posterior particles whatever the guide; or a function that
            makes one of the guide. Whatever the algorithm depends on is held fixed too.

    Returns:
        `objective(target, guide)`, one draw, a scalar. Its derivative is unbiased for what is written, with
        `n` particles; as an estimate of one under the exact posterior it has a bias of `O(1/n)`.

    Raises:
        ValueError: fewer than two particles.
        TypeError: no number, algorithm, or function that returns one.
        UnsupportedProgram: the target or the guide is a measure whose parameters cannot be held fixed, such
            as a marginal; or the guide is detached.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> guide = ppl.gen(lambda mean: ppl.normal(mean, 1.0) @ "x")
        >>> target = model().condition({"y": 1.0})
        >>> objective = ppl.expectation(lambda mean: ppl.objectives.wake_guide(500)(target, guide(mean)))
        >>> objective.grad(jax.random.key(0), 0.0, num_samples=200).round(1).item()  # posterior mean less 0
        0.5

    References:
        Bornschein, Bengio, "Reweighted wake-sleep", 2015, section 2.
        Le, Kosiorek, Siddharth, Teh, Wood, "Revisiting reweighted wake-sleep for models with stochastic
        control flow", 2020.
        Gu, Ghahramani, Turner, "Neural adaptive sequential Monte Carlo", 2015.
    """
    _check(2, particles, "wake_guide")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        check_attached(guide, "wake_guide")
        log_q = _of_one_resampled(guide, target, guide, particles)
        drawn = isinstance(particles, Algorithm)
        check_supports(target, guide, "wake_guide", zero_weights=not drawn, forward=drawn)
        return log_q

    return objective


def sleep(model: Measure, guide: Inverse, observed: Addresses) -> jax.Array:
    """The sleep phase: the guide's log density at what the model dreams. To be maximized.

        E_{p(x, y)}[log q(x | y; phi)] = E_{p(y)}[-KL(p(x | y) || q(x | y))] + a constant of phi

    with the model held fixed: its parameters get no derivative, whatever its choices. It is `ppl.forward_kl`
    with the sign turned, without the constant `E[log p(x | y)]`. It bounds nothing, and is largest where the
    guide is the posterior of whatever data the model simulates.

    Args:
        model: over latents and data, not conditioned.
        guide: a function from the observed choices to a measure over the rest.
        observed: the addresses of the data, or what they begin with.

    Returns:
        One draw, a scalar. Its derivative in the guide's parameters is unbiased.

    Raises:
        UnknownAddress: the model has no choice at an address that is observed.
        TypeError: the guide is not a function that returns a measure.
        UnsupportedProgram: the model is a measure whose parameters cannot be held fixed; or the guide is
            detached.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model(sd):
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, sd) @ "y"
        >>> guide = ppl.gen(lambda y, slope: ppl.normal(slope * y, 1.0) @ "x")
        >>> objective = ppl.expectation(lambda params: ppl.objectives.sleep(
        ...     model(params["sd"]), lambda data: guide(data["y"], params["slope"]), "y"))
        >>> slope = objective.grad(jax.random.key(0), {"sd": 1.0, "slope": 0.0}, num_samples=10_000)
        >>> float(slope["slope"].round(1)), float(slope["sd"])  # E[x y], and nothing
        (1.0, 0.0)

    Reference: Hinton, Dayan, Frey, Neal, "The wake-sleep algorithm for unsupervised neural networks", 1995.
    """
    drawn = simulation(frozen(model), guide, observed, "sleep")
    check_attached(drawn.guide, "sleep")
    check_supports(model, drawn.guide, "sleep", forward=True)
    return drawn.guide.log_density(drawn.latents)


def _check(least: int, particles: Posterior, objective: str) -> None:
    if not isinstance(particles, Algorithm) and not callable(particles):
        at_least(least, particles, objective)


def _of_one_resampled(live: Measure, target: Measure, guide: Measure, particles: Posterior) -> jax.Array:
    """The expected log density, under `live`, of a particle that is resampled by weight; all else is held."""
    algorithm = _algorithm(particles, guide)
    # An algorithm may have parameters of its own, and close over others.
    drawn = holding(lambda: algorithm.run(frozen(target)))
    return jnp.sum(drawn.weights * bounded(jax.vmap(live.log_density)(drawn.choices)))


def _algorithm(particles: Posterior, guide: Measure) -> Algorithm:
    if isinstance(particles, Algorithm):
        return particles
    if not callable(particles):
        return Importance(particles, frozen(guide))
    made: Any = particles(frozen(guide))
    if not isinstance(made, Algorithm):
        raise TypeError(
            f"a wake phase takes a number of particles, an algorithm of ppl.infer, or a function from the "
            f"guide to one; this function returned {made!r}"
        )
    return made
