"""Scores, replaced runs and sums over lanes that see only a part of the result. Exact, to 1e-8.

Each program is chosen to break the derivation: something is upstream of one term and not of another, lanes
meet in one place only, steps depend on their neighbors. Truths are sums over all paths of the coins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce
from ppl.estimators.baselines import Learned
from ppl.testing.integrate import integrate
from ppl.transforms import plan

from .cases import DIRECTION, THETA, coin
from .laws import KEY, check_exactly, check_forward, estimates, truth_of
from .oracles import coins

sigmoid = jax.nn.sigmoid
HOWS = {
    "score": Reinforce(),
    "baseline": Reinforce(baseline=0.7),
    "enumerate": Enumerate(),
    "weak": MeasureValued(),
}
Program = Callable[..., Any]


def each(*, choices: int = 1) -> Any:
    """Every estimator at every choice, if there is one; else neighbors that differ, and all the same."""
    names = list(HOWS)
    if choices == 1:
        return pytest.mark.parametrize("hows", [(name,) for name in names], ids="-".join)
    shifts = [
        tuple(names[(i + k * j) % 4] for j in range(choices))
        for k, i in [(0, 0), (0, 2), *((1, i) for i in range(4))]
    ]
    return pytest.mark.parametrize("hows", list(dict.fromkeys(shifts)), ids="-".join)


def chosen(hows: tuple[str, ...]) -> list[Any]:
    return [HOWS[how] for how in hows]


# --- one after another ----------------------------------------------------------------------------


@each(choices=3)
def test_terms_that_are_downstream_of_some(hows: tuple[str, ...]) -> None:
    """`x` moves `y`; `z` stands by itself; terms of each alone, of two, and of none."""
    one, two, three = chosen(hows)

    def result(x: Any, y: Any, z: Any, t: Any) -> Any:
        return 3 * x**2 * t[0] + jnp.exp(y) * (1 + z) - 2 * z * t[1] + jnp.sin(t[0] * x + y) + t[0] * t[1]

    def program(t: Any) -> Any:
        x = coin(sigmoid(t[0]), one, "x")
        z = coin(sigmoid(t[1] - t[0]), three, "z")
        y = coin(sigmoid(t[1] + 1.5 * x), two, "y")
        return result(x, y, z, t)

    def truth(t: Any) -> Any:
        p = lambda i, path: sigmoid([t[0], t[1] - t[0], t[1] + 1.5 * path[0] if i else 0.0][i])
        return coins(p, lambda path: result(path[0], path[2], path[1], t), 3)

    check_exactly(program, truth)


@each()
def test_a_term_through_which_no_derivative_flows(hows: tuple[str, ...]) -> None:
    """The derivative of a stopped term is that of its probability alone."""

    def program(t: Any) -> Any:
        x = coin(sigmoid(t[0]), *chosen(hows), "x")
        return jax.lax.stop_gradient(jnp.exp(x * t[1])) + jnp.cos(x + t[0])

    def truth(t: Any) -> Any:
        p = lambda i, path: sigmoid(t[0])
        return coins(p, lambda x: jax.lax.stop_gradient(jnp.exp(x[0] * t[1])) + jnp.cos(x[0] + t[0]), 1)

    check_exactly(program, truth)


@each()
def test_a_result_that_depends_on_no_choice(hows: tuple[str, ...]) -> None:
    def program(t: Any) -> Any:
        coin(sigmoid(t[0]), *chosen(hows), "x")
        return t[0] ** 2 * t[1]

    check_exactly(program, lambda t: t[0] ** 2 * t[1])


@each(choices=2)
def test_one_compiled_function_in_two_places(hows: tuple[str, ...]) -> None:
    """One jaxpr is followed from two results, of which one enters linearly."""
    one, two = chosen(hows)
    inner = jax.jit(lambda x, t: 2 * x * t[0] + jnp.sin(x + t[1]))

    def program(t: Any) -> Any:
        x, y = coin(sigmoid(t[0]), one, "x"), coin(sigmoid(t[1]), two, "y")
        return inner(x, t) - 0.5 * inner(y, t) + inner(x, t) * inner(y, t) * t[0]

    def truth(t: Any) -> Any:
        f = lambda x: 2 * x * t[0] + jnp.sin(x + t[1])
        result = lambda path: f(path[0]) - 0.5 * f(path[1]) + f(path[0]) * f(path[1]) * t[0]
        return coins(lambda i, path: sigmoid(t[i]), result, 2)

    check_exactly(program, truth)


@each()
def test_counts_and_truth_values(hows: tuple[str, ...]) -> None:
    """Integers and Booleans between the choices and the result."""

    def program(t: Any) -> Any:
        how = chosen(hows)[0]
        x = jnp.stack([ppl.flip(sigmoid(t[i % 2] + 0.3 * i)).using(how) @ f"x{i}" for i in range(3)])
        count = jnp.sum(x.astype(int))
        run = jnp.argmax(jnp.cumsum(x.astype(int)))
        return jnp.where(count % 2 == 0, t[0], 1.0) + count * t[1] + jnp.where(x[0] & ~x[2], 2.0, 0.0) * run

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            count, run = sum(x), int(np.argmax(np.cumsum(x)))
            return (t[0] if count % 2 == 0 else 1.0) + count * t[1] + 2.0 * (x[0] == 1 and x[2] == 0) * run

        return coins(lambda i, path: sigmoid(t[i % 2] + 0.3 * i), result, 3)

    check_exactly(program, truth)


def test_branches_with_choices_of_different_kinds_at_one_address() -> None:
    """They differ in shape, estimator and number of values."""

    def program(t: Any) -> Any:
        b = coin(sigmoid(t[0]), Reinforce(), "b")
        three = ppl.flip(jnp.stack([sigmoid(t[1]), 0.3, 0.6])).using(MeasureValued())
        first = lambda: jnp.sum(three.propose().retval * jnp.array([1.0, 2.0, -1.5]))
        second = lambda: coin(sigmoid(t[0] * t[1]), Reinforce(baseline=0.4), None)
        index = lambda logits, how: 1.0 * (ppl.categorical(logits=jnp.stack(logits)).using(how) @ "k")
        c = jax.lax.cond(b > 0.5, first, second)
        k = jax.lax.cond(
            b > 0.5,
            lambda: index([0.0, t[1]], Enumerate()),
            lambda: index([t[0], t[1], 0.0], MeasureValued()),
        )
        return (1 + c) ** 2 * (1 + k)

    def truth(t: Any) -> Any:
        p = sigmoid(t[0])
        three = lambda i, path: [sigmoid(t[1]), 0.3, 0.6][i]
        first = coins(three, lambda x: (1 + x[0] + 2 * x[1] - 1.5 * x[2]) ** 2, 3) * (1 + sigmoid(t[1]))
        probs = jax.nn.softmax(jnp.stack([t[0], t[1], 0.0]))
        q = sigmoid(t[0] * t[1])
        return p * first + (1 - p) * (4 * q + 1 - q) * (1 + probs[1] + 2 * probs[2])

    check_exactly(program, truth)


# --- lanes ----------------------------------------------------------------------------------------

WEIGHTS = np.array([1.0, -0.6, 0.35])


def _lane_probability(t: Any, i: int) -> Any:
    return sigmoid(t[0] + [0.5, -0.8, 1.1][i] * t[1])


SHIFTS = np.array([0.5, -0.8, 1.1])


@each()
@pytest.mark.parametrize("made", ["vmap", "array"])
def test_independent_lanes(hows: tuple[str, ...], made: str) -> None:
    (how,) = chosen(hows)

    def program(t: Any) -> Any:
        if made == "vmap":
            x = jax.vmap(lambda s: coin(sigmoid(t[0] + s * t[1]), how))(SHIFTS)
        else:
            x = coin(sigmoid(t[0] + SHIFTS * t[1]), how)
        return jnp.mean(jnp.exp(x * t[0]) * WEIGHTS) + jnp.sum(jnp.sin(x[1:] + t[1])) - x[0] ** 2

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            each = sum(jnp.exp(x[i] * t[0]) * WEIGHTS[i] for i in range(3)) / 3
            return each + jnp.sin(x[1] + t[1]) + jnp.sin(x[2] + t[1]) - x[0] ** 2

        return coins(lambda i, path: _lane_probability(t, i), result, 3)

    check_exactly(program, truth)


@pytest.mark.parametrize("limit", [2**10, 1], ids=["together", "one by one"])
def test_independent_lanes_of_three_values(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed over together, or replaced where there are too many."""
    monkeypatch.setattr(plan, "LANES_LIMIT", limit)

    def logits(t: Any, s: Any) -> Any:
        return jnp.stack([t[0] * s, t[1], s * 0.4])

    def f(k: Any, t: Any) -> Any:
        return jnp.exp(0.4 * k * t[0]) + t[1] * k**2

    def program(t: Any) -> Any:
        k = jax.vmap(lambda s: ppl.categorical(logits=logits(t, s)).using(Enumerate()) @ "k")(SHIFTS[:2])
        return jnp.sum(f(k * 1.0, t) * WEIGHTS[:2])

    def truth(t: Any) -> Any:
        values = jnp.arange(3.0)
        return sum(WEIGHTS[i] * jax.nn.softmax(logits(t, SHIFTS[i])) @ f(values, t) for i in range(2))

    check_exactly(program, truth, draws=0 if limit > 1 else 2)


