"""Coupled finite differences: what changes if a choice is one step higher or lower."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import log_density, support_values
from ppl.distributions.neighbors import has_neighbors, neighbors
from ppl.distributions.sampling import draw
from ppl.estimators.protocol import Contribution, Estimator
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StochasticTriple(Estimator):
    """Needs an ordered discrete family; one more evaluation or two for each instance; low variance.

    If a count is drawn as the quantile of a uniform number, a small change of its parameters moves it to a
    neighbor, with a probability of the size of the change. The expected effect, by summation by parts, is

        d/dtheta E[f(x)] = sum_k (f(k + 1) - f(k)) (-d/dtheta F(k; theta)),

    with `F` the distribution function. The rest of the program runs at the neighbors of the draw, with all
    other randomness kept, and the differences are weighted by how fast probability passes them. The
    variance is low where neighbors have similar results: counts, levels, indices in order. For categories
    without an order use `MeasureValued` or `UnorderedSet`.

    The weights are right once; from the second derivative on the score function takes over. They are right
    where a probability is 0 or 1 too, unless two neighbors both have probability zero.

    Attributes:
        support: the values of one instance, if they are finitely many; filled in where the choice is made.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def triangle(p):
        ...     n = ppl.binomial(10, p).using(ppl.estimators.StochasticTriple()) @ "n"
        ...     return n * (n + 1) / 2
        >>> round(float(triangle.grad(jax.random.key(0), 0.4, num_samples=10_000)))
        46

    References:
        Arya, Schauer, Schäfer, Rackauckas, "Automatic differentiation of programs with discrete randomness",
        2022.
        Fu, Hu, "Conditional Monte Carlo: Gradient estimation and optimization applications", 1997 (smoothed
        perturbation analysis).
    """

    support: Any = field(default=None, repr=False)
    score_beyond_first: ClassVar[bool] = True

    def _support(self, distribution: Any) -> Any:
        return support_values(distribution) if self.support is None else self.support

    @override
    def admits(self, distribution: Any) -> bool:
        """Families with a rule in `ppl.distributions.neighbors`, or with finitely many numbers as values."""
        return has_neighbors(distribution, self._support(distribution))

    @override
    def prepare(self, support: Any) -> Estimator:
        """Keep the support: its bounds may be parameters, which are concrete only where they are made."""
        return replace(self, support=support)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, and its neighbors as phantoms."""
        value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
        if order > 1:
            return Contribution(value, score=log_density(distribution, value))
        support = self._support(distribution)
        support = None if support is None else jnp.asarray(support).astype(value.dtype)
        found = neighbors(distribution, value, support)
        return Contribution(value, phantoms=found.values, weights=found.weights)
