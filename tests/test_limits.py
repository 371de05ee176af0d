"""The ends of what a program may be: long, deep, empty, narrow, wide."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import ppl
from ppl import beta, flip, gen, normal
from ppl.estimators import Reinforce

KEY = jax.random.key(6)


def long(number):
    @gen
    def program():
        total = 0.0
        for i in range(number):
            total = total + (normal(0.0, 1.0) @ f"x{i}")
        return total

    return program()


def test_staging_is_linear_in_the_number_of_choices():
    """Ten thousand addresses stage; ten times the choices take less than twenty times as long."""
    times = []
    for number in (1_000, 10_000):
        start = time.process_time()
        assert len(long(number).stage().choices) == number
        times.append(time.process_time() - start)
    assert times[1] < 20 * times[0]


def test_a_thousand_addresses_are_scored():
    choices = {f"x{i}": i / 1_000 for i in range(1_000)}
    expected = st.norm.logpdf(np.arange(1_000) / 1_000).sum()
    assert long(1_000).log_density(choices) == pytest.approx(expected, rel=1e-4)


def test_simulation_compiles_at_the_cost_of_the_hand_written_program():
    """At most three times what drawing the same numbers by hand takes to compile."""

    def by_hand(key):
        return sum(jax.random.normal(jax.random.fold_in(key, i)) for i in range(40))

    start = time.process_time()
    jax.block_until_ready(jax.jit(by_hand)(KEY))
    hand = time.process_time() - start
    start = time.process_time()
    jax.block_until_ready(long(40).simulate(KEY).retval)
    assert time.process_time() - start < 3 * hand


def nested(depth):
    program = gen(lambda: normal(0.0, 1.0) @ "x")
    for _ in range(depth):
        program = (lambda inner: gen(lambda: inner() @ "s"))(program)
    return program()


@pytest.mark.parametrize("depth", [20, 200])
def test_deep_nesting(depth):
    address = ("s",) * depth + ("x",)
    assert nested(depth).log_density({address: 0.0}) == pytest.approx(st.norm.logpdf(0.0))
    assert nested(depth).simulate(KEY).choices[address].shape == ()


def test_an_empty_program():
    program = gen(lambda: None)
    trace = program().simulate(KEY)
    assert trace.choices == {} and trace.log_density == 0.0 and trace.retval is None
    assert program().log_density({}) == 0.0 and program().generate(KEY, {})[1] == 0.0
    outer = gen(lambda: (program() @ "sub", program() @ "sub", normal(0.0, 1.0) @ "x"))
    assert list(outer().simulate(KEY).choices) == ["x"]


@pytest.mark.parametrize(
    "family", [lambda m: normal(m, 1.0), lambda m: beta(2.0 + m, 3.0), lambda m: flip(0.5 + m)]
)
@pytest.mark.parametrize("length", [0, 1])
def test_loops_and_lanes_of_no_and_of_one_step(family, length):
    @gen
    def program(values):
        jax.vmap(lambda m: family(m) @ "lanes")(values)
        jax.lax.scan(lambda c, m: (c, family(m) @ "steps"), 0.0, values)
        jax.vmap(lambda m: jax.lax.scan(lambda c, _: (c, family(m) @ "both"), 0.0, None, length=2))(values)
        family(values) @ "block"

    trace = program(jnp.zeros(length)).simulate(KEY)
    shapes = {"lanes": (length,), "steps": (length,), "both": (length, 2), "block": (length,)}
    assert {name: x.shape for name, x in trace.choices.items()} == shapes
    again = program(jnp.zeros(length)).log_density(trace.choices)
    np.testing.assert_allclose(again, trace.log_density, rtol=1e-6)
    assert length or trace.log_density == 0.0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_parameters_are_scored_in_single_precision(dtype):
    program = gen(lambda loc: normal(loc, jnp.ones((), dtype)) @ "x")
    trace = program(jnp.asarray(0.5, dtype)).simulate(KEY)
    assert trace.choices["x"].dtype == dtype and trace.log_density.dtype == jnp.float32
    expected = st.norm.logpdf(float(trace.choices["x"]), 0.5)
    assert trace.log_density == pytest.approx(expected, rel=1e-5)
    assert program(jnp.asarray(0.5, dtype)).log_density(trace.choices) == trace.log_density


def test_a_long_sum_of_narrow_densities_keeps_its_digits():
    program = gen(lambda loc: normal(loc, jnp.ones((), jnp.bfloat16)) @ "x")
    loc = jnp.zeros(4_096, jnp.bfloat16)
    found = program(loc).log_density({"x": loc})
    assert found == pytest.approx(4_096 * st.norm.logpdf(0.0), rel=1e-5)


def test_double_precision_throughout(x64):
    trace = gen(lambda loc: normal(loc, 2.0) @ "x")(0.1).simulate(KEY)
    assert trace.choices["x"].dtype == trace.log_density.dtype == jnp.float64
    assert trace.log_density == pytest.approx(st.norm.logpdf(float(trace.retval), 0.1, 2.0), rel=1e-13)
    assert gen(lambda: flip(0.3) @ "f")().simulate(KEY).log_density.dtype == jnp.float64


def test_single_precision_parameters_stay_single_under_double(x64):
    trace = gen(lambda loc: normal(loc, jnp.float32(2.0)) @ "x")(jnp.float32(0.1)).simulate(KEY)
    assert trace.choices["x"].dtype == jnp.float32


def test_strict_rank_promotion(strict_ranks):
    program = gen(lambda: jax.vmap(lambda m: normal(m, jnp.ones(3)) @ "x")(jnp.zeros((2, 3))))
    trace = program().simulate(KEY)
    np.testing.assert_allclose(program().log_density(trace.choices), trace.log_density, rtol=1e-6)


def test_log_densities_of_minus_infinity_are_no_nan():
    program = gen(lambda: (beta(2.0, 3.0) @ "b", normal(0.0, 1.0) @ "x"))
    assert program().log_density({"b": 1.5, "x": 0.0}) == -np.inf
    slope = jax.grad(lambda x: program().log_density({"b": 1.5, "x": x}))(0.5)
    assert slope == pytest.approx(-0.5)


@ppl.expectation
def trials(p):
    """The number of trials until a success; nothing is recorded, so nothing is missing."""

    def trial(state):
        return state[0] + 1.0, flip(p).using(Reinforce()).propose().retval

    return jax.lax.while_loop(lambda state: ~state[1], trial, (0.0, jnp.array(False)))[0]


def over_keys(p, number):
    return jnp.mean(jax.vmap(lambda key: trials.estimate(key, p))(jax.random.split(KEY, number)))


def over_samples(p, number):
    return trials.estimate(KEY, p, num_samples=number)


@pytest.mark.parametrize("average", [over_keys, over_samples])
def test_a_proposal_in_a_loop_of_unknown_length(average):
    number, p = 10_000, 0.3
    spread = np.sqrt((1 - p) / p**2 / number)
    assert abs(average(p, number) - 1 / p) < 5 * spread