@each(choices=2)
def test_lanes_that_depend_on_lanes(hows: tuple[str, ...]) -> None:
    """Lane by lane, the second choice depends on the first; there is a term of the first alone."""
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        def lane(s: Any) -> Any:
            a = coin(sigmoid(t[0] * s), one, "a")
            b = coin(sigmoid(t[1] + 1.3 * a * s), two, "b")
            return jnp.exp(0.5 * b * t[0]) * (1 + a) + s * a

        return jnp.sum(jax.vmap(lane)(SHIFTS[:2]) * WEIGHTS[:2])

    def truth(t: Any) -> Any:
        total = 0.0
        for s, w in zip(SHIFTS[:2], WEIGHTS[:2], strict=True):
            p = lambda i, path, s=s: sigmoid(t[0] * s) if i == 0 else sigmoid(t[1] + 1.3 * path[0] * s)
            total += w * coins(p, lambda x, s=s: jnp.exp(0.5 * x[1] * t[0]) * (1 + x[0]) + s * x[0], 2)
        return total

    check_exactly(program, truth)


@each(choices=2)
def test_lanes_that_depend_on_one_choice(hows: tuple[str, ...]) -> None:
    """A choice outside moves all lanes, and has a term of its own."""
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        y = coin(sigmoid(t[1]), one, "y")
        x = jax.vmap(lambda s: coin(sigmoid(t[0] + s * y), two, "x"))(SHIFTS[:2])
        return jnp.sum(jnp.sin(x + t[1]) * WEIGHTS[:2]) + y * t[0] ** 2

    def truth(t: Any) -> Any:
        p = lambda i, path: sigmoid(t[1]) if i == 0 else sigmoid(t[0] + SHIFTS[i - 1] * path[0])
        each = lambda x: sum(jnp.sin(x[i + 1] + t[1]) * WEIGHTS[i] for i in range(2))
        return coins(p, lambda x: each(x) + x[0] * t[0] ** 2, 3)

    check_exactly(program, truth)


