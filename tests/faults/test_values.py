"""Values outside supports, weights that are all zero, and numbers of runs or particles without a sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl import errors as e
from ppl import families as f
from ppl.estimators import Reinforce

KEY = jax.random.key(0)
INF, NAN = jnp.inf, jnp.nan

# A family as a function of one float parameter, and values that it never has.
OUTSIDE: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "log_normal": (lambda p: f.log_normal(p, 1.0), [-1.0, 0.0, INF, NAN]),
    "half_normal": (f.half_normal, [-1.0, -1e-9, INF, NAN]),
    "half_cauchy": (f.half_cauchy, [-1.0, INF]),
    "truncated below": (lambda p: f.truncated_normal(p, 1.0, low=0.0), [-1.0, INF, NAN]),
    "truncated": (lambda p: f.truncated_normal(p, 1.0, low=0.0, high=1.0), [-1.0, 2.0]),
    "uniform": (lambda p: f.uniform(0.0, p), [-1.0, 5.0, NAN]),
    "exponential": (f.exponential, [-1.0, INF, NAN]),
    "gamma": (lambda p: f.gamma(p, 1.0), [-1.0, 0.0, INF, NAN]),
    "inverse_gamma": (lambda p: f.inverse_gamma(p, 1.0), [-1.0, 0.0, INF]),
    "chi2": (f.chi2, [-1.0, 0.0, INF]),
    "beta": (lambda p: f.beta(p, 2.0), [-1.0, 2.0, NAN]),
    "weibull": (lambda p: f.weibull(p, 2.0), [-1.0, 0.0, INF]),
    "pareto": (lambda p: f.pareto(p, 2.0), [0.5, -1.0, INF]),
    "von_mises": (lambda p: f.von_mises(p, 2.0), [4.0, -4.0, INF, NAN]),
    "bernoulli": (lambda p: f.bernoulli(p / 2), [2, -1]),
    "categorical": (lambda p: f.categorical(logits=jnp.stack([p, 0.0 * p])), [2, -1]),
    "poisson": (f.poisson, [-1]),
    "geometric": (lambda p: f.geometric(p / 2), [-1]),
    "binomial": (lambda p: f.binomial(3, p / 2), [-1, 4]),
    "negative_binomial": (lambda p: f.negative_binomial(3.0, p / 2), [-1]),
    "discrete_uniform": (lambda p: f.discrete_uniform(0, 5), [-1, 6]),
    "multinomial": (lambda p: f.multinomial(3, jax.nn.softmax(jnp.stack([p, 0.0 * p]))), [[1, 1], [4, -1]]),
    "dirichlet": (
        lambda p: f.dirichlet(jnp.stack([p, p])),
        [[0.5, 0.6], [-0.1, 1.1], [NAN, 0.5], [INF, 0.5]],
    ),
    "one_hot": (lambda p: f.one_hot_categorical(logits=jnp.stack([p, 0.0 * p])), [[0.5, 0.6], [1.0, 1.0]]),
    "mixture": (
        lambda p: ppl.dist(
            npd.MixtureSameFamily(npd.Categorical(jnp.full(2, 0.5)), npd.Gamma(jnp.stack([p, 2 * p])))
        ),
        [-1.0, INF, NAN],
    ),
}


@pytest.mark.parametrize(
    ("family", "value"), [(name, value) for name, (_, values) in OUTSIDE.items() for value in values]
)
def test_a_value_outside_the_support_has_density_zero_and_no_slope(family, value):
    make, value = OUTSIDE[family][0], jnp.asarray(value)

    @jax.jit
    def score(p):
        return ppl.gen(lambda p: make(p) @ "x")(p).log_density({"x": value})

    assert score(0.9) == -np.inf
    assert jax.grad(score)(0.9) == 0.0
    if jnp.issubdtype(value.dtype, jnp.floating):
        slope = jax.grad(lambda x: make(jnp.asarray(0.9)).log_density(x))(value)
        np.testing.assert_array_equal(slope, jnp.zeros_like(value))


@pytest.mark.parametrize(
    "family", [f.normal, f.laplace, f.logistic, f.gumbel, lambda m: f.student_t(3.0, m, 1.0)]
)
def test_nan_on_the_whole_line_stays_nan(family):
    """No check is paid for there; `fit` and `first_nonfinite` name the address."""
    assert np.isnan(family(0.5).log_density(NAN))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("size", [2, 10, 300])
def test_narrow_probabilities_are_on_the_simplex(dtype, size):
    """A draw has a density; half of one, which is off the simplex by more than rounding, has none."""
    law = ppl.dirichlet(jnp.full(size, 3.0, dtype))
    draws = jax.vmap(lambda key: law.simulate(key).choices)(jax.random.split(KEY, 100))
    assert draws.dtype == dtype
    scores = jax.vmap(law.log_density)(draws)
    expected = jax.vmap(ppl.dirichlet(jnp.full(size, 3.0)).log_density)(
        draws.astype(jnp.float32) / draws.astype(jnp.float32).sum(-1, keepdims=True)
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-3)
    assert law.log_density(draws[0] / 2) == -np.inf


# --- weights --------------------------------------------------------------------------------------


@ppl.gen
def impossible():
    ppl.normal(0.0, 1.0) @ "x"
    ppl.uniform(5.0, 6.0) @ "u"


@ppl.gen
def poisoned():
    x = ppl.normal(0.0, 1.0) @ "x"
    ppl.normal(jnp.where(x > 0.0, NAN, 0.0), 1.0) @ "u"


@ppl.gen
def guide(mean):
    ppl.normal(mean, 1.0).using(Reinforce()) @ "x"


@ppl.gen
def smooth(mean):
    ppl.normal(mean, 1.0) @ "x"


BOUNDS: dict[str, Any] = {
    "elbo": ppl.elbo,
    "iwelbo(1)": ppl.iwelbo(1),
    "iwelbo": ppl.iwelbo(16),
    "vimco": ppl.vimco(16),
    "vargrad": ppl.vargrad(16),
    "sticking_the_landing": ppl.sticking_the_landing,
    "dreg(1)": ppl.dreg(1),
}


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("target", [impossible, poisoned], ids=["all -inf", "some nan"])
def test_weights_of_zero_and_nan_are_never_a_finite_number(name, target):
    """And the address is named. One nan among sixteen weights is enough."""
    proposal = smooth if name.startswith(("dreg", "sticking")) else guide
    bound = ppl.expectation(lambda mean: BOUNDS[name](target().condition({"u": 0.0}), proposal(mean)))
    if target is poisoned and proposal is smooth:
        with pytest.raises(e.DiscontinuousReparameterization):
            bound.value_and_grad(KEY, 0.5)
        return
    value = bound.estimate(KEY, 9.0)  # every draw is positive, where `poisoned` has its nan
    assert not np.isfinite(value)
    if target is impossible:
        assert value == -np.inf or name == "vargrad"
    found = bound.first_nonfinite(KEY, 9.0)
    assert found is not None and "the log density of 'u' is not finite" in found
    assert ("-inf: a value outside the support" in found) == (target is impossible)


@pytest.mark.parametrize("make", [ppl.iwelbo, ppl.dreg, ppl.vargrad, ppl.vimco])
@pytest.mark.parametrize("particles", [0, -1, 1.5, True, None])
def test_a_number_of_particles_that_makes_no_sense(make, particles):
    with pytest.raises((TypeError, ValueError), match=rf"{make.__name__}.*got {particles}"):
        make(particles)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None])
@pytest.mark.parametrize(
    "method", ["estimate", "grad", "value_and_grad", "surrogate", "jvp", "first_nonfinite"]
)
def test_a_number_of_runs_that_makes_no_sense(method, number):
    """The mean over no runs would be nan, and its gradient a silent zero."""
    program = ppl.expectation(lambda p: ppl.normal(p, 1.0) @ "x")
    arguments = ((0.5,), (1.0,)) if method == "jvp" else (0.5,)
    with pytest.raises((TypeError, ValueError), match=rf"num_samples is .*got {number}"):
        getattr(program, method)(KEY, *arguments, num_samples=number)
