"""Unordered sets: no variance with all values, variance that falls with their number."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.estimators import DisARM, LeaveOneOut, Reinforce, UnorderedSet
from ppl.estimators.unordered_set import _completions

from ..laws.laws import check_exactly
from .discrete import BITS, WAYS, bits_gradient, check, five_bits, moments, six_ways, ways_gradient

FAMILIES = ["bernoulli", "categorical", "categorical_probs", "binomial"]


@pytest.mark.parametrize("family", FAMILIES)
def test_three_values(family: str) -> None:
    check(family, UnorderedSet(3))


def test_events() -> None:
    def program(t):
        pair = ppl.dist(npd.Bernoulli(jax.nn.sigmoid(t)).to_event(1)).using(UnorderedSet(3)) @ "pair"
        return (1 + pair[0]) * jnp.exp(0.5 * pair[1]) + t[0]

    def truth(t):
        p = jax.nn.sigmoid(t)
        return (1 + p[0]) * (1 - p[1] + p[1] * jnp.exp(0.5)) + t[0]

    check_exactly(program, truth, draws=1)


def _in_order(law: np.ndarray, order: tuple[int, ...], taken: tuple[int, ...] = ()) -> float:
    """The probability of these draws without replacement, one after the other."""
    if not order:
        return 1.0
    first = law[order[0]] / (1 - law[list(taken)].sum())
    return first * _in_order(law, order[1:], (*taken, order[0]))


@pytest.mark.usefixtures("x64")
def test_probabilities_of_sets_by_enumeration_of_all_orders() -> None:
    law = np.array([0.05, 0.3, 0.12, 0.33, 0.2])
    members = np.array([3, 0, 4])
    found = _completions(jnp.asarray(law[members]), jnp.asarray(1 - law[members].sum()))
    for subset in range(8):
        taken = tuple(m for i, m in enumerate(members) if subset >> i & 1)
        missing = [m for m in members if m not in taken]
        wanted = sum(_in_order(law, order, taken) for order in itertools.permutations(missing))
        np.testing.assert_allclose(found[subset], wanted, rtol=1e-13)


def test_variance_falls_with_the_number_of_values() -> None:
    """With all six values it is zero; the score function is first."""
    variances = [moments(six_ways(Reinforce()), WAYS).variance]
    for samples in (2, 3, 4, 5, 6):
        found = moments(six_ways(UnorderedSet(samples)), WAYS)
        np.testing.assert_allclose(found.mean, ways_gradient(), atol=1e-12)
        variances.append(found.variance)
    assert np.all(np.diff(variances) < 0)
    assert variances[-1] < 1e-12


@pytest.mark.parametrize("samples", [2, 3])
def test_variance_is_less_than_with_replacement(samples: int) -> None:
    without = moments(six_ways(UnorderedSet(samples)), WAYS).variance
    assert without < moments(six_ways(LeaveOneOut(samples)), WAYS).variance


def test_variance_of_five_coins() -> None:
    score, pair, both = (moments(five_bits(e), BITS) for e in (Reinforce(), DisARM(), UnorderedSet(2)))
    np.testing.assert_allclose(both.mean, bits_gradient(), atol=1e-12)
    assert both.variance < pair.variance < score.variance


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probs", [[0.0, 0.4, 0.6], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
def test_all_values_are_right_where_a_probability_is_zero(probs: list[float]) -> None:
    reward = jnp.array([2.0, -1.0, 5.0])
    program = lambda p: reward[ppl.categorical(p).using(UnorderedSet(3)) @ "x"]
    slope = jax.jacobian(lambda t: jnp.asarray(probs) + jnp.array([t[0], t[1], -t[0] - t[1]]))(jnp.zeros(2))
    for seed in range(5):
        found = ppl.expectation(program).grad(jax.random.key(seed), jnp.asarray(probs)) @ slope
        np.testing.assert_allclose(found, reward @ slope, atol=1e-12)


def test_single_precision_with_probabilities_that_round_to_zero() -> None:
    """A value of probability e^-40 is drawn last, and its set has a finite weight."""
    logits = jnp.array([0.0, 1.0, -40.0, -90.0, -200.0])
    program = lambda t: jnp.arange(5.0)[ppl.categorical(logits=t).using(UnorderedSet(4)) @ "x"]
    found = jax.vmap(lambda k: ppl.expectation(program).grad(k, logits))(
        jax.random.split(jax.random.key(0), 64)
    )
    wanted = jax.grad(lambda t: jax.nn.softmax(t) @ jnp.arange(5.0))(logits)
    np.testing.assert_allclose(found, jnp.broadcast_to(wanted, found.shape), atol=1e-6)


def test_refusals() -> None:
    for samples in (1, 11):
        with pytest.raises(ValueError, match=rf"from 2 to 10 values, got samples={samples}"):
            UnorderedSet(samples)
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match=r"UnorderedSet does not exist for .*poisson"):
        ppl.poisson(2.0).using(UnorderedSet(2))