@each(choices=2)
def test_lanes_that_meet_in_one_term(hows: tuple[str, ...]) -> None:
    """Two choices in lanes: each is independent in some terms, and all lanes meet in another."""
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        a, b = jax.vmap(lambda s: (coin(sigmoid(t[0] + s), one, "a"), coin(sigmoid(t[1] * s), two, "b")))(
            SHIFTS[:2]
        )
        return jnp.sum(a * WEIGHTS[:2]) + jnp.sum(jnp.exp(b * t[0])) + jnp.sum(a) ** 2 * b[1] * t[1]

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            a, b = x[:2], x[2:]
            alone = sum(a[i] * WEIGHTS[i] + jnp.exp(b[i] * t[0]) for i in range(2))
            return alone + (a[0] + a[1]) ** 2 * b[1] * t[1]

        p = lambda i, path: sigmoid(t[0] + SHIFTS[i]) if i < 2 else sigmoid(t[1] * SHIFTS[i - 2])
        return coins(p, result, 4)

    check_exactly(program, truth)


@each()
def test_lanes_that_meet_along_one_axis(hows: tuple[str, ...]) -> None:
    """Two by two lanes that interact in rows only: rows are replaced together, and never summed over."""
    (how,) = chosen(hows)
    rows, columns = jnp.array([0.4, -0.7]), jnp.array([1.0, -0.5])

    def program(t: Any) -> Any:
        lane = lambda s, u: coin(sigmoid(t[0] * s + t[1] * u), how)
        x = jax.vmap(lambda s: jax.vmap(lambda u: lane(s, u))(columns))(rows)
        return jnp.sum(jnp.exp(jnp.sum(x * columns, 1) * t[0]) * rows)

    def truth(t: Any) -> Any:
        total = 0.0
        for s in rows:
            p = lambda i, path, s=s: sigmoid(t[0] * s + t[1] * columns[i])
            total += s * coins(p, lambda x: jnp.exp((x[0] * columns[0] + x[1] * columns[1]) * t[0]), 2)
        return total

    check_exactly(program, truth)


