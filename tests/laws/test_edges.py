"""Edges: nothing to draw, one value to draw, values of probability zero, branches that are not finite.

Exact, to 1e-8: no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued

from .cases import DISCRETE, coin
from .laws import check_exactly

sigmoid = jax.nn.sigmoid
discrete = pytest.mark.parametrize("how", DISCRETE.values(), ids=DISCRETE)


@discrete
def test_scan_of_length_zero(how: Any) -> None:
    def program(t: Any) -> Any:
        z, xs = jax.lax.scan(lambda z, _: (z + coin(sigmoid(t[0]), how, "x"), z), t[1], None, 0)
        return z**2 + jnp.sum(xs) + coin(sigmoid(t[1]), how) * t[0]

    check_exactly(program, lambda t: t[1] ** 2 + sigmoid(t[1]) * t[0])


@discrete
def test_zero_lanes(how: Any) -> None:
    def program(t: Any) -> Any:
        xs = jax.vmap(lambda s: coin(sigmoid(t[0] + s), how, "x"))(jnp.zeros(0))
        return jnp.sum(xs) + coin(sigmoid(t[1]), how) * t[0]

    check_exactly(program, lambda t: sigmoid(t[1]) * t[0])


@discrete
@pytest.mark.parametrize("lanes", [None, 2])
def test_support_of_one_value(how: Any, lanes: int | None) -> None:
    def program(t: Any) -> Any:
        if lanes is None:
            k = ppl.categorical(logits=t[:1]).using(how) @ "k"
        else:
            k = jnp.sum(jax.vmap(lambda _: ppl.categorical(logits=t[:1]).using(how) @ "k")(jnp.arange(lanes)))
        return (k + t[1]) ** 2 + t[0]

    check_exactly(program, lambda t: t[1] ** 2 + t[0])


@discrete
@pytest.mark.parametrize("lanes", [False, True])
def test_impossible_category(how: Any, lanes: bool) -> None:
    """The integrand is infinite at a value of probability zero."""

    def logits(t: Any) -> Any:
        return jnp.stack([t[0], -jnp.inf, t[1]])

    def program(t: Any) -> Any:
        if not lanes:
            k = ppl.categorical(logits=logits(t)).using(how) @ "k"
            return (k - 0.5) ** 3 * (1 + t[0])
        k = jax.vmap(lambda _: ppl.categorical(logits=logits(t)).using(how) @ "k")(jnp.arange(2))
        return (k[0] - 0.5) ** 3 * (1 + k[1])

    def truth(t: Any) -> Any:
        p = jax.nn.softmax(t)
        cube = p[0] * (-0.5) ** 3 + p[1] * 1.5**3
        return cube * (1 + t[0]) if not lanes else cube * (1 + 2 * p[1])

    check_exactly(program, truth)


@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("how", [Enumerate(), MeasureValued()], ids=["enumerate", "measure_valued"])
@pytest.mark.parametrize("lanes", [False, True])
def test_probability_at_an_end(how: Any, end: float, lanes: bool) -> None:
    """The derivative at an end is one-sided, and finite."""

    def program(t: Any) -> Any:
        p = end + (t[0] - 0.35) * (1 - 2 * end)
        if lanes:
            x, y = jax.vmap(lambda s: coin(p, how))(jnp.arange(2))
            return (x + 2 * t[1]) ** 3 * (1 + y)
        return (coin(p, how) + 2 * t[1]) ** 3

    def truth(t: Any) -> Any:
        p = end + (t[0] - 0.35) * (1 - 2 * end)
        mean = p * (1 + 2 * t[1]) ** 3 + (1 - p) * (2 * t[1]) ** 3
        return mean * (1 + p) if lanes else mean

    # With lanes the second derivative counts pairs that the law at an end never draws: it is for the inside.
    check_exactly(program, truth, second=not lanes)


@discrete
def test_nan_in_a_branch_that_is_not_taken(how: Any) -> None:
    def program(t: Any) -> Any:
        def lane(b: Any, scale: Any) -> Any:
            return jax.lax.cond(b, lambda: jnp.log(scale) * coin(sigmoid(t[0] * scale), how), lambda: t[1])

        x, y = jax.vmap(lane)(jnp.array([True, False]), jnp.stack([2.0 + t[1], -1.0 + 0 * t[1]]))
        return (x + y) ** 3

    def truth(t: Any) -> Any:
        scale = 2.0 + t[1]
        p = sigmoid(t[0] * scale)
        return p * (jnp.log(scale) + t[1]) ** 3 + (1 - p) * t[1] ** 3

    check_exactly(program, truth, draws=1)


def test_given_support_must_hold_the_law() -> None:
    """A support that is handed to `Enumerate` and leaves out most of the mass makes a biased sum."""

    def program(t: Any) -> Any:
        return 1.0 * (ppl.poisson(jnp.exp(t)).using(Enumerate(support=jnp.arange(2))) @ "k")

    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match="Enumerate does not exist for 'k'"):
        ppl.expectation(program).grad(jax.random.key(0), 0.3)
