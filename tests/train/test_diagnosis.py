"""What training says when a real program gives a number that is not finite."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

import ppl
from ppl.estimators import Reinforce


@ppl.gen
def model():
    z = ppl.normal(0.0, 1.0) @ "z"
    ppl.normal(0.0, 1 / jnp.where(z > 2.0, jnp.inf, 1.0)) @ "y"


@ppl.gen
def guide(mean):
    ppl.normal(mean, 1.0) @ "z"


@ppl.expectation
def objective(mean):
    scored = guide(mean).using({"z": Reinforce()})
    return ppl.elbo(model().condition({"y": 1.0}), scored)


@pytest.mark.parametrize("num_samples", [1, 10])
def test_the_first_log_density_that_is_not_finite_is_named(num_samples):
    with pytest.raises(ppl.errors.NonFiniteObjective) as caught:
        ppl.fit(
            objective, jnp.array(0.0), optax.sgd(1e-3), key=jax.random.key(0), steps=2_000,
            num_samples=num_samples, progress=False,
        )  # fmt: skip
    error = caught.value
    assert "the log density of 'y' is not finite" in str(error)
    value = objective.estimate(error.key, error.params, num_samples=num_samples)
    assert not jnp.isfinite(value), "the key of the error replays the step"
    assert jnp.isfinite(error.params)
    assert error.result.values.shape == (error.step,)


def test_a_draw_inside_a_loop_is_named_with_its_line():
    @ppl.expectation
    def chain(x):
        def step(x, _):
            drawn = ppl.normal(x, 1.0) @ "x"
            return x / 0.0, drawn

        return jnp.sum(jax.lax.scan(step, x, length=3)[1])

    found = chain.first_nonfinite(jax.random.key(0), 1.0)
    assert found is not None
    assert re.search(
        r"the draw of 'x' \(normal, .*test_diagnosis.py:\d+ \(.*step\)\) is not finite, 2 times", found
    )


def test_nothing_is_named_where_everything_is_finite():
    assert objective.first_nonfinite(jax.random.key(1), -30.0) is None


def test_a_python_integer_among_the_parameters_is_refused():
    @ppl.expectation
    def program(params):
        return ppl.normal(params["loc"], 1.0) @ "x"

    with pytest.raises(
        TypeError, match=re.escape("params['loc'] is the Python integer 3, which is not trained")
    ):
        ppl.fit(program, {"loc": 3, "scale": 1.0}, optax.sgd(0.1), key=jax.random.key(0), steps=1)
