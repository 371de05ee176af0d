"""The analysis of dependence never loses one: against what changes when one instance of a choice changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

import ppl
from ppl.distributions import families
from ppl.transforms.dependence import analyze
from ppl.transforms.stage import split, stage

from . import brute, programs


def staged(function: Any) -> Any:
    with jax.enable_x64(True):
        return stage(function, split(((), {}))).jaxpr


def losses(jaxpr: Any, rng: np.random.Generator, settings: int = 3) -> list[str]:
    """Every dependence that the analysis has lost, in words."""
    with jax.enable_x64(True):
        found = analyze(jaxpr, lambda name: True)[0].outputs
    noise, worlds, base = brute.probe(jaxpr, rng, settings)
    with jax.enable_x64(True):
        values = brute.evaluate(jaxpr, noise, len(base))
    lost = []
    for number, (value, dependence) in enumerate(zip(values, found, strict=True)):
        for name, where in worlds.items():
            reached = brute.reached(value, base, where)
            claimed = np.zeros_like(reached)
            if name in dependence:
                claimed = brute.covered(dependence[name], where.shape[1:], value.shape[1:])
            if (reached & ~claimed).any():
                index = np.argwhere(reached & ~claimed)[0].tolist()
                lost.append(f"output {number} on {name} at {index}: {dependence.get(name, 'none')}")
    return lost


@pytest.mark.parametrize("block", range(10))
def test_no_dependence_is_lost(block: int) -> None:
    for seed in range(35 * block, 35 * block + 35):
        jaxpr = staged(programs.program(seed))
        lost = losses(jaxpr, np.random.default_rng(seed))
        assert not lost, f"program {seed}: {lost}\n{jaxpr}"


# --- as fine as it is said to be -------------------------------------------------------------------


def relations(function: Any, name: str, output: int = 0) -> Any:
    """How an output depends on a choice."""
    jaxpr = staged(function)
    with jax.enable_x64(True):
        found, _ = analyze(jaxpr, lambda name: True, lambda name: False)
    return found.outputs[output].get(((name,), 0))


def draw(loc: Any, address: str) -> Any:
    return ppl.normal(loc, 1.0) @ address


LANES = np.arange(5.0)
INF = math.inf


def chain(reverse: bool = False) -> Any:
    def step(z: Any, x: Any) -> Any:
        z = draw(0.9 * z + x, "z")
        return z, z

    return jax.lax.scan(step, 0.0, LANES, reverse=reverse)


def window(reverse: bool = False) -> Any:
    """Each step adds a draw to the one before it."""

    def step(before: Any, x: Any) -> Any:
        z = draw(x, "z")
        return z, z * before

    return jax.lax.scan(step, 0.0, LANES, reverse=reverse)[1]


def guide_and_model() -> Any:
    """What a guide's scan returns is what a model's scan runs over, as in a state space model."""
    _, zs = jax.lax.scan(lambda _, x: (None, draw(x, "z")), None, LANES)
    _, scores = jax.lax.scan(lambda before, z: (z, -((z - before) ** 2)), 0.0, zs)
    return scores


def lanes_of_chains() -> Any:
    def one(start: Any) -> Any:
        def step(z: Any, x: Any) -> Any:
            z = draw(z + x, "z")
            return z, z**2

        return jax.lax.scan(step, start, jnp.arange(3.0))[1]

    return jax.vmap(one)(jnp.asarray(LANES))


def chain_of_lanes() -> Any:
    def step(z: Any, x: Any) -> Any:
        z = jax.vmap(lambda z: draw(z + x, "z"))(z)
        return z, z**2

    return jax.lax.scan(step, jnp.asarray(LANES), jnp.arange(3.0))[1]


def loops_in_loops() -> Any:
    def outer(_: Any, x: Any) -> Any:
        return None, jax.lax.scan(lambda z, y: (z + draw(x * y, "z"),) * 2, 0.0, LANES)[1]

    return jax.lax.scan(outer, None, jnp.arange(3.0))[1]


def masked() -> Any:
    def lane(x: Any) -> Any:
        u = draw(x, "u")
        return jax.lax.cond(u > 0, lambda: draw(u, "z"), lambda: u) ** 2

    return jax.vmap(lane)(LANES)


FINE = {
    "lanes": (lambda: jax.vmap(lambda x: jnp.sin(draw(x, "z")) * x)(LANES), [(0, 0, 0)]),
    "lanes behind": (lambda: jax.vmap(lambda x: draw(draw(x, "z"), "y"))(LANES), [(0, 0, 0)]),
    "array": (lambda: jnp.exp(draw(LANES, "z")), [(0, 0, 0)]),
    "transposed": (lambda: draw(jnp.ones((2, 3)), "z").T, [(1, 0, 0), (0, 0, 0)]),
    "shifted": (lambda: draw(LANES, "z")[1:], [(0, 1, 1)]),
    "differences": (lambda: jnp.diff(draw(LANES, "z")), [(0, 0, 1)]),
    "padded": (lambda: jnp.pad(draw(LANES, "z"), (2, 0)), [(0, -2, -2)]),
    "running sum": (lambda: jnp.cumsum(draw(LANES, "z")), [(0, -INF, 0)]),
    "batch of events": (
        lambda: ppl.multivariate_normal(jnp.zeros((4, 2)), scale_tril=jnp.eye(2)) @ "z",
        [(0, 0, 0)],
    ),
    "rows of logits": (
        lambda: ppl.categorical(logits=draw(jnp.zeros((4, 3)), "z")) @ "k",
        [(0, 0, 0), None],
    ),
    "contracted": (lambda: draw(jnp.ones((4, 3)), "z") @ jnp.ones((3, 2)), [(0, 0, 0), None]),
    "looked up": (
        lambda: jax.vmap(lambda row, i: row[i])(draw(jnp.ones((4, 3)), "z"), jnp.array([0, 2, 1, 1])),
        [(0, 0, 0), None],
    ),
    "sorted rows": (lambda: jnp.sort(draw(jnp.ones((4, 3)), "z"), 1), [(0, 0, 0), None]),
    "best two": (lambda: jax.lax.top_k(draw(jnp.ones((4, 3)), "z").T, 2)[0], [None, (0, 0, 0)]),
    "of lanes centered by size-one axes": (
        lambda: (lambda z: z - jnp.mean(z, 1, keepdims=True))(draw(jnp.ones((4, 3)), "z")),
        [(0, 0, 0), None],
    ),
    "chain": (lambda: chain()[1], [(0, -INF, 0)]),
    "chain, its end": (lambda: chain()[0], [None]),
    "chain in reverse": (lambda: chain(True)[1], [(0, 0, INF)]),
    "window": (window, [(0, -1, 0)]),
    "window in reverse": (lambda: window(True), [(0, 0, 1)]),
    "guide and model": (guide_and_model, [(0, -1, 0)]),
    "lanes of chains": (lanes_of_chains, [(1, -INF, 0), (0, 0, 0)]),
    "chain of lanes": (chain_of_lanes, [(0, -INF, 0), (1, 0, 0)]),
    "loops in loops": (loops_in_loops, [(0, 0, 0), (1, -INF, 0)]),
    "mask": (masked, [(0, 0, 0)]),
    "jit": (lambda: jax.jit(lambda x: draw(x, "z"))(LANES), [(0, 0, 0)]),
    "checkpoint": (lambda: jax.checkpoint(lambda x: draw(x, "z"))(LANES), [(0, 0, 0)]),
    "inner expectation": (
        lambda: jax.vmap(lambda x: ppl.expect(lambda x: draw(x, "y"))(draw(x, "z")))(LANES),
        [(0, 0, 0)],
    ),
    "branch": (
        lambda: jax.lax.cond(draw(0.0, "u") > 0, lambda x: x, lambda x: -x, draw(LANES, "z")),
        [(0, 0, 0)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_is_as_fine_as_that(name: str) -> None:
    function, wanted = FINE[name]
    assert relations(function, "z") == tuple(wanted)
    assert not losses(staged(lambda: function()), np.random.default_rng(0))


FAMILIES: dict[str, Callable[[Any], Any]] = {
    "bernoulli": lambda x: ppl.bernoulli(logits=x),
    "beta": lambda x: ppl.beta(1 + x**2, 2.0),
    "binomial": lambda x: ppl.binomial(3, jax.nn.sigmoid(x)),
    "categorical": lambda x: ppl.categorical(jax.nn.softmax(jnp.stack([x, -x], -1))),
    "delta": lambda x: ppl.dist(numpyro.distributions.Delta(x)),
    "dirichlet": lambda x: ppl.dirichlet(1 + jnp.stack([x, -x], -1) ** 2),
    "exponential": lambda x: ppl.exponential(1 + x**2),
    "gamma": lambda x: ppl.gamma(1 + x**2, 1 + x**2),
    "geometric": lambda x: ppl.geometric(jax.nn.sigmoid(x)),
    "laplace": lambda x: ppl.laplace(x, 1.0),
    "log_normal": lambda x: ppl.log_normal(x, 1.0),
    "multivariate_normal": lambda x: ppl.multivariate_normal(
        jnp.stack([x, -x], -1), covariance_matrix=(1 + x**2)[:, None, None] * jnp.eye(2)
    ),
    "normal": lambda x: ppl.normal(x, 1 + x**2),
    "poisson": lambda x: ppl.poisson(1 + x**2),
    "student_t": lambda x: ppl.student_t(4.0, x, 1 + x**2),
    "truncated_normal": lambda x: families.truncated_normal(x, 1.0, low=0.0),
    "uniform": lambda x: ppl.uniform(x, x + 1),
    "von_mises": lambda x: ppl.von_mises(x, 1 + x**2),
    "numpyro": lambda x: ppl.dist(numpyro.distributions.Logistic(x, 1.0)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_entries_of_an_array_of_choices_depend_on_entries_of_its_parameters(name: str) -> None:
    def function() -> Any:
        return FAMILIES[name](jnp.tanh(draw(LANES, "z"))) @ "x"

    assert relations(function, "z") == ((0, 0, 0),)


# --- what a jaxpr does not show in its variables, and long ways through a loop ---------------------


def test_what_passes_through_a_mutable_array_is_kept() -> None:
    def function() -> Any:
        total = jax.new_ref(jnp.zeros(()))
        total[...] += draw(0.0, "z")
        return total[...]

    assert relations(function, "z") == ()


def test_a_value_that_takes_many_steps_through_the_carry_is_kept() -> None:
    """A register of 80 places: the end of it depends on what was put in 80 steps before."""

    def function() -> Any:
        def step(register: Any, x: Any) -> Any:
            return (draw(x, "z"), *register[:-1]), register[-1]

        return jax.lax.scan(step, (0.0,) * 80, jnp.zeros(100))[1]

    low, high = relations(function, "z")[0][1:]
    assert low <= -80 <= high
