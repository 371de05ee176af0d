"""A schedule of temperatures, found by a pilot run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.compiled import compiled
from ppl.errors import NonFiniteObjective
from ppl.infer.algorithm import effective
from ppl.infer.bridge import bridge
from ppl.infer.keyed import keyed
from ppl.infer.moves.move import Move
from ppl.infer.resampling import Systematic
from ppl.infer.tempered import Cloud, resampled
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.source import user_line

_STEPS = 1000


def temperatures(
    target: Measure, move: Move, *, key: jax.Array, particles: int = 500, share: float = 0.5,
    proposal: Any = None,
) -> tuple[float, ...]:  # fmt: skip
    """Temperatures between which weighted particles are always worth the same share of their number.

    A pilot run of `Tempered` chooses each temperature by bisection, such that the effective number of
    particles falls to the share. A run that adapted its own temperatures would estimate the normalizing
    constant with a bias; by a schedule that was found before, with an independent key, it does not.

    Args:
        target: a conditioned program, or one without observations.
        move: as for `Tempered`; one that suits all temperatures.
        key: of the pilot run. Take another for what uses its result.
        particles: of the pilot run.
        share: between zero and one. More temperatures for a larger one.
        proposal: as for `Tempered`.

    Returns:
        Python numbers, increasing to one.

    Raises:
        NonFiniteObjective: no particle has a finite density, or the schedule would be longer than 1000.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 0.01) @ "y"
        >>> move = ppl.infer.Cycle(ppl.infer.RandomWalk(1.0), ppl.infer.RandomWalk(0.05))
        >>> found = ppl.infer.temperatures(model().condition({"y": 2.0}), move, key=jax.random.key(0))
        >>> 5 < len(found) < 10, found[0] < 0.01, found[-1]
        (True, True, 1.0)

    Reference: Jasra, Stephens, Doucet, Tsagaris, "Inference for Lévy-driven stochastic volatility models via
    adaptive sequential Monte Carlo", 2011.
    """
    if not 0 < share < 1:
        raise ValueError(f"share lies between zero and one, got {share!r} ({user_line()})")
    keys = jax.random.split(check_key(key), _STEPS + 1)
    choices = compiled(_begin, target, proposal, particles, keys[_STEPS])
    schedule: list[float] = [0.0]
    for step in range(_STEPS):
        now = jnp.asarray(schedule[-1], float)
        after, choices = compiled(_advance, target, move, proposal, choices, now, float(share), keys[step])
        if not schedule[-1] < float(after) <= 1:
            break
        schedule.append(float(after))
        if schedule[-1] == 1:
            return tuple(schedule[1:])
    raise NonFiniteObjective(
        f"no schedule to {target!r}: after {len(schedule) - 1} temperatures it has come to "
        f"{schedule[-1]:.3g}. Has the target a finite density at draws of the proposal? Or take a smaller "
        f"share ({user_line()})."
    )


def _begin(target: Measure, proposal: Any, particles: int, key: jax.Array) -> Choices:
    path = bridge(target, proposal, "temperatures")
    return keyed(lambda: jax.vmap(lambda _: path.draw())(jnp.arange(particles)), key)


def _advance(
    target: Measure, move: Move, proposal: Any, choices: Choices, before: jax.Array, share: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Choices]:  # fmt: skip
    """The next temperature, and the particles there."""
    path = bridge(target, proposal, "temperatures")
    slopes = jax.vmap(lambda x: path.log_ratio(x, 0.0, 1.0))(choices)
    wanted = share * jnp.sum(slopes > -jnp.inf)

    def enough(after: Any) -> jax.Array:
        return effective((after - before) * slopes) >= wanted

    def halve(ends: Any, _: Any) -> Any:
        low, high = ends
        middle = (low + high) / 2
        good = enough(middle)
        return (jnp.where(good, middle, low), jnp.where(good, high, middle)), None

    one = jnp.ones_like(before)
    (low, _), _ = jax.lax.scan(halve, (before, one), None, length=60)
    after = jnp.where(enough(one), one, low)

    def program() -> Choices:
        cloud = Cloud(choices, (after - before) * slopes, jnp.zeros_like(slopes[0]))
        density = path.at(after)
        return jax.vmap(lambda x: move.step(density, x)[0])(resampled(Systematic(), cloud).choices)

    return after, keyed(program, key)
