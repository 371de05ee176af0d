"""Log densities of programs of every control flow, against densities written by hand."""

import itertools

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from flax import nnx

from ppl import Choices, bernoulli, exponential, flip, gen, normal


def test_is_the_density_written_by_hand(example, tolerance):
    found = example.make().log_density(example.choices)
    assert found.shape == () and found.dtype == jnp.result_type(float)
    np.testing.assert_allclose(found, example.by_hand(example.choices), rtol=tolerance, atol=tolerance)


def test_is_the_same_under_vmap_and_jit(example):
    stacked = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 3), Choices(example.choices))
    found = jax.vmap(jax.jit(lambda c: example.make().log_density(c)))(stacked)
    expected = [example.by_hand(example.choices)] * 3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_is_the_same_inside_a_program(example):
    """Where `log_density` is called while another program is staged."""
    # In single precision only: JAX 0.11 caches a NumPy constant in the precision it first had.
    wrapper = gen(lambda: example.make().log_density(example.choices))
    found = wrapper().simulate(jax.random.key(0)).retval
    np.testing.assert_allclose(found, example.by_hand(example.choices), rtol=1e-5, atol=1e-5)


def test_sums_over_what_can_happen_to_one():
    """A density over finitely many choices is a probability, whatever the control flow."""

    @gen
    def program():
        first = flip(0.3) @ "first"
        k = jax.lax.cond(first, lambda: bernoulli(0.8) @ "k", lambda: bernoulli(0.1) @ "k")
        return jax.vmap(lambda p: flip(jnp.where(k == 1, p, 0.5)) @ "lanes")(jnp.array([0.2, 0.9]))

    total = sum(
        float(jnp.exp(program().log_density({"first": a, "k": b, "lanes": np.array([c, d])})))
        for a, b, c, d in itertools.product([False, True], [0, 1], [False, True], [False, True])
    )
    assert total == pytest.approx(1.0, abs=1e-6)


def test_a_value_outside_the_support_has_density_zero_only_where_its_branch_is_taken():
    @gen
    def program(go):
        return jax.lax.cond(go, lambda: flip(0.5) @ "c", lambda: jnp.array(True))

    @gen
    def lanes(go):
        return jax.vmap(lambda g: jax.lax.cond(g, lambda: exponential(1.0) @ "x", lambda: 0.0))(go)

    x = np.array([0.5, -1.0])
    assert lanes(np.array([True, False])).log_density({"x": x}) == pytest.approx(-0.5)
    assert lanes(np.array([True, True])).log_density({"x": x}) == -np.inf
    assert program(np.array(False)).log_density({"c": True}) == 0.0


def test_its_derivative_ignores_branches_that_are_not_taken():
    """`jnp.where` alone would let a NaN of the other branch through."""

    @gen
    def lanes(xs):
        return jax.vmap(lambda x: jax.lax.cond(x > 0, lambda: normal(jnp.log(x), 1.0) @ "y", lambda: 0.0))(xs)

    slope = jax.grad(lambda xs: lanes(xs).log_density({"y": jnp.ones(2)}))(jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(slope, [(1 - np.log(2.0)) / 2.0, 0.0], rtol=1e-5)


def _score(weight, bias, x, y):
    return st.norm.logpdf(y, np.tanh(np.asarray(weight, np.float64) @ x + np.asarray(bias, np.float64))).sum()


X, Y = np.array([0.3, -0.8]), np.array([0.1, 0.4, -0.2])


def test_an_equinox_module_is_a_parameter():
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(1))

    @gen
    def program(layer):
        return normal(jnp.tanh(layer(jnp.asarray(X))), 1.0) @ "y"

    expected = _score(layer.weight, layer.bias, X, Y)
    assert program(layer).log_density({"y": Y}) == pytest.approx(expected, rel=1e-5)
    mlp = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(1))  # it holds functions beside its arrays
    trace = program(mlp).simulate(jax.random.key(0))
    assert program(mlp).log_density(trace.choices) == pytest.approx(float(trace.log_density), rel=1e-5)


def test_a_linen_module_is_a_parameter():
    layer = linen.Dense(3)
    params = layer.init(jax.random.key(1), jnp.asarray(X))

    @gen
    def program(params):
        return normal(jnp.tanh(layer.apply(params, jnp.asarray(X))), 1.0) @ "y"

    weights = params["params"]
    expected = _score(weights["kernel"].T, weights["bias"], X, Y)
    assert program(params).log_density({"y": Y}) == pytest.approx(expected, rel=1e-5)


def test_an_nnx_module_is_a_parameter():
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(1))

    @gen
    def program(layer):
        return normal(jnp.tanh(layer(jnp.asarray(X))), 1.0) @ "y"

    expected = _score(layer.kernel[...].T, layer.bias[...], X, Y)
    assert program(layer).log_density({"y": Y}) == pytest.approx(expected, rel=1e-5)
