"""Importance sampling, and resampling one of the particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.infer.algorithm import Algorithm, Particles, Retained, observed, unobserved
from ppl.measure import Measure
from ppl.weights import at_least, log_mean_exp

Proposal = Measure | Callable[[Choices], Measure]


class _Particle(NamedTuple):
    choices: Choices
    log_density: jax.Array
    log_weight: jax.Array


@partial(jax.tree_util.register_dataclass, data_fields=["proposal"], meta_fields=["particles"])
@dataclass(frozen=True)
class Importance(Algorithm):
    """Particles of a proposal `r`, weighted by `w = gamma(x) / r(x)`; one of them is drawn by its weight.

    The normalizing constant is estimated by the mean weight. All particles are drawn at once, as lanes of one
    `jax.vmap`.

    Args:
        particles: how many. One is a draw of the proposal itself.
        proposal: a measure over the target's choices, or a function that makes one of what the target is
            conditioned on. By default what is not observed is drawn as the program draws it, and the weight
            is the density of what is observed.

    The particle that is drawn is a choice at the address `"particle"`, with an estimator like any other.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 1.0) @ "y"
        >>> posterior = ppl.normalize(model().condition({"y": 1.0}), ppl.infer.Importance(100))
        >>> draws = jax.vmap(posterior.simulate)(jax.random.split(jax.random.key(0), 1000))
        >>> float(draws.choices["x"].mean().round(1)), float(draws.choices["x"].std().round(1))
        (0.5, 0.7)

    Reference: Rubin, "Using the SIR algorithm to simulate posterior distributions", 1988.
    """

    particles: int = 1
    proposal: Any = None

    def __post_init__(self) -> None:
        at_least(1, self.particles, "Importance")

    @property
    def needs_weight(self) -> bool:  # type: ignore[override]
        """Whether the target draws its own particles."""
        return self.proposal is None

    @override
    def run(self, target: Measure) -> Particles:
        made = self._particles(target, self.particles)
        normalizer = log_mean_exp(made.log_weight)
        return Particles(made.choices, made.log_density, made.log_weight, normalizer)

    @override
    def log_normalizer(self, target: Measure) -> jax.Array:
        return log_mean_exp(self._particles(target, self.particles).log_weight)

    @override
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        weights = [self._retained(target, retained)[None]]
        if self.particles > 1:
            weights.append(self._particles(target, self.particles - 1).log_weight)
        return log_mean_exp(jnp.concatenate(weights))

    def _retained(self, target: Measure, retained: Retained) -> jax.Array:
        if self.proposal is None:
            assert retained.log_weight is not None
            return retained.log_weight
        return retained.log_density - self._proposal(target).log_density(retained.choices)

    def _particles(self, target: Measure, count: int) -> _Particle:
        return jax.vmap(lambda _: self._particle(target))(jnp.arange(count))

    def _particle(self, target: Measure) -> _Particle:
        if self.proposal is None:
            trace, weight = target.propose_given({}, ())
            return _Particle(unobserved(target, trace.choices), trace.log_density, weight)
        trace = self._proposal(target).propose()
        log_density = target.log_density(trace.choices)
        return _Particle(trace.choices, log_density, log_density - trace.log_density)

    def _proposal(self, target: Measure) -> Measure:
        return self.proposal if isinstance(self.proposal, Measure) else self.proposal(observed(target))
