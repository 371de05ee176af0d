"""Measure-valued, or weak, derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw
from ppl.distributions.weak_derivatives import has_weak_derivative, weak_derivative
from ppl.estimators.protocol import Contribution, Estimator, magic_box, moved
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeasureValued(Estimator):
    """Needs a family with a known decomposition; one more evaluation or two a parameter; low variance.

    The derivative of a density is a difference of two measures,

        d/dtheta p(x; theta) = c (p_plus(x; theta) - p_minus(x; theta)),

    so the derivative of `E[f(x)]` is `c (E_plus[f] - E_minus[f])`: values of `f` alone, whatever its
    smoothness. Draws from the two are coupled with the choice itself. One instance of the choice is
    replaced at a time, all other randomness kept.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def bet(p):
        ...     win = ppl.flip(p).using(ppl.estimators.MeasureValued()) @ "win"
        ...     return jax.numpy.where(win, 0.0, -p / 2)
        >>> float(bet.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))
        -0.1

    References:
        Pflug, "Sampling derivatives of probabilities", 1989.
        Mohamed, Rosca, Figurnov, Mnih, "Monte Carlo gradient estimation in machine learning", 2020.
    """

    excess_beyond_first: ClassVar[bool] = True

    @override
    def admits(self, distribution: Any) -> bool:
        """Families with a decomposition in `ppl.distributions.weak_derivatives`."""
        return has_weak_derivative(distribution)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, its phantoms, and beyond the first derivative the score of what they leave out."""
        fixed = jax.tree.map(jax.lax.stop_gradient, distribution)
        value = jax.lax.stop_gradient(draw(fixed, noise))
        weak = weak_derivative(distribution, value, noise)
        assert weak is not None, "admits() has said that there is one"
        phantoms = jax.lax.stop_gradient(weak.phantoms)
        if weak.exact or order == 1:
            return Contribution(value, phantoms=phantoms, weights=weak.weights)
        score = log_density(distribution, value)
        # From the second order on the score function takes over: exp(l - l0) - 1 less its linear part.
        excess = magic_box(score) - 1 - _linear(distribution, value)
        return Contribution(value, phantoms=phantoms, weights=weak.weights, excess=excess)


def _linear(distribution: Any, value: Any) -> Any:
    """The first-order part of the log density in the parameters."""
    fixed = jax.tree.map(jax.lax.stop_gradient, distribution)
    leaves, tree = jax.tree.flatten(distribution)
    steps = [moved(leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else None for leaf in leaves]
    inexact = [i for i, step in enumerate(steps) if step is not None]
    base = jax.tree.leaves(fixed)

    def score(moving: list[Any]) -> Any:
        full = list(base)
        for i, leaf in zip(inexact, moving, strict=True):
            full[i] = leaf
        return log_density(jax.tree.unflatten(tree, full), value)

    _, tangent = jax.jvp(score, ([base[i] for i in inexact],), ([steps[i] for i in inexact],))
    return tangent
