"""The registry of the gradient laws: families, the estimators that they admit, and integrands.

A family is one entry: a measure of two unconstrained parameters (an array of them gives an array of
draws), the oracle of its law, and a place where a discontinuous integrand jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.estimators import Enumerate, Estimator, MeasureValued, Reinforce, Reparam

from . import oracles
from .oracles import Law

THETA = np.array([0.35, -0.2])
DIRECTION = np.array([1.0, 0.6])


class Family(NamedTuple):
    """A family under test.

    Attributes:
        measure: `theta (..., 2) -> measure`.
        law: of a single choice, from `theta (2,)`.
        estimators: every one that it admits, by name.
        jump: where discontinuous integrands jump, inside the support.
    """

    measure: Callable[[Any], Any]
    law: Law
    estimators: dict[str, Estimator]
    jump: float


REPARAM = {"reparam": Reparam()}
SCORE = {"reinforce": Reinforce(), "baseline": Reinforce(baseline=0.8)}
WEAK = {"measure_valued": MeasureValued()}
EXACT = {"enumerate": Enumerate()} | WEAK
FINITE = EXACT | SCORE


def _first(t: Any) -> Any:
    return t[..., 0]


def _second(t: Any) -> Any:
    return t[..., 1]


def _scale(t: Any) -> Any:
    return 0.7 * jnp.exp(0.3 * t[..., 0] + 0.5 * t[..., 1])


def _probability(t: Any) -> Any:
    return jax.nn.sigmoid(t[..., 0] + 0.5 * t[..., 1])


def _rate(t: Any) -> Any:
    return 1.2 * jnp.exp(0.5 * t[..., 0] - 0.3 * t[..., 1])


def _shape(t: Any) -> Any:
    return 2.0 * jnp.exp(0.3 * t[..., 0] + 0.4 * t[..., 1])


def _fast(t: Any) -> Any:
    return 2.0 * jnp.exp(0.3 * t[..., 1])


def _logits(t: Any) -> Any:
    return jnp.stack([t[..., 0], t[..., 1], 0.3 * t[..., 0] * t[..., 1]], axis=-1)


FAMILIES: dict[str, Family] = {
    "normal": Family(
        lambda t: ppl.normal(_first(t), _scale(t)),
        oracles.normal(_first, _scale, 0.5),
        REPARAM | SCORE | WEAK,
        0.5,
    ),
    "exponential": Family(
        lambda t: ppl.exponential(_fast(t)), oracles.exponential(_fast, 0.5), REPARAM | SCORE | WEAK, 0.5
    ),
    "gamma": Family(
        lambda t: ppl.gamma(_shape(t), _fast(t)),
        oracles.gamma(_shape, _fast, 0.8),
        REPARAM | SCORE | WEAK,
        0.8,
    ),
    "beta": Family(
        lambda t: ppl.beta(_shape(t), _rate(t)), oracles.beta(_shape, _rate, 0.4), REPARAM | SCORE, 0.4
    ),
    "flip": Family(lambda t: ppl.flip(_probability(t)), oracles.flip(_probability), FINITE, 0.5),
    "bernoulli": Family(
        lambda t: ppl.bernoulli(logits=_first(t) + 0.5 * _second(t)), oracles.flip(_probability), EXACT, 0.5
    ),
    "categorical": Family(
        lambda t: ppl.categorical(logits=_logits(t)), oracles.categorical(_logits, 3), FINITE, 1.5
    ),
    "categorical_probs": Family(
        lambda t: ppl.categorical(jax.nn.softmax(_logits(t))), oracles.categorical(_logits, 3), EXACT, 0.5
    ),
    "binomial": Family(
        lambda t: ppl.binomial(3, _probability(t)), oracles.binomial(3, _probability), FINITE, 1.5
    ),
    "poisson": Family(lambda t: ppl.poisson(_rate(t)), oracles.poisson(_rate), SCORE | WEAK, 1.5),
    "geometric": Family(
        lambda t: ppl.geometric(_probability(t)), oracles.geometric(_probability), SCORE | WEAK, 1.5
    ),
}


def integrand(jump: float | None) -> Callable[[Any, Any], Any]:
    """A skewed function of a choice and the parameters, with a jump unless it is `None`."""

    def f(x: Any, t: Any) -> Any:
        smooth = 0.1 * x**3 + jnp.exp(0.3 * x)
        jumped = smooth if jump is None else smooth + 1.3 * jnp.where(x > jump, 1.0, 0.0)
        return jumped * (1 + 0.3 * t[0] * t[1]) + 0.1 * x * t[1]

    return f


def drawer(family: Family, estimator: Estimator) -> Callable[[Any, str | None], Any]:
    """`draw(theta, address)`: one choice as a float, unrecorded if the address is `None`."""

    def draw(theta: Any, address: str | None) -> Any:
        measure = family.measure(theta).using(estimator)
        value = measure.propose().retval if address is None else measure @ address
        return jnp.asarray(value, jnp.result_type(float))

    return draw


def jump_of(family: Family, estimator: Estimator) -> float | None:
    """Where the integrand jumps: a pathwise estimator gets one without."""
    return None if estimator.pathwise else family.jump


DISCRETE: dict[str, Estimator] = {
    "enumerate": Enumerate(),
    "measure_valued": MeasureValued(),
    "baseline": Reinforce(baseline=0.4),
}
"""Estimators of a coin, for programs written out by hand."""


def coin(p: Any, how: Any, address: str | None = "b") -> Any:
    """A flip as a float, unrecorded if the address is `None`."""
    measure = ppl.flip(p).using(how)
    value = measure.propose().retval if address is None else measure @ address
    return jnp.asarray(value, jnp.result_type(float))
