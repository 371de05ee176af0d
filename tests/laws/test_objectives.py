"""Objectives: guides, densities, baselines and inner expectations, against truths summed over paths.

Exact, to 1e-8: no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, Reinforce, Reparam

from .cases import DISCRETE, coin
from .laws import check_exactly
from .oracles import coins

sigmoid = jax.nn.sigmoid
discrete = pytest.mark.parametrize("how", DISCRETE.values(), ids=DISCRETE)


def test_baseline_that_depends_on_earlier_choices_and_lanes() -> None:
    def program(t: Any) -> Any:
        z = coin(sigmoid(t[1]), Reinforce(baseline=t[0] ** 2), "z")

        def lane(shift: Any) -> Any:
            return coin(sigmoid(t[0] + shift * z), Reinforce(baseline=jnp.sin(t[0] + 3 * z) * shift), "x")

        x, y = jax.vmap(lane)(jnp.array([0.5, -0.7]))
        w = coin(sigmoid(t[0] * (x - y)), Reinforce(baseline=x + t[1]), "w")
        return (x + 2 * y) ** 2 * (z + w + t[0])

    def truth(t: Any) -> Any:
        def probability(i: int, x: Any) -> Any:
            if i == 0:
                return sigmoid(t[1])
            if i < 3:
                return sigmoid(t[0] + (0.5, -0.7)[i - 1] * x[0])
            return sigmoid(t[0] * (x[1] - x[2]))

        return coins(probability, lambda x: (x[1] + 2 * x[2]) ** 2 * (x[0] + x[3] + t[0]), 4)

    check_exactly(program, truth, draws=4)


def test_baseline_of_an_array_of_choices() -> None:
    def program(t: Any) -> Any:
        x, y = ppl.flip(sigmoid(t)).using(Reinforce(baseline=1.3)) @ "x"
        return jnp.where(x, 1.0, t[0]) * jnp.where(y, 2.0, t[1])

    def truth(t: Any) -> Any:
        p, q = sigmoid(t)
        return (p + (1 - p) * t[0]) * (2 * q + (1 - q) * t[1])

    check_exactly(program, truth, draws=2)


@discrete
def test_one_guide_proposed_twice(how: Any) -> None:
    @ppl.gen
    def guide(t: Any) -> Any:
        x = ppl.flip(sigmoid(t[0])).using(how) @ "x"
        ppl.flip(sigmoid(t[1] + x)).using(how) @ "y"

    def weight(x: Any, y: Any) -> Any:
        return jnp.exp(0.4 * x - 0.8 * y + 0.5 * x * y)

    def program(t: Any) -> Any:
        measure = guide(t)
        logs = []
        for _ in range(2):
            q = measure.propose()
            logs.append(jnp.log(weight(q.choices["x"], q.choices["y"])) - q.log_density)
        return jax.scipy.special.logsumexp(jnp.stack(logs))

    def truth(t: Any) -> Any:
        def probability(i: int, x: Any) -> Any:
            return sigmoid(t[0]) if i % 2 == 0 else sigmoid(t[1] + x[-1])

        def log_weight(x: float, y: float) -> Any:
            p, q = sigmoid(t[0]), sigmoid(t[1] + x)
            density = (p if x else 1 - p) * (q if y else 1 - q)
            return jnp.log(weight(x, y)) - jnp.log(density)

        return coins(probability, lambda x: jnp.logaddexp(log_weight(*x[:2]), log_weight(*x[2:])), 4)

    check_exactly(program, truth, draws=0 if how == Enumerate() else 4)


@discrete
@pytest.mark.parametrize("walk", ["scan", "vmap", "map"])
def test_guide_proposed_inside(how: Any, walk: str) -> None:
    @ppl.gen
    def guide(t: Any, z: Any) -> Any:
        return ppl.flip(sigmoid(t[0] + z)).using(Reinforce()) @ "x"

    shifts = jnp.array([0.3, -0.4])

    def program(t: Any) -> Any:
        def one(z: Any) -> Any:
            q = guide(t, z).using({"x": how}).propose()
            return jnp.where(q.choices["x"], 1.0, 0.2), q.log_density

        if walk == "scan":
            _, (x, log_density) = jax.lax.scan(lambda _, z: (None, one(z)), None, shifts)
        else:
            x, log_density = jax.vmap(one)(shifts) if walk == "vmap" else jax.lax.map(one, shifts)
        return x[0] * x[1] * (1 - log_density[0]) + t[1] * log_density[1] ** 2

    def truth(t: Any) -> Any:
        p = sigmoid(t[0] + shifts)

        def result(b: Any) -> Any:
            x = [1.0 if i else 0.2 for i in b]
            logs = [jnp.log(p[i] if b[i] else 1 - p[i]) for i in range(2)]
            return x[0] * x[1] * (1 - logs[0]) + t[1] * logs[1] ** 2

        return coins(lambda i, _: p[i], result, 2)

    check_exactly(program, truth, draws=2)


@discrete
def test_inner_expectations_nested_in_lanes_and_steps(how: Any) -> None:
    def game(t: Any, z: Any) -> Any:
        x = coin(sigmoid(t[0] + z), how, "x")
        return (x + z) ** 2 * t[1] + x * ppl.expect(lambda s: coin(sigmoid(s), how, "y") * 3)(t[1] - x)

    def exact_game(t: Any, z: Any) -> Any:
        p = sigmoid(t[0] + z)
        return p * ((1 + z) ** 2 * t[1] + 3 * sigmoid(t[1] - 1)) + (1 - p) * z**2 * t[1]

    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            x = coin(sigmoid(t[1] + z), Reinforce(baseline=0.2), "b")
            values = jax.vmap(lambda s: ppl.expect(game)(t, s * x))(jnp.array([0.5, -1.0]))
            return x, (1 + x) * jnp.sum(values)

        return jnp.sum(jax.lax.scan(step, jnp.asarray(0.3), None, 2)[1])

    def truth(t: Any) -> Any:
        def probability(i: int, x: Any) -> Any:
            return sigmoid(t[1] + (x[-1] if i else 0.3))

        def result(x: Any) -> Any:
            return sum((1 + z) * (exact_game(t, 0.5 * z) + exact_game(t, -z)) for z in x)

        return coins(probability, result, 2)

    check_exactly(program, truth, draws=2)


@discrete
def test_log_density_of_a_choice_held_fixed(how: Any) -> None:
    """A result that depends on the parameters through a density of its own, as objectives do."""

    def program(t: Any) -> Any:
        q = ppl.categorical(logits=jnp.stack([t[0], t[1], 0.1])).using(how).propose()
        held = ppl.categorical(logits=jax.lax.stop_gradient(jnp.stack([t[0], t[1], 0.1]))).log_density(
            q.retval
        )
        return q.log_density * held + q.retval * t[1]

    def truth(t: Any) -> Any:
        logits = jnp.stack([t[0], t[1], 0.1])
        logp = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(logp) * (logp * jax.lax.stop_gradient(logp) + jnp.arange(3.0) * t[1]))

    check_exactly(program, truth)


@pytest.mark.parametrize("how", [Reparam(), Reinforce(baseline=0.3)], ids=["reparam", "reinforce"])
def test_normal_of_a_random_scale(how: Any) -> None:
    def program(t: Any) -> Any:
        b = ppl.flip(sigmoid(t[0])) @ "b"
        x = ppl.normal(t[0], jnp.exp(t[1]) * jnp.where(b, 1.0, 0.4)).using(how) @ "x"
        return x**3 + jnp.where(b, x, 1.0)

    def truth(t: Any) -> Any:
        p, m, s = sigmoid(t[0]), t[0], jnp.exp(t[1])
        return p * (m**3 + 3 * m * s**2 + m) + (1 - p) * (m**3 + 3 * m * (0.4 * s) ** 2 + 1)

    check_exactly(program, truth, draws=1)