@each(choices=2)
def test_lanes_that_make_a_choice_or_not(hows: tuple[str, ...]) -> None:
    """In each lane a choice decides whether another is made."""
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        def lane(s: Any) -> Any:
            u = coin(sigmoid(t[1] + s), one, "u")
            z = jax.lax.cond(u > 0.5, lambda: coin(sigmoid(t[0] * s), two, "z"), lambda: 0.7 + t[0])
            return jnp.exp(0.5 * z * t[1]) + u * z

        return jnp.sum(jax.vmap(lane)(SHIFTS[:2]) * WEIGHTS[:2])

    def truth(t: Any) -> Any:
        total = 0.0
        for s, w in zip(SHIFTS[:2], WEIGHTS[:2], strict=True):
            p, q, f = sigmoid(t[1] + s), sigmoid(t[0] * s), lambda u, z: jnp.exp(0.5 * z * t[1]) + u * z
            total += w * (p * (q * f(1, 1) + (1 - q) * f(1, 0)) + (1 - p) * f(0, 0.7 + t[0]))
        return total

    check_exactly(program, truth)


@each(choices=3)
def test_sums_over_single_choices_and_over_lanes_with_the_rest(hows: tuple[str, ...]) -> None:
    """A single choice upstream of lanes and of a second, which is upstream of a third; all share terms."""
    one, two, three = chosen(hows)

    def result(s: Any, y: Any, k: Any, a: Any, w: Any, t: Any) -> Any:
        return (1 + s) * a * (k + 0.5) * w + jnp.sin(a + t[0]) * w + (y * k * t[1] + s * t[0] ** 2) / 2

    def program(t: Any) -> Any:
        s = coin(sigmoid(t[0]), Enumerate(), "s")
        a = jax.vmap(lambda u: coin(sigmoid(t[1] + u * s), one, "a"))(SHIFTS[:2])
        y = coin(sigmoid(t[0] - s), two, "y")
        k = coin(sigmoid(t[1] + y), three, "k")
        return jnp.sum(result(s, y, k, a, WEIGHTS[:2], t))

    def truth(t: Any) -> Any:
        def p(i: int, x: Any) -> Any:
            if i == 0:
                return sigmoid(t[0])
            if i < 3:
                return sigmoid(t[1] + SHIFTS[i - 1] * x[0])
            return sigmoid(t[0] - x[0] if i == 3 else t[1] + x[3])

        total = lambda x: sum(result(x[0], x[3], x[4], x[1 + i], WEIGHTS[i], t) for i in range(2))
        return coins(p, total, 5)

    check_exactly(program, truth)


