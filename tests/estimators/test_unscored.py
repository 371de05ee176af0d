"""A draw whose score is dropped: the bias that it says it has, by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import errors
from ppl.estimators import Unscored
from ppl.infer import SMC, Multinomial
from ppl.testing.integrate import integrate

from ..laws.laws import KEY

pytestmark = pytest.mark.usefixtures("x64")


def test_the_derivative_is_that_of_the_rest_of_the_program():
    """Skewed, and with a jump."""

    @ppl.expectation
    def cost(t):
        x = ppl.normal(0.0, 1.0).using(Unscored()) @ "x"
        b = ppl.flip(0.2 + 0.1 * t).using(Unscored()) @ "b"
        return x**3 + t**2 * x**2 + jnp.where(b, 3.0 * t, -1.0)

    found = integrate(cost.value_and_grad, jax.random.key(KEY), jnp.asarray(0.5))
    p = 0.2 + 0.05
    # The true slope has 0.1 (1.5 + 1) more.
    np.testing.assert_allclose(found.mean, [0.25 + p * 1.5 - (1 - p), 1.0 + 3.0 * p], rtol=1e-8)


def test_filtering_bound_without_the_derivative_of_resampling():
    """Two particles, two steps: all 64 draws by hand; the derivative is of the log weights alone."""
    seen, a, q = [True, False], 0.4, 0.6

    @ppl.gen
    def model(a):
        def step(z, _):
            z = ppl.flip(jnp.where(z, a, 0.3)) @ "z"
            ppl.flip(jnp.where(z, 0.8, 0.25)) @ "y"
            return z, None

        jax.lax.scan(step, jnp.array(True), None, length=2)

    @ppl.gen
    def guide():
        jax.lax.scan(lambda z, _: (ppl.flip(q) @ "z", None), jnp.array(True), None, length=2)

    @ppl.expectation
    def bound(a):
        algorithm = SMC(2, guide(), resampling=Multinomial(Unscored()))
        return algorithm.log_normalizer(model(a).condition({"y": jnp.array(seen)}))

    def weight(before, z, y, a):
        p, e = (a if before else 0.3), (0.8 if z else 0.25)
        return (p if z else 1 - p) / (q if z else 1 - q) * (e if y else 1 - e)

    value = slope = 0.0
    coins, pairs = (True, False), ((0, 0), (0, 1), (1, 0), (1, 1))
    for first, ancestors, second in itertools.product(
        itertools.product(coins, coins), pairs, itertools.product(coins, coins)
    ):

        def log_normalizer(a, first=first, ancestors=ancestors, second=second):
            one = [weight(True, z, seen[0], a) for z in first]
            two = [weight(first[k], z, seen[1], a) for k, z in zip(ancestors, second, strict=True)]
            return np.log(np.mean(one)) + np.log(np.mean(two)), np.array(one) / np.sum(one)

        here, shares = log_normalizer(a)
        probability = np.prod([q if z else 1 - q for z in (*first, *second)]) * np.prod(
            shares[list(ancestors)]
        )
        step = 1e-5
        value += probability * here
        slope += probability * (log_normalizer(a + step)[0] - log_normalizer(a - step)[0]) / (2 * step)
    found = integrate(bound.value_and_grad, jax.random.key(KEY), jnp.asarray(a))
    np.testing.assert_allclose(found.mean, [value, slope], rtol=1e-8)
    assert abs(jax.grad(bound.exact)(a) - slope) > 1e-3, "what is left out"


def test_it_is_biased_and_says_so():
    with pytest.raises(errors.PPLError, match="Unscored"):
        ppl.testing.check_unbiased(
            ppl.expectation(lambda p: 1.0 * (ppl.flip(p).using(Unscored()) @ "b")),
            (0.4,),
            key=jax.random.key(KEY),
        )
