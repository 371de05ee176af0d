"""The constructors: conversion of parameters, shapes, messages."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

from ppl.distributions import combinators, families
from ppl.errors import ParameterError

HERE = "test_families.py:"
CALLS = {
    "normal": (families.normal, (0, 1)),
    "log_normal": (families.log_normal, (0, 1)),
    "half_normal": (families.half_normal, (1,)),
    "truncated_normal": (lambda: families.truncated_normal(0, 1, low=0, high=2), ()),
    "laplace": (families.laplace, (0, 1)),
    "cauchy": (families.cauchy, (0, 1)),
    "half_cauchy": (families.half_cauchy, (1,)),
    "student_t": (families.student_t, (3, 0, 1)),
    "gumbel": (families.gumbel, (0, 1)),
    "logistic": (families.logistic, (0, 1)),
    "uniform": (families.uniform, (0, 2)),
    "exponential": (families.exponential, (2,)),
    "gamma": (families.gamma, (2, 3)),
    "inverse_gamma": (families.inverse_gamma, (2, 3)),
    "chi2": (families.chi2, (3,)),
    "beta": (families.beta, (2, 3)),
    "weibull": (families.weibull, (2, 3)),
    "pareto": (families.pareto, (2, 3)),
    "von_mises": (families.von_mises, (0, 2)),
    "flip": (families.flip, (0.3,)),
    "bernoulli": (families.bernoulli, (0.3,)),
    "bernoulli_logits": (lambda: families.bernoulli(logits=1), ()),
    "categorical": (families.categorical, ([0.2, 0.8],)),
    "categorical_logits": (lambda: families.categorical(logits=[0, 1, -jnp.inf]), ()),
    "one_hot_categorical": (families.one_hot_categorical, ([0.2, 0.8],)),
    "one_hot_categorical_logits": (lambda: families.one_hot_categorical(logits=[0, 1, -jnp.inf]), ()),
    "discrete_uniform": (families.discrete_uniform, (0, 3)),
    "poisson": (families.poisson, (2,)),
    "geometric": (families.geometric, (0.3,)),
    "binomial": (families.binomial, (5, 0.3)),
    "negative_binomial": (families.negative_binomial, (5, 0.3)),
    "multinomial": (families.multinomial, (5, [[0.3, 0.7], [0.5, 0.5]])),
    "dirichlet": (families.dirichlet, ([1, 2, 3],)),
    "multivariate_normal": (families.multivariate_normal, ([0, 1], [[2, 1], [1, 2]])),
    "low_rank_multivariate_normal": (families.low_rank_multivariate_normal, ([0, 1], [[1], [2]], [1, 1])),
    "mixture": (
        lambda: combinators.mixture(families.normal(jnp.zeros(2), 1), probs=[0.5, 0.5]), ()
    ),
    "zero_inflated": (lambda: combinators.zero_inflated(families.poisson(2), gate=0.5), ()),
    "delta": (combinators.delta, (1.5,)),
    "dist": (combinators.dist, (npd.Normal().expand([2]).to_event(1),)),
}  # fmt: skip


@pytest.mark.parametrize("family", CALLS)
def test_integer_parameters_are_promoted_and_a_draw_scores_finitely(family):
    make, arguments = CALLS[family]
    measure = make(*arguments)
    trace = measure.simulate(jax.random.key(0))
    assert jnp.isfinite(trace.log_density)
    for leaf in jax.tree.leaves(measure):
        counted = family in ("binomial", "discrete_uniform", "pareto")  # NumPyro's Pareto adds an integer 0
        assert counted or jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def test_every_public_family_is_in_the_table():
    public = {
        name
        for module in (families, combinators)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public <= CALLS.keys()


def test_python_floats_follow_the_precision_and_arrays_keep_theirs():
    assert families.normal(0.0, 1.0).simulate(jax.random.key(0)).retval.dtype == jnp.float32
    narrow = families.normal(jnp.bfloat16(0.0), jnp.bfloat16(1.0))
    assert narrow.simulate(jax.random.key(0)).retval.dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert families.normal(0, 1).simulate(jax.random.key(0)).retval.dtype == jnp.float64


def test_array_parameters_are_independent_draws_whose_density_is_the_sum():
    measure = families.normal(jnp.zeros(3), 2.0)
    assert measure.simulate(jax.random.key(0)).retval.shape == (3,)
    single = families.normal(0.0, 2.0)
    values = jnp.array([0.1, -0.4, 2.0])
    np.testing.assert_allclose(
        measure.log_density(values), sum(single.log_density(v) for v in values), rtol=1e-6
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: families.normal(jnp.zeros(3), jnp.ones(2)),
            r"normal: .*loc has shape \(3,\), scale has shape \(2,\)",
        ),
        (lambda: families.multivariate_normal(jnp.zeros(3), jnp.eye(2)), r"multivariate_normal: .*\(3,\)"),
        (lambda: families.categorical(probs=0.5), r"categorical: .*probs has shape \(\)"),
        (lambda: families.categorical(), r"exactly one of probs= or logits=, got neither"),
        (
            lambda: families.bernoulli(0.5, logits=0.0),
            r"exactly one of probs= or logits=, got probs= and logits=",
        ),
        (
            lambda: families.multivariate_normal(0.0),
            r"exactly one of covariance_matrix= or precision_matrix=",
        ),
        (lambda: families.binomial(2.5, 0.5), r"total_count must be of an integer dtype, got float32"),
        (
            lambda: families.multinomial(jnp.array([2, 3]), [0.5, 0.5]),
            r"total_count must be a Python integer",
        ),
        (lambda: families.discrete_uniform(0.0, 1.0), r"low must be of an integer dtype"),
        (
            lambda: combinators.mixture(families.normal(0.0, 1.0), probs=[0.5, 0.5]),
            r"weights of shape \(2,\)",
        ),
        (lambda: combinators.mixture(3.0, probs=[1.0]), r"mixture: expected a measure made by a family"),
        (
            lambda: combinators.mixture(families.uniform(jnp.zeros(2), 1.0), probs=[0.5, 0.5]),
            r"mixture: .*support that does not depend on their parameters",
        ),
        (lambda: combinators.dist(npd.Normal), r"got the class Normal"),
        (lambda: combinators.dist(1.0), r"got an instance of float"),
        (lambda: families.normal(0.0, -1.0), r"normal: the parameter scale must be positive, got -1.0 "),
        (
            lambda: families.normal(0.0, jnp.array([[1.0, 2.0], [0.0, 1.0]])),
            r"scale must be positive, got 0.0 at index \(1, 0\)",
        ),
        (lambda: families.normal(jnp.nan, 1.0), r"loc must be finite, got nan"),
        (lambda: families.flip(1.2), r"flip: the parameter probs must lie between 0 and 1"),
        (
            lambda: families.categorical([0.5, 0.6]),
            r"probs must not be negative and must sum to 1 .*got \[0.5, 0.6",
        ),
        (lambda: families.categorical(logits=[-jnp.inf, -jnp.inf]), r"not -inf throughout"),
        (lambda: families.uniform(1.0, 0.5), r"low must be below high"),
        (lambda: families.poisson(-1.0), r"rate must be at least 0"),
        (lambda: families.dirichlet([1.0, -2.0]), r"concentration must be positive"),
        (lambda: families.multivariate_normal(jnp.zeros(2), -jnp.eye(2)), r"symmetric and positive definite"),
        (
            lambda: combinators.dist(npd.Gamma(-1.0, 1.0, validate_args=False).expand([2]).to_event(1)),
            r"concentration must be positive",
        ),
        (lambda: families.binomial(-1, 0.5), r"total_count must be an integer, 0 or more"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ParameterError, match=message) as caught:
        make()
    assert HERE in str(caught.value), "the user's line is missing"


def test_traced_parameters_are_not_checked_when_staged():
    density = jax.jit(lambda scale: families.normal(0.0, scale).log_density(0.0))
    assert jnp.isfinite(density(2.0))


def test_long_probabilities_in_float32_are_accepted():
    families.categorical(jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (100, 4000))))