@each(choices=2)
def test_inner_expectations_in_lanes(hows: tuple[str, ...]) -> None:
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        def lane(s: Any) -> Any:
            x = coin(sigmoid(t[0] + s), one, "x")
            inside = ppl.expect(lambda p: jnp.exp(t[0] * coin(p, two, "y")))
            return (1 + x) * inside(sigmoid(t[1] + s * x)) * s + x * t[1]

        return jnp.sum(jax.vmap(lane)(SHIFTS[:2]))

    def truth(t: Any) -> Any:
        total = 0.0
        for s in SHIFTS[:2]:
            p = lambda i, x, s=s: sigmoid(t[0] + s) if i == 0 else sigmoid(t[1] + s * x[0])
            total += coins(p, lambda x, s=s: (1 + x[0]) * jnp.exp(t[0] * x[1]) * s + x[0] * t[1], 2)
        return total

    check_exactly(program, truth)


# --- neighbors ------------------------------------------------------------------------------------

PLACES = np.array([0.3, -0.5, 0.8, 0.1])


@each()
@pytest.mark.parametrize("distance", [1, 2])
def test_neighbors_in_an_array(hows: tuple[str, ...], distance: int) -> None:
    """Terms of two entries `distance` apart: those further apart are replaced in one run."""
    (how,) = chosen(hows)

    def program(t: Any) -> Any:
        x = coin(sigmoid(t[0] + PLACES * t[1]), how)
        pairs = jnp.exp(t[0] * x[distance:] * x[:-distance]) * PLACES[distance:]
        return jnp.sum(pairs) + jnp.sum(x * PLACES) * t[1]

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            pairs = sum(jnp.exp(t[0] * x[i] * x[i - distance]) * PLACES[i] for i in range(distance, 4))
            return pairs + sum(x[i] * PLACES[i] for i in range(4)) * t[1]

        return coins(lambda i, path: sigmoid(t[0] + PLACES[i] * t[1]), result, 4)

    check_exactly(program, truth)


@each()
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_neighbors_in_a_loop(hows: tuple[str, ...], reverse: bool) -> None:
    """Each step multiplies its choice with that of the step before; the last is used once more."""
    (how,) = chosen(hows)

    def program(t: Any) -> Any:
        def step(before: Any, s: Any) -> Any:
            x = coin(sigmoid(t[0] + s * t[1]), how)
            return x, jnp.exp(t[0] * x * before) * s

        last, terms = jax.lax.scan(step, jnp.asarray(0.5), PLACES, reverse=reverse)
        return jnp.sum(terms) + last * t[1] ** 2

    def truth(t: Any) -> Any:
        places = PLACES[::-1] if reverse else PLACES

        def result(x: Any) -> Any:
            before = [0.5, *x[:-1]]
            return sum(jnp.exp(t[0] * x[i] * before[i]) * places[i] for i in range(4)) + x[-1] * t[1] ** 2

        return coins(lambda i, path: sigmoid(t[0] + places[i] * t[1]), result, 4)

    check_exactly(program, truth)


