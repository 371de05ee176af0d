"""Enumerated choices in a loop: the forward algorithm against sums over paths. Exact, to 1e-8.

Where the steps are a Markov chain nothing is drawn at all; where they are not, instances are replaced one
by one, and the estimate is unbiased.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, Reinforce
from ppl.transforms.plan import plan

from .cases import DIRECTION, THETA
from .laws import KEY, check_exactly, truth_of

sigmoid = jax.nn.sigmoid
TRANSITIONS = np.array([[0.3, -0.2, 0.1], [0.5, 0.1, -1.0], [0.0, 1.0, 0.2]])
DATA = np.array([0.0, 0.3, 0.9, -0.4])


def planned(program: Callable[[Any], Any], *arguments: Any) -> Any:
    staged = ppl.expectation(program).stage(*(arguments or (jnp.zeros(2),)))
    return plan(staged.jaxpr, 1)


def coin(p: Any, how: Any = None, address: str = "x") -> Any:
    return jnp.asarray(ppl.flip(p).using(how or Enumerate()) @ address, jnp.result_type(float))


def paths(steps: int, states: int = 2) -> Any:
    return itertools.product(range(states), repeat=steps)


def check_without_noise(program: Callable[[Any], Any], truth: Callable[[Any], Any]) -> None:
    """As `check_exactly`, where one key tells all."""
    right, objective = truth_of(truth), ppl.expectation(program)
    with jax.enable_x64(True):
        key, theta, direction = jax.random.key(KEY), jnp.asarray(THETA), jnp.asarray(DIRECTION)
        value, gradient = objective.value_and_grad(key, theta)
        slope = jax.grad(lambda t: objective.surrogate(key, t))
        curvature = jax.jit(lambda t: jax.jvp(slope, (t,), (direction,))[1])(theta)
    np.testing.assert_allclose(value, right.value, rtol=1e-8)
    np.testing.assert_allclose(gradient, right.gradient, rtol=1e-8)
    np.testing.assert_allclose(curvature, right.curvature, rtol=1e-8)


@ppl.gen
def guide(t: Any) -> None:
    def step(z: Any, _: Any) -> Any:
        return ppl.categorical(logits=t[0] * jnp.asarray(TRANSITIONS)[z] + t[1]) @ "z", None

    jax.lax.scan(step, jnp.asarray(1), None, len(DATA))


@ppl.gen
def model(t: Any) -> None:
    def step(z: Any, _: Any) -> Any:
        z = ppl.categorical(logits=jnp.asarray(TRANSITIONS).T[z]) @ "z"
        ppl.normal(0.7 * z + t[1], jnp.exp(0.3 * t[0])) @ "y"
        return z, None

    jax.lax.scan(step, jnp.asarray(0), None, len(DATA))


def hidden_markov_elbo(t: Any) -> Any:
    return ppl.elbo(model(t).condition({"y": jnp.asarray(DATA)}), guide(t).using({"z": Enumerate()}))


def hidden_markov_truth(t: Any) -> Any:
    log_q = jax.nn.log_softmax(t[0] * TRANSITIONS, axis=-1)
    log_p = jax.nn.log_softmax(TRANSITIONS.T, axis=-1)
    z = np.array(list(paths(len(DATA), 3)))  # one path a row
    after = lambda start: np.concatenate([np.full((len(z), 1), start), z[:, :-1]], axis=1)
    q = jnp.sum(log_q[after(1), z], axis=1)
    scores = jax.scipy.stats.norm.logpdf(DATA, 0.7 * z + t[1], jnp.exp(0.3 * t[0]))
    p = jnp.sum(log_p[after(0), z] + scores, axis=1)
    return jnp.sum(jnp.exp(q) * (p - q))


def test_the_elbo_of_a_hidden_markov_model_draws_nothing() -> None:
    """The guide makes the chain in one scan, the model scores it in another."""
    assert planned(hidden_markov_elbo).chain.states == 3
    check_without_noise(hidden_markov_elbo, hidden_markov_truth)
    objective = ppl.expectation(hidden_markov_elbo)
    with jax.enable_x64(True):
        one, other = (objective.grad(jax.random.key(seed), jnp.asarray(THETA)) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


def backwards(t: Any) -> Any:
    """A reversed scan, whose terms are summed up in the carry."""

    def step(state: Any, i: Any) -> Any:
        z, total = state
        x = coin(sigmoid(t[0] * z + 0.1 * i * t[1]))
        return (x, total + x * z * (i + 1) * t[1] + x), None

    start = (jnp.asarray(0.5), jnp.asarray(0.0))
    return jax.lax.scan(step, start, jnp.arange(4.0), reverse=True)[0][1]


def backwards_truth(t: Any) -> Any:
    total = 0.0
    for path in paths(4):
        weight, result, z = 1.0, 0.0, 0.5
        for i in reversed(range(4)):
            p, x = sigmoid(t[0] * z + 0.1 * i * t[1]), path[i]
            weight, result, z = weight * (p if x else 1 - p), result + x * z * (i + 1) * t[1] + x, x
        total += weight * result
    return total


SCALES = np.array([1.0, -0.5, 2.0])


def lanes(t: Any) -> Any:
    """Three chains side by side, scored afterwards by neighbors and by single steps."""

    def chain(scale: Any) -> Any:
        def step(z: Any, i: Any) -> Any:
            x = coin(sigmoid(t[0] * z * scale + 0.1 * i))
            return x, x

        xs = jax.lax.scan(step, 0.5, jnp.arange(4.0))[1]
        return jnp.sum(xs[1:] * xs[:-1] * jnp.array([1.0, 2.0, 3.0])) * t[1] + xs[2] * scale

    return jnp.sum(jax.vmap(chain)(jnp.asarray(SCALES)))


def lanes_truth(t: Any) -> Any:
    total = 0.0
    for scale in SCALES:
        for path in paths(4):
            weight, z = 1.0, 0.5
            for i, x in enumerate(path):
                p = sigmoid(t[0] * z * scale + 0.1 * i)
                weight, z = weight * (p if x else 1 - p), x
            pairs = sum((i + 1.0) * path[i] * path[i + 1] for i in range(3))
            total += weight * (pairs * t[1] + path[2] * scale)
    return total


def two_choices(t: Any) -> Any:
    """A step's state is two choices, the second given the first; beside them a normal choice of its own."""

    def step(z: Any, _: Any) -> Any:
        a = coin(sigmoid(t[0] * z), address="a")
        b = coin(sigmoid(t[1] * a - 0.3 * z), address="b")
        y = ppl.normal(a, jnp.exp(0.2 * t[1])) @ "y"
        return a + b, jnp.exp(0.3 * a * z) * b + 0.5 * y**2 * b

    return jnp.sum(jax.lax.scan(step, 0.5, None, 2)[1])


