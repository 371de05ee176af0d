"""What the tests of estimators of continuous choices share: exact first derivatives, and variance ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.estimators import Estimator
from ppl.testing.integrate import integrate

from ..laws.cases import THETA
from ..laws.laws import KEY, truth_of


def check_first_exactly(program: Any, truth: Any, *, draws: int = 1, rules: Any = None) -> None:
    """As `check_exactly`, of value and first derivative alone, for estimators that refuse a second one."""
    right, objective = truth_of(truth), ppl.expectation(program)

    def both(key: Any, theta: Any) -> Any:
        return objective.estimate(key, theta), *objective.value_and_grad(key, theta)

    with jax.enable_x64(True):
        found = integrate(both, jax.random.key(KEY), jnp.asarray(THETA), rules=rules)
    assert found.draws >= draws, f"{found.draws} numbers drawn, expected {draws} or more"
    for got, wanted in zip(found.mean, (right.value, right.value, right.gradient), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8)


def slopes(program: Callable[[Estimator], Any], estimator: Estimator, theta: Any, count: int) -> np.ndarray:
    """The gradient of `program(estimator)` at many independent keys."""
    objective = ppl.expectation(program(estimator))
    keys = jax.random.split(jax.random.key(KEY), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: objective.grad(key, theta)))(keys), np.float64)


def variance_ratio(
    program: Callable[[Estimator], Any], one: Estimator, other: Estimator, theta: Any, count: int = 20_000
) -> tuple[float, float, float]:
    """Var(one) / Var(other), summed over the gradient, with the ends of a 99% bootstrap interval."""
    generator = np.random.default_rng(KEY)
    found = [slopes(program, e, theta, count).reshape(count, -1) for e in (one, other)]

    def ratio(first: Any, second: Any) -> float:
        return float(first.var(axis=0).sum() / second.var(axis=0).sum())

    spread = []
    for _ in range(1000):
        i, j = generator.integers(count, size=(2, count))
        spread.append(ratio(found[0][i], found[1][j]))
    low, high = np.quantile(spread, [0.005, 0.995])
    return ratio(*found), float(low), float(high)