@each()
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_chain_with_rewards(hows: tuple[str, ...], reverse: bool) -> None:
    """A hidden Markov chain; rewards add up in the carry and leave in `ys`; one is compiled."""
    (how,) = chosen(hows)
    reward = jax.jit(lambda x, s, t: jnp.sin(x + s * t[0]))

    def program(t: Any) -> Any:
        def step(state: Any, s: Any) -> Any:
            z, total = state
            x = coin(sigmoid(t[0] + 1.2 * z * s), how)
            return (x, 0.9 * total + reward(x, s, t)), x * s * t[1]

        (_, total), more = jax.lax.scan(
            step, (jnp.asarray(0.3), jnp.asarray(0.0)), PLACES[:3], reverse=reverse
        )
        return total + jnp.sum(more)

    def truth(t: Any) -> Any:
        places = PLACES[:3][::-1] if reverse else PLACES[:3]

        def result(x: Any) -> Any:
            total, more = 0.0, 0.0
            for i in range(3):
                total = 0.9 * total + jnp.sin(x[i] + places[i] * t[0])
                more += x[i] * places[i] * t[1]
            return total + more

        p = lambda i, path: sigmoid(t[0] + 1.2 * (path[-1] if path else 0.3) * places[i])
        return coins(p, result, 3)

    check_exactly(program, truth)


@each(choices=2)
def test_a_guide_and_a_model_that_runs_over_its_choices(hows: tuple[str, ...]) -> None:
    """The second loop runs over what the first returns and makes choices of its own."""
    one, two = chosen(hows)

    def program(t: Any) -> Any:
        _, zs = jax.lax.scan(lambda _, s: (None, coin(sigmoid(t[0] * s), one, "z")), None, PLACES[:2])

        def step(before: Any, z: Any) -> Any:
            y = coin(sigmoid(t[1] + z), two, "y")
            return z, (z - before) ** 2 * t[0] + jnp.exp(y * t[1]) * (1 + z)

        return jnp.sum(jax.lax.scan(step, jnp.asarray(0.2), zs)[1])

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            z, y = x[:2], x[2:]
            return sum(
                (z[i] - [0.2, z[0]][i]) ** 2 * t[0] + jnp.exp(y[i] * t[1]) * (1 + z[i]) for i in range(2)
            )

        p = lambda i, x: sigmoid(t[0] * PLACES[i]) if i < 2 else sigmoid(t[1] + x[i - 2])
        return coins(p, result, 4)

    check_exactly(program, truth)


@each()
@pytest.mark.parametrize("length", [0, 1])
def test_a_loop_of_no_step_or_one(hows: tuple[str, ...], length: int) -> None:
    (how,) = chosen(hows)

    def program(t: Any) -> Any:
        def step(z: Any, s: Any) -> Any:
            x = coin(sigmoid(t[0] + z * s), how, "x")
            return x, (x * t[1], jnp.exp(x))

        last, (xs, ys) = jax.lax.scan(step, jnp.asarray(0.3), PLACES[:length])
        z = coin(sigmoid(t[1]), how, "z")
        return jnp.sum(jnp.cumsum(xs)) + jnp.sum(ys) * t[0] + last * z + z * t[0]

    def truth(t: Any) -> Any:
        def result(x: Any) -> Any:
            last = x[0] if length else 0.3
            more = x[0] * t[1] + jnp.exp(x[0]) * t[0] if length else 0.0
            return more + last * x[-1] + x[-1] * t[0]

        p = lambda i, path: sigmoid(t[0] + 0.3 * PLACES[0]) if i < length else sigmoid(t[1])
        return coins(p, result, length + 1)

    check_exactly(program, truth)


@each()
def test_lanes_of_chains(hows: tuple[str, ...]) -> None:
    """Two chains of two steps that never meet."""
    (how,) = chosen(hows)

    def program(t: Any) -> Any:
        def one(start: Any) -> Any:
            def step(z: Any, s: Any) -> Any:
                x = coin(sigmoid(t[0] + z * s), how)
                return x, jnp.exp(x * t[1]) * s + z * x

            return jnp.sum(jax.lax.scan(step, start, PLACES[:2])[1])

        return jnp.sum(jax.vmap(one)(SHIFTS[:2]) * WEIGHTS[:2])

    def truth(t: Any) -> Any:
        total = 0.0
        for start, w in zip(SHIFTS[:2], WEIGHTS[:2], strict=True):
            p = lambda i, path, start=start: sigmoid(t[0] + (path[-1] if path else start) * PLACES[i])

            def result(x: Any, start: Any = start) -> Any:
                before = (start, *x[:-1])
                return sum(jnp.exp(x[i] * t[1]) * PLACES[i] + before[i] * x[i] for i in range(2))

            total += w * coins(p, result, 2)
        return total

    check_exactly(program, truth)


