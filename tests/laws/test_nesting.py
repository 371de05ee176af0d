"""Control flow in control flow, each program with a truth summed by hand over paths.

Exact, to 1e-8: no randomness enters, so there are no false alarms.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl.estimators import Enumerate, Reinforce

from .cases import DISCRETE, coin
from .laws import check_exactly, check_forward
from .oracles import coins

sigmoid = jax.nn.sigmoid
discrete = pytest.mark.parametrize("how", DISCRETE.values(), ids=DISCRETE)


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
                z > 0.5,
                lambda: coin(sigmoid(t[0]), how, "x"),
                lambda: 2 * coin(sigmoid(t[1] + 0.3), how, "y") - 0.5,
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
@pytest.mark.parametrize(
    "options", [{"reverse": True}, {"unroll": 2}, {"reverse": True, "unroll": 3}], ids=str
)
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


def test_lanes_that_stop_at_different_steps() -> None:
    """A while loop whose length differs between lanes, in forward mode."""

    def program(t: Any) -> Any:
        def lane(limit: Any) -> Any:
            def step(state: Any) -> Any:
                i, z = state
                return i + 1, z + (i + 1) * coin(sigmoid(t[0] - 0.3 * z), Reinforce(baseline=0.5), None)

            return jax.lax.while_loop(
                lambda state: state[0] < limit, step, (jnp.asarray(0), jnp.asarray(0.0))
            )[1]

        x, y = jax.vmap(lane)(jnp.array([1, 2]))
        return (x + t[1]) ** 2 * (1 + y**2)

    def truth(t: Any) -> Any:
        def probability(i: int, x: Any) -> Any:
            return sigmoid(t[0] - 0.3 * x[1]) if i == 2 else sigmoid(t[0])

        return coins(probability, lambda x: (x[0] + t[1]) ** 2 * (1 + (x[1] + 2 * x[2]) ** 2), 3)

    check_forward(program, truth, draws=3)