def two_choices_truth(t: Any) -> Any:
    total, spread = 0.0, jnp.exp(0.4 * t[1])
    for path in itertools.product(list(paths(2)), repeat=2):
        weight, result, z = 1.0, 0.0, 0.5
        for a, b in path:
            p, q = sigmoid(t[0] * z), sigmoid(t[1] * a - 0.3 * z)
            weight = weight * (p if a else 1 - p) * (q if b else 1 - q)
            result = result + jnp.exp(0.3 * a * z) * b + 0.5 * (a**2 + spread) * b
            z = a + b
        total += weight * result
    return total


def independent_steps(t: Any) -> Any:
    """No step depends on the one before: one run for each state."""

    def step(total: Any, i: Any) -> Any:
        x = coin(sigmoid(t[0] * i + t[1]))
        return total + (x + 0.3) ** 2 * (i + t[1]), None

    return jax.lax.scan(step, 0.2, jnp.arange(4.0))[0]


def independent_truth(t: Any) -> Any:
    total = 0.2
    for i in range(4):
        p = sigmoid(t[0] * i + t[1])
        total += (p * 1.3**2 + (1 - p) * 0.3**2) * (i + t[1])
    return total


def upstream_score(t: Any) -> Any:
    """A scored choice moves the transitions, and a summed one outside the loop does too."""
    s = coin(sigmoid(t[1]), Reinforce(baseline=0.7), "s")
    k = coin(sigmoid(t[0] - t[1]), address="k")

    def step(z: Any, _: Any) -> Any:
        x = coin(sigmoid(t[0] * z + s - 0.5 * k))
        return x, (x + 0.2 * z) ** 2 * (1 + s)

    return jnp.sum(jax.lax.scan(step, 0.5, None, 3)[1]) + 0.3 * k * s


