"""Traps that other systems fall into silently, each a test of its own name. Exact, to 1e-8.

Every estimator in `scan`, `jit`, `fori_loop`, `checkpoint`, lanes that interact, one branch of a `cond`, a
three-way `switch` and inner expectations, checked on the value as well as on the gradient: a program
whose noise is baked in at staging draws nothing, one that samples a branch anew counts it twice.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.testing.rules import gauss_hermite

from .laws import KEY, check_exactly

sigmoid = jax.nn.sigmoid
FLIPS = {"enumerate": Enumerate(), "score": Reinforce(), "measure_valued": MeasureValued()}
flips = pytest.mark.parametrize("how", FLIPS.values(), ids=FLIPS)
NORMALS = {"reparam": Reparam(), "score": Reinforce()}
normals = pytest.mark.parametrize("how", NORMALS.values(), ids=NORMALS)


def flip(p: Any, how: Any, address: str = "b") -> Any:
    return jnp.asarray(ppl.flip(p).using(how) @ address, jnp.result_type(float))


def normal(t: Any, how: Any, address: str = "x") -> Any:
    return ppl.normal(t[0], jnp.exp(t[1])).using(how) @ address


def second_moment(t: Any) -> Any:
    return t[0] ** 2 + jnp.exp(2 * t[1])


@normals
def test_scan_of_a_random_walk(how: Any) -> None:
    def program(t: Any) -> Any:
        return jax.lax.scan(lambda z, _: (z + normal(t, how), None), t[0], None, 2)[0] ** 2

    check_exactly(program, lambda t: (3 * t[0]) ** 2 + 2 * jnp.exp(2 * t[1]), draws=2)


@flips
def test_scan_of_coins(how: Any) -> None:
    def program(t: Any) -> Any:
        return jax.lax.scan(lambda z, _: (z + flip(sigmoid(t[0]), how), None), 0.0, None, 3)[0] ** 2

    def truth(t: Any) -> Any:
        p = sigmoid(t[0])
        return 3 * p * (1 - p) + 9 * p**2

    check_exactly(program, truth, draws=3)


@normals
def test_jit(how: Any) -> None:
    check_exactly(lambda t: jax.jit(lambda t: normal(t, how))(t) ** 2, second_moment, draws=1)


@flips
def test_fori_loop(how: Any) -> None:
    def program(t: Any) -> Any:
        return jax.lax.fori_loop(0, 3, lambda i, z: z + (i + 1) * flip(sigmoid(t[0]), how), 0.0) ** 2

    def truth(t: Any) -> Any:
        p = sigmoid(t[0])
        return 14 * p * (1 - p) + 36 * p**2

    check_exactly(program, truth, draws=3)


@normals
def test_checkpoint(how: Any) -> None:
    check_exactly(lambda t: jax.checkpoint(lambda t: normal(t, how))(t) ** 2, second_moment, draws=1)


@normals
def test_lanes_that_interact_afterwards(how: Any) -> None:
    def program(t: Any) -> Any:
        return jnp.sum(jax.vmap(lambda _: normal(t, how))(jnp.arange(2))) ** 2

    check_exactly(program, lambda t: 4 * t[0] ** 2 + 2 * jnp.exp(2 * t[1]), draws=2)


@flips
def test_one_branch_of_a_conditional_and_a_square_after_it(how: Any) -> None:
    """What comes after the conditional belongs to the branch's choice, in value and in gradient."""

    def program(t: Any) -> Any:
        y = jax.lax.cond(t[0] > 0, lambda: 3 * flip(sigmoid(t[1]), how) + t[0], lambda: t[1])
        return y**2

    def truth(t: Any) -> Any:
        p = sigmoid(t[1])
        return p * (3 + t[0]) ** 2 + (1 - p) * t[0] ** 2

    check_exactly(program, truth, draws=1)


@flips
def test_three_way_switch(how: Any) -> None:
    def program(t: Any) -> Any:
        k = ppl.categorical(logits=jnp.stack([t[0], t[1], 0.0])).using(how) @ "k"
        branches = [
            lambda: flip(sigmoid(t[0]), how, "a"),
            lambda: t[0],
            lambda: 2 * flip(sigmoid(t[1]), how, "c"),
        ]
        return (jax.lax.switch(k, branches) + k) ** 3

    def truth(t: Any) -> Any:
        p, a, c = jax.nn.softmax(jnp.stack([t[0], t[1], 0.0])), sigmoid(t[0]), sigmoid(t[1])
        return p[0] * a + p[1] * (t[0] + 1) ** 3 + p[2] * (c * 4**3 + (1 - c) * 2**3)

    check_exactly(program, truth, draws=1)


