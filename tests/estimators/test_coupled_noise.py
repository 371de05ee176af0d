"""The noise of coupled runs: in each run of its law and independent, across runs as it should be.

Kolmogorov and Smirnov at 1e-6 for each number; correlations and counts at 5 standard errors, 6e-7 each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ppl.estimators import Antithetic, QuasiMonteCarlo
from ppl.noise import BERNOULLI, CATEGORICAL, GEOMETRIC, LOG_GAMMA, SAMPLES, Noise, Token

BOTH = {"antithetic": Antithetic, "quasi_monte_carlo": QuasiMonteCarlo}
both = pytest.mark.parametrize("coupled", BOTH.values(), ids=BOTH)


def noise(coupled: Any, samples: int, draw: Callable[[Noise], Any], runs: int = 4000) -> np.ndarray:
    """What every run draws, for many keys: shape `(runs, samples, ...)`."""

    def mean(key: Any) -> Any:
        one = lambda own: draw(coupled().couple(Noise(key, Token(own), samples)))
        return jax.vmap(one, axis_name=SAMPLES)(jnp.zeros(samples, bool))

    return np.asarray(jax.jit(jax.vmap(mean))(jax.random.split(jax.random.key(7), runs)))


@pytest.mark.parametrize("samples", [2, 5, 8])
@both
def test_normal_and_uniform_noise_have_their_law_in_each_run(coupled: Any, samples: int) -> None:
    def draw(noise: Noise) -> Any:
        return jnp.concatenate([noise.normal((3,)), jax.scipy.special.ndtri(noise.uniform((2, 2))).ravel()])

    found = noise(coupled, samples, draw)
    assert np.all(np.isfinite(found))
    for run in range(samples):
        for number in range(found.shape[-1]):
            assert stats.kstest(found[:, run, number], "norm").pvalue > 1e-6
        # All numbers of one run are independent: of one draw, and of two.
        correlation = np.corrcoef(found[:, run], rowvar=False) - np.eye(found.shape[-1])
        assert np.max(np.abs(correlation)) < 5 / np.sqrt(len(found))
        squares = np.corrcoef(found[:, run] ** 2, rowvar=False) - np.eye(found.shape[-1])
        assert np.max(np.abs(squares)) < 5 / np.sqrt(len(found))


PMF = {
    "bernoulli": (BERNOULLI, 0.3, np.array([0.7, 0.3])),
    "certain": (BERNOULLI, 1.0, np.array([0.0, 1.0])),
    "categorical": (
        CATEGORICAL,
        jnp.log(jnp.array([0.0, 0.2, 0.0, 0.8, 0.0])),
        np.array([0, 0.2, 0, 0.8, 0]),
    ),
    "geometric": (GEOMETRIC, 0.35, 0.35 * 0.65 ** np.arange(40)),
}


@pytest.mark.parametrize("law", PMF)
@both
def test_discrete_noise_has_its_law_in_each_run(coupled: Any, law: str) -> None:
    which, parameter, mass = PMF[law]
    found = noise(coupled, 3, lambda noise: noise.draw(which, (2,), int, parameter), 20_000)
    for run in range(3):
        for number in range(2):
            counts = np.bincount(found[:, run, number], minlength=len(mass))
            assert len(counts) <= len(mass) and np.all(counts[mass == 0] == 0)
            expected = mass * len(found)
            errors = np.sqrt(expected * (1 - mass))
            assert np.all(np.abs(counts - expected) <= 5 * errors + 1)


@both
def test_other_laws_are_drawn_independently(coupled: Any) -> None:
    found = noise(coupled, 4, lambda noise: noise.draw(LOG_GAMMA, (), jnp.float32, 2.5))
    assert np.max(np.abs(np.corrcoef(found, rowvar=False) - np.eye(4))) < 5 / np.sqrt(len(found))
    assert stats.kstest(found[:, 0], stats.loggamma(2.5).cdf).pvalue > 1e-6


def test_pairs_are_mirrored_and_different_pairs_are_independent() -> None:
    normal = noise(Antithetic, 5, lambda noise: noise.normal())
    uniform = noise(Antithetic, 5, lambda noise: noise.uniform())
    for pair in (0, 2):
        np.testing.assert_array_equal(normal[:, pair], -normal[:, pair + 1])
        np.testing.assert_allclose(uniform[:, pair], 1 - uniform[:, pair + 1], atol=1e-6)
    distinct = normal[:, [0, 2, 4]]
    assert np.max(np.abs(np.corrcoef(distinct, rowvar=False) - np.eye(3))) < 5 / np.sqrt(len(normal))


def test_each_number_falls_once_into_each_stratum_and_pairs_into_boxes() -> None:
    found = noise(QuasiMonteCarlo, 16, lambda noise: noise.uniform((2,)), 50)
    for run in found:
        for number in (0, 1):
            assert sorted(np.floor(16 * run[:, number])) == list(range(16))
        boxes = np.floor(4 * run)
        assert len(np.unique(boxes[:, 0] * 4 + boxes[:, 1])) == 16
