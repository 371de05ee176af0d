"""The derived program stays small: it grows at most quadratically with the number of choices.

Equations of the gradient's jaxpr are counted, those of inner jaxprs too, at n and 2n choices: a quadratic
count has a ratio of at most 4, one with a copy of the rest per branch or value has 2^n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

import ppl
from ppl.estimators import Enumerate, Estimator, MeasureValued, Reinforce


def equations(jaxpr: Any) -> int:
    return sum(1 + sum(map(equations, jaxprs_in_params(e.params))) for e in jaxpr.eqns)


def size(program: Callable[[Any], Any]) -> int:
    gradient = ppl.expectation(program).grad
    return equations(jax.make_jaxpr(gradient)(jax.random.key(0), jnp.asarray(0.3)))


def conditionals(count: int, how: Estimator) -> Callable[[Any], Any]:
    def program(t: Any) -> Any:
        z = t
        for i in range(count):
            draw = lambda z, i=i: (
                z + jnp.where(ppl.flip(jax.nn.sigmoid(t + 0.1 * i)).using(how) @ f"x{i}", 1.0, 0.0)
            )
            z = jax.lax.cond(z > 0.5 * i, draw, lambda z: z - t, z)
        return z**2

    return program


def flips(count: int, how: Estimator) -> Callable[[Any], Any]:
    def program(t: Any) -> Any:
        z = t
        for i in range(count):
            z = z + jnp.where(ppl.flip(jax.nn.sigmoid(0.1 * z)).using(how) @ f"x{i}", 1.0, t)
        return z**2

    return program


@pytest.mark.parametrize(
    "how", [Reinforce(), Enumerate(), MeasureValued()], ids=lambda how: type(how).__name__
)
def test_sequential_conditionals(how: Estimator) -> None:
    assert size(conditionals(30, how)) <= 4.5 * size(conditionals(15, how))


@pytest.mark.parametrize(
    "how", [Enumerate(), Reinforce(), MeasureValued()], ids=lambda how: type(how).__name__
)
def test_sequential_flips(how: Estimator) -> None:
    assert size(flips(10, how)) <= 4.5 * size(flips(5, how))
