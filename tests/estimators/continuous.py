"""What the tests of estimators of continuous choices share: variance ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import ppl
from ppl.estimators import Estimator

from ..laws.laws import KEY


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
