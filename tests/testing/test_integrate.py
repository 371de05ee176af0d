"""The integrator itself: right on noise whose moments are known, and not blind to what it must find."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ppl
from ppl.estimators import Reinforce
from ppl.noise import BERNOULLI, CATEGORICAL, GEOMETRIC, LOG_GAMMA, POISSON, Noise
from ppl.testing.integrate import integrate
from ppl.testing.rules import gauss_hermite

from ..laws.laws import check_exactly

KEY = jax.random.key(3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("law", "parameter", "known"),
    [
        (BERNOULLI, 0.3, 0.3),
        (CATEGORICAL, [0.0, 1.0, -1.0], np.array([0, 1, 4]) @ np.exp([0, 1, -1]) / np.exp([0, 1, -1]).sum()),
        (POISSON, 2.5, 2.5 + 2.5**2),
        (GEOMETRIC, 0.4, 0.6 * 1.6 / 0.16),
        (LOG_GAMMA, 2.5, stats.loggamma(2.5).var() + stats.loggamma(2.5).mean() ** 2),
    ],
)
def test_second_moments(law: Any, parameter: Any, known: float) -> None:
    found = integrate(lambda key, p: Noise(key).draw(law, (), float, p) ** 2.0, KEY, jnp.asarray(parameter))
    np.testing.assert_allclose(found.mean, known, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_blocks_are_independent_and_a_key_used_again_is_not() -> None:
    def function(key: Any) -> Any:
        x, y = Noise(key).normal((2,))
        return x * y, x * Noise(key).normal((2,))[0], x**2 * Noise(jax.random.fold_in(key, 1)).uniform()

    np.testing.assert_allclose(integrate(function, KEY).mean, [0, 1, 0.5], atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_one_key_for_two_laws_is_refused() -> None:
    with pytest.raises(AssertionError, match="two blocks"):
        integrate(lambda key: Noise(key).normal() * Noise(key).uniform(), KEY)


@pytest.mark.usefixtures("x64")
def test_loops_and_conditionals_on_noise() -> None:
    def function(key: Any) -> Any:
        def step(total: Any, i: Any) -> Any:
            inner = Noise(jax.random.fold_in(key, i))
            coin = inner.draw(BERNOULLI, (), float, 0.25)
            return jax.lax.cond(coin > 0.5, lambda: total + inner.normal() ** 2, lambda: 2 * total + 1), None

        return jax.lax.scan(step, 0.0, jnp.arange(3))[0]

    mean = 0.0
    for _ in range(3):
        mean = 0.25 * (mean + 1) + 0.75 * (2 * mean + 1)
    rules = {"normal": gauss_hermite(3)}
    np.testing.assert_allclose(integrate(function, KEY, rules=rules).mean, mean, rtol=1e-10)


class _Halved(Reinforce):
    """The score function, half of it."""

    def contribute(self, distribution: Any, noise: Any, order: int) -> Any:
        made = super().contribute(distribution, noise, order)
        return made._replace(score=made.score / 2)


def test_a_biased_estimator_fails_the_law() -> None:
    jax.tree_util.register_dataclass(_Halved, data_fields=["baseline"], meta_fields=[])
    program = lambda t: jnp.where(ppl.flip(jax.nn.sigmoid(t[0])).using(_Halved()) @ "b", 2.0, t[1])

    def truth(t: Any) -> Any:
        p = jax.nn.sigmoid(t[0])
        return 2 * p + (1 - p) * t[1]

    with pytest.raises(AssertionError, match="gradient"):
        check_exactly(program, truth)
