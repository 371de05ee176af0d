"""Measures and traces are pytrees: they pass through `jit` and `vmap`, in and out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import ppl
from ppl import Trace, categorical, flip, gen, mixture, multivariate_normal, normal
from ppl.errors import ChoiceDtypeError, ChoiceShapeError, UnsupportedProgram
from ppl.estimators import Reinforce

KEY = jax.random.key(4)


@gen
def guide(loc, scale=1.0):
    return normal(loc, scale) @ "x"


@gen
def joint(m):
    return (guide(m) @ (), normal(m, 1.0) @ "y")


MEASURES = {
    "distribution": lambda loc: normal(loc, 1.0),
    "program": lambda loc: guide(loc),
    "keyword": lambda loc: guide(loc=loc),
    "using": lambda loc: guide(loc).using({"x": Reinforce(baseline=0.5)}),
    "conditioned": lambda loc: joint(loc).condition({"y": loc}),
}


def score(measure):
    return measure.log_density(0.5 if isinstance(measure, type(normal())) else {"x": 0.5})


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_an_argument_and_a_result_of_jit(name):
    make = MEASURES[name]
    expected = score(make(0.2))
    np.testing.assert_allclose(jax.jit(score)(make(jnp.array(0.2))), expected, rtol=1e-6)
    np.testing.assert_allclose(score(jax.jit(make)(0.2)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_mapped(name):
    make, locs = MEASURES[name], jnp.array([0.2, -0.3, 1.0])
    measures = jax.vmap(make)(locs)
    expected = [float(score(make(loc))) for loc in locs]
    np.testing.assert_allclose(jax.vmap(score)(measures), expected, rtol=1e-6)


def test_a_measure_differentiates_as_a_pytree():
    slope = jax.grad(score)(guide(jnp.array(0.2), jnp.array(2.0)))
    np.testing.assert_allclose(slope.args[0], (0.5 - 0.2) / 4, rtol=1e-5)


def test_a_mapped_measure_is_used_inside_a_program():
    @gen
    def program(locs):
        measures = jax.vmap(guide)(locs)
        return jax.vmap(lambda m: m @ "lane")(measures)

    locs = jnp.array([0.0, 100.0])
    trace = program(locs).simulate(KEY)
    expected = st.norm.logpdf(np.asarray(trace.choices["lane", "x"]), np.asarray(locs)).sum()
    assert trace.log_density == pytest.approx(expected, rel=1e-4)


def test_a_trace_passes_through_transformations():
    trace = jax.jit(lambda k: guide(0.5).simulate(k))(KEY)
    assert isinstance(trace, Trace) and trace.choices["x"] == trace.retval
    lanes = jax.vmap(lambda k: guide(0.5).simulate(k))(jax.random.split(KEY, 4))
    assert lanes.choices["x"].shape == lanes.log_density.shape == lanes.retval.shape == (4,)
    doubled = jax.tree.map(lambda x: 2 * x, trace)
    assert isinstance(doubled, Trace) and doubled.log_density == 2 * trace.log_density


def test_a_trace_of_a_scan_over_keys():
    keys = jax.random.split(KEY, 3)
    _, traces = jax.lax.scan(lambda c, k: (c, guide(0.5).simulate(k)), 0.0, keys)
    np.testing.assert_allclose(traces.choices["x"], [guide(0.5).simulate(k).retval for k in keys], rtol=1e-6)


def test_a_distribution_is_a_measure_of_its_value():
    trace = normal(jnp.zeros(3), 2.0).simulate(KEY)
    assert trace.choices.shape == (3,) and (trace.choices == trace.retval).all()
    np.testing.assert_allclose(trace.log_density, st.norm.logpdf(trace.choices, 0, 2).sum(), rtol=1e-6)
    assert flip(0.3).simulate(KEY).retval.dtype == bool
    with pytest.raises(ChoiceShapeError, match=r"value of normal .*test_measure\.py:\d+.*\(3,\).*\(\)"):
        normal(jnp.zeros(3), 1.0).log_density(0.0)
    with pytest.raises(ChoiceDtypeError, match=r"value of categorical .*int32.*float32"):
        categorical(probs=jnp.array([0.5, 0.5])).log_density(1.0)
    with pytest.raises(UnsupportedProgram, match="no addresses to condition on"):
        normal(0.0, 1.0).condition({"x": 0.0})


def test_compositions_of_families_are_measures():
    both = mixture(normal(jnp.array([-1.0, 2.0]), 0.5), probs=jnp.array([0.3, 0.7]))
    expected = np.log(0.3 * st.norm.pdf(0.4, -1, 0.5) + 0.7 * st.norm.pdf(0.4, 2, 0.5))
    assert both.log_density(0.4) == pytest.approx(expected, rel=1e-5)
    value = multivariate_normal(jnp.zeros((4, 2)), scale_tril=jnp.eye(2)).simulate(KEY).retval
    assert value.shape == (4, 2)


def test_a_measure_is_compiled_once():
    traced = []

    @gen
    def program(loc, n):
        traced.append(n)
        return normal(loc, 1.0) @ "x"

    for loc in (0.0, 1.0, 2.0):
        program(loc, 1).simulate(KEY)
    once = len(traced)
    program(3.0, 1).simulate(jax.random.key(9))
    assert len(traced) == once
    program(3.0, 2).simulate(KEY)
    assert traced[-1] == 2


def test_estimators_stay_with_a_distribution():
    measure = normal(0.0, 1.0).using(Reinforce(baseline=jnp.array(0.5)))
    again = jax.jit(lambda m: m)(measure)
    assert again.estimator.baseline == 0.5 and again.family == "normal"
    assert ppl.expectation(lambda m: m @ "x").estimate(KEY, measure).shape == ()
