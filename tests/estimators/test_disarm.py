"""DisARM: less variance than ARM and the score function, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.estimators import ARM, DisARM, LeaveOneOut, Reinforce

from ..laws.laws import check_exactly
from .discrete import (
    BITS,
    UNIFORM,
    WAYS,
    bits_gradient,
    bits_reward,
    five_bits,
    moments,
    six_ways,
    together,
    ways_gradient,
)


def test_events() -> None:
    """Two entries as one choice of four values; the heaviest has more than half of the probability."""

    def program(t):
        pair = ppl.dist(npd.Bernoulli(jax.nn.sigmoid(t + 1.5)).to_event(1)).using(DisARM()) @ "pair"
        return (1 + pair[0]) * jnp.exp(0.5 * pair[1]) + t[0]

    def truth(t):
        p = jax.nn.sigmoid(t + 1.5)
        return (1 + p[0]) * (1 - p[1] + p[1] * jnp.exp(0.5)) + t[0]

    check_exactly(program, truth, draws=1)


def test_a_shared_second_run_is_unbiased() -> None:
    """All five coins change at once in the one phantom run; each weight is still its own coin's."""
    family = lambda a: ppl.flip(jax.nn.sigmoid(a))
    found = moments(together(DisARM(), family, bits_reward), BITS)
    np.testing.assert_allclose(found.mean, bits_gradient(), atol=1e-12)


def test_a_shared_second_run_of_categories_is_unbiased() -> None:
    reward = lambda x: jnp.exp(0.5 * x[0]) * (1.0 + x[1] ** 2) + 1.3 * (x[0] > x[1])
    logits = lambda t: jnp.stack(
        [t, 0.3 - t, jnp.array([0.0, 2.0]), -(t**2)]
    )  # of one entry the heaviest has 0.7
    family = lambda t: ppl.categorical(logits=logits(t).T)

    def truth(t):
        p = jax.nn.softmax(logits(t), axis=0)
        pairs = jnp.stack([reward(jnp.array([i, j])) for i in range(4) for j in range(4)])
        return jnp.sum(jnp.outer(p[:, 0], p[:, 1]).ravel() * pairs)

    theta = np.array([0.5, -0.8])
    with jax.enable_x64(True):
        wanted = jax.grad(truth)(jnp.asarray(theta))
    found = moments(together(DisARM(), family, reward), theta)
    np.testing.assert_allclose(found.mean, wanted, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_variance_of_five_coins(shared: bool) -> None:
    family = lambda a: ppl.flip(jax.nn.sigmoid(a))
    of = lambda e: moments(together(e, family, bits_reward) if shared else five_bits(e), BITS, UNIFORM)
    score, arm, disarm = (of(e) for e in (Reinforce(), ARM(), DisARM()))
    for found in (score, arm, disarm):
        np.testing.assert_allclose(found.mean, bits_gradient(), atol=1e-12)
    assert disarm.variance < arm.variance < score.variance
    assert disarm.variance < score.variance / 3


def test_variance_of_six_ways() -> None:
    """Less than the score function, and less than two independent draws at the same cost."""
    score, two, disarm = (moments(six_ways(e), WAYS) for e in (Reinforce(), LeaveOneOut(2), DisARM()))
    np.testing.assert_allclose(disarm.mean, ways_gradient(), atol=1e-12)
    assert disarm.variance < two.variance < score.variance


def test_a_probability_at_its_end_makes_no_nan() -> None:
    slope = ppl.expectation(lambda p: 1.0 * (ppl.flip(p).using(DisARM()) @ "b")).grad
    assert np.isfinite([slope(jax.random.key(0), p) for p in (0.0, 1.0)]).all()


def test_unlike_families_are_refused() -> None:
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match=r"DisARM does not exist for .*normal"):
        ppl.normal(0.0, 1.0).using(DisARM())
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match="DisARM does not exist"):
        ppl.dist(npd.Bernoulli(0.3).mask(False)).using(DisARM())
