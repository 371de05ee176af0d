"""Generative functions: what they take, what their traces hold, and proposals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import ppl
from ppl import flip, gen, normal

KEY = jax.random.key(2)


@gen
def flexible(count, loud, name, shape, nothing, scale=2.0, *rest, shift=0.0, **more):
    total = shift + sum(rest)
    for i in range(count):
        total = total + (normal(0.0, scale) @ f"{name}{i}")
    assert nothing is None
    return shape(total) if loud else total + more.get("extra", 0.0)


def test_integers_booleans_strings_functions_and_none_stay_what_they_are():
    choices = {"z0": 0.5, "z1": -1.0}
    measure = flexible(2, True, "z", jnp.sin, None, 3.0, 1.0, shift=0.5)
    expected = st.norm.logpdf([0.5, -1.0], 0.0, 3.0).sum()
    assert measure.log_density(choices) == pytest.approx(expected, rel=1e-5)
    trace = measure.simulate(KEY)
    total = trace.choices["z0"] + trace.choices["z1"] + 1.5
    np.testing.assert_allclose(trace.retval, np.sin(total), rtol=1e-5)
    quiet = flexible(1, False, "a", None, None, extra=10.0).simulate(KEY)
    np.testing.assert_allclose(quiet.retval, quiet.choices["a0"] + 10.0, rtol=1e-6)


def test_a_trace_holds_its_arguments():
    trace = flexible(2, True, "z", jnp.sin, None, 3.0).simulate(KEY)
    assert trace.args[:5] == (2, True, "z", jnp.sin, None) and trace.args[5] == 3.0
    assert isinstance(trace.args[0], int) and isinstance(trace.args[1], bool)
    assert flexible(2, True, "z", jnp.sin, None, 3.0).generate(KEY, {})[0].args[2] == "z"


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2.0), np.float64(2.0), np.array(2.0), jnp.array(2.0)])
def test_numbers_of_every_kind_are_parameters(number):
    program = gen(lambda loc: normal(loc, 1.0) @ "x")
    assert program(number).log_density({"x": 2.0}) == pytest.approx(st.norm.logpdf(0.0), rel=1e-6)
    assert program(number).simulate(KEY).retval.dtype == jnp.float32


@pytest.mark.parametrize("number", [1, True, 1.0])
def test_values_that_are_equal_and_not_the_same_are_told_apart(number):
    program = gen(lambda n: (normal(0.0, 1.0) @ "x", type(n) is type(number))[1])
    found = [bool(program(n).simulate(KEY).retval) for n in (1, True, 1.0)]
    # A Python float is traced, so inside the program it is no float.
    assert found == [n is number and type(n) is not float for n in (1, True, 1.0)]


def test_a_literal_argument_of_a_nested_program():
    inner = gen(lambda loc, n, name: sum(normal(loc, 1.0) @ f"{name}{i}" for i in range(n)))
    outer = gen(lambda: inner(1.0, 2, "x") @ "sub")
    expected = 2 * st.norm.logpdf(0.5, 1.0)
    assert outer().log_density({"sub": {"x0": 0.5, "x1": 0.5}}) == pytest.approx(expected, rel=1e-5)


def test_a_program_that_takes_programs_and_measures():
    inner = gen(lambda loc: normal(loc, 1.0) @ "x")

    @gen
    def outer(make, made, distribution):
        return (make(1.0) @ "made_here") + (made @ "made_outside") + (distribution @ "y")

    measure = outer(inner, inner(2.0), normal(3.0, 1.0))
    choices = {"made_here": {"x": 1.5}, "made_outside": {"x": 1.5}, "y": 1.5}
    expected = st.norm.logpdf([0.5, -0.5, -1.5]).sum()
    assert measure.log_density(choices) == pytest.approx(expected, rel=1e-5)
    assert measure.simulate(KEY).choices.keys() == choices.keys()


class Model:
    """A plain object with a generative method."""

    def __init__(self, scale):
        self.scale = scale

    @gen
    def run(self, loc):
        return normal(loc, self.scale) @ "x"


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Parameters:
    """A pytree with a generative method."""

    scale: jax.Array

    @gen
    def run(self, loc):
        return normal(loc, self.scale) @ "x"


@pytest.mark.parametrize("cls", [Model, Parameters])
def test_methods(cls):
    found = cls(jnp.array(2.0)).run(1.0).log_density({"x": 0.5})
    assert found == pytest.approx(st.norm.logpdf(0.5, 1.0, 2.0), rel=1e-5)
    trace = cls(jnp.array(2.0)).run(1.0).simulate(KEY)
    expected = st.norm.logpdf(float(trace.retval), 1.0, 2.0)
    assert trace.log_density == pytest.approx(expected, rel=1e-5)


def test_recursion_with_a_static_depth():
    @gen
    def tree(depth):
        x = normal(0.0, 1.0) @ "x"
        if depth == 0:
            return x
        return x + (tree(depth - 1) @ "left") + (tree(depth - 1) @ "right")

    trace = tree(3).simulate(KEY)
    leaves = jax.tree.leaves(trace.choices)
    assert len(leaves) == 15
    np.testing.assert_allclose(trace.retval, sum(leaves), rtol=1e-5)
    np.testing.assert_allclose(trace.log_density, st.norm.logpdf(leaves).sum(), rtol=1e-5)


def test_partial_and_lambda_make_programs_too():
    program = gen(functools.partial(lambda loc, scale: normal(loc, scale) @ "x", scale=2.0))
    assert program(1.0).log_density({"x": 1.0}) == pytest.approx(st.norm.logpdf(0.0, 0.0, 2.0), rel=1e-5)


def test_a_program_keeps_its_name_and_docstring():
    @gen
    def documented():
        """What it does."""

    assert documented.__doc__ == "What it does." and documented.__name__ == "documented"
    assert "documented" in repr(documented) and repr(documented()) == "documented(...)"


def test_any_pytree_is_returned():
    program = gen(lambda: {"a": normal(0.0, 1.0) @ "x", "b": (None, 3, jnp.arange(2))})
    value = program().simulate(KEY).retval
    assert value["b"][0] is None and value["b"][1] == 3 and value["b"][2].tolist() == [0, 1]


@gen
def guide(phi):
    x = normal(phi["m"], jnp.exp(phi["s"])) @ "x"
    return flip(jax.nn.sigmoid(x)) @ ("sub", "f")


PHI = {"m": 0.4, "s": -0.3}


def test_a_proposal_is_a_draw_with_its_density():
    @ppl.expectation
    def gap(phi):
        trace = guide(phi).propose()
        x, f = trace.choices["x"], trace.choices["sub", "f"]
        p = jax.nn.sigmoid(x)
        by_hand = jax.scipy.stats.norm.logpdf(x, phi["m"], jnp.exp(phi["s"])) + jnp.log(
            jnp.where(f, p, 1 - p)
        )
        return jnp.abs(trace.log_density - by_hand) + jnp.abs(trace.retval * 1.0 - f) + 0 * x

    assert gap.estimate(KEY, PHI, num_samples=100) < 1e-5


def test_the_entropy_by_proposals_is_exact():
    @ppl.expectation
    def entropy(phi):
        return -normal(phi["m"], jnp.exp(phi["s"])).propose().log_density

    number = 20_000
    expected, spread = 0.5 * np.log(2 * np.pi * np.e) - 0.3, np.sqrt(0.5 / number)
    assert abs(entropy.estimate(KEY, PHI, num_samples=number) - expected) < 5 * spread


def test_a_generative_function_records_all_it_draws():
    """An unrecorded choice would leave the density of the trace unknown: refused before anything is drawn."""
    program = gen(lambda: normal(guide(PHI).propose().choices["x"], 1.0) @ "y")
    for use in (
        lambda: program().simulate(KEY),
        lambda: program().generate(KEY, {"y": 5.5}),
        lambda: ppl.expectation(lambda: program().propose().log_density).estimate(KEY),
    ):
        with pytest.raises(
            ppl.UnsupportedProgram, match=r"'x' \(normal, .*test_program\.py.* without being recorded"
        ):
            use()


def test_a_generative_function_takes_no_inner_expectation():
    program = gen(lambda: normal(ppl.expect(lambda: normal(0.0, 1.0) @ "z")(), 1.0) @ "y")
    with pytest.raises(ppl.UnsupportedProgram, match="inner expectation"):
        program().simulate(KEY)


def test_a_density_needs_every_random_choice_to_be_recorded():
    program = gen(lambda: normal(normal(0.0, 1.0).propose().retval, 1.0) @ "y")
    with pytest.raises(ppl.PPLError, match=r"normal.*test_program\.py"):
        program().log_density({"y": 0.0})
