"""Weighted traces: the average of `exp(weight)` is the density of what was observed.

Averages are compared at five standard errors with fixed keys: a false alarm in one of 1.7 million keys.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from ppl import Choices, bernoulli, categorical, flip, gen, normal
from ppl.errors import OverlappingChoices, UnsupportedProgram

KEY = jax.random.key(11)


def assert_evidence(measure, observed, expected, number=50_000):
    """The mean weight is the evidence, and each weighted trace holds what was observed."""
    run = jax.jit(jax.vmap(lambda k: measure.generate(k, observed)))
    traces, log_weights = run(jax.random.split(KEY, number))
    weights = np.exp(np.asarray(log_weights, np.float64))
    error = weights.std() / np.sqrt(number)
    assert abs(weights.mean() - expected) <= 5 * error + 1e-6 * expected
    for address, value in Choices(observed).leaves():
        held = traces.choices[address]
        np.testing.assert_array_equal(held, np.broadcast_to(np.asarray(value, held.dtype), held.shape))


def test_everything_observed_weighs_its_density(example, tolerance):
    trace, weight = example.make().generate(KEY, example.choices)
    expected = example.by_hand(example.choices)
    np.testing.assert_allclose(weight, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(trace.log_density, expected, rtol=tolerance, atol=tolerance)


def test_nothing_observed_weighs_nothing_and_draws_what_simulate_draws():
    program = gen(lambda: normal(normal(0.0, 1.0) @ "x", 1.0) @ "y")()
    trace, weight = program.generate(KEY, {})
    assert weight == 0.0
    assert trace.choices == program.simulate(KEY).choices


@gen
def coins():
    p = jnp.where(flip(0.3) @ "loaded", 0.9, 0.5)
    k = categorical(probs=jnp.array([0.2, 0.3, 0.5])) @ "k"
    extra = jax.lax.cond(k > 0, lambda: bernoulli(0.25) @ "extra", lambda: 0)
    heads = jax.vmap(lambda _: bernoulli(p) @ "heads")(jnp.arange(3))
    return bernoulli((1 + jnp.sum(heads) + extra) / 6) @ "seen"


def coins_evidence(heads, seen):
    """By summing over everything that was not observed."""
    total = 0.0
    for loaded, k, extra in itertools.product([0, 1], range(3), [0, 1]):
        p = 0.9 if loaded else 0.5
        prior = (0.3 if loaded else 0.7) * [0.2, 0.3, 0.5][k]
        prior *= (0.25 if extra else 0.75) if k > 0 else float(not extra)
        success = (1 + sum(heads) + extra) / 6
        total += prior * np.prod([p if h else 1 - p for h in heads]) * (success if seen else 1 - success)
    return total


def test_evidence_of_a_program_that_can_be_enumerated():
    assert_evidence(coins(), {"heads": np.array([1, 0, 1]), "seen": 1}, coins_evidence([1, 0, 1], 1))


@gen
def chain():
    def step(carry, _):
        carry = normal(0.8 * carry, 0.5) @ "z"
        return carry, normal(carry, 0.7) @ "y"

    return jax.lax.scan(step, normal(0.0, 1.0) @ "z0", None, length=3)


def test_evidence_of_a_linear_gaussian_chain():
    variance = np.zeros((3, 3))
    state = np.array([0.8, 0.64, 0.512])
    for i, j in itertools.product(range(3), repeat=2):
        noise = sum(0.25 * 0.8 ** (i - t) * 0.8 ** (j - t) for t in range(min(i, j) + 1))
        variance[i, j] = state[i] * state[j] + noise + 0.49 * (i == j)
    y = np.array([0.4, -0.3, 0.8])
    expected = st.multivariate_normal.pdf(y, np.zeros(3), variance)
    assert_evidence(chain(), {"y": y}, expected)
    assert_evidence(chain().condition({"y": y}), {}, expected)


def test_evidence_of_lanes_that_share_a_latent():
    @gen
    def program():
        z = normal(0.0, 1.0) @ "z"
        return jax.vmap(lambda a: normal(a * z, 0.7) @ "y")(jnp.array([1.0, -0.5]))

    a = np.array([1.0, -0.5])
    expected = st.multivariate_normal.pdf([0.3, 0.2], np.zeros(2), np.outer(a, a) + 0.49 * np.eye(2))
    assert_evidence(program(), {"y": np.array([0.3, 0.2])}, expected)


@gen
def model():
    x = normal(0.0, 1.0) @ "x"
    return (normal(x, 2.0) @ ("sub", "y")) + (normal(x, 3.0) @ ("sub", "z"))


def test_conditioning_fixes_choices():
    given = model().condition({"sub": {"y": 0.5}})
    whole = model().log_density({"x": 0.2, "sub": {"y": 0.5, "z": -0.3}})
    assert given.log_density({"x": 0.2, "sub": {"z": -0.3}}) == whole
    assert given.condition({("sub", "z"): -0.3}).log_density({"x": 0.2}) == whole
    trace, weight = given.generate(KEY, {("sub", "z"): -0.3})
    expected = _normal(0.5, trace.choices["x"], 2.0) + _normal(-0.3, trace.choices["x"], 3.0)
    assert weight == pytest.approx(expected, rel=1e-5)
    assert trace.choices["sub", "y"] == 0.5


def _normal(x, loc, scale):
    return st.norm.logpdf(float(x), float(loc), scale)


def test_what_is_given_twice_is_refused():
    given = model().condition({"x": 0.5})
    for call in (
        lambda: given.condition({"x": 0.5}),
        lambda: given.log_density({"x": 0.5, "sub": {"y": 0.0, "z": 0.0}}),
        lambda: given.generate(KEY, {"x": 0.5}),
    ):
        with pytest.raises(OverlappingChoices, match="'x'"):
            call()


def test_a_conditioned_program_is_not_drawn_from():
    given = model().condition({"x": 0.5})
    for call in (lambda: given.simulate(KEY), given.propose, lambda: given @ "sub"):
        with pytest.raises(UnsupportedProgram, match=r"model.*condition.*'x'.*not normalized.*generate"):
            call()


def test_a_distribution_weighs_the_value_that_is_observed():
    trace, weight = normal(0.0, 1.0).generate(KEY, 1)
    assert weight == pytest.approx(st.norm.logpdf(1.0))
    assert trace.retval.dtype == jnp.result_type(float)  # as its draws are