# --- loops of unknown length ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["score", "baseline"])
def test_choices_outside_a_loop_of_unknown_length(how: str) -> None:
    """Forward mode: scores in the loop multiply the result as a whole, those outside their return."""

    def program(t: Any) -> Any:
        y = coin(sigmoid(t[0]), HOWS[how], "y")

        def step(state: Any) -> Any:
            i, total = state
            return i + 1, total + jnp.sin(coin(sigmoid(t[1] + 0.3 * total), HOWS[how], None) + t[0])

        total = jax.lax.while_loop(lambda state: state[0] < 2, step, (jnp.asarray(0), y))[1]
        z = coin(sigmoid(t[0] * t[1]), HOWS[how], "z")
        return total * t[1] + z**2 * t[0] + y

    def truth(t: Any) -> Any:
        f = lambda x: jnp.sin(x + t[0])

        def p(i: int, x: Any) -> Any:
            totals = [x[0], x[0] + f(x[1])] if i > 1 else [x[0]] if i else []
            return sigmoid(
                [t[0], t[1] + 0.3 * totals[-1] if i in (1, 2) else 0.0, 0.0, t[0] * t[1]][i if i != 2 else 1]
            )

        return coins(p, lambda x: (x[0] + f(x[1]) + f(x[2])) * t[1] + x[3] * t[0] + x[0], 4)

    check_forward(program, truth, draws=4)


# --- baselines ------------------------------------------------------------------------------------


def test_baselines_that_depend_on_what_came_before() -> None:
    """On an enumerated choice, a scored one, and lanes that are summed over; learned ones too."""

    def program(t: Any) -> Any:
        s = coin(sigmoid(t[0]), Enumerate(), "s")
        a = jax.vmap(lambda u: coin(sigmoid(t[1] + u), Enumerate(), "a"))(SHIFTS[:2])
        y = coin(sigmoid(t[1] + s), Reinforce(baseline=jnp.exp(s) * t[0]), "y")
        z = coin(sigmoid(t[0] - y), Reinforce(baseline=Learned(y * t[1] + 0.3)), "z")
        return jnp.sum(jnp.sin(a * (1 + y)) * WEIGHTS[:2]) * t[0] + s * z + y * t[1]

    def truth(t: Any) -> Any:
        def p(i: int, x: Any) -> Any:
            if i == 0:
                return sigmoid(t[0])
            return sigmoid(t[1] + SHIFTS[i - 1] if i < 3 else t[1] + x[0] if i == 3 else t[0] - x[3])

        result = lambda x: sum(jnp.sin(x[1 + i] * (1 + x[3])) * WEIGHTS[i] for i in range(2)) * t[0]
        return coins(p, lambda x: result(x) + x[0] * x[4] + x[3] * t[1], 5)

    check_exactly(program, truth)


def check_samples(program: Program, truth: Program, samples: int = 2) -> None:
    """As `check_exactly`, of the mean of several runs."""
    right = truth_of(truth)
    one = estimates(ppl.expectation(program), num_samples=samples)
    with jax.enable_x64(True):
        found = integrate(one, jax.random.key(KEY), jnp.asarray(THETA))
    for name, mean in found.mean.items():
        np.testing.assert_allclose(
            mean, getattr(right, name.split()[-1], right.value), rtol=1e-8, err_msg=name
        )


LOO = Reinforce(baseline="loo")


