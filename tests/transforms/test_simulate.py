"""Traces: choices are distributed as the program says, and independent where it says so.

Statistical checks use fixed keys. A Kolmogorov-Smirnov test at level 6e-7 and a bound of five standard
errors each give a false alarm in one of 1.7 million keys.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import ppl
from ppl import Choices, beta, categorical, exponential, flip, gamma, gen, normal, student_t

KEY = jax.random.key(7)
LEVEL = 6e-7
DRAWS = 20_000


def draws(program, number=DRAWS, key=KEY):
    """Traces of independent runs."""
    return jax.jit(jax.vmap(lambda k: program().simulate(k)))(jax.random.split(key, number))


def assert_uncorrelated(columns):
    """All pairwise correlations of the columns lie within five standard errors of zero."""
    columns = np.asarray(columns, np.float64).reshape(len(columns), -1)
    table = np.corrcoef(columns.T)
    np.fill_diagonal(table, 0.0)
    assert np.abs(table).max() < 5 / np.sqrt(len(columns)), table.round(3)


def test_a_trace_of_every_program(example, x64):
    """Its density is that of its choices, which depend on the key and not on how it is compiled."""
    trace = example.make().simulate(KEY)
    assert trace.log_density == pytest.approx(example.by_hand(trace.choices), rel=1e-9, abs=1e-9)
    shapes = jax.tree.map(jnp.shape, trace.choices)
    assert shapes == jax.tree.map(jnp.shape, Choices(example.choices))

    keys = jnp.stack([KEY, KEY, jax.random.key(8)])
    lanes = jax.jit(jax.vmap(lambda k: example.make().simulate(k)))(keys)
    assert jax.tree.map(lambda x: x.shape[1:], lanes.choices) == shapes
    for plain, lane in zip(jax.tree.leaves(trace.choices), jax.tree.leaves(lanes.choices), strict=True):
        np.testing.assert_array_equal(lane[0], lane[1])
        np.testing.assert_allclose(lane[0], plain, rtol=1e-12)
    assert lanes.log_density[0] != lanes.log_density[2]


@gen
def line():
    x = normal(1.0, 2.0) @ "x"
    g = gamma(2.5, 1.5) @ "g"
    b = beta(2.0, 3.0) @ "b"
    f = flip(0.3) @ "f"
    k = categorical(probs=jnp.array([0.2, 0.5, 0.3])) @ "k"
    return normal(x + g + b + f + k, 0.5) @ "y"


def test_marginals_of_a_straight_program():
    choices = draws(line).choices
    laws = {"x": st.norm(1.0, 2.0), "g": st.gamma(2.5, scale=1 / 1.5), "b": st.beta(2.0, 3.0)}
    for name, law in laws.items():
        assert st.kstest(choices[name], law.cdf).pvalue > LEVEL, name
    assert st.chisquare(np.bincount(choices["k"]), DRAWS * np.array([0.2, 0.5, 0.3])).pvalue > LEVEL
    assert abs(np.mean(choices["f"]) - 0.3) < 5 * np.sqrt(0.21 / DRAWS)
    rest = choices["y"] - sum(choices[name] for name in "xgbfk")
    assert st.kstest(rest, st.norm(0.0, 0.5).cdf).pvalue > LEVEL
    assert_uncorrelated(np.stack([*(choices[name] for name in "xgbfk"), rest], axis=1))


@gen
def lanes():
    def lane(loc):
        free = jax.jit(lambda: normal(0.0, 1.0) @ "free")()
        return normal(loc + free, 1.0) @ "tied"

    return jax.vmap(lane)(jnp.array([0.0, 1.0, 2.0]))


def test_lanes_are_independent():
    choices = draws(lanes).choices
    rest = choices["tied"] - choices["free"] - jnp.array([0.0, 1.0, 2.0])
    columns = np.concatenate([choices["free"], rest], axis=1)
    assert st.kstest(columns.reshape(-1), st.norm.cdf).pvalue > LEVEL
    assert_uncorrelated(columns)


def test_array_parameters_draw_independently():
    program = gen(lambda: beta(jnp.full((2, 3), 2.0), 3.0) @ "x")
    x = draws(program).choices["x"]
    assert st.kstest(x.reshape(-1), st.beta(2.0, 3.0).cdf).pvalue > LEVEL
    assert_uncorrelated(x)


@gen
def steps():
    def step(carry, _):
        def inner(_, x):
            return x + (normal(0.0, 1.0) @ "inner")

        lane = jax.vmap(lambda _: normal(0.0, 1.0) @ "lane")(jnp.arange(2))
        return jax.lax.fori_loop(0, 2, inner, carry), lane

    return jax.lax.scan(step, normal(0.0, 1.0) @ "start", None, length=3)


def test_steps_and_lanes_of_loops_are_independent():
    choices = draws(steps).choices
    assert choices["inner"].shape == (DRAWS, 3, 2) and choices["lane"].shape == (DRAWS, 3, 2)
    columns = [choices["start"][:, None], *(choices[name].reshape(DRAWS, 6) for name in ("inner", "lane"))]
    assert_uncorrelated(np.concatenate(columns, axis=1))


def test_sibling_programs_and_branches_are_independent():
    inner = gen(lambda: normal(0.0, 1.0) @ "x")

    @gen
    def program():
        a, b = inner() @ "a", inner() @ "b"
        c = jax.lax.cond(a > 0, lambda: normal(0.0, 1.0) @ "c", lambda: normal(0.0, 1.0) @ "c")
        return jnp.stack([a, b, c, inner() @ ()])

    assert_uncorrelated(draws(program).retval)


# Two addresses are two draws, whatever they are called.
COLLIDING = {
    "leading_zero": ("1", "01"),
    "other_digits": ("3", "\u0663"),  # ARABIC-INDIC DIGIT THREE
    "same_crc32": ("plumless", "buckeroo"),
    "number_beyond_32_bits": ("1", str(2**32 + 1)),
    "slash": ("a/b", ("a", "b")),
    "empty": ("", "0"),
}


@pytest.mark.parametrize("pair", COLLIDING.values(), ids=COLLIDING)
def test_addresses_that_look_alike_are_independent(pair):
    first, second = pair
    program = gen(lambda: (normal(0.0, 1.0) @ first, normal(0.0, 1.0) @ second))
    a, b = program().simulate(KEY).retval
    assert float(a) != float(b)


def test_a_scan_does_not_share_noise_with_other_addresses_of_the_program():
    @gen
    def program():
        _, xs = jax.lax.scan(lambda c, _: (c, normal(0.0, 1.0) @ "x"), 0.0, None, length=3)
        return jnp.append(xs, normal(0.0, 1.0) @ ("1", "x"))

    values = np.asarray(program().simulate(KEY).retval)
    assert len(np.unique(values)) == 4


@pytest.mark.parametrize(
    "make", [lambda: normal(0.0, 1.0), lambda: beta(2.0, 3.0), lambda: student_t(5.0), lambda: gamma(2.0)]
)
def test_proposals_are_independent(make):
    """A family that takes several blocks of noise shares none with the next proposal."""

    @ppl.expectation
    def program(weights):
        values = [make().propose().retval for _ in range(3)]
        _, loop = jax.lax.scan(lambda c, _: (c, make().propose().retval), 0.0, None, length=2)
        return weights @ jnp.stack([*values, *loop])

    # One key, one run: a unit vector picks out one of its draws.
    picked = jax.vmap(program.estimate, in_axes=(None, 0))
    runs = jax.jit(jax.vmap(picked, in_axes=(0, None)))(jax.random.split(KEY, DRAWS), jnp.eye(5))
    assert_uncorrelated(runs)


def test_a_scan_draws_what_its_unrolled_loop_draws():
    def step(carry, t):
        return normal(carry, 1.0) @ "x"

    @gen
    def rolled():
        return jax.lax.scan(lambda c, t: (step(c, t),) * 2, 0.0, jnp.arange(12))[1]

    @gen
    def unrolled():
        values, carry = [], 0.0
        for t in range(12):
            carry = normal(carry, 1.0) @ (str(t), "x")
            values.append(carry)
        return jnp.stack(values)

    @gen
    def unrolled_programs():
        inner = gen(lambda carry: normal(carry, 1.0) @ "x")
        values = [jnp.zeros(())]
        for t in range(12):
            values.append(inner(values[-1]) @ str(t))
        return jnp.stack(values[1:])

    expected = rolled().simulate(KEY).retval
    np.testing.assert_allclose(unrolled().simulate(KEY).retval, expected, rtol=1e-6)
    np.testing.assert_allclose(unrolled_programs().simulate(KEY).retval, expected, rtol=1e-6)


def test_a_jitted_and_a_plain_program_draw_the_same():
    def body(x):
        return (normal(x, 1.0) @ "x") + (exponential(2.0) @ "y")

    wrappers = [lambda f: f, jax.jit, jax.checkpoint, lambda f: jax.jit(jax.jit(f))]
    values = [float(gen(wrap(body))(1.0).simulate(KEY).retval) for wrap in wrappers]
    np.testing.assert_allclose(values, values[0], rtol=1e-6)


def test_keys_are_not_reused():
    """JAX's own checker of key reuse finds nothing."""

    @gen
    def program():
        x = (normal(0.0, 1.0) @ "x") + (beta(2.0, 3.0) @ "b") + (student_t(4.0) @ "t")
        return jax.lax.scan(lambda c, _: (normal(c, 1.0) @ "z", None), x, None, length=3)[0]

    with jax.debug_key_reuse(True):
        assert jnp.isfinite(program().simulate(jax.random.key(0)).retval)


def test_a_python_number_in_a_loop_leaves_draws_as_narrow_as_they_were():
    """Where double precision is on: staged within an expectation, the number is a constant of the loop."""

    @gen
    def chain(scale):
        def step(x, _):
            x = normal(x, scale**0.5) @ "x"
            return x, x

        return jax.lax.scan(step, jnp.zeros(2, jnp.float32), None, length=3)[1]

    @ppl.expectation
    def drawn(factor):
        return factor * jnp.sum(chain(0.25).propose().retval)

    with jax.enable_x64(True):
        assert chain(0.25).simulate(KEY).choices["x"].dtype == jnp.float32
        value, slope = drawn.value_and_grad(KEY, jnp.float32(1.0))
    assert value.dtype == slope.dtype == jnp.float32
    assert value == slope
