"""Expected values by quadrature over choices, against closed forms and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp
from scipy import stats

import ppl
from ppl.testing.compared import point
from ppl.testing.truth import by_quadrature
from ppl.testing.walk import NotWalkable
from ppl.testing.worlds import TooManyWorlds

KEY = jax.random.key(2)
T = 0.3


def two(t: Any) -> Any:
    """A jump along a line through the plane of two choices."""
    x = ppl.normal(t, 1.0) @ "x"
    y = ppl.normal(0.5 * x, 1.0) @ "y"
    return jnp.where(x + y > 0.5, 1.0, 0.0)


def walk(t: Any) -> Any:
    step = lambda z, _: (z + (ppl.flip(jax.nn.sigmoid(t)) @ "z"),) * 2
    return jax.lax.scan(step, 0.0, None, 3)[0] ** 2


def masked(t: Any) -> Any:
    """In each lane, a choice is made or not."""

    def lane(s: Any) -> Any:
        u = ppl.flip(0.4) @ "u"
        return jax.lax.cond(u, lambda: ppl.normal(t * s, 1.0) @ "x", lambda: s)

    return jnp.sum(jax.vmap(lane)(jnp.array([1.0, 2.0])))


def inner(t: Any) -> Any:
    x = ppl.normal(t, 1.0) @ "x"
    return x * ppl.expect(lambda m: (ppl.normal(m, 1.0) @ "y") ** 2)(x)


SIGMOID = sp.expit(T)
CASES: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "gamma": (lambda t: (ppl.gamma(2.0 + t, 2.0) @ "x") ** 2, (2 + T) * (3 + T) / 4, (5 + 2 * T) / 4),
    "beta": (lambda t: ppl.beta(t, 2.0) @ "x", T / (T + 2), 2 / (T + 2) ** 2),
    "laplace": (lambda t: (ppl.laplace(t, 1.0) @ "x") ** 2, T**2 + 2, 2 * T),
    "student_t": (lambda t: (ppl.student_t(5.0, t, 1.0) @ "x") ** 2, T**2 + 5 / 3, 2 * T),
    "uniform": (lambda t: (ppl.uniform(0.0, t) @ "x") ** 2, T**2 / 3, 2 * T / 3),
    "exponential": (lambda t: (ppl.exponential(t) @ "x") ** 2, 2 / T**2, -4 / T**3),
    "poisson": (lambda t: (ppl.poisson(10 * t) @ "x") ** 2.0, 10 * T + 100 * T**2, 10 + 200 * T),
    "geometric": (lambda t: (ppl.geometric(t) @ "x") * 1.0, (1 - T) / T, -1 / T**2),
    "binomial": (lambda t: (ppl.binomial(5, t) @ "x") * 1.0, 5 * T, 5.0),
    "von_mises": (
        lambda t: jnp.cos(ppl.von_mises(t, 2.0) @ "x"),
        np.cos(T) * sp.i1(2) / sp.i0(2), -np.sin(T) * sp.i1(2) / sp.i0(2),
    ),
    "dirichlet": (lambda t: (ppl.dirichlet(jnp.stack([t, 1.0])) @ "x")[0], T / (T + 1), 1 / (T + 1) ** 2),
    "multivariate_normal": (
        lambda t: jnp.prod(
            ppl.multivariate_normal(
                jnp.stack([t, 1.0]), scale_tril=jnp.array([[1.0, 0.0], [0.5, 1.0]])
            ) @ "x"
        ),
        T + 0.5, 1.0,
    ),
    "mixture": (
        lambda t: (ppl.mixture(ppl.normal(jnp.stack([t, -3.0]), jnp.array([1.0, 0.5])),
                               probs=jnp.array([0.5, 0.5])) @ "x") ** 2,
        (T**2 + 1 + 9 + 0.25) / 2, T,
    ),
    "a jump": (
        lambda t: jnp.where(ppl.normal(t, 1.0) @ "x" > 1.0, 1.0, 0.0),
        stats.norm.sf(1 - T), stats.norm.pdf(1 - T),
    ),
    "a jump that moves": (
        lambda t: jnp.where(ppl.normal(0.0, 1.0) @ "x" > t, 1.0, 0.0), stats.norm.sf(T), -stats.norm.pdf(T),
    ),
    "a jump along a line": (
        two, stats.norm.sf((0.5 - 1.5 * T) / np.sqrt(3.25)),
        1.5 / np.sqrt(3.25) * stats.norm.pdf((0.5 - 1.5 * T) / np.sqrt(3.25)),
    ),
    "a kink": (
        lambda t: jax.nn.relu(ppl.normal(t, 1.0) @ "x"),
        T * stats.norm.cdf(T) + stats.norm.pdf(T), stats.norm.cdf(T),
    ),
    "steps": (
        lambda t: jnp.floor(ppl.uniform(0.0, 3.0) @ "x") * t, T, 1.0,
    ),
    "scan": (
        walk, 3 * SIGMOID * (1 - SIGMOID) + 9 * SIGMOID**2,
        SIGMOID * (1 - SIGMOID) * (3 * (1 - 2 * SIGMOID) + 18 * SIGMOID),
    ),
    "masked lanes": (masked, 0.4 * 3 * T + 0.6 * 3, 1.2),
    "inner expectation": (inner, T**3 + 3 * T + T, 3 * T**2 + 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_and_slope(name: str) -> None:
    program, value, slope = CASES[name]
    with jax.enable_x64(True):
        truth = by_quadrature(point(ppl.expectation(program), (T,), 0, 0, KEY), 1)
    np.testing.assert_allclose(truth.mean, [value, slope], rtol=3e-7)
    assert np.all(np.abs(truth.mean - [value, slope]) <= 1e-8 + 30 * truth.error)


def test_second_derivatives() -> None:
    with jax.enable_x64(True):
        at = point(ppl.expectation(lambda t: (ppl.normal(t, jnp.exp(t)) @ "x") ** 4), (T,), 0, 0, KEY)
        truth = by_quadrature(at, 2)
    s = np.exp(T)
    second = 12 * T**2 + 6 * s**2 * (2 + 8 * T + 4 * T**2) + 3 * 16 * s**4
    np.testing.assert_allclose(truth.mean[2], second, rtol=1e-6)


def test_what_is_too_large_is_said() -> None:
    many = lambda t: jnp.sum(ppl.normal(t * jnp.ones(9), 1.0) @ "x")
    with jax.enable_x64(True), pytest.raises(TooManyWorlds, match="combinations"):
        by_quadrature(point(ppl.expectation(many), (T,), 0, 0, KEY), 1)
    opaque = lambda t: t * jnp.sum(ppl.families.multinomial(3, jnp.array([0.2, 0.8])) @ "x")
    with jax.enable_x64(True), pytest.raises(NotWalkable, match="no finite support"):
        by_quadrature(point(ppl.expectation(opaque), (T,), 0, 0, KEY), 1)
