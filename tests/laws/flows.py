"""Every control flow as a pair: a program that makes choices in it, and its exact expectation.

`draw(theta, address)` makes one choice and returns it as a float; `f(x, theta)` is the integrand, whose mean
is not a mean of means: what comes after the control flow is never linear in what comes out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import ppl

from .oracles import Law, chain, moved_by, transition

Draw = Callable[..., Any]
Integrand = Callable[[Any, Any], Any]
START = 0.3
ASIDE = 0.7  # what comes out of a branch without a choice


def _other(t: Any, times: Any = 1.0) -> Any:
    """The parameters of another choice."""
    return t + times * jnp.array([0.25, -0.1])


class Flow(NamedTuple):
    """A control flow.

    Attributes:
        program: `(draw, f) -> (theta -> result)`.
        truth: `(law, f) -> (theta -> expected result)`.
        choices: how many instances of the choice a run makes.
    """

    program: Callable[[Draw, Integrand], Callable[[Any], Any]]
    truth: Callable[[Law, Integrand], Callable[[Any], Any]]
    choices: int


def _mean(law: Law, f: Integrand, theta: Any, at: Any = None) -> Any:
    """E f(x, theta), with the choice's parameters at `at`."""
    return law.mean(lambda x: f(x, theta), theta if at is None else at)


def _half(x: Any, theta: Any) -> Any:
    return x + 0.5


def straight(draw: Draw, f: Integrand) -> Any:
    return lambda t: f(draw(t, "x"), t)


def _straight_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, f, t)


def jitted(draw: Draw, f: Integrand) -> Any:
    """One jitted function called twice: one jaxpr, two independent choices."""
    inner = jax.jit(lambda t: draw(t, None))
    return lambda t: f(inner(t), t) * (inner(_other(t)) + 0.5)


def _two_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, f, t) * _mean(law, _half, t, _other(t))


def checkpointed(draw: Draw, f: Integrand) -> Any:
    def program(t: Any) -> Any:
        x, y = jax.checkpoint(lambda t: (draw(t, "x"), draw(_other(t), "y")))(t)
        return f(x, t) * (y + 0.5)

    return program


def lanes(draw: Draw, f: Integrand) -> Any:
    """Independent lanes, with parameters of their own."""
    return lambda t: jnp.sum(jax.vmap(lambda s: f(draw(_other(t, s), "x"), t))(jnp.arange(2.0)))


def _lanes_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, f, t) + _mean(law, f, t, _other(t))


def interacting(draw: Draw, f: Integrand) -> Any:
    """Lanes with the same parameters, which interact afterwards."""

    def program(t: Any) -> Any:
        x, y = jax.vmap(lambda _: draw(t, "x"))(jnp.arange(2))
        return f(x, t) * (y + 0.5)

    return program


def _interacting_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, f, t) * _mean(law, _half, t)


def array(draw: Draw, f: Integrand) -> Any:
    """Array parameters."""

    def program(t: Any) -> Any:
        x, y = draw(jnp.stack([t, _other(t)]), "x")
        return f(x, t) * (y + 0.5)

    return program


def scanned(draw: Draw, f: Integrand) -> Any:
    """A chain of three choices; its first and last interact."""

    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            x = draw(moved_by(t, z), "x")
            return x, x

        last, xs = jax.lax.scan(step, jnp.asarray(START), None, 3)
        return f(last, t) * (xs[0] + 0.5) + xs[1]

    return program


def _scan_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        first, middle, _ = chain(law, t, START, 3)
        step = transition(law, t)
        last = step @ step @ f(law.values, t)
        return jnp.sum(first * (law.values + 0.5) * last) + jnp.sum(middle * law.values)

    return truth


def looped(draw: Draw, f: Integrand) -> Any:
    """A chain in a `fori_loop`."""

    def program(t: Any) -> Any:
        def step(i: Any, state: Any) -> Any:
            z, total = state
            x = draw(moved_by(t, z), "x")
            return x, 0.5 * total + f(x, t)

        return jax.lax.fori_loop(0, 3, step, (jnp.asarray(START), jnp.asarray(0.0)))[1]

    return program


def _loop_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        means = [jnp.sum(marginal * f(law.values, t)) for marginal in chain(law, t, START, 3)]
        return 0.25 * means[0] + 0.5 * means[1] + means[2]

    return truth


def while_looped(draw: Draw, f: Integrand) -> Any:
    """The same chain in a `while_loop`, whose length JAX does not know."""

    def program(t: Any) -> Any:
        def step(state: Any) -> Any:
            i, z, total = state
            x = draw(moved_by(t, z), None)
            return i + 1, x, 0.5 * total + f(x, t)

        start = (jnp.asarray(0), jnp.asarray(START), jnp.asarray(0.0))
        return jax.lax.while_loop(lambda state: state[0] < 3, step, start)[2]

    return program


def branch(draw: Draw, f: Integrand) -> Any:
    """A choice in one branch of a conditional on another choice."""

    def program(t: Any) -> Any:
        b = ppl.flip(jax.nn.sigmoid(t[1])).using(ppl.estimators.Reinforce()) @ "b"
        x = jax.lax.cond(b, lambda: draw(t, "x"), lambda: jnp.asarray(ASIDE))
        return f(x, t)

    return program


def _branch_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        p = jax.nn.sigmoid(t[1])
        return p * _mean(law, f, t) + (1 - p) * f(ASIDE, t)

    return truth


def switched(draw: Draw, f: Integrand) -> Any:
    """A choice in two of three branches, picked by an enumerated choice."""

    def program(t: Any) -> Any:
        k = ppl.categorical(logits=jnp.stack([t[0], t[1], 0.2])).using(ppl.estimators.Enumerate()) @ "k"
        branches = [lambda: draw(t, "x"), lambda: jnp.asarray(ASIDE), lambda: 0.5 * draw(_other(t), "y")]
        return f(jax.lax.switch(k, branches), t)

    return program


