"""Runs in antithetic pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.estimators.coupled import Coupled, CoupledNoise, into_open_interval
from ppl.noise import NORMAL, Law, Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Antithetic(Coupled):
    """Needs an even `num_samples`; free; no variance from what is odd in the noise, more from what is even.

    Of the runs that `num_samples` averages, the second of each pair has the noise of the first mirrored:
    `-eps` for a normal number `eps`, `1 - u` for a uniform one. Each run alone has the right law; what
    changes is the covariance within a pair, whose mean has the variance

        Var[(f(eps) + f(-eps)) / 2] = Var[f_even(eps)],    Var[f] = Var[f_even] + Var[f_odd],

    against half of `Var[f]` for two independent runs. Nothing remains of a linear result; of an even one
    remains all, and the second run is wasted. If the number of runs is odd, the last stands alone; a single
    one is that of `inner`.

    Normal and uniform noise is mirrored, and so are Bernoulli, categorical and geometric draws, by their
    quantiles. The rest is independent: gamma and what is made of it, Poisson, binomial, von Mises, and any
    family without a rule of its own.

    Attributes:
        inner: any other estimator; what it admits, and to which order it is right, stay as they are.

    Raises:
        UnsupportedProgram: `inner` has a baseline made of the other runs, `Reinforce(baseline="loo")`.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def line(mean):
        ...     return 3.0 * (ppl.normal(mean, 1.0).using(ppl.estimators.Antithetic()) @ "x")
        >>> line.estimate(jax.random.key(0), 0.5, num_samples=2).round(5).item()
        1.5

    References:
        Hammersley, Morton, "A new Monte Carlo technique: antithetic variates", 1956.
        Wu, Goodman, Ermon, "Differentiable antithetic sampling for variance reduction in stochastic
        variational inference", 2019.
    """

    @override
    def couple(self, noise: Noise) -> Noise:
        return _Mirrored(noise)


class _Mirrored(CoupledNoise):
    """One draw for each pair of runs, shared by all, of which a run takes its own."""

    @override
    def standard(self, law: Law, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        pairs = (self.source.samples + 1) // 2
        first = self.source.shared().draw(law, (pairs, *shape), dtype)[self.source.sample // 2]
        second = -first if law is NORMAL else into_open_interval(1 - first)
        return jnp.where(self.source.sample % 2 == 0, first, second)
