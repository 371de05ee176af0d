"""Several estimators in one program, upstream and downstream of each other. Exact, to 1e-8."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.testing.rules import normal_panels, tanh_sinh

from . import oracles
from .laws import check_exactly

sigmoid = jax.nn.sigmoid
FLIPS = {
    "enumerate": Enumerate(), "reinforce": Reinforce(), "baseline": Reinforce(baseline=0.7),
    "measure_valued": MeasureValued(),
}  # fmt: skip
NORMALS = {"reparam": Reparam(), "reinforce": Reinforce(baseline=0.5)}
NORMAL = oracles.normal(lambda t: t[0], lambda t: 0.8 * jnp.exp(t[1]), 0.5)


def flip(p: Any, how: Any, address: str) -> Any:
    return jnp.asarray(ppl.flip(p).using(how) @ address, jnp.result_type(float))


def f(x: Any, b: Any, t: Any) -> Any:
    return (x + b) ** 3 * 0.2 + jnp.exp(0.3 * x * b) * t[0] + b * t[1]


@pytest.mark.parametrize("second", FLIPS)
@pytest.mark.parametrize("first", NORMALS)
def test_normal_upstream_of_flip(first: str, second: str) -> None:
    def program(t: Any) -> Any:
        x = ppl.normal(t[0], 0.8 * jnp.exp(t[1])).using(NORMALS[first]) @ "x"
        return f(x, flip(sigmoid(x + t[1]), FLIPS[second], "b"), t)

    def truth(t: Any) -> Any:
        p = lambda x: sigmoid(x + t[1])
        return NORMAL.mean(lambda x: p(x) * f(x, 1.0, t) + (1 - p(x)) * f(x, 0.0, t), t)

    check_exactly(program, truth, draws=1)


@pytest.mark.parametrize("second", NORMALS)
@pytest.mark.parametrize("first", FLIPS)
def test_flip_upstream_of_normal(first: str, second: str) -> None:
    def program(t: Any) -> Any:
        b = flip(sigmoid(t[0] - t[1]), FLIPS[first], "b")
        x = ppl.normal(t[0] + 0.5 * b, 0.8 * jnp.exp(t[1])).using(NORMALS[second]) @ "x"
        return f(x, b, t)

    def truth(t: Any) -> Any:
        p = sigmoid(t[0] - t[1])
        mean = lambda b: NORMAL.mean(lambda x: f(x, b, t), t + 0.5 * b * jnp.array([1.0, 0.0]))
        return p * mean(1.0) + (1 - p) * mean(0.0)

    check_exactly(program, truth, draws=1)


@pytest.mark.parametrize(
    "hows", list(itertools.permutations(["enumerate", "baseline", "measure_valued"])), ids="-".join
)
def test_three_flips_in_a_row_in_two_lanes_and_a_branch(hows: tuple[str, ...]) -> None:
    """One outside, two lanes of one, one in a branch that depends on both lanes."""
    one, two, three = (FLIPS[how] for how in hows)

    def program(t: Any) -> Any:
        a = flip(sigmoid(t[0]), one, "a")
        b, c = jax.vmap(lambda s: flip(sigmoid(t[1] + s * a), two, "b"))(jnp.array([0.5, -0.8]))
        d = jax.lax.cond(b + c > 0.5, lambda: flip(sigmoid(t[0] * (b - c)), three, "d"), lambda: t[1])
        return (a + 2 * b) ** 2 * (c + d) + d**3

    def truth(t: Any) -> Any:
        total = 0.0
        bernoulli = lambda p, x: p if x else 1 - p
        for a, b, c in itertools.product([0.0, 1.0], repeat=3):
            weight = bernoulli(sigmoid(t[0]), a)
            weight *= bernoulli(sigmoid(t[1] + 0.5 * a), b) * bernoulli(sigmoid(t[1] - 0.8 * a), c)
            result = lambda d, a=a, b=b, c=c: (a + 2 * b) ** 2 * (c + d) + d**3
            p = sigmoid(t[0] * (b - c))
            total += weight * (p * result(1.0) + (1 - p) * result(0.0) if b + c > 0.5 else result(t[1]))
        return total

    check_exactly(program, truth, draws=2)


WEAK = [
    *itertools.product(["poisson", "geometric"], ["enumerate", "measure_valued", "baseline"]),
    ("normal", "enumerate"),  # with coins that are drawn it takes too many nodes
]


@pytest.mark.parametrize(("first", "second"), WEAK, ids=["-".join(pair) for pair in WEAK])
def test_first_order_decompositions_with_others(first: str, second: str) -> None:
    """Weak derivatives that are right to first order, before and after exact ones: the excess counts once."""
    weak = MeasureValued()
    laws = {
        "poisson": oracles.poisson(lambda t: jnp.exp(t[0])),
        "geometric": oracles.geometric(lambda t: sigmoid(1 + t[0])),
        "normal": oracles.normal(lambda t: t[0], lambda t: jnp.exp(t[1]), 0.5),
    }
    measures = {
        "poisson": lambda t: ppl.poisson(jnp.exp(t[0])),
        "geometric": lambda t: ppl.geometric(sigmoid(1 + t[0])),
        "normal": lambda t: ppl.normal(t[0], jnp.exp(t[1])),
    }

    def program(t: Any) -> Any:
        a = flip(sigmoid(t[1]), FLIPS[second], "a")
        x = measures[first](t + 0.3 * a).using(weak) @ "x"
        b = flip(sigmoid(0.3 * x + t[0]), FLIPS[second], "b")
        return (1 + a) * f(0.5 * x, b, t)

    def truth(t: Any) -> Any:
        p = sigmoid(t[1])

        def given(a: float) -> Any:
            q = lambda x: sigmoid(0.3 * x + t[0])
            return laws[first].mean(
                lambda x: (1 + a) * (q(x) * f(0.5 * x, 1.0, t) + (1 - q(x)) * f(0.5 * x, 0.0, t)), t + 0.3 * a
            )

        return p * given(1.0) + (1 - p) * given(0.0)

    rules = (
        {"normal": normal_panels([0], 12, (-3, 3)), "uniform": tanh_sinh(1 / 6)}
        if first == "normal"
        else None
    )
    check_exactly(program, truth, draws=1, rules=rules)
