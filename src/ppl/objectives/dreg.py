"""The importance-weighted bound, its guide's gradient reparameterized twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ppl.detached import detached
from ppl.errors import UnsupportedProgram
from ppl.estimators.registry import default_estimator
from ppl.given import prepared
from ppl.measure import Distribution, Measure
from ppl.objectives.particles import check_attached
from ppl.objectives.supports import check_supports
from ppl.program import Program
from ppl.refusal import differentiated_once, unmoved
from ppl.site import Site
from ppl.transforms.occurrences import Occurrence, choice_equations
from ppl.transforms.witness import total, witness
from ppl.transported import Transported
from ppl.weights import at_least, log_mean_exp

_ONCE = (
    "dreg is right for a first derivative only. Differentiate `ppl.iwelbo`, which is right to every order."
)


def dreg(particles: int) -> Callable[[Measure, Measure], jax.Array]:
    """`iwelbo`, doubly reparameterized: its signal does not drown in noise as particles are added.

    With importance weights `w_i = p(x_i) / q(x_i)` and their shares `s_i = w_i / sum_j w_j`, the gradient of
    the importance-weighted bound in the guide's parameters is the expected value of

        sum_i s_i^2 d/dx_i (log p(x_i) - log q(x_i)) dx_i/dtheta,

    and in the model's that of `sum_i s_i d/dtheta log p(x_i)`. Both come of one program: with shares held
    fixed and each choice replaced by one that moves `s_i` times as fast, it is the bound with a detached
    guide. The value is that of `ppl.iwelbo(particles)`. For one particle it is `ppl.sticking_the_landing`.

    As particles are added, the gradient of `iwelbo` in the guide's parameters falls below its own standard
    deviation; this one rises above it. Use the result linearly: add, scale and sum over data.

    Raises:
        ValueError: fewer than one particle.
        UnsupportedProgram: a second derivative is taken; or the first, where a choice of the guide that is
            not reparameterized moves with the parameters, or a parameter moves an end of its support.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> @ppl.gen
        ... def guide(mean):
        ...     ppl.normal(mean, 0.5**0.5) @ "x"
        >>> objective = ppl.expectation(lambda mean: ppl.dreg(8)(model().condition({"y": 1.0}), guide(mean)))
        >>> abs(objective.grad(jax.random.key(0), 0.5).round(4).item())  # q is exact
        0.0

    Reference: Tucker, Lawson, Gu, Maddison, "Doubly reparameterized gradient estimators for Monte Carlo
    objectives", 2019, eq. 8.
    """
    at_least(1, particles, "dreg")

    def objective(target: Measure, guide: Measure) -> jax.Array:
        check_attached(guide, "dreg")

        def propose(_: jax.Array) -> tuple[Any, jax.Array]:
            trace = guide.propose()
            log_weight = target.log_density(trace.choices) - trace.log_density
            return trace.choices, _all_pathwise(guide, trace.choices, log_weight)

        def log_weight(choices: Any, share: jax.Array) -> jax.Array:
            slowed = jax.tree.map(lambda x: _slowed(x, share), choices)
            return target.log_density(slowed) - detached(guide).log_density(slowed)

        choices, log_weights = jax.vmap(propose)(jnp.arange(particles))
        check_supports(target, guide, "dreg", zero_weights=True)
        shares = jax.lax.stop_gradient(jax.nn.softmax(log_weights))
        bound = log_mean_exp(jax.vmap(log_weight)(choices, shares))
        return differentiated_once(bound, jnp.sum(log_weights), _ONCE)

    return objective


@jax.custom_jvp
def _slowed(x: jax.Array, share: jax.Array) -> jax.Array:
    """`x`, which moves `share` times as fast."""
    return x


@_slowed.defjvp
def _(primals: Any, tangents: Any) -> Any:
    x, share = primals
    is_float = jnp.issubdtype(x.dtype, jnp.inexact)
    return x, share.astype(x.dtype) * tangents[0] if is_float else tangents[0]


def _all_pathwise(guide: Measure, choices: Any, number: jax.Array) -> jax.Array:
    """The number, refusing a derivative along which a choice moves that is not reparameterized."""
    if isinstance(guide, Distribution):
        if (guide.estimator or default_estimator(guide.numpyro)).pathwise:
            return number
        return unmoved(number, total(guide.numpyro), _why([f"{guide.family} ({guide.source})"]))
    if isinstance(guide, Transported) and guide.is_exact:
        return number if guide.is_pathwise else unmoved(number, total(guide.law), _why([repr(guide)]))
    staged = guide.stage() if isinstance(guide, Program) else None
    items = [] if staged is None else [item for found in staged.choices.values() for item in found]
    if staged is None or any(item.is_joint and not item.site.exact for item in items):
        raise UnsupportedProgram(
            f"dreg needs the density of its guide, and that of {guide!r} is estimated. Use `ppl.iwelbo`."
        )
    assert isinstance(guide, Program)
    scored = {item.site: item.site.where for item in items if not _is_pathwise(guide, item)}
    if not scored:
        return number
    if joint := [item.site.where for item in items if item.is_joint and item.site in scored]:
        raise UnsupportedProgram(_why(joint))

    def pick(site: Site, distribution: Any) -> Any:
        return distribution if site in scored else ()

    feed = prepared(staged, choices, complete=True)
    return unmoved(number, witness(staged, feed, pick), _why(list(scored.values())))


def _is_pathwise(guide: Program, item: Occurrence) -> bool:
    if not item.is_joint:
        return (guide.chosen(item.site, item.distribution) or item.estimator).pathwise
    for equation in choice_equations(item.calls[-1].params["draw"]):
        site = equation.params["site"]
        distribution, estimator = site.one_lane([variable.aval for variable in equation.invars])
        if not (guide.chosen(site, distribution) or estimator).pathwise:
            return False
    return True


def _why(choices: list[str]) -> str:
    return (
        "dreg differentiates through the draws of the guide alone, and its choice "
        f"{' or '.join(choices)}, which moves with the parameters, is not reparameterized: the derivative "
        "would be biased. Use `ppl.iwelbo`, or `ppl.vimco` if most of the guide is of this kind."
    )
