"""The laws themselves: what a derived program must satisfy against a truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.testing.integrate import integrate

from .cases import DIRECTION, THETA

KEY = 20250614
ERRORS = 5.0
"""Standard errors that a mean may be off: two-sided, 5.7e-7 for a normal mean, 6.8e-7 for a mean of 1,000."""


class Derivatives(NamedTuple):
    """Of one function at one point: what is compared."""

    value: Any
    gradient: Any
    curvature: Any  # the Hessian times DIRECTION; of `custom_vjp` programs, the gradient again


Truth = Callable[[Any], Any] | Derivatives
"""A function of the parameters, or its derivatives at `THETA`."""


def truth_of(truth: Truth) -> Derivatives:
    """Value and derivatives of a truth, in double precision."""
    if isinstance(truth, Derivatives):
        return truth
    with jax.enable_x64(True):
        theta, direction = jnp.asarray(THETA), jnp.asarray(DIRECTION)
        both = jax.jit(lambda t: jax.jvp(jax.value_and_grad(truth), (t,), (direction,)))
        (value, gradient), (_, curvature) = both(theta)
        return Derivatives(np.asarray(value), np.asarray(gradient), np.asarray(curvature))


def estimates(
    objective: Any, second: bool = True, surrogate: bool = True, **options: Any
) -> Callable[[Any, Any], dict[str, Any]]:
    """Every way to a value and its derivatives, in one function of key and parameters.

    `surrogate` is false for estimators that refuse to be differentiated more than once.
    """

    def both(key: Any, theta: Any) -> dict[str, Any]:
        direction = jnp.asarray(DIRECTION, theta.dtype)
        value, gradient = objective.value_and_grad(key, theta, **options)
        found = {
            "estimate": objective.estimate(key, theta, **options),
            "value_and_grad value": value,
            "value_and_grad gradient": gradient,
        }
        if not surrogate:
            return found
        slope = jax.value_and_grad(lambda t: objective.surrogate(key, t, **options))
        if not second:
            found["surrogate value"], found["surrogate gradient"] = slope(theta)
            return found
        (value, gradient), (_, curvature) = jax.jvp(slope, (theta,), (direction,))
        return found | {
            "surrogate value": value,
            "surrogate gradient": gradient,
            "surrogate curvature": curvature,
        }

    return both


def check_exactly(
    program: Callable[[Any], Any], truth: Truth, *, second: bool = True,
    surrogate: bool = True, draws: int = 0, tolerance: float = 1e-8, rules: Any = None,
) -> None:  # fmt: skip
    """E[G] = g to ten digits, for each derived program, integrated over its own noise.

    `draws`: how many numbers it must have drawn at least, so that no noise was baked in at staging.
    """
    right = truth_of(truth)
    with jax.enable_x64(True):
        both = estimates(ppl.expectation(program), second, surrogate)
        found = integrate(both, jax.random.key(KEY), jnp.asarray(THETA), rules=rules)
    assert found.draws >= draws, f"{found.draws} numbers drawn, expected {draws} or more"
    wrong = []
    for name, mean in found.mean.items():
        wanted = getattr(right, name.split()[-1], right.value)
        off = np.max(np.abs(mean - wanted) / np.maximum(1, np.abs(wanted)))
        if not off <= tolerance:
            wrong.append(f"{name}: expected value {mean}, truth {wanted} ({off:.1e} off)")
    assert not wrong, "; ".join(wrong)


def check_statistically(
    program: Callable[[Any], Any], truth: Truth, *, second: bool = True,
    surrogate: bool = True, runs: int = 1000, samples: int = 100,
) -> None:  # fmt: skip
    """The mean of `runs * samples` draws lies within five standard errors of the truth.

    Each of `runs` keys averages `samples` lanes by `num_samples`; the standard error is that of the keys.
    """
    right = truth_of(truth)
    one = estimates(ppl.expectation(program), second, surrogate, num_samples=samples)
    keys = jax.random.split(jax.random.key(KEY), runs)
    found = jax.jit(jax.vmap(one, in_axes=(0, None)))(keys, jnp.asarray(THETA, jnp.float32))
    for name, draws in found.items():
        close(name, np.asarray(draws, np.float64), getattr(right, name.split()[-1], right.value))


def check_forward(program: Callable[[Any], Any], truth: Truth, *, draws: int = 0, rules: Any = None) -> None:
    """As `check_exactly`, of directional derivatives in forward mode."""
    right, objective = truth_of(truth), ppl.expectation(program)

    def both(key: Any, theta: Any) -> Any:
        direction = jnp.asarray(DIRECTION)
        slope = lambda t: jax.jvp(lambda t: objective.surrogate(key, t), (t,), (direction,))
        (value, first), (_, second) = jax.jvp(slope, (theta,), (direction,))
        return {
            "estimate": objective.estimate(key, theta),
            "jvp": objective.jvp(key, (theta,), (direction,)),
            "surrogate": (value, first, second),
        }

    wanted = (right.value, right.gradient @ DIRECTION, right.curvature @ DIRECTION)
    with jax.enable_x64(True):
        found = integrate(both, jax.random.key(KEY), jnp.asarray(THETA), rules=rules)
    assert found.draws >= draws
    np.testing.assert_allclose(found.mean["estimate"], wanted[0], rtol=1e-8)
    np.testing.assert_allclose(np.asarray(found.mean["jvp"]), wanted[:2], rtol=1e-8)
    np.testing.assert_allclose(np.asarray(found.mean["surrogate"]), wanted, rtol=1e-8)


def close(name: str, draws: np.ndarray, wanted: Any) -> None:
    """Whether independent draws of an estimator have the mean that is wanted."""
    mean, error = draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    rounding = 1e-5 * np.maximum(1, np.abs(wanted))
    off = np.abs(mean - wanted)
    assert np.all(off <= ERRORS * error + rounding), f"{name}: mean {mean} ± {error}, truth {wanted}"
