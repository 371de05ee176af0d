"""Coupled runs have less variance than independent ones; bootstrap intervals of level 0.998, fixed keys."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Antithetic, QuasiMonteCarlo, Reinforce, Reparam


def means(estimator: Any, function: Any, samples: int, runs: int = 2000, measure: Any = None) -> Any:
    """Values and gradients of the mean of some runs, for many keys."""
    base = (lambda t: ppl.normal(t, 0.8)) if measure is None else measure
    objective = ppl.expectation(lambda t: function(base(t).using(estimator) @ "x"))
    keys = jax.random.split(jax.random.key(3), runs)
    found = jax.jit(jax.vmap(lambda key: objective.value_and_grad(key, 0.3, num_samples=samples)))(keys)
    return [np.asarray(x, np.float64) for x in found]


def interval(reduced: np.ndarray, plain: np.ndarray) -> tuple[float, float, float]:
    """The ratio of variances, and the ends of its bootstrap interval of level 0.998."""
    rng = np.random.default_rng(0)
    pick = lambda x: x[rng.integers(0, len(x), len(x))].var()
    again = [pick(reduced) / pick(plain) for _ in range(1000)]
    low, high = np.quantile(again, [0.001, 0.999])
    return float(reduced.var() / plain.var()), float(low), float(high)


def test_antithetic_runs_leave_no_variance_of_a_line() -> None:
    for measure in (
        None,
        lambda t: ppl.uniform(t, 2.0),
        lambda t: ppl.laplace(t, 1.0),
        lambda t: ppl.families.logistic(t, 1.0),
    ):
        value, _ = means(Antithetic(), lambda x: 2.0 * x, 16, 50, measure)
        assert value.std() < 1e-5
        assert means(Antithetic(), lambda x: 2.0 * x, 1, 50, measure)[0].std() > 0.1


SMOOTH = {
    "antithetic": (Antithetic(), 0.5, 0.1),
    "quasi_monte_carlo": (QuasiMonteCarlo(), 0.1, 0.1),
    "antithetic_reinforce": (Antithetic(Reinforce()), 0.5, 0.95),
    "quasi_monte_carlo_reinforce": (QuasiMonteCarlo(Reinforce()), 0.1, 0.5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_mean_of_sixteen_runs_of_a_smooth_result(name: str) -> None:
    """Value and gradient against as many independent runs; the intervals end below the bounds."""
    estimator, *most = SMOOTH[name]
    function = lambda x: jnp.exp(0.3 * x) + 0.1 * x**2
    coupled, plain = means(estimator, function, 16), means(estimator.inner, function, 16)
    for what, one, other, bound in zip(("value", "gradient"), coupled, plain, most, strict=True):
        found, low, high = interval(one, other)
        print(f"{name} {what}: variance ratio {found:.4f}, from {low:.4f} to {high:.4f}")
        assert high < bound


def test_quasi_monte_carlo_over_a_vector_and_over_choices() -> None:
    """Interactions within a choice are spread too; those between choices are as in independent runs."""
    keys = jax.random.split(jax.random.key(3), 2000)

    def variance(estimator: Any, program: Any) -> np.ndarray:
        objective = ppl.expectation(program(estimator))
        return np.asarray(jax.vmap(lambda key: objective.estimate(key, num_samples=64))(keys), np.float64)

    vector = lambda how: lambda: jnp.prod(1 + 0.5 * (ppl.normal(jnp.zeros(2), 1.0).using(how) @ "x"))
    pair = lambda how: (
        lambda: jnp.prod(jnp.stack([1 + 0.5 * (ppl.normal(0.0, 1.0).using(how) @ name) for name in "xy"]))
    )
    for name, program, bound in (("a vector", vector, 0.1), ("two choices", pair, 0.2)):
        found, low, high = interval(variance(QuasiMonteCarlo(), program), variance(Reparam(), program))
        print(f"{name}: variance ratio {found:.4f}, from {low:.4f} to {high:.4f}")
        assert high < bound
