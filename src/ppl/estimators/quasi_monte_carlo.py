"""Runs at the points of a randomized low-discrepancy sequence."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from ppl.estimators.coupled import Coupled, CoupledNoise, into_open_interval
from ppl.noise import BERNOULLI, NORMAL, Law, Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuasiMonteCarlo(Coupled):
    """Needs several runs, best a power of two; free; far less variance of smooth results of few numbers.

    The noise of the runs that `num_samples` averages is spread evenly. Of `S = 2^m` runs, each number of a
    choice falls once into each of `S` intervals of equal probability, and up to `m` numbers of one choice
    fall together as the points of a Sobol sequence do. With `v_s` the point of run `s`, in `m` binary
    digits, `r` random digits that all runs share, and an independent uniform number for each run,

        u_s = (v_s xor r + uniform_s) / 2^m.

    In each run this is uniform, independently between numbers; normal noise is its quantile. Each choice,
    lane and step assigns points to runs by a permutation of its own: different ones are independent in each
    run and, across runs, no more dependent than in a Latin hypercube. The variance that is due to a single
    number falls as `S^-3` where the result is smooth in it, instead of `1 / S`; that of interactions between
    choices stays what it is with independent runs, up to a factor `S / (S - 1)`.

    Other numbers of runs take the first points of the next power of two. A single run is that of `inner`.
    Bernoulli, categorical and geometric draws are quantiles too. The rest is independent: gamma and what is
    made of it, Poisson, binomial, von Mises, and any family without a rule of its own.

    Attributes:
        inner: any other estimator; what it admits, and to which order it is right, stay as they are.

    Raises:
        UnsupportedProgram: `inner` has a baseline made of the other runs, `Reinforce(baseline="loo")`.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def square(mean):
        ...     return (ppl.normal(mean, 1.0).using(ppl.estimators.QuasiMonteCarlo()) @ "x") ** 2
        >>> square.grad(jax.random.key(0), 0.5, num_samples=1024).round(3).item()
        1.0

    References:
        Owen, "Latin supercube sampling for very high-dimensional simulations", 1998.
        L'Ecuyer, Lemieux, "Recent advances in randomized quasi-Monte Carlo methods", 2002.
        Buchholz, Wenzel, Mandt, "Quasi-Monte Carlo variational inference", 2018.
    """

    @override
    def couple(self, noise: Noise) -> Noise:
        return _Spread(noise)


class _Spread(CoupledNoise):
    """Numbers in groups, each group at the points of a Sobol sequence in an order of its own."""

    @override
    def standard(self, law: Law, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        count = math.prod(shape)
        if count == 0:
            return self.source.draw(law, shape, dtype)
        bits = (self.source.samples - 1).bit_length()
        size = min(bits, count)
        groups = -(-count // size)
        shared = self.source.shared()
        order = jnp.argsort(shared.uniform((groups, self.source.samples)), axis=1)[:, self.source.sample]
        points = jnp.asarray(sobol(bits, size))[order].reshape(-1)[:count]
        digits = shared.draw(BERNOULLI, (count, bits), points.dtype, 0.5)
        shifted = points ^ jnp.sum(digits << jnp.arange(bits), axis=1, dtype=points.dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        u = (shifted.reshape(shape).astype(wide) + self.source.uniform(shape, wide)) / 2**bits
        u = into_open_interval(u)
        return (ndtri(u) if law is NORMAL else u).astype(dtype)


@functools.cache
def sobol(bits: int, dimensions: int) -> np.ndarray:
    """The first `2^bits` points of a Sobol sequence, in integers of that many digits; one row each.

    Example:
        >>> sobol(2, 2).tolist()
        [[0, 0], [2, 2], [3, 1], [1, 3]]
    """
    from scipy.stats import qmc

    points = qmc.Sobol(dimensions, scramble=False).random_base2(bits)
    return np.rint(points * 2**bits).astype(np.int32)
