"""The densities between a proposal and a target: `gamma_b = r^(1 - b) gamma^b`, for `b` from zero to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.errors import UnsupportedProgram
from ppl.given import prepared
from ppl.infer.algorithm import observed, unobserved
from ppl.infer.moves.move import Density, check_exact, density_of
from ppl.measure import Measure
from ppl.program import Program
from ppl.transforms.trace_axes import to_trace


class Bridge(NamedTuple):
    """A path of unnormalized densities from one that can be drawn to the target.

    Attributes:
        draw: inside a program, choices of the normalized density at zero.
        log_ratio: of choices, log of the density at the second temperature over that at the first.
        at: the density at a temperature.
    """

    draw: Callable[[], Choices]
    log_ratio: Callable[[Choices, Any, Any], jax.Array]
    at: Callable[[Any], Density]


def bridge(target: Measure, proposal: Any, what: str) -> Bridge:
    """From a proposal to the target; from the program itself, not conditioned, if there is none.

    Raises:
        UnsupportedProgram: the target is no program, or a density of the two is estimated.
    """
    end = density_of(target, what)
    if proposal is None:
        return _from_program(target, end)
    start = proposal if isinstance(proposal, Measure) else proposal(observed(target))
    if not isinstance(start, Program):
        raise UnsupportedProgram(
            f"the proposal of {what} is a generative function applied to its arguments, with an exact "
            f"density, got {start!r}, a {type(start).__name__}."
        )
    check_exact(start, f"{what}, by its proposal,")

    def log_ratio(choices: Choices, before: Any, after: Any) -> jax.Array:
        return (after - before) * (target.log_density(choices) - start.log_density(choices))

    def at(temperature: Any) -> Density:
        def log_density(choices: Choices) -> jax.Array:
            final = target.log_density(choices)
            # Outside the proposal's support the density is zero everywhere but at the end.
            first = jax.lax.cond(
                temperature < 1,
                lambda: (1 - temperature) * start.log_density(choices),
                lambda: jnp.zeros_like(final),
            )
            return first + temperature * final

        return end.of(log_density)

    return Bridge(lambda: _of_kind(end, start.propose().choices), log_ratio, at)


def _of_kind(end: Density, drawn: Choices) -> Choices:
    """Draws of a proposal in the shapes and dtypes of the target's choices.

    Raises:
        UnusedChoice, ChoiceShapeError, ChoiceDtypeError: they do not fit.
    """
    staged = end.program.stage()
    given = prepared(staged, drawn, complete=False)
    return Choices({address: to_trace(staged.choices[address][0], x) for address, x in given.items()})


def _from_program(target: Measure, end: Density) -> Bridge:
    """What is not observed keeps its density, and that of what is observed is tempered."""

    def draw() -> Choices:
        return unobserved(target, target.propose_given({}, ())[0].choices)

    def parts(choices: Choices) -> tuple[jax.Array, jax.Array]:
        latent = [address for address, _ in choices.leaves()]
        trace, prior = end.program.propose_given(end.observed | choices, latent)
        return prior, trace.log_density

    def log_ratio(choices: Choices, before: Any, after: Any) -> jax.Array:
        prior, total = parts(choices)
        return (after - before) * (total - prior)

    def at(temperature: Any) -> Density:
        def log_density(choices: Choices) -> jax.Array:
            prior, total = parts(choices)
            inside = prior > -jnp.inf
            tempered = prior + temperature * (total - jnp.where(inside, prior, 0.0))
            return jnp.where(inside, tempered, -jnp.inf)

        return end.of(log_density)

    return Bridge(draw, log_ratio, at)
