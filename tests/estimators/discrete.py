"""What the tests of discrete estimators share: variances without Monte Carlo.

An estimator's mean and variance are integrals over its own noise, which `ppl.testing.integrate` takes
exactly. So a variance here has no confidence interval: it is a number, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.distributions.finite_support import support_values
from ppl.estimators.protocol import Estimator, magic_box
from ppl.noise import Noise
from ppl.testing.integrate import integrate
from ppl.testing.rules import Rule, panels

from ..laws.cases import FAMILIES, drawer, integrand
from ..laws.flows import FLOWS
from ..laws.laws import KEY, check_exactly

LINEAR = dict(zip(("nodes", "weights"), panels([0.0, 1.0], 2), strict=True))
UNIFORM = {"uniform": Rule(**LINEAR)}
"""Two nodes: exact for a polynomial of a uniform number up to the third degree."""

BITS = np.array([0.4, -0.8, 0.1, 1.5, -0.3])
WAYS = np.array([0.2, -0.4, 0.9, -1.1, 0.5, 0.0])


def check(family: str, estimator: Estimator) -> None:
    """Value, first and second derivative of a family, exactly; the integrand jumps."""
    entry, flow = FAMILIES[family], FLOWS["straight"]
    f = integrand(entry.jump)
    check_exactly(flow.program(drawer(entry, estimator), f), flow.truth(entry.law, f), draws=1)


class Moments(NamedTuple):
    """Of a gradient estimate: its mean, and the sum of the variances of its entries."""

    mean: np.ndarray
    variance: float


def moments(slope: Callable[[Any, Any], Any], theta: Any, rules: Any = None) -> Moments:
    """Exact moments of `slope(key, theta)` over its noise."""
    with jax.enable_x64(True):
        both = lambda key, t: (lambda g: (g, g**2))(slope(key, t))
        mean, square = integrate(both, jax.random.key(KEY), jnp.asarray(theta), rules=rules).mean
    return Moments(mean, float(np.sum(square - mean**2)))


def five_bits(estimator: Estimator) -> Callable[[Any, Any], Any]:
    """The gradient estimate of a skewed reward of five coins."""
    program = lambda a: bits_reward(ppl.flip(jax.nn.sigmoid(a)).using(estimator) @ "bits")
    return ppl.expectation(program).grad


def bits_reward(bits: Any) -> Any:
    """Skewed, with a jump and interactions."""
    x = jnp.asarray(bits, jnp.result_type(float))
    count = jnp.sum(x)
    return jnp.exp(0.4 * (x @ jnp.array([1.0, 0.6, 1.4, -0.5, 0.9]))) + 1.3 * (count > 2.5) - 2 * x[0] * x[3]


def six_ways(estimator: Estimator) -> Callable[[Any, Any], Any]:
    """The gradient estimate of a skewed reward of one of six."""
    program = lambda logits: ways_reward(ppl.categorical(logits=logits).using(estimator) @ "way")
    return ppl.expectation(program).grad


def ways_reward(way: Any) -> Any:
    """Skewed, with a jump, and not monotone."""
    x = jnp.asarray(way, jnp.result_type(float))
    return jnp.exp(0.4 * x) + 1.3 * (x > 2.5) - 2 * (x == 4)


def true_gradient(
    reward: Callable[[Any], Any], law: Callable[[Any, Any], Any], values: Any, theta: Any
) -> Any:
    """The derivative of a sum over all values."""
    with jax.enable_x64(True):
        rewards = jnp.stack([reward(v) for v in values])
        total = lambda t: jnp.sum(jnp.stack([law(v, t) for v in values]) * rewards)
        return np.asarray(jax.grad(total)(jnp.asarray(theta)))


def bits_gradient() -> Any:
    """The truth of `five_bits`."""
    values = np.stack(np.meshgrid(*[[0.0, 1.0]] * 5, indexing="ij"), axis=-1).reshape(-1, 5)
    law = lambda v, a: jnp.prod(jnp.where(v == 1, jax.nn.sigmoid(a), jax.nn.sigmoid(-a)))
    return true_gradient(bits_reward, law, values, BITS)


def ways_gradient() -> Any:
    """The truth of `six_ways`."""
    law = lambda v, logits: jax.nn.softmax(logits)[int(v)]
    return true_gradient(ways_reward, law, np.arange(6.0), WAYS)


def together(
    estimator: Estimator, family: Callable[[Any], Any], reward: Callable[[Any], Any]
) -> Callable[[Any, Any], Any]:
    """The gradient of an array of choices whose entries share each phantom run, composed by hand."""

    def surrogate(key: Any, theta: Any) -> Any:
        distribution = family(theta).numpyro
        made = estimator.prepare(support_values(distribution)).contribute(distribution, Noise(key), 1)
        base = reward(made.value)
        box = 1.0 if made.score is None else magic_box(jnp.sum(made.score))
        total = base * box
        if made.phantoms is not None:
            total = total + sum(
                jnp.sum(w) * (reward(x) - base) for w, x in zip(made.weights, made.phantoms, strict=True)
            )
        return total

    return lambda key, theta: jax.grad(surrogate, argnums=1)(key, theta)