def upstream_truth(t: Any) -> Any:
    total = 0.0
    for s, k, *path in paths(5):
        p, q = sigmoid(t[1]), sigmoid(t[0] - t[1])
        weight = (p if s else 1 - p) * (q if k else 1 - q)
        result, z = 0.3 * k * s, 0.5
        for x in path:
            p = sigmoid(t[0] * z + s - 0.5 * k)
            weight, result, z = weight * (p if x else 1 - p), result + (x + 0.2 * z) ** 2 * (1 + s), x
        total += weight * result
    return total


CHAINS = {
    "backwards": (backwards, backwards_truth, 0),
    "lanes": (lanes, lanes_truth, 0),
    "two choices": (two_choices, two_choices_truth, 2),
    "independent steps": (independent_steps, independent_truth, 0),
    "a score upstream": (upstream_score, upstream_truth, 1),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str) -> None:
    program, truth, draws = CHAINS[name]
    assert planned(program).chain is not None
    assert planned(program).chain.width == (1 if name == "independent steps" else 2)
    if draws:
        check_exactly(program, truth, draws=draws)
    else:
        check_without_noise(program, truth)


def ends_meet(t: Any) -> Any:
    def step(z: Any, _: Any) -> Any:
        x = coin(sigmoid(t[0] * z + t[1]))
        return x, x

    xs = jax.lax.scan(step, 0.5, None, 3)[1]
    return (xs[0] + 0.5) * (xs[2] + t[0])


def ends_meet_truth(t: Any) -> Any:
    total = 0.0
    for path in paths(3):
        weight, z = 1.0, 0.5
        for x in path:
            p = sigmoid(t[0] * z + t[1])
            weight, z = weight * (p if x else 1 - p), x
        total += weight * (path[0] + 0.5) * (path[2] + t[0])
    return total


def second_order(t: Any) -> Any:
    """Each step depends on the two before it."""

    def step(state: Any, _: Any) -> Any:
        a, b = state
        x = coin(sigmoid(t[0] * a + t[1] * b))
        return (x, a), x * b

    return jnp.sum(jax.lax.scan(step, (0.5, -0.5), None, 3)[1])


def second_order_truth(t: Any) -> Any:
    total = 0.0
    for path in paths(3):
        weight, result, a, b = 1.0, 0.0, 0.5, -0.5
        for x in path:
            p = sigmoid(t[0] * a + t[1] * b)
            weight, result, a, b = weight * (p if x else 1 - p), result + x * b, x, a
        total += weight * result
    return total


def score_downstream(t: Any) -> Any:
    """A scored choice depends on the chain: its score belongs to the path, so nothing is summed."""

    def step(z: Any, _: Any) -> Any:
        x = coin(sigmoid(t[0] * z))
        s = coin(sigmoid(t[1] + x), Reinforce(), "s")
        return x, (x + s) ** 2

    return jnp.sum(jax.lax.scan(step, 0.5, None, 2)[1])


def score_downstream_truth(t: Any) -> Any:
    total = 0.0
    for a, r, b, s in paths(4):
        weight, result = 1.0, 0.0
        for z, x, scored in ((0.5, a, r), (a, b, s)):
            p, q = sigmoid(t[0] * z), sigmoid(t[1] + x)
            weight = weight * (p if x else 1 - p) * (q if scored else 1 - q)
            result += (x + scored) ** 2
        total += weight * result
    return total


NO_CHAINS = {
    "ends meet": (ends_meet, ends_meet_truth),
    "second order": (second_order, second_order_truth),
    "a score downstream": (score_downstream, score_downstream_truth),
}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_what_is_no_chain_is_replaced(name: str) -> None:
    program, truth = NO_CHAINS[name]
    assert planned(program).chain is None
    check_exactly(program, truth, draws=2)


def test_a_state_of_many_values_is_replaced() -> None:
    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            z = ppl.categorical(logits=jnp.arange(33.0) * t[0] + z).using(Enumerate()) @ "z"
            return z / 33, z * 1.0

        return jnp.sum(jax.lax.scan(step, 0.0, None, 2)[1])

    assert planned(program).chain is None


