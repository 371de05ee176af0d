"""The registry of the gradient laws: families, estimators, and integrands.

A family is one entry: a measure of two unconstrained parameters (an array of them gives an array of
draws), the oracle of its law, and a place where a discontinuous integrand jumps. An estimator is one entry,
and is tested with every family that it admits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.distributions.finite_support import support_values
from ppl.estimators import (
    ARM,
    BoundaryCorrected,
    DisARM,
    Enumerate,
    Estimator,
    GeneralizedReparam,
    LeaveOneOut,
    MeasureValued,
    Rebar,
    Reinforce,
    RejectionReparam,
    Relax,
    Reparam,
    StochasticTriple,
    UnorderedSet,
)

from . import oracles
from .oracles import Law

THETA = np.array([0.35, -0.2])
DIRECTION = np.array([1.0, 0.6])


def _control(b: Any) -> Any:
    """Of a relaxed draw: of a coin, or of a vector with an entry for each value."""
    return jnp.sum(0.8 * b - 0.6 * b**2)


ESTIMATORS: dict[str, Callable[[float], Estimator]] = {
    "reparam": lambda jump: Reparam(),
    "generalized_reparam": lambda jump: GeneralizedReparam(),
    "rejection_reparam": lambda jump: RejectionReparam(boost=1),
    "boundary_corrected": lambda jump: BoundaryCorrected(at=(jump,)),
    "enumerate": lambda jump: Enumerate(),
    "measure_valued": lambda jump: MeasureValued(),
    "stochastic_triple": lambda jump: StochasticTriple(),
    "unordered_set": lambda jump: UnorderedSet(2),
    "disarm": lambda jump: DisARM(),
    "arm": lambda jump: ARM(),
    "rebar": lambda jump: Rebar(_control, temperature=1.0, scale=0.5),
    "relax": lambda jump: Relax(lambda z: _control(jax.nn.sigmoid(z))),
    "leave_one_out": lambda jump: LeaveOneOut(2),
    "reinforce": lambda jump: Reinforce(),
    "baseline": lambda jump: Reinforce(baseline=0.8),
}
"""Every estimator that is unbiased by itself, for integrands that jump at one place."""

COUPLED = {"Antithetic", "QuasiMonteCarlo"}
"""Those that wrap others, and are about several runs: `tests/estimators/test_coupled.py`."""


class Family(NamedTuple):
    """A family under test.

    Attributes:
        measure: `theta (..., 2) -> measure`.
        law: of a single choice, from `theta (2,)`.
        jump: where discontinuous integrands jump, inside the support.
    """

    measure: Callable[[Any], Any]
    law: Law
    jump: float

    @property
    def estimators(self) -> dict[str, Estimator]:
        """Every one that the family admits, by name."""
        distribution = self.measure(jnp.asarray(THETA)).numpyro
        made = {name: make(self.jump) for name, make in ESTIMATORS.items()}
        support = support_values(distribution)
        return {name: e for name, e in made.items() if e.prepare(support).admits(distribution)}


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
        0.5,
    ),
    "exponential": Family(lambda t: ppl.exponential(_fast(t)), oracles.exponential(_fast, 0.5), 0.5),
    "gamma": Family(
        lambda t: ppl.gamma(_shape(t), _fast(t)),
        oracles.gamma(_shape, _fast, 0.8),
        0.8,
    ),
    "beta": Family(lambda t: ppl.beta(_shape(t), _rate(t)), oracles.beta(_shape, _rate, 0.4), 0.4),
    "flip": Family(lambda t: ppl.flip(_probability(t)), oracles.flip(_probability), 0.5),
    "bernoulli": Family(
        lambda t: ppl.bernoulli(logits=_first(t) + 0.5 * _second(t)), oracles.flip(_probability), 0.5
    ),
    "categorical": Family(lambda t: ppl.categorical(logits=_logits(t)), oracles.categorical(_logits, 3), 1.5),
    "categorical_probs": Family(
        lambda t: ppl.categorical(jax.nn.softmax(_logits(t))), oracles.categorical(_logits, 3), 0.5
    ),
    "binomial": Family(lambda t: ppl.binomial(3, _probability(t)), oracles.binomial(3, _probability), 1.5),
    "poisson": Family(lambda t: ppl.poisson(_rate(t)), oracles.poisson(_rate), 1.5),
    "geometric": Family(lambda t: ppl.geometric(_probability(t)), oracles.geometric(_probability), 1.5),
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
    """Where the integrand jumps: a pathwise estimator gets one without, unless it corrects for it."""
    return None if estimator.pathwise and not estimator.corrects else family.jump


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
