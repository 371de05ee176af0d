"""Neighbors: counts without end, the variance, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import families
from ppl.estimators import MeasureValued, Reinforce, StochasticTriple
from ppl.testing.rules import Rule

from ..laws import oracles
from ..laws.cases import integrand
from ..laws.laws import check_exactly
from .discrete import BITS, WAYS, bits_gradient, five_bits, moments, six_ways, ways_gradient


def test_negative_binomial() -> None:
    """Both parameters move, one of them by a sum of masses."""
    count, odds = lambda t: 2.0 * jnp.exp(0.3 * t[0]), lambda t: -1.1 + 0.5 * t[1]

    def pmf(x, t):
        n, a = count(t), odds(t)
        ways = jax.lax.lgamma(n + x) - jax.lax.lgamma(n) - jax.lax.lgamma(x + 1.0)
        return jnp.exp(ways + n * jax.nn.log_sigmoid(-a) + x * jax.nn.log_sigmoid(a))

    f = integrand(1.5)
    draw = lambda t: families.negative_binomial(count(t), logits=odds(t)).using(StochasticTriple()) @ "x"
    law = oracles.discrete(pmf, 45)
    # f grows like x^3 + exp(0.3 x), whose mean beyond 45 is less than 1e-9.
    check_exactly(lambda t: f(1.0 * draw(t), t), lambda t: law.mean(lambda x: f(x, t), t), draws=2)


def test_total_count_that_is_not_known_when_staged() -> None:
    """The table is not needed: one failure more or less has a closed form."""

    def program(t, n):
        return jnp.exp(0.5 * (ppl.binomial(n, jax.nn.sigmoid(t)).using(StochasticTriple()) @ "x"))

    slope = jax.jit(lambda k, n: ppl.expectation(program).grad(k, 0.3, n, num_samples=100_000))
    wanted = jax.grad(lambda t: (1 + jax.nn.sigmoid(t) * (jnp.exp(0.5) - 1)) ** 4)(0.3)
    # The summand is at most 4 p (1 - p) (e^2 - e^1.5) < 3: five standard errors are less than 0.05.
    assert abs(slope(jax.random.key(0), 4) - wanted) < 0.05


def test_a_linear_count_has_no_variance() -> None:
    """E x = n p, and = rate: each draw has that derivative."""
    keys = jax.random.split(jax.random.key(0), 32)
    trials = lambda p: 1.0 * (ppl.binomial(5, p).using(StochasticTriple()) @ "n")
    events = lambda rate: 1.0 * (ppl.poisson(rate).using(StochasticTriple()) @ "n")
    for program, at, wanted in ((trials, 0.3, 5.0), (events, 2.0, 1.0)):
        slopes = jax.vmap(lambda k, f=program, at=at: ppl.expectation(f).grad(k, at))(keys)
        np.testing.assert_allclose(slopes, wanted, rtol=1e-5)


def test_variance_of_five_coins() -> None:
    score, triple = (moments(five_bits(e), BITS) for e in (Reinforce(), StochasticTriple()))
    np.testing.assert_allclose(triple.mean, bits_gradient(), atol=1e-12)
    assert triple.variance < score.variance / 3


def test_variance_of_six_ways() -> None:
    score, triple = (moments(six_ways(e), WAYS) for e in (Reinforce(), StochasticTriple()))
    np.testing.assert_allclose(triple.mean, ways_gradient(), atol=1e-12)
    assert triple.variance < score.variance


def _reward(x):
    return jnp.exp(0.5 * x) + 1.3 * (x > 1)


def test_variance_of_a_binomial_is_less_than_of_one_trial_at_random() -> None:
    """The two neighbors are the mean of `MeasureValued`'s two phantoms given the draw, at the same cost."""
    program = lambda e: lambda t: _reward(ppl.binomial(3, jax.nn.sigmoid(t[0])).using(e) @ "x")
    of = lambda e, rules=None: moments(ppl.expectation(program(e)).grad, np.array([0.4]), rules)
    thirds = {"uniform": Rule(np.array([1, 3, 5]) / 6, np.full(3, 1 / 3))}  # which of the three trials
    one, triple = of(MeasureValued(), thirds), of(StochasticTriple())
    np.testing.assert_allclose(one.mean, triple.mean, rtol=1e-10)
    assert triple.variance < one.variance


def test_unlike_families_are_refused() -> None:
    for measure in (ppl.normal(0.0, 1.0), families.multinomial(3, jnp.ones(3) / 3)):
        with pytest.raises(ppl.errors.EstimatorNotAdmitted, match="StochasticTriple does not exist for"):
            measure.using(StochasticTriple())


def test_the_neighbor_stays_inside_the_support() -> None:
    """At the ends of a support a run outside could be NaN, which no weight of zero undoes."""
    inside = lambda x: jnp.log(0.5 + x) + 3 * jnp.log(2.5 - x)  # NaN at -1 and at 3
    for measure in (lambda p: ppl.binomial(2, p), lambda p: ppl.categorical(jnp.stack([p, 0.3, 0.7 - p]))):
        logs = lambda p, m=measure: inside(1.0 * (m(p).using(StochasticTriple()) @ "x"))
        keys = jax.random.split(jax.random.key(0), 16)
        slopes = jax.vmap(lambda k, f=logs: ppl.expectation(f).grad(k, 0.4))(keys)
        assert np.isfinite(slopes).all()
