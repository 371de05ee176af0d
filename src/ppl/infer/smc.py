"""Sequential Monte Carlo: particles that are resampled between the steps of a program's loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.infer.algorithm import (
    Algorithm,
    Particles,
    Retained,
    Sample,
    effective,
    observed,
    one_of,
    unobserved,
)
from ppl.infer.chain import Chain, Moved, State, chain
from ppl.infer.moves.metropolis import metropolis
from ppl.infer.resampling import Multinomial, Resampling, check_threshold
from ppl.infer.stacked import alone, at, prepended, rest, with_first
from ppl.measure import Measure
from ppl.weights import at_least, log_mean_exp


class Cloud(NamedTuple):
    """Particles after the last step.

    Attributes:
        records: of the parts of the program; those of a step have the steps first, then the particles.
        ancestors: for each step, which particle each one is after it: the number that it had in this step.
        log_weights: since they were last resampled.
        log_density: of each particle's choices.
        log_normalizer: log of the estimate of the normalizing constant.
    """

    records: tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]
    ancestors: jax.Array
    log_weights: jax.Array
    log_density: jax.Array
    log_normalizer: jax.Array


_META = ["particles", "resampling", "threshold", "moves"]


@partial(jax.tree_util.register_dataclass, data_fields=["proposal"], meta_fields=_META)
@dataclass(frozen=True)
class SMC(Algorithm):
    """Sequential Monte Carlo over the steps of the one `jax.lax.scan` of a program.

    Particles run the program side by side: what comes before its loop, then step by step. Each step weighs a
    particle by what is observed in it, and before the next one particles are resampled by their weights. The
    product of the mean weights estimates the normalizing constant without bias.

    Args:
        particles: how many.
        proposal: a program with a loop of the same length that draws some of the choices, at the same
            addresses, or a function that makes one of what is observed. Its carry may hold what it needs of
            its own earlier choices. By default the program itself draws what is not observed (the bootstrap
            filter).
        resampling: a scheme of `ppl.infer.resampling`.
        threshold: resample only where the effective number of particles is below this share of them; by
            default before every step but the first.
        moves: rejuvenation. Before the next step each particle draws its last one anew this many times, from
            the proposal, given all that came before; it is accepted with probability
            `min(1, w'/w)`, where `w` is a step's weight. So copies of one particle part again, and what is
            estimated stays the same. A step with moves costs `1 + moves` steps.

    Raises:
        UnsupportedProgram: the target has not exactly one loop with choices at its top level; or the density
            of given choices is asked for, and the scheme is not `Multinomial()`, or a part of the program is
            itself estimated.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> @ppl.gen
        ... def walk():
        ...     def step(x, _):
        ...         x = ppl.normal(x, 1.0) @ "x"
        ...         ppl.normal(x, 0.5) @ "y"
        ...         return x, None
        ...     jax.lax.scan(step, 0.0, None, length=20)
        >>> target = walk().condition({"y": jnp.linspace(0.0, 3.0, 20)})
        >>> draw = ppl.normalize(target, ppl.infer.SMC(200)).simulate(jax.random.key(0))
        >>> draw.choices["x"].shape
        (20,)

    Reference: Gordon, Salmond, Smith, "Novel approach to nonlinear/non-Gaussian Bayesian state estimation",
    1993; Andrieu, Doucet, Holenstein, "Particle Markov chain Monte Carlo methods", 2010, section 4; Gilks,
    Berzuini, "Following a moving target: Monte Carlo inference for dynamic Bayesian models", 2001 (moves).
    """

    particles: int
    proposal: Any = None
    resampling: Resampling = field(default_factory=Multinomial)
    threshold: float | None = None
    moves: int = 0
    needs_weight = False

    def __post_init__(self) -> None:
        at_least(1, self.particles, "SMC")
        check_threshold(self.threshold)
        if not isinstance(self.moves, int) or self.moves < 0:
            raise ValueError(f"moves is how often a step is drawn anew, at least 0, got {self.moves!r}")

    @override
    def sample(self, target: Measure) -> Sample:
        model = self._chain(target)
        cloud = self._run(model, None)
        index = one_of(cloud.log_weights)  # the lines of ancestors of the others are not followed
        choices = unobserved(target, model.choices(_picked(cloud, index)))
        return Sample(choices, cloud.log_density[index], cloud.log_normalizer)

    @override
    def run(self, target: Measure) -> Particles:
        model = self._chain(target)
        cloud = self._run(model, None)
        lines = jax.vmap(lambda index: model.choices(_picked(cloud, index)))(jnp.arange(self.particles))
        choices = unobserved(target, lines)
        return Particles(choices, cloud.log_density, cloud.log_weights, cloud.log_normalizer)

    @override
    def log_normalizer(self, target: Measure) -> jax.Array:
        return self._run(self._chain(target), None).log_normalizer

    @override
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        model = self._chain(target)
        self.resampling.check_keeps("SMC")
        model.check_exact()
        return self._run(model, retained.choices).log_normalizer

    def _chain(self, target: Measure) -> Chain:
        proposal = self.proposal
        if proposal is not None and not isinstance(proposal, Measure):
            proposal = proposal(observed(target))
        return chain(target, proposal)

    def _run(self, model: Chain, retained: Choices | None) -> Cloud:
        """All particles; the first is the one that is retained, if one is."""
        given = None if retained is None else model.given(retained)
        keeps = given is not None
        every = partial(_every, self.particles)
        lanes = jnp.arange(self.particles)
        begun = every(lambda part, _: model.begin(part), given and given.before, lanes)

        def step(carry: Any, inputs: Any) -> Any:
            states, weights, densities, total = carry
            number, part = inputs
            goes_on = number < model.length - 1
            moved = every(lambda part, state: model.step(part, number, state), part, states)
            line = at(moved, 0)
            if keeps and self.moves:
                # What the retained particle was before it was moved here: the kernel is its own reversal.
                moved = with_first(self._redrawn(model, number, goes_on, at(states, 0), line), moved)
            weights = weights + moved.weight
            ancestors, weights, total = self._resampled(goes_on, weights, total, keeps)
            if self.moves:
                states, moved, densities = at((states, moved, densities), ancestors)
                redraw = lambda state, moved: self._redrawn(model, number, goes_on, state, moved)
                moved = jax.vmap(redraw)(states, moved)
                moved = with_first(line, moved) if keeps else moved
            else:
                moved, densities = at((moved, densities), ancestors)
            carry = (moved.state, weights, densities + moved.log_density, total)
            return carry, (moved.records, moved.outputs, ancestors)

        start = (begun.state, begun.weight, begun.log_density, jnp.zeros_like(begun.weight[0]))
        parts = None if given is None else given.steps
        (states, weights, densities, total), (records, outputs, ancestors) = jax.lax.scan(
            step, start, (jnp.arange(model.length), parts)
        )
        ended: dict[Any, Any] = {}
        if model.continues:
            paths, _ = _paths(ancestors, lanes)
            outputs = jax.tree.map(lambda x: jnp.swapaxes(_along(x, paths), 0, 1), outputs)
            last = every(model.end, given and given.after, states, outputs)
            weights, densities, ended = weights + last.weight, densities + last.log_density, last.records
        normalizer = total + log_mean_exp(weights)
        return Cloud((begun.records, records, ended), ancestors, weights, densities, normalizer)

    def _resampled(self, goes_on: Any, weights: jax.Array, total: jax.Array, keeps: bool) -> Any:
        """Ancestors of the next particles, their weights, and the log of the product of mean weights."""
        count = self.particles

        def resample() -> Any:
            ancestors = self.resampling.lines(weights, keeps)
            return ancestors, jnp.zeros_like(weights), total + log_mean_exp(weights)

        wanted = goes_on
        if self.threshold is not None:
            wanted = wanted & (effective(weights) < self.threshold * count)
        return jax.lax.cond(wanted, resample, lambda: (jnp.arange(count), weights, total))

    def _redrawn(self, model: Chain, number: Any, goes_on: Any, before: State, moved: Moved) -> Moved:
        """One particle's last step, drawn anew and accepted by its weight, where there is another step.

        Given what came before, a step has the density (proposal) x (weight) up to a factor, so this is an
        independence sampler, which is its own reversal; as it is however often it is repeated.
        """

        def once(moved: Moved, _: Any) -> Any:
            proposed = model.step({}, number, before)
            decision = metropolis(proposed.weight - moved.weight, moved.weight)
            return decision.of(proposed, moved), None

        many = lambda moved: jax.lax.scan(once, moved, None, length=self.moves)[0]
        return jax.lax.cond(goes_on, many, lambda moved: moved, moved)


def _every(count: int, function: Callable[..., Any], part: Any, *states: Any) -> Any:
    """The function of each particle's states; that of the first is given its choices, if there are any."""
    free = lambda *states: function({}, *states)
    if part is None:
        return jax.vmap(free)(*states)
    first = function(part, *at(states, 0))
    return alone(first) if count == 1 else prepended(first, jax.vmap(free)(*rest(states)))


def _picked(cloud: Cloud, index: Any) -> Mapping[Any, Any]:
    """The records of one particle, along its ancestors."""
    path, root = _paths(cloud.ancestors, jnp.asarray(index)[None])
    before, steps, after = cloud.records
    found = {address: x[root[0]] for address, x in before.items()}
    found |= {address: _along(x, path)[:, 0] for address, x in steps.items()}
    return found | {address: x[index] for address, x in after.items()}


def _paths(ancestors: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The indices at each step of the lines that end at `last`, and where they begin."""

    def back(index: Any, row: Any) -> Any:
        return row[index], index

    root, path = jax.lax.scan(back, last, ancestors, reverse=True)
    return path, root


def _along(x: jax.Array, path: jax.Array) -> jax.Array:
    return jax.vmap(lambda row, index: row[index])(x, path)
