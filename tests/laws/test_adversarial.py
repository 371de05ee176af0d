"""Programs that were written to break the derivation. Each has a truth of its own, summed by hand over paths.

Exact, to 1e-8: no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam

from . import oracles
from .laws import check_exactly

sigmoid = jax.nn.sigmoid
NORMAL = oracles.normal(lambda t: t[0], lambda t: jnp.exp(t[1]), 0.5)
DISCRETE = {"enumerate": Enumerate(), "measure_valued": MeasureValued(), "baseline": Reinforce(baseline=0.4)}
discrete = pytest.mark.parametrize("how", DISCRETE.values(), ids=DISCRETE)


def coin(p: Any, how: Any, address: str | None = "b") -> Any:
    measure = ppl.flip(p).using(how)
    value = measure.propose().retval if address is None else measure @ address
    return jnp.asarray(value, jnp.result_type(float))


def coins(probability: Callable[..., Any], result: Callable[..., Any], count: int) -> Any:
    """The expected result of coins, each with a probability given those before it: a sum over paths."""
    total = jnp.asarray(0.0)
    for path in itertools.product([0.0, 1.0], repeat=count):
        weight = jnp.asarray(1.0)
        for i, x in enumerate(path):
            p = probability(i, path[:i])
            weight = weight * (p if x else 1 - p)
        total = total + weight * result(path)
    return total


@discrete
def test_nested_scans_with_lanes(how: Any) -> None:
    def program(t: Any) -> Any:
        def inner(z: Any, _: Any) -> Any:
            x, y = jax.vmap(lambda s: coin(sigmoid(t[0] * s + 0.5 * z), how))(jnp.array([1.0, -0.5]))
            return x - 2 * y, x * y

        def outer(z: Any, _: Any) -> Any:
            z, products = jax.lax.scan(inner, z + t[1], None, 1)
            return z, jnp.sum(products)

        z, ys = jax.lax.scan(outer, jnp.asarray(0.2), None, 2)
        return z**3 + ys[0] * ys[1] + jnp.exp(0.3 * ys[0])

    def truth(t: Any) -> Any:
        def carry(path: Any) -> Any:
            z = 0.2
            for step in range(len(path) // 2):
                z = path[2 * step] - 2 * path[2 * step + 1]
            return z

        def probability(i: int, path: Any) -> Any:
            return sigmoid(t[0] * (1.0, -0.5)[i % 2] + 0.5 * (carry(path[: i - i % 2]) + t[1]))

        def result(x: Any) -> Any:
            first, second = x[0] * x[1], x[2] * x[3]
            return (x[2] - 2 * x[3]) ** 3 + first * second + jnp.exp(0.3 * first)

        return coins(probability, result, 4)

    check_exactly(program, truth, draws=4)


@discrete
def test_switch_under_two_vmaps(how: Any) -> None:
    index = jnp.array([[0, 1], [2, 0]])

    def program(t: Any) -> Any:
        def lane(i: Any, shift: Any) -> Any:
            branches = [
                lambda: coin(sigmoid(t[0] + shift), how, "x"),
                lambda: jnp.asarray(0.3),
                lambda: 2 * coin(sigmoid(t[1] - shift), how, "y") + t[0],
            ]
            return jax.lax.switch(i, branches)

        v = jax.vmap(jax.vmap(lane, in_axes=(0, None)), in_axes=(0, 0))(index, jnp.array([0.1, -0.2]))
        return (v[0, 0] + v[0, 1] * v[1, 1]) ** 2 * (v[1, 0] + 1) ** 3

    def truth(t: Any) -> Any:
        ps = (sigmoid(t[0] + 0.1), sigmoid(t[1] + 0.2), sigmoid(t[0] - 0.2))
        return coins(lambda i, _: ps[i], lambda x: (x[0] + 0.3 * x[2]) ** 2 * (2 * x[1] + t[0] + 1) ** 3, 3)

    check_exactly(program, truth, draws=3)


@discrete
def test_conditional_in_scan_on_an_earlier_choice(how: Any) -> None:
    """A replaced run takes other branches than the base run."""

    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            x = jax.lax.cond(
                z > 0.5, lambda: coin(sigmoid(t[0]), how, "x"), lambda: 2 * coin(sigmoid(t[1] + 0.3), how, "y") - 0.5
            )
            return x, x

        z, xs = jax.lax.scan(step, jnp.asarray(0.0), None, 3)
        return z**2 * (1 + xs[0]) + xs[1] ** 3

    def truth(t: Any) -> Any:
        def values(path: Any) -> list[float]:
            z, out = 0.0, []
            for x in path:
                z = x if z > 0.5 else 2 * x - 0.5
                out.append(z)
            return out

        def probability(i: int, path: Any) -> Any:
            return sigmoid(t[0]) if ([0.0, *values(path)])[-1] > 0.5 else sigmoid(t[1] + 0.3)

        def result(path: Any) -> Any:
            a, b, c = values(path)
            return c**2 * (1 + a) + b**3

        return coins(probability, result, 3)

    check_exactly(program, truth, draws=3)


@discrete
def test_scan_of_length_zero(how: Any) -> None:
    def program(t: Any) -> Any:
        z, xs = jax.lax.scan(lambda z, _: (z + coin(sigmoid(t[0]), how, "x"), z), t[1], None, 0)
        return z**2 + jnp.sum(xs) + coin(sigmoid(t[1]), how) * t[0]

    check_exactly(program, lambda t: t[1] ** 2 + sigmoid(t[1]) * t[0])


@discrete
def test_zero_lanes(how: Any) -> None:
    def program(t: Any) -> Any:
        xs = jax.vmap(lambda s: coin(sigmoid(t[0] + s), how, "x"))(jnp.zeros(0))
        return jnp.sum(xs) + coin(sigmoid(t[1]), how) * t[0]

    check_exactly(program, lambda t: sigmoid(t[1]) * t[0])


@discrete
@pytest.mark.parametrize("lanes", [None, 2])
def test_support_of_one_value(how: Any, lanes: int | None) -> None:
    def program(t: Any) -> Any:
        if lanes is None:
            k = ppl.categorical(logits=t[:1]).using(how) @ "k"
        else:
            k = jnp.sum(jax.vmap(lambda _: ppl.categorical(logits=t[:1]).using(how) @ "k")(jnp.arange(lanes)))
        return (k + t[1]) ** 2 + t[0]

    check_exactly(program, lambda t: t[1] ** 2 + t[0])


@discrete
@pytest.mark.parametrize("lanes", [False, True])
def test_impossible_category(how: Any, lanes: bool) -> None:
    """The integrand is infinite at a value of probability zero."""

    def logits(t: Any) -> Any:
        return jnp.stack([t[0], -jnp.inf, t[1]])

    def program(t: Any) -> Any:
        if not lanes:
            k = ppl.categorical(logits=logits(t)).using(how) @ "k"
            return (k - 0.5) ** 3 * (1 + t[0])
        k = jax.vmap(lambda _: ppl.categorical(logits=logits(t)).using(how) @ "k")(jnp.arange(2))
        return (k[0] - 0.5) ** 3 * (1 + k[1])

    def truth(t: Any) -> Any:
        p = jax.nn.softmax(t)
        cube = p[0] * (-0.5) ** 3 + p[1] * 1.5**3
        return cube * (1 + t[0]) if not lanes else cube * (1 + 2 * p[1])

    check_exactly(program, truth)


@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("how", [Enumerate(), MeasureValued()], ids=["enumerate", "measure_valued"])
@pytest.mark.parametrize("lanes", [False, True])
def test_probability_at_an_end(how: Any, end: float, lanes: bool) -> None:
    """The derivative at an end is one-sided, and finite."""

    def program(t: Any) -> Any:
        p = end + (t[0] - 0.35) * (1 - 2 * end)
        if lanes:
            x, y = jax.vmap(lambda s: coin(p, how))(jnp.arange(2))
            return (x + 2 * t[1]) ** 3 * (1 + y)
        return (coin(p, how) + 2 * t[1]) ** 3

    def truth(t: Any) -> Any:
        p = end + (t[0] - 0.35) * (1 - 2 * end)
        mean = p * (1 + 2 * t[1]) ** 3 + (1 - p) * (2 * t[1]) ** 3
        return mean * (1 + p) if lanes else mean

    check_exactly(program, truth)


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
def test_one_jitted_function_in_both_branches(how: Any) -> None:
    @jax.jit
    def draw(p: Any) -> Any:
        return coin(p, how, None)

    def program(t: Any) -> Any:
        a = draw(sigmoid(t[0]))
        b = jax.lax.cond(a > 0.5, lambda: draw(sigmoid(t[1])), lambda: 3 * draw(sigmoid(t[0] - 1)))
        c = draw(sigmoid(t[1] - b))
        return (a + b) ** 2 * (1 + c)

    def truth(t: Any) -> Any:
        def value(x: Any) -> Any:
            return x[1] if x[0] else 3 * x[1]

        def probability(i: int, x: Any) -> Any:
            if i == 0:
                return sigmoid(t[0])
            if i == 1:
                return sigmoid(t[1]) if x[0] else sigmoid(t[0] - 1)
            return sigmoid(t[1] - value(x))

        return coins(probability, lambda x: (x[0] + value(x)) ** 2 * (1 + x[2]), 3)

    check_exactly(program, truth, draws=1 if how == Enumerate() else 3)


@discrete
@pytest.mark.parametrize("options", [{"reverse": True}, {"unroll": 2}, {"reverse": True, "unroll": 3}], ids=str)
def test_scan_with_options_and_inputs(how: Any, options: Any) -> None:
    shifts = (0.3, -0.4, 0.9)

    def program(t: Any) -> Any:
        def step(z: Any, s: Any) -> Any:
            x = coin(sigmoid(t[0] + s * z), how, "x")
            return x + t[1], x

        z, xs = jax.lax.scan(jax.checkpoint(step), jnp.asarray(1.0), jnp.array(shifts), **options)
        return z**3 + xs[0] * (1 + xs[2])

    def truth(t: Any) -> Any:
        order = (2, 1, 0) if options.get("reverse") else (0, 1, 2)

        def probability(i: int, x: Any) -> Any:
            return sigmoid(t[0] + shifts[order[i]] * (x[-1] + t[1] if i else 1.0))

        def result(path: Any) -> Any:
            xs = dict(zip(order, path, strict=True))
            return (path[-1] + t[1]) ** 3 + xs[0] * (1 + xs[2])

        return coins(probability, result, 3)

    check_exactly(program, truth, draws=3)


@discrete
def test_axes_elsewhere(how: Any) -> None:
    """`in_axes`, `out_axes` other than zero, and a lane axis that only the inner parameters carry."""

    def program(t: Any) -> Any:
        grid = jnp.array([[0.1], [-0.2]]) + t  # (2 of lanes, 2 of parameters)
        draw = lambda p: ppl.flip(sigmoid(p)).using(how) @ "x"
        x = jax.vmap(lambda column: jax.vmap(draw)(column), in_axes=1, out_axes=1)(grid).astype(float)
        return x[0, 0] * (1 + x[0, 1]) ** 2 * (2 - x[1, 0] * x[1, 1])

    def truth(t: Any) -> Any:
        p = sigmoid(jnp.array([[0.1], [-0.2]]) + t)
        return p[0, 0] * (1 + 3 * p[0, 1]) * (2 - p[1, 0] * p[1, 1])

    check_exactly(program, truth, draws=4)


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
def test_nan_in_a_branch_that_is_not_taken(how: Any) -> None:
    def program(t: Any) -> Any:
        def lane(b: Any, scale: Any) -> Any:
            return jax.lax.cond(b, lambda: jnp.log(scale) * coin(sigmoid(t[0] * scale), how), lambda: t[1])

        x, y = jax.vmap(lane)(jnp.array([True, False]), jnp.stack([2.0 + t[1], -1.0 + 0 * t[1]]))
        return (x + y) ** 3

    def truth(t: Any) -> Any:
        scale = 2.0 + t[1]
        p = sigmoid(t[0] * scale)
        return p * (jnp.log(scale) + t[1]) ** 3 + (1 - p) * t[1] ** 3

    check_exactly(program, truth, draws=1)


@discrete
def test_log_density_of_a_choice_held_fixed(how: Any) -> None:
    """A result that depends on the parameters through a density of its own, as objectives do."""

    def program(t: Any) -> Any:
        q = ppl.categorical(logits=jnp.stack([t[0], t[1], 0.1])).using(how).propose()
        held = ppl.categorical(logits=jax.lax.stop_gradient(jnp.stack([t[0], t[1], 0.1]))).log_density(q.retval)
        return q.log_density * held + q.retval * t[1]

    def truth(t: Any) -> Any:
        logits = jnp.stack([t[0], t[1], 0.1])
        logp = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(logp) * (logp * jax.lax.stop_gradient(logp) + jnp.arange(3.0) * t[1]))

    check_exactly(program, truth)


def test_lanes_that_stop_at_different_steps() -> None:
    """A while loop whose length differs between lanes, in forward mode."""
    from .laws import check_forward

    def program(t: Any) -> Any:
        def lane(limit: Any) -> Any:
            def step(state: Any) -> Any:
                i, z = state
                return i + 1, z + (i + 1) * coin(sigmoid(t[0] - 0.3 * z), Reinforce(baseline=0.5), None)

            return jax.lax.while_loop(lambda state: state[0] < limit, step, (jnp.asarray(0), jnp.asarray(0.0)))[1]

        x, y = jax.vmap(lane)(jnp.array([1, 2]))
        return (x + t[1]) ** 2 * (1 + y**2)

    def truth(t: Any) -> Any:
        def probability(i: int, x: Any) -> Any:
            return sigmoid(t[0] - 0.3 * x[1]) if i == 2 else sigmoid(t[0])

        return coins(probability, lambda x: (x[0] + t[1]) ** 2 * (1 + (x[1] + 2 * x[2]) ** 2), 3)

    check_forward(program, truth, draws=3)


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


def test_given_support_must_hold_the_law() -> None:
    """A support that is handed to `Enumerate` and leaves mass out gives a biased sum: right or refused."""

    def program(t: Any) -> Any:
        return (ppl.poisson(jnp.exp(t[0])).using(Enumerate(support=jnp.arange(2))) @ "k") * 1.0

    try:
        check_exactly(program, lambda t: jnp.exp(t[0]))
    except (ppl.errors.PPLError, TypeError):
        return
