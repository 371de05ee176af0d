"""ARM: the mean of which given the pair is DisARM, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.distributions.finite_support import support_values
from ppl.estimators import ARM
from ppl.noise import Noise

from .discrete import BITS, UNIFORM, bits_gradient, bits_reward, moments, together


def test_a_shared_second_run_is_unbiased() -> None:
    found = moments(together(ARM(), lambda a: ppl.flip(jax.nn.sigmoid(a)), bits_reward), BITS, UNIFORM)
    np.testing.assert_allclose(found.mean, bits_gradient(), atol=1e-12)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.85])
def test_the_pair_and_the_weight_are_of_one_uniform_number(p: float) -> None:
    """x = 1[u < p], y = 1[u > 1 - p] and weight u - 1/2, with u uniform."""
    count = 200_000

    def one(a, key):
        distribution = npd.BernoulliLogits(a * jnp.ones(count))
        return ARM(support=support_values(distribution)).contribute(distribution, Noise(key), 1)

    a = np.log(p / (1 - p))
    made, moving = jax.jvp(lambda a: one(a, jax.random.key(0)), (a,), (1.0,))
    x, y, u = made.value, made.phantoms[0], np.asarray(moving.weights[0]) + 0.5
    clear = (abs(u - p) > 1e-5) & (abs(u - 1 + p) > 1e-5)  # rounding at the edges
    assert np.array_equal(x[clear], (u < p)[clear]) and np.array_equal(y[clear], (u > 1 - p)[clear])
    ranks = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ranks.sum() == count
    # chi-squared of 19 degrees of freedom: exceeds 70 with probability 1e-7
    assert np.sum((ranks - count / 20) ** 2 / (count / 20)) < 70


def test_a_probability_at_its_end_makes_no_nan() -> None:
    slope = ppl.expectation(lambda p: 1.0 * (ppl.flip(p).using(ARM()) @ "b")).grad
    assert np.isfinite([slope(jax.random.key(0), p) for p in (0.0, 1.0)]).all()


def test_more_than_two_values_are_refused() -> None:
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match=r"ARM does not exist .* DisARM\(\)"):
        ppl.categorical(jnp.ones(3) / 3).using(ARM())