def test_leave_one_out_in_lanes_beside_sums() -> None:
    def program(t: Any) -> Any:
        s = coin(sigmoid(t[0]), Enumerate(), "s")
        a = jax.vmap(lambda u: coin(sigmoid(t[1] * u), Enumerate(), "a"))(SHIFTS[:2])
        x = jax.vmap(lambda u: coin(sigmoid(t[1] + u * s), LOO, "x"))(SHIFTS[:2])
        return jnp.sum(jnp.exp(a * x * t[0]) * WEIGHTS[:2]) + x[0] * x[1] * s

    def truth(t: Any) -> Any:
        def p(i: int, x: Any) -> Any:
            if i == 0:
                return sigmoid(t[0])
            return sigmoid(t[1] * SHIFTS[i - 1] if i < 3 else t[1] + SHIFTS[i - 3] * x[0])

        each = lambda x: sum(jnp.exp(x[1 + i] * x[3 + i] * t[0]) * WEIGHTS[i] for i in range(2))
        return coins(p, lambda x: each(x) + x[3] * x[4] * x[0], 5)

    check_samples(program, truth)


def test_leave_one_out_in_a_loop_and_a_branch() -> None:
    def program(t: Any) -> Any:
        def step(z: Any, s: Any) -> Any:
            x = coin(sigmoid(t[0] + z * s), LOO, "x")
            return x, x * s * t[1]

        last, terms = jax.lax.scan(step, jnp.asarray(0.3), PLACES[:2])
        branches = [lambda: t[0], lambda: coin(sigmoid(t[1]), LOO, "y")]
        return jnp.sum(terms) + jax.lax.switch((last > 0.5).astype(int), branches) ** 2

    def truth(t: Any) -> Any:
        p = lambda i, x: sigmoid(t[1]) if i == 2 else sigmoid(t[0] + (x[-1] if x else 0.3) * PLACES[i])
        end = lambda x: x[2] if x[1] else t[0] ** 2
        return coins(p, lambda x: sum(x[i] * PLACES[i] * t[1] for i in range(2)) + end(x), 3)

    check_samples(program, truth)


def test_leave_one_out_beside_replaced_choices() -> None:
    def program(t: Any) -> Any:
        x = coin(sigmoid(t[0]), LOO, "x")
        y = coin(sigmoid(jnp.stack([t[1] + x, t[1] - x])), MeasureValued(), "y")
        return (y[0] + 0.5) * jnp.exp(y[1] * t[0]) + x * t[1]

    def truth(t: Any) -> Any:
        p = lambda i, x: sigmoid([t[0], t[1] + (x[0] if i else 0), t[1] - (x[0] if i else 0)][i])
        return coins(p, lambda x: (x[1] + 0.5) * jnp.exp(x[2] * t[0]) + x[0] * t[1], 3)

    check_samples(program, truth)


# --- numbers of half precision --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@each()
def test_half_precision(hows: tuple[str, ...], dtype: Any) -> None:
    """The same draws give the same gradient, up to the precision of the numbers."""
    (how,) = chosen(hows)

    def objective(dtype: Any) -> Any:
        def program(t: Any) -> Any:
            def step(z: Any, s: Any) -> Any:
                x = coin(sigmoid(t[0] + z.astype(t.dtype) * s), how).astype(dtype)
                return x, jnp.sin(x + s.astype(dtype)) * t[1].astype(dtype)

            _, terms = jax.lax.scan(step, jnp.asarray(0.5, dtype), jnp.asarray(PLACES[:2]))
            x = coin(sigmoid(t[0] * jnp.ones(3)), how, "y").astype(dtype)
            return jnp.sum(terms) + jnp.mean(jnp.exp(x))

        return ppl.expectation(program)

    theta, key = jnp.asarray(THETA, jnp.float32), jax.random.key(KEY)
    direction = jnp.asarray(DIRECTION, jnp.float32)

    @jax.jit
    def found(t: Any) -> Any:
        first = [objective(kind).grad(key, t, num_samples=8) for kind in (dtype, jnp.float32)]
        second = jax.grad(lambda t: objective(dtype).surrogate(key, t, num_samples=8))
        return *first, jax.jvp(second, (t,), (direction,))[1]

    narrow, wide, curvature = found(theta)
    np.testing.assert_allclose(narrow, wide, rtol=0.05, atol=0.02)
    assert np.isfinite(curvature).all()
