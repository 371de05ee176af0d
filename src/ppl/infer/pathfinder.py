"""Pathfinder: importance sampling by a normal distribution that is found on the way to a mode."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.families import mixture, multivariate_normal, uniform
from ppl.infer.algorithm import Algorithm, Particles, Retained
from ppl.infer.moves.key import fresh_key
from ppl.infer.moves.move import density_of
from ppl.infer.moves.real import Real, real, refusing
from ppl.infer.optional import blackjax
from ppl.measure import Measure
from ppl.undifferentiated import undifferentiated
from ppl.weights import at_least, log_mean_exp

_META = ["particles", "paths", "steps", "samples", "history"]


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=_META)
@dataclass(frozen=True)
class Pathfinder(Algorithm):
    """Importance sampling with a proposal that Pathfinder fits: normal in unconstrained space.

    From a random point L-BFGS climbs the density. At each of its steps its estimate of the inverse Hessian
    makes a normal approximation, of which the one with the largest ELBO is taken. Particles are drawn from it
    and weighed by `gamma(x) / r(x)`. Where the path begins, and the draws that estimate ELBOs, are hidden
    choices that do not depend on the particles: the mean weight is unbiased for the normalizing constant, and
    the density of given choices is estimated with a path of its own.

    Args:
        particles: how many are drawn.
        paths: how many fits from independent points; the proposal is their mixture, in equal parts. It finds
            several modes, if a path leads to each.
        steps: of L-BFGS, at most.
        samples: draws that estimate an ELBO.
        history: steps that the estimate of the inverse Hessian remembers.

    Raises:
        UnsupportedProgram: a latent choice is discrete, or the density is estimated; or a derivative is taken
            with respect to what the target depends on.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 0.1) @ "y"
        >>> target = model().condition({"y": 2.0})
        >>> found = ppl.infer.run(target, ppl.infer.Pathfinder(200), key=jax.random.key(0))
        >>> bool(abs(found.log_normalizer - ppl.normal(0.0, 1.01**0.5).log_density(2.0)) < 0.01)
        True

    Reference: Zhang, Carpenter, Gelman, Vehtari, "Pathfinder: parallel quasi-Newton variational inference",
    2022.
    """

    particles: int
    paths: int = 1
    steps: int = 30
    samples: int = 100
    history: int = 6
    needs_weight = False

    def __post_init__(self) -> None:
        at_least(1, self.particles, "Pathfinder")
        for name in ("paths", "steps", "samples", "history"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} of Pathfinder is at least one, got {getattr(self, name)!r}")

    @override
    def run(self, target: Measure) -> Particles:
        space, proposal = self._fitted(target)
        vectors, weights = self._drawn(space, proposal, self.particles)
        choices = jax.vmap(space.choices)(vectors)
        return Particles(choices, jax.vmap(target.log_density)(choices), weights, log_mean_exp(weights))

    @override
    def log_normalizer(self, target: Measure) -> jax.Array:
        return log_mean_exp(self._drawn(*self._fitted(target), self.particles)[1])

    @override
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        space, proposal = self._fitted(target)
        vector = space.vector(retained.choices)
        weights = (space.log_density(vector) - proposal.log_density(vector))[None]
        if self.particles > 1:
            weights = jnp.concatenate([weights, self._drawn(space, proposal, self.particles - 1)[1]])
        return log_mean_exp(weights)

    def _drawn(self, space: Real, proposal: Measure, count: int) -> tuple[jax.Array, jax.Array]:
        def one(_: Any) -> tuple[jax.Array, jax.Array]:
            trace = proposal.propose()
            return trace.retval, space.log_density(trace.retval) - trace.log_density

        return jax.vmap(one)(jnp.arange(count))

    def _fitted(self, target: Measure) -> tuple[Real, Measure]:
        """Inside a program: the target as a density of real vectors, and the proposal."""
        density = density_of(target, "Pathfinder")
        space, _ = real(density, Choices(), (), "Pathfinder")
        why = (
            f"Pathfinder fits its proposal to {density.name} by an optimization, and picks the best of "
            "several: it jumps where what the target depends on moves, and the derivative would be biased. "
            "Pass what it depends on as an argument that no derivative is taken of (argnums), or use a guide "
            "and ppl.infer.Importance."
        )
        means, scales = jax.vmap(lambda _: self._path(space, why))(jnp.arange(self.paths))
        if self.paths == 1:
            return space, multivariate_normal(means[0], scale_tril=scales[0])
        return space, mixture(multivariate_normal(means, scale_tril=scales), logits=jnp.zeros(self.paths))

    def _path(self, space: Real, why: str) -> tuple[jax.Array, jax.Array]:
        """Mean and Cholesky factor of one fit; wherever it fails, of a wide normal."""
        begin = uniform(-2.0 * jnp.ones(space.size), 2.0).propose().retval
        refusing(space.log_density(begin), why)  # it moves with whatever the density depends on
        fit = blackjax("vi", "pathfinder").approximate(
            fresh_key(),
            space.log_density,
            begin,
            self.samples,
            maxiter=self.steps,
            maxcor=self.history,
            maxls=100,
        )[0]
        low_rank = fit.beta @ fit.gamma @ fit.beta.T
        mean = fit.position + fit.alpha * fit.grad_position + low_rank @ fit.grad_position
        scale = jnp.linalg.cholesky(jnp.diag(fit.alpha) + low_rank)
        found = jnp.isfinite(fit.elbo) & jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(scale))
        found &= jnp.all(jnp.diag(scale) > 0)
        mean, scale = jnp.where(found, mean, begin), jnp.where(found, scale, jnp.eye(space.size))
        return undifferentiated((mean, scale), why)