@flips
def test_inner_expectation(how: Any) -> None:
    """The score of a choice inside multiplies the inner result alone; the outer one both."""

    def program(t: Any) -> Any:
        a = flip(sigmoid(t[0]), how, "a")
        return (1 + a) ** 2 * ppl.expect(lambda: (1 + 2 * flip(sigmoid(t[1] + a), how)) ** 2)()

    def truth(t: Any) -> Any:
        p, inside = sigmoid(t[0]), lambda a: 1 + 8 * sigmoid(t[1] + a)
        return p * 4 * inside(1.0) + (1 - p) * inside(0.0)

    check_exactly(program, truth)


def test_uniform_score_has_the_right_sign() -> None:
    """A moving end is a pathwise matter: the score of the density has the wrong sign."""
    program = lambda t: (ppl.uniform(0.0, jnp.exp(t[0])).using(Reparam()) @ "x") ** 2
    check_exactly(program, lambda t: jnp.exp(2 * t[0]) / 3, draws=1)


def test_geometric_is_scored_as_it_is_drawn() -> None:
    """By probability, not by logit, at both ends."""
    program = lambda t: 1.0 * (ppl.geometric(sigmoid(1 + t[0])).using(Reinforce()) @ "x")
    check_exactly(program, lambda t: jnp.exp(-1 - t[0]), draws=1)


def test_multivariate_normal_in_lanes_of_its_own_size() -> None:
    """Two lanes of a vector of two: the factor multiplies the event, not the lanes."""

    def program(t: Any) -> Any:
        factor = jnp.stack([jnp.stack([jnp.exp(t[0]), 0.0 * t[0]]), jnp.stack([t[1], jnp.exp(t[1])])])
        x = jax.vmap(lambda s: ppl.multivariate_normal(s * t, scale_tril=factor) @ "x")(jnp.array([1.0, 2.0]))
        return x[0, 0] * x[0, 1] + x[1, 1] ** 2

    def truth(t: Any) -> Any:
        return t[0] * t[1] + jnp.exp(t[0]) * t[1] + 4 * t[1] ** 2 + t[1] ** 2 + jnp.exp(2 * t[1])

    check_exactly(program, truth, draws=4, rules={"normal": gauss_hermite(4)})


@flips
def test_a_jitted_gradient_differs_between_keys(how: Any) -> None:
    """Noise baked into a compiled function would repeat for every key: chance 2^-63 by itself."""
    objective = ppl.expectation(
        lambda t: (
            jnp.prod(jax.vmap(lambda i: 1.5 + i * flip(t, how))(jnp.arange(4.0))) + flip(t, Reinforce(), "c")
        )
    )
    found = jax.jit(jax.vmap(lambda key: objective.grad(key, 0.5)))(jax.random.split(jax.random.key(KEY), 64))
    assert len(np.unique(found)) > 1


def test_lanes_and_samples_are_independent() -> None:
    """The variance of a mean of 64 is a 64th: a standard error of 4.5 % here, five of them allowed."""
    objective = ppl.expectation(
        lambda t: jnp.sum(jax.vmap(lambda _: ppl.normal(t, 1.0) @ "x")(jnp.arange(4)))
    )
    keys = jax.random.split(jax.random.key(KEY), 1000)
    means = jax.jit(jax.vmap(lambda key: objective.estimate(key, 0.5, num_samples=64)))(keys)
    assert abs(np.var(np.asarray(means)) / (4 / 64) - 1) < 5 * np.sqrt(2 / 1000)


@flips
def test_branches_that_lend_each_other_their_tangents(how: Any) -> None:
    """What a loop does not change is moved out of it, and comes back through places that branches share."""

    def program(t: Any) -> Any:
        coin = ppl.flip(0.4).using(Reinforce()) @ "a"
        branch = lambda c, _: (c + jax.lax.cond(coin, lambda: flip(sigmoid(t[0]), how), lambda: t[0]), None)
        total, _ = jax.lax.scan(branch, t[0], None, 2)
        return total * flip(sigmoid(t[0]), Enumerate(), "k")

    def truth(t: Any) -> Any:
        p = sigmoid(t[0])
        return p * (t[0] + 0.8 * p + 1.2 * t[0])

    check_exactly(program, truth)