def _switch_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        p = jax.nn.softmax(jnp.stack([t[0], t[1], 0.2]))
        return (
            p[0] * _mean(law, f, t)
            + p[1] * f(ASIDE, t)
            + p[2] * _mean(law, lambda x, t: f(0.5 * x, t), t, _other(t))
        )

    return truth


def mapped_branch(draw: Draw, f: Integrand) -> Any:
    """A conditional whose predicate differs between lanes; the lanes interact."""

    def program(t: Any) -> Any:
        taken = jnp.array([True, False, True])
        x, y, z = jax.vmap(lambda b: jax.lax.cond(b, lambda: draw(t, "x"), lambda: jnp.asarray(ASIDE)))(taken)
        return f(x, t) * (z + y)

    return program


def _mapped_branch_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, f, t) * _mean(law, lambda x, t: x + ASIDE, t)


def scan_in_lanes(draw: Draw, f: Integrand) -> Any:
    """Two chains of two choices, which interact afterwards."""

    def program(t: Any) -> Any:
        def one(start: Any) -> Any:
            def step(z: Any, _: Any) -> Any:
                x = draw(moved_by(t, z), "x")
                return x, x

            return jax.lax.scan(step, start, None, 2)[0]

        x, y = jax.vmap(one)(jnp.array([START, -START]))
        return f(x, t) * (y + 0.5)

    return program


def _scan_in_lanes_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        left, right = chain(law, t, START, 2)[-1], chain(law, t, -START, 2)[-1]
        return jnp.sum(left * f(law.values, t)) * jnp.sum(right * (law.values + 0.5))

    return truth


def lanes_in_scan(draw: Draw, f: Integrand) -> Any:
    """Two lanes in each of two steps; the next step depends on the first lane."""

    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            x, y = jax.vmap(lambda _: draw(moved_by(t, z), "x"))(jnp.arange(2))
            return x, f(x, t) * (y + 0.5)

        return jnp.sum(jax.lax.scan(step, jnp.asarray(START), None, 2)[1])

    return program


def _lanes_in_scan_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        first, step = law.weights(moved_by(t, START)), transition(law, t)
        now = jnp.sum(first * f(law.values, t)) * jnp.sum(first * (law.values + 0.5))
        return now + jnp.sum(first * (step @ f(law.values, t)) * (step @ (law.values + 0.5)))

    return truth


def inner(draw: Draw, f: Integrand) -> Any:
    """An inner expectation whose parameters depend on a choice outside."""

    def program(t: Any) -> Any:
        x = draw(t, "x")
        return f(x, t) + (x + 0.5) * ppl.expect(lambda at: f(draw(at, "y"), t))(moved_by(t, x))

    return program


def _inner_truth(law: Law, f: Integrand) -> Any:
    def truth(t: Any) -> Any:
        inside = transition(law, t) @ f(law.values, t)
        return jnp.sum(law.weights(t) * (f(law.values, t) + (law.values + 0.5) * inside))

    return truth


@jax.custom_jvp
def _squash(x: Any) -> Any:
    return 2 * jnp.tanh(x)


_squash.defjvp(lambda primals, tangents: (_squash(primals[0]), 2 / jnp.cosh(primals[0]) ** 2 * tangents[0]))


@jax.custom_vjp
def _sine(x: Any) -> Any:
    return jnp.sin(x)


_sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def custom_jvp(draw: Draw, f: Integrand) -> Any:
    """A function with a rule of its own, before the choice and after it."""
    return lambda t: f(_squash(draw(t + 0.1 * _squash(t), "x")), t)


def _custom_jvp_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, lambda x, t: f(2 * jnp.tanh(x), t), t, t + 0.2 * jnp.tanh(t))


def custom_vjp(draw: Draw, f: Integrand) -> Any:
    """The same in reverse mode; such a function has one derivative, as in JAX."""
    return lambda t: f(_sine(draw(t + 0.1 * _sine(t), "x")), t)


def _custom_vjp_truth(law: Law, f: Integrand) -> Any:
    return lambda t: _mean(law, lambda x, t: f(jnp.sin(x), t), t, t + 0.1 * jnp.sin(t))


FLOWS: dict[str, Flow] = {
    "straight": Flow(straight, _straight_truth, 1),
    "jit_twice": Flow(jitted, _two_truth, 2),
    "checkpoint": Flow(checkpointed, _two_truth, 2),
    "vmap_independent": Flow(lanes, _lanes_truth, 2),
    "vmap_interacting": Flow(interacting, _interacting_truth, 2),
    "array": Flow(array, _two_truth, 2),
    "scan": Flow(scanned, _scan_truth, 3),
    "fori_loop": Flow(looped, _loop_truth, 3),
    "cond": Flow(branch, _branch_truth, 1),
    "switch": Flow(switched, _switch_truth, 2),
    "cond_under_vmap": Flow(mapped_branch, _mapped_branch_truth, 3),
    "scan_under_vmap": Flow(scan_in_lanes, _scan_in_lanes_truth, 4),
    "vmap_under_scan": Flow(lanes_in_scan, _lanes_in_scan_truth, 4),
    "inner_expect": Flow(inner, _inner_truth, 2),
    "custom_jvp": Flow(custom_jvp, _custom_jvp_truth, 1),
    "custom_vjp": Flow(custom_vjp, _custom_vjp_truth, 1),
}
"""Control flows that reverse mode goes through."""

WHILE = Flow(while_looped, _loop_truth, 3)
"""The one that only forward mode goes through."""
