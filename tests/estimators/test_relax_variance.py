"""RELAX and REBAR reduce the variance of the score function, the more the better their control is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.distributions.flip import Flip
from ppl.estimators import Estimator, Rebar, Reinforce, Relax
from ppl.estimators.protocol import magic_box
from ppl.noise import Noise
from ppl.testing.integrate import integrate

from ..laws.laws import KEY

TARGET = 0.45


def cost(b: Any) -> Any:
    return (b - TARGET) ** 2


def exact_variance(estimator: Estimator, p: float = 0.4) -> float:
    """Of the slope of the toy problem of Tucker et al., integrated over its noise."""
    objective = ppl.expectation(lambda p: cost(1.0 * (ppl.flip(p).using(estimator) @ "b")))

    def moments(key: Any, p: Any) -> Any:
        slope = objective.grad(key, p)
        return slope, slope**2

    with jax.enable_x64(True):
        first, second = integrate(moments, jax.random.key(KEY), jnp.asarray(p)).mean
    assert abs(first - 0.1) < 1e-8
    return float(second - first**2)


def between(b: Any) -> Any:
    """The straight line through `cost` at zero and one."""
    return cost(0.0) + (cost(1.0) - cost(0.0)) * b


def test_the_toy_problem_exactly() -> None:
    """f(0) and f(1) are nearly equal, so that the score function is nearly all noise."""
    plain = exact_variance(Reinforce())
    assert plain == pytest.approx(
        np.square([0.45**2 / 0.6, 0.55**2 / 0.4]) @ [0.6, 0.4] - 0.01
    )  # closed form
    assert exact_variance(Rebar(between, temperature=1.0)) < 0.05 * plain
    # Between zero and one the cost itself dips; followed closely, its slopes are worse than none.
    assert exact_variance(Rebar(cost, temperature=0.1)) > plain


COUNT = 6
WEIGHTS = jnp.array([0.8, -0.5, 0.3, 0.6, -0.9, 0.4])


def energy(b: Any) -> Any:
    """Of coins that interact."""
    return (b @ WEIGHTS - 0.3) ** 2 + 0.5 * jnp.prod(0.5 + b)


def slopes(estimator: Estimator, count: int = 10_000) -> np.ndarray:
    @ppl.expectation
    def objective(logits: Any) -> Any:
        return energy(1.0 * (ppl.bernoulli(logits=logits).using(estimator) @ "b"))

    keys = jax.random.split(jax.random.key(KEY), count)
    logits = jnp.linspace(-1.0, 1.0, COUNT)
    return np.asarray(jax.jit(jax.vmap(objective.grad, in_axes=(0, None)))(keys, logits), np.float64)


def ratio_interval(better: np.ndarray, worse: np.ndarray, times: int = 500) -> tuple[float, float]:
    """The 99 % bootstrap interval of the ratio of the total variances of two sets of draws."""
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(times):
        first, second = (x[generator.integers(len(x), size=len(x))] for x in (better, worse))
        ratios.append(first.var(axis=0).sum() / second.var(axis=0).sum())
    return float(np.quantile(ratios, 0.005)), float(np.quantile(ratios, 0.995))


def test_coins_that_interact() -> None:
    plain = slopes(Reinforce())
    rebar = slopes(Rebar(energy, temperature=0.5, whole=True))
    low, high = ratio_interval(rebar, plain)
    print(f"REBAR / REINFORCE: {low:.3f} to {high:.3f}")
    assert high < 0.5
    # A control that sees one coin at a time, at the mean of the others.
    apart = slopes(Rebar(lambda b: 0.4 * b + 0.1 * b**2, temperature=0.5))
    low, high = ratio_interval(apart, plain)
    print(f"REBAR, a coin at a time / REINFORCE: {low:.3f} to {high:.3f}")
    assert high < 1.0


def network(parameters: Any, z: Any) -> Any:
    inner, outer, offset = parameters
    return jnp.tanh(inner @ z + offset) @ outer


def test_training_the_control_lowers_the_variance_and_keeps_the_mean() -> None:
    """By descent of the squared norm of the gradient, whose mean does not depend on the control."""
    logits = jnp.array([-0.8, 0.1, 0.9])
    target = jnp.array([0.9, 0.4, -0.7])

    def rest(b: Any) -> Any:
        return (b @ target - 0.35) ** 2

    def slope(parameters: Any, key: Any) -> Any:
        def surrogate(logits: Any) -> Any:
            relax = Relax(functools.partial(network, parameters), whole=True)
            made = relax.contribute(Flip(jax.nn.sigmoid(logits)), Noise(key), 1)
            return rest(1.0 * made.value) * magic_box(jnp.sum(made.score)) + jnp.sum(made.control)

        return jax.grad(surrogate)(logits)

    @jax.jit
    def step(parameters: Any, key: Any) -> Any:
        squared = lambda p: jnp.mean(
            jnp.sum(jax.vmap(slope, in_axes=(None, 0))(p, jax.random.split(key, 100)) ** 2, axis=-1)
        )
        return jax.tree.map(lambda p, g: p - 0.2 * g, parameters, jax.grad(squared)(parameters))

    draws = jax.jit(jax.vmap(slope, in_axes=(None, 0)))
    keys = jax.random.split(jax.random.key(KEY), 10_000)
    inner, outer = 0.3 * jax.random.normal(jax.random.key(1), (2, 8, 3))
    start = trained = (inner, outer[:, 0], jnp.zeros(8))
    for key in jax.random.split(jax.random.key(2), 200):
        trained = step(trained, key)
    before, after = (np.asarray(draws(p, keys), np.float64) for p in (start, trained))
    low, high = ratio_interval(after, before)
    print(f"trained / untrained control: {low:.3f} to {high:.3f}")
    assert high < 0.5

    values = np.array(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T

    def expected(logits: Any) -> Any:
        p = jax.nn.sigmoid(logits)
        return sum(jnp.prod(jnp.where(b == 1, p, 1 - p)) * rest(b) for b in jnp.asarray(values, jnp.float32))

    truth = np.asarray(jax.grad(expected)(logits))
    for found in (before, after):
        error = found.std(axis=0) / np.sqrt(len(found))
        assert np.all(np.abs(found.mean(axis=0) - truth) < 5 * error + 1e-6)


def test_the_gradient_in_the_control_is_nothing() -> None:
    """The relaxed variables coincide in value, so that no noise of it reaches the control's parameters."""

    @ppl.expectation
    def objective(parameters: Any, p: Any) -> Any:
        relax = Relax(functools.partial(lambda w, z: jnp.tanh(w * z), parameters))
        return cost(1.0 * (ppl.flip(p).using(relax) @ "b"))

    keys = jax.random.split(jax.random.key(KEY), 100)
    found = jax.vmap(lambda k: objective.grad(k, 0.7, 0.4))(keys)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)
