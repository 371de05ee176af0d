"""Parameters that are known only at run time, under `ppl.checks()`."""

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl import gen, normal
from ppl.errors import ParameterError

KEY = jax.random.key(0)
SAYS = r"normal, .*test_runtime_checks\.py:\d+ .*scale is outside its domain \(must be positive\)"


@gen
def model(scale):
    return normal(0.0, scale - 2.0) @ "x"


CALLS = {
    "simulate": lambda scale: model(scale).simulate(KEY),
    "log_density": lambda scale: model(scale).log_density({"x": 0.0}),
    "generate": lambda scale: model(scale).generate(KEY, {"x": 0.0}),
    "nested": lambda scale: gen(lambda s: model(s) @ "sub")(scale).simulate(KEY),
    "lanes": lambda scale: gen(lambda s: jax.vmap(lambda m: normal(m, s - 2.0) @ "x")(jnp.zeros(3)))(
        scale
    ).simulate(KEY),
    "steps": lambda scale: gen(
        lambda s: jax.lax.fori_loop(0, 3, lambda i, x: normal(x, s - 2.0 + 0 * x) @ "x", 0.0)
    )(scale).simulate(KEY),
    "estimate": lambda scale: ppl.expectation(lambda s: model(s).propose().retval).estimate(KEY, scale),
    "grad": lambda scale: ppl.expectation(lambda s: model(s).propose().retval).grad(KEY, scale),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_parameter_outside_its_domain_is_named(name):
    with ppl.checks(), pytest.raises(ParameterError, match=SAYS):
        CALLS[name](1.0)
    with ppl.checks():
        CALLS[name](3.0)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_checked_outside(name):
    CALLS[name](1.0)


def test_a_distribution_of_its_own_is_checked():
    with ppl.checks(), pytest.raises(ParameterError, match="scale"):
        ppl.expectation(lambda s: normal(0.0, s).propose().retval).estimate(KEY, -1.0)
    with ppl.checks(), pytest.raises(ParameterError, match="scale"):
        jax.vmap(lambda s: normal(0.0, s))(jnp.array([1.0, -1.0])).simulate(KEY)


def test_an_exception_ends_the_checks():
    with pytest.raises(ZeroDivisionError), ppl.checks():
        raise ZeroDivisionError
    CALLS["simulate"](1.0)


def jitted_model():
    inner = jax.jit(lambda scale: normal(0.0, scale - 2.0) @ "x")
    return gen(lambda scale: inner(scale))


def test_a_function_that_jax_has_cached_is_checked():
    program = jitted_model()
    program(1.0).simulate(KEY)
    with ppl.checks(), pytest.raises(ParameterError, match=SAYS):
        program(1.0).simulate(KEY)


def test_a_function_that_jax_has_cached_under_checks_works_after_them():
    program = jitted_model()
    with ppl.checks():
        program(3.0).simulate(KEY)
    program(3.0).simulate(KEY)


def test_a_branch_that_is_not_taken_is_not_checked():
    @gen
    def program(x):
        return jax.lax.cond(x > 0, lambda: normal(0.0, x) @ "y", lambda: normal(0.0, 1.0) @ "y")

    with ppl.checks():
        program(-1.0).simulate(KEY)


def test_a_branch_that_a_lane_does_not_take_is_not_checked_there():
    @gen
    def program(xs):
        def lane(x):
            return jax.lax.cond(x > 0, lambda: normal(0.0, x) @ "y", lambda: normal(0.0, 1.0) @ "y")

        return jax.vmap(lane)(xs)

    with ppl.checks():
        program(jnp.array([1.0, -1.0])).simulate(KEY)


def test_under_the_users_own_jit_the_message_says_what_to_do():
    with ppl.checks(), pytest.raises(Exception, match=r"checkify|ppl\.checks"):
        jax.jit(lambda s: model(s).simulate(KEY).retval)(3.0)
