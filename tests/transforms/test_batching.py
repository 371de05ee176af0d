"""Axes of traces: each choice here is within 1e-4 of a number that says which lane and step it is of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import exponential, gen, normal

KEY = jax.random.key(5)
A, B, C = jnp.array([1.0, 2.0]), jnp.array([10.0, 20.0, 30.0]), jnp.array([100.0, 200.0, 300.0, 400.0])


def told(x):
    return normal(x, 1e-5) @ "x"


def mapped(body, values):
    """`body` under vmap over `values`."""
    return lambda outer: jax.vmap(lambda value: body(outer + value))(values)


def scanned(body, values, **options):
    """`body` under scan over `values`."""
    return lambda outer: jax.lax.scan(lambda c, value: (c, body(outer + value)), 0.0, values, **options)[1]


def looped(body, values):
    """`body` under a fori_loop over `values`."""
    return lambda outer: jax.lax.fori_loop(
        0, len(values), lambda i, s: s + jnp.sum(body(outer + values[i])), 0.0
    )


def called(body):
    """`body` under jit, checkpoint and a nested program."""
    return jax.jit(jax.checkpoint(lambda outer: gen(body)(outer) @ ()))


def branched(body):
    """`body` in a branch that is always taken, of a predicate that is mapped wherever the outer value is."""
    return lambda outer: jax.lax.cond(outer > -1.0, body, lambda outer: 0.0 * body(outer), outer)


MAKERS = {
    "vmap": mapped,
    "scan": scanned,
    "reverse": functools.partial(scanned, reverse=True),
    "loop": looped,
}
NESTS = [
    ("vmap", "scan"), ("scan", "vmap"), ("vmap", "vmap"), ("scan", "scan"), ("vmap", "reverse"),
    ("loop", "vmap"), ("vmap", "loop"), ("loop", "scan"),
    ("vmap", "scan", "vmap"), ("scan", "vmap", "scan"), ("vmap", "vmap", "scan"), ("scan", "scan", "vmap"),
    ("vmap", "scan", "scan"), ("scan", "vmap", "vmap"), ("vmap", "loop", "vmap"),
]  # fmt: skip


@pytest.mark.parametrize("wrap", [called, branched])
@pytest.mark.parametrize("nest", NESTS, ids="-".join)
def test_axes_of_a_trace_are_in_the_order_of_the_program(nest, wrap):
    values = [A, B, C][: len(nest)]
    body = told
    for kind, axis in zip(reversed(nest), reversed(values), strict=True):
        body = MAKERS[kind](wrap(body), axis)
    program = gen(lambda: jnp.sum(body(0.0)))
    expected = functools.reduce(np.add.outer, map(np.asarray, values))
    trace = program().simulate(KEY)
    np.testing.assert_allclose(trace.choices["x"], expected, atol=1e-3)
    np.testing.assert_allclose(program().log_density(trace.choices), trace.log_density, rtol=1e-5)
    observed, weight = program().generate(KEY, trace.choices)
    np.testing.assert_allclose(observed.choices["x"], expected, atol=1e-3)
    np.testing.assert_allclose(weight, trace.log_density, rtol=1e-5)


def test_the_lane_axis_comes_first_however_the_program_maps():
    def program(in_axes, out_axes):
        f = jax.vmap(lambda row: normal(row, 1e-5) @ "x", in_axes=in_axes, out_axes=out_axes)
        return gen(lambda: f(jnp.arange(6.0).reshape(2, 3)))().simulate(KEY).choices["x"]

    np.testing.assert_allclose(program(0, 1), np.arange(6.0).reshape(2, 3), atol=1e-3)
    np.testing.assert_allclose(program(1, 0), np.arange(6.0).reshape(2, 3).T, atol=1e-3)
    np.testing.assert_allclose(program(-1, 1), np.arange(6.0).reshape(2, 3).T, atol=1e-3)


def test_lanes_that_do_not_take_a_branch_hold_zero_and_count_nothing():
    @gen
    def program(xs):
        def lane(x):
            return jax.lax.switch(
                x.astype(int),
                [
                    lambda: normal(5.0, 0.01) @ "a",
                    lambda: normal(6.0, 0.01) @ "b",
                    lambda: (normal(7.0, 0.01) @ "a") + (normal(8.0, 0.01) @ "b"),
                ],
            )

        return jax.vmap(lane)(xs)

    trace = program(jnp.array([0.0, 1.0, 2.0])).simulate(KEY)
    np.testing.assert_allclose(trace.choices["a"], [5.0, 0.0, 7.0], atol=0.1)
    np.testing.assert_allclose(trace.choices["b"], [0.0, 6.0, 8.0], atol=0.1)
    np.testing.assert_allclose(trace.retval, [5.0, 6.0, 15.0], atol=0.1)
    wrong = trace.choices | {}
    wrong = {"a": wrong["a"].at[1].set(99.0), "b": wrong["b"].at[0].set(-99.0)}
    np.testing.assert_allclose(program(jnp.arange(3.0)).log_density(wrong), trace.log_density, rtol=1e-5)


def test_conditionals_within_conditionals_under_vmap():
    @gen
    def program(xs):
        def lane(x):
            inner = lambda: jax.lax.cond(x > 1, lambda: exponential(2.0) @ "deep", lambda: 0.0)
            return jax.lax.cond(x > 0, inner, lambda: 0.0)

        return jax.vmap(lane)(xs)

    choices = {"deep": np.array([0.5, 0.6, 0.7])}
    found = program(jnp.array([-1.0, 0.5, 2.0])).log_density(choices)
    assert found == pytest.approx(np.log(2.0) - 2 * 0.7, rel=1e-5)


def test_collectives_over_named_lanes_see_the_draws():
    @gen
    def program():
        return jax.vmap(lambda x: jax.lax.psum(normal(x, 1e-5) @ "x", "lanes"), axis_name="lanes")(A)

    np.testing.assert_allclose(program().simulate(KEY).retval, [3.0, 3.0], atol=1e-3)


def test_lanes_that_share_a_key_share_the_noise_of_their_branches():
    """Under `vmap` over parameters the same key draws the same, also where the predicate is mapped too."""

    @ppl.expectation
    def objective(mean):
        x = normal(mean, 1.0).using(ppl.estimators.Reinforce()) @ "x"
        branches = [lambda: x * (normal(mean, 1.0) @ "a"), lambda: jnp.exp(normal(x, 2.0) @ "b")]
        return jax.lax.cond(x > 0.4, *branches)

    def run(mean):
        return objective.value_and_grad(KEY, mean, num_samples=8)

    alone = run(0.3)
    for together in zip(*jax.vmap(run)(jnp.full(3, 0.3)), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-5)
