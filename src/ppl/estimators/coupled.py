"""Estimators around another one: its noise coupled across the runs that `num_samples` averages.

A mean of unbiased runs is unbiased however they depend on each other, as long as the noise of each alone has
its law. So noise may be coupled in whatever way makes the errors of the runs cancel.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.errors import UnsupportedProgram
from ppl.estimators.baselines import Baseline
from ppl.estimators.protocol import Contribution, Estimator
from ppl.estimators.reparam import Reparam
from ppl.noise import BERNOULLI, CATEGORICAL, GEOMETRIC, NORMAL, UNIFORM, Law, Noise


class CoupledNoise(Noise):
    """The noise of one run, coupled with that of the others.

    Normal and uniform numbers are coupled by `standard`; Bernoulli, categorical and geometric ones are
    quantiles of coupled uniform numbers; all other laws are drawn independently from the source. To whoever
    draws from it there is one run only, so that it does not couple the runs in a way of its own.

    Attributes:
        source: independent noise of this run, which knows the number of the run.
    """

    def __init__(self, source: Noise) -> None:
        self.source, self.samples = source, 1

    @abstractmethod
    def standard(self, law: Law, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draws of `NORMAL` or `UNIFORM`, independent of each other and of earlier ones in this run."""

    @override
    def shared(self) -> Noise:
        return self.source.shared()

    @override
    def draw(self, law: Law, shape: tuple[int, ...], dtype: Any, *parameters: Any) -> jax.Array:
        if law is NORMAL or law is UNIFORM:
            return self.standard(law, tuple(shape), dtype)
        if law not in _QUANTILES:
            return self.source.draw(law, shape, dtype, *parameters)
        fixed = [jax.lax.stop_gradient(jnp.asarray(p)) for p in parameters]
        wide = jnp.promote_types(jnp.result_type(float, *fixed), jnp.float32)
        quantile = _QUANTILES[law](self.standard(UNIFORM, tuple(shape), wide), *fixed)
        return jnp.broadcast_to(quantile, shape).astype(dtype)


def _bernoulli(u: jax.Array, probs: jax.Array) -> jax.Array:
    return u < probs


def _categorical(u: jax.Array, logits: jax.Array) -> jax.Array:
    """How many values lie below the quantile; none of probability zero is ever it."""
    below = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1)
    return jnp.sum(u[..., None] >= below[..., :-1] / below[..., -1:], axis=-1)


def _geometric(u: jax.Array, probs: jax.Array) -> jax.Array:
    return jnp.floor(jnp.log(u) / jnp.log1p(-probs))


_QUANTILES = {BERNOULLI: _bernoulli, CATEGORICAL: _categorical, GEOMETRIC: _geometric}


def into_open_interval(u: jax.Array) -> jax.Array:
    """Numbers between zero and one, kept off both ends, to which they may have been rounded."""
    limits = jnp.finfo(u.dtype)
    return jnp.clip(u, limits.tiny, 1 - limits.epsneg)


def _of_inner(name: str) -> property:
    return property(lambda estimator: getattr(estimator.inner, name))


@dataclass(frozen=True)
class Coupled(Estimator):
    """Another estimator, whose noise is coupled across runs; all else is as it is with that one.

    Attributes:
        inner: makes the contribution of each run.

    Raises:
        UnsupportedProgram: the baseline of `inner` is made of the other runs, which are not independent.
    """

    inner: Estimator = field(default_factory=Reparam)

    def __post_init__(self) -> None:
        if isinstance(self.baseline, Baseline) and not self.baseline.averaged:
            name = type(self).__name__
            raise UnsupportedProgram(
                f"{name}({type(self.inner).__name__}(baseline={self.baseline!r})): {name} makes the runs "
                "depend on each other, and a baseline of the other runs needs them independent; the gradient "
                'would be biased. Use another, such as a number or "average", or leave the runs independent.'
            )

    @property
    def baseline(self) -> Any:
        """That of the inner estimator, if it has one."""
        return getattr(self.inner, "baseline", None)

    @abstractmethod
    def couple(self, noise: Noise) -> Noise:
        """The noise of this run, of several, coupled with that of the others."""

    @override
    def admits(self, distribution: Any) -> bool:
        """What the inner estimator admits."""
        return self.inner.admits(distribution)

    @override
    def prepare(self, support: Any) -> Estimator:
        """Tell the inner estimator."""
        return replace(self, inner=self.inner.prepare(support))

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """That of the inner estimator; a single run has nothing to be coupled with."""
        return self.inner.contribute(distribution, self.couple(noise) if noise.samples > 1 else noise, order)

    # What is asked of an estimator is answered by the inner one.
    pathwise = _of_inner("pathwise")  # pyright: ignore[reportAssignmentType]
    joint = _of_inner("joint")  # pyright: ignore[reportAssignmentType]
    biased = _of_inner("biased")  # pyright: ignore[reportAssignmentType]
    together = _of_inner("together")  # pyright: ignore[reportAssignmentType]
    score_beyond_first = _of_inner("score_beyond_first")  # pyright: ignore[reportAssignmentType]
    excess_beyond_first = _of_inner("excess_beyond_first")  # pyright: ignore[reportAssignmentType]
