"""Particles that are moved through tempered densities: annealed importance sampling, and with resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ppl.choices import Choices
from ppl.infer.algorithm import Algorithm, Particles, Retained, effective
from ppl.infer.bridge import Bridge, bridge
from ppl.infer.moves.move import Move
from ppl.infer.resampling import Multinomial, Resampling, check_threshold
from ppl.infer.stacked import alone, at, prepended, rest
from ppl.measure import Measure
from ppl.weights import at_least, log_mean_exp

Temperatures = int | Sequence[float] | jax.Array


class Cloud(NamedTuple):
    """Particles at some temperature.

    Attributes:
        choices: of each.
        log_weights: since they were last resampled.
        log_total: log of the product of the mean weights before.
    """

    choices: Choices
    log_weights: jax.Array
    log_total: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["move", "temperatures", "proposal"],
    meta_fields=["particles"],
)
@dataclass(frozen=True)
class Annealed(Algorithm):
    """Annealed importance sampling: particles are drawn, weighed and moved from a proposal to the target.

    Between the proposal `r` and the target `gamma` lie the densities `gamma_b = r^(1 - b) gamma^b`, at
    temperatures `0 = b_0 < b_1 < ... < b_n = 1`. A particle `x ~ r` is weighed by `gamma_b(x) / gamma_b'(x)`,
    with `b'` the temperature before `b`, and then moved by a kernel that leaves `gamma_b` invariant, for each
    `b` in turn. The mean weight estimates the normalizing constant without bias, however the kernel mixes.

    Particles are lanes of one `jax.vmap`, temperatures steps of one `jax.lax.scan`.

    Args:
        particles: how many.
        move: of `ppl.infer`, such as `HMC` or `Regenerate`.
        temperatures: after zero, increasing to one; or their number `n`, for `(i / n)^3`, which are dense
            where the target begins to matter. `ppl.infer.temperatures` finds some.
        proposal: a measure over the target's choices, or a function that makes one of what the target is
            conditioned on. It must cover the target. By default the program itself draws what is not
            observed, so that the density of what is observed is tempered.

    Raises:
        UnsupportedProgram: the target is no program, or its density or the proposal's is estimated.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.flip(0.2) @ "x"
        ...     ppl.flip(jax.numpy.where(x, 0.9, 0.1)) @ "y"
        >>> target = model().condition({"y": True})
        >>> algorithm = ppl.infer.Annealed(2000, ppl.infer.Regenerate("x"), temperatures=4)
        >>> found = ppl.infer.run(target, algorithm, key=jax.random.key(0))
        >>> float(jax.numpy.exp(found.log_normalizer).round(1))  # 0.26
        0.3

    Reference: Neal, "Annealed importance sampling", 2001; Friel, Pettitt, "Marginal likelihood estimation via
    power posteriors", 2008 (the temperatures).
    """

    particles: int
    move: Move
    temperatures: Temperatures = 10
    proposal: Any = None
    needs_weight = False

    def __post_init__(self) -> None:
        at_least(1, self.particles, type(self).__name__)
        _check_move(self.move, type(self).__name__)
        schedule(self.temperatures)

    @override
    def run(self, target: Measure) -> Particles:
        cloud = self._run(target, None)
        densities = jax.vmap(target.log_density)(cloud.choices)
        normalizer = cloud.log_total + log_mean_exp(cloud.log_weights)
        return Particles(cloud.choices, densities, cloud.log_weights, normalizer)

    @override
    def log_normalizer(self, target: Measure) -> jax.Array:
        cloud = self._run(target, None)
        return cloud.log_total + log_mean_exp(cloud.log_weights)

    @override
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        cloud = self._run(target, retained.choices)
        return cloud.log_total + log_mean_exp(cloud.log_weights)

    def _run(self, target: Measure, retained: Choices | None) -> Cloud:
        """All particles; the first is the one that is retained, if one is."""
        path = bridge(target, self.proposal, type(self).__name__)
        after = schedule(self.temperatures)
        before = jnp.concatenate([jnp.zeros_like(after[:1]), after[:-1]])
        line = None if retained is None else self._past(path, after, retained)
        choices = _led(None if line is None else line.first, self.particles, path.draw)
        zeros = jnp.zeros(self.particles, jax.eval_shape(path.log_ratio, at(choices, 0), 0.0, 1.0).dtype)

        def step(cloud: Cloud, inputs: Any) -> Any:
            before, after, given = inputs
            ratios = jax.vmap(lambda x: path.log_ratio(x, before, after))(cloud.choices)
            cloud = cloud._replace(log_weights=cloud.log_weights + ratios)
            cloud = self._resampled(cloud, retained is not None)
            return cloud._replace(choices=self._moved(path, after, cloud.choices, given)), None

        given = None if line is None else line.moved
        return jax.lax.scan(step, Cloud(choices, zeros, zeros[0]), (before, after, given))[0]

    def _past(self, path: Bridge, temperatures: jax.Array, retained: Choices) -> _Line:
        """Where the retained particle comes from: by the reversed kernels, in reverse order."""
        back = self.move.reversed

        def step(choices: Choices, temperature: Any) -> Any:
            return back.step(path.at(temperature), choices)[0], choices

        first, moved = jax.lax.scan(step, retained, temperatures, reverse=True)
        return _Line(first, moved)

    def _moved(self, path: Bridge, temperature: Any, choices: Choices, given: Choices | None) -> Choices:
        density = path.at(temperature)
        free = choices if given is None else rest(choices)
        count = self.particles - (given is not None)
        if count == 0:
            return alone(given)
        moved = jax.vmap(lambda x: self.move.step(density, x)[0])(free)
        return moved if given is None else prepended(given, moved)

    def _resampled(self, cloud: Cloud, keeps: bool) -> Cloud:
        return cloud


class _Line(NamedTuple):
    """The choices of the retained particle: as it was drawn, and after each move."""

    first: Choices
    moved: Choices


_META = ["particles", "resampling", "threshold"]


@partial(
    jax.tree_util.register_dataclass, data_fields=["move", "temperatures", "proposal"], meta_fields=_META
)
@dataclass(frozen=True)
class Tempered(Annealed):
    """A sequential Monte Carlo sampler: annealed particles that are resampled by their weights on the way.

    As `Annealed`, and before a move particles are resampled where they have become unequal. The product of
    the mean weights in between estimates the normalizing constant without bias.

    Args:
        particles, move, temperatures, proposal: see `Annealed`.
        resampling: a scheme of `ppl.infer.resampling`.
        threshold: resample where the effective number of particles is below this share of them; `None` for at
            every temperature, which derivatives need.

    Raises:
        UnsupportedProgram: as `Annealed`; or the density of given choices is asked for, and the scheme is not
            `Multinomial()`.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.flip(0.2) @ "x"
        ...     ppl.flip(jax.numpy.where(x, 0.9, 0.1)) @ "y"
        >>> target = model().condition({"y": True})
        >>> algorithm = ppl.infer.Tempered(2000, ppl.infer.Regenerate("x"), temperatures=(0.2, 1.0))
        >>> found = ppl.infer.run(target, algorithm, key=jax.random.key(0))
        >>> float(found.mean(lambda choices: 1.0 * choices["x"]).round(1))  # 0.18 / 0.26
        0.7

    Reference: Del Moral, Doucet, Jasra, "Sequential Monte Carlo samplers", 2006.
    """

    resampling: Resampling = field(default_factory=Multinomial)
    threshold: float | None = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.threshold)

    @override
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        self.resampling.check_keeps("Tempered")
        return super().log_normalizer_given(target, retained)

    @override
    def _resampled(self, cloud: Cloud, keeps: bool) -> Cloud:
        if self.threshold is None:
            return resampled(self.resampling, cloud, keeps)
        wanted = effective(cloud.log_weights) < self.threshold * self.particles
        return jax.lax.cond(wanted, lambda: resampled(self.resampling, cloud, keeps), lambda: cloud)


def resampled(scheme: Resampling, cloud: Cloud, keeps: bool = False) -> Cloud:
    """Inside a program: particles resampled by their weights; with `keeps`, the first stays."""
    weights = cloud.log_weights
    ancestors = scheme.lines(weights, keeps)
    choices = at(cloud.choices, ancestors)
    return Cloud(choices, jnp.zeros_like(weights), cloud.log_total + log_mean_exp(weights))


def schedule(temperatures: Temperatures) -> jax.Array:
    """The temperatures after zero.

    Raises:
        ValueError: they do not increase from zero to one.
    """
    if isinstance(temperatures, int) and not isinstance(temperatures, bool):
        if temperatures < 1:
            raise ValueError(f"at least one temperature is needed, got {temperatures}")
        return jnp.asarray((np.arange(1, temperatures + 1) / temperatures) ** 3, float)
    if not isinstance(temperatures, Tracer) and not any(
        isinstance(t, Tracer) for t in jax.tree.leaves(temperatures)
    ):
        values = np.asarray(temperatures, float)
        if (
            values.ndim != 1
            or not len(values)
            or values[-1] != 1
            or (np.diff(values, prepend=0.0) <= 0).any()
        ):
            raise ValueError(
                "temperatures increase from zero, which is left out, to one, such as (0.1, 0.4, 1.0); got "
                f"{temperatures!r}"
            )
    return jnp.asarray(temperatures, float)


def _check_move(move: Any, what: str) -> None:
    # JAX rebuilds the dataclass of whatever it maps the parts to.
    if isinstance(move, str | Algorithm | Measure | type) or (callable(move) and not isinstance(move, Move)):
        raise TypeError(
            f"{what} takes a move of ppl.infer, such as Regenerate('x') or HMC(0.1, 10), got {move!r}"
        )


def _led(first: Choices | None, count: int, draw: Any) -> Choices:
    """The first, if there is one, and as many draws as there are others."""
    others = count - (first is not None)
    if others == 0:
        return alone(first)
    drawn = jax.vmap(lambda _: draw())(jnp.arange(others))
    return drawn if first is None else prepended(first, drawn)