def test_a_hundred_steps_against_the_forward_algorithm() -> None:
    """Far beyond any sum over paths: written out as products of matrices in NumPy's manner."""
    log_rates = jnp.asarray(np.linspace(-1, 1, 16).reshape(4, 4))

    def program(t: Any) -> Any:
        def step(z: Any, i: Any) -> Any:
            x = ppl.categorical(logits=t[0] * log_rates[z] * jnp.cos(i)).using(Enumerate()) @ "x"
            return x, jnp.sin(1.0 * x + z * t[1]) * (1 + 0.01 * i)

        return jnp.sum(jax.lax.scan(step, jnp.asarray(2), jnp.arange(100.0))[1])

    def truth(t: Any) -> Any:
        z, x = jnp.arange(4.0)[:, None], jnp.arange(4.0)[None]

        def step(state: Any, i: Any) -> Any:
            law, total = state
            pair = law[:, None] * jax.nn.softmax(t[0] * log_rates * jnp.cos(i), axis=-1)
            total = total + jnp.sum(pair * jnp.sin(x + z * t[1])) * (1 + 0.01 * i)
            return (jnp.sum(pair, axis=0), total), None

        start = jax.nn.one_hot(2, 4, dtype=float), jnp.zeros(())
        return jax.lax.scan(step, start, jnp.arange(100.0))[0][1]

    check_without_noise(program, truth)


def test_the_exact_value_of_long_chains_and_many_lanes() -> None:
    def program(t: Any) -> Any:
        def chain(scale: Any) -> Any:
            def step(z: Any, _: Any) -> Any:
                x = coin(sigmoid(t[0] * z + scale), Reinforce())
                return x, x * z

            return jnp.sum(jax.lax.scan(step, 0.5, None, 40)[1])

        return jnp.sum(jax.vmap(chain)(jnp.linspace(-1, 1, 30))) + t[1]

    def truth(t: Any) -> Any:
        scale = jnp.linspace(-1, 1, 30)
        one = sigmoid(0.5 * t[0] + scale)
        total = 0.5 * one

        def step(state: Any, _: Any) -> Any:
            one, total = state
            total = total + one * sigmoid(t[0] + scale)
            return (one * sigmoid(t[0] + scale) + (1 - one) * sigmoid(scale), total), None

        return jnp.sum(jax.lax.scan(step, (one, total), None, 39)[0][1]) + t[1]

    right = truth_of(truth)
    with jax.enable_x64(True):
        theta = jnp.asarray([0.35, -0.2])
        found = jax.value_and_grad(ppl.expectation(program).exact)(theta)
    np.testing.assert_allclose(found[0], right.value, rtol=1e-10)
    np.testing.assert_allclose(found[1], right.gradient, rtol=1e-10)


def test_too_many_combinations_propose_which_choices_to_sample() -> None:
    def program(t: Any) -> Any:
        return sum(
            1.0 * (ppl.categorical(logits=jnp.arange(8.0) * t[0]).using(Enumerate()) @ f"k{i}")
            for i in range(7)
        )

    with pytest.raises(ppl.UnsupportedProgram, match=r"2097152 .* for 'k0', 'k1' leaves 32768"):
        ppl.expectation(program).grad(jax.random.key(KEY), jnp.zeros(2))


def test_a_carry_that_holds_all_earlier_steps() -> None:
    """Found by a random program: independent choices, of which a term depends on all up to its step."""

    def program(t: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            one = ppl.flip(sigmoid(t[0])).using(Enumerate()) @ "one"
            ppl.flip(sigmoid(t[1])).using(Enumerate()) @ "two"
            return 0.5 + jnp.where(one, t[1], jnp.sin(carry)), None

        return jax.lax.scan(step, t[0], None, 2)[0]

    def truth(t: Any) -> Any:
        p = sigmoid(t[0])
        low, high = 0.5 + jnp.sin(t[0]), 0.5 + t[1]
        return 0.5 + p * t[1] + (1 - p) * (p * jnp.sin(high) + (1 - p) * jnp.sin(low))

    check_exactly(program, truth)
