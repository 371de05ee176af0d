"""What cannot be unbiased is refused, by an error of its own class that names the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl import errors
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam

KEY = jax.random.key(0)


def grad(program: Callable[[Any], Any], at: float = 0.4) -> Any:
    return ppl.expectation(program).grad(KEY, at)


PAIRS = {
    "poisson-reparam": (lambda t: ppl.poisson(t), Reparam()),
    "flip-reparam": (lambda t: ppl.flip(t), Reparam()),
    "categorical-reparam": (lambda t: ppl.categorical(jnp.stack([t, 1 - t])), Reparam()),
    "geometric-reparam": (lambda t: ppl.geometric(t), Reparam()),
    "normal-enumerate": (lambda t: ppl.normal(t, 1.0), Enumerate()),
    "poisson-enumerate": (lambda t: ppl.poisson(t), Enumerate()),
    "cauchy-measure_valued": (lambda t: ppl.families.cauchy(t, 1.0), MeasureValued()),
    "uniform-measure_valued": (lambda t: ppl.uniform(0.0, t), MeasureValued()),
    "laplace-measure_valued": (lambda t: ppl.families.laplace(t, 1.0), MeasureValued()),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_estimator_that_the_family_does_not_admit(pair: str) -> None:
    measure, how = PAIRS[pair]
    with pytest.raises(errors.EstimatorNotAdmitted, match=type(how).__name__):
        grad(lambda t: (measure(t).using(how) @ "x") * 1.0)


def test_estimator_chosen_from_outside_is_checked_too() -> None:
    model = ppl.gen(lambda t: ppl.poisson(t) @ "count")
    with pytest.raises(errors.EstimatorNotAdmitted, match="count"):
        grad(lambda t: model(t).using({"count": Reparam()}).propose().retval * 1.0)


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("flow", ["straight", "scan", "vmap", "through_a_choice"])
def test_score_of_a_moving_end(end: str, flow: str) -> None:
    def draw(t: Any) -> Any:
        ends = {"low": 0.0, "high": 2.0} | {end: t}
        return ppl.uniform(**ends).using(Reinforce()) @ "x"

    def program(t: Any) -> Any:
        if flow == "scan":
            return jnp.sum(jax.lax.scan(lambda z, _: (z, draw(z)), t, None, 2)[1])
        if flow == "vmap":
            return jnp.sum(jax.vmap(draw)(jnp.stack([t, t + 0.1])))
        return draw(ppl.normal(t, 0.01) @ "end" if flow == "through_a_choice" else t) ** 2

    with pytest.raises(errors.UnsupportedProgram, match=f"'{end}' of the choice 'x'"):
        grad(program)


DISCONTINUITIES: dict[str, Callable[[Any], Any]] = {
    "comparison that selects": lambda x: jnp.where(x > 0.5, 1.0, 0.0),
    "comparison that branches": lambda x: jax.lax.cond(x > 0.5, lambda: 1.0, lambda: 0.0),
    "floor": jnp.floor,
    "round": jnp.round,
    "sign": jnp.sign,
    "cast": lambda x: x.astype(int) * 1.0,
    "argmax": lambda x: jnp.argmax(jnp.stack([x, 0.0 * x + 0.5])) * 1.0,
    "in jit": jax.jit(lambda x: jnp.where(x > 0.5, 1.0, 0.0)),
    "in scan": lambda x: jax.lax.scan(lambda z, _: (z + jnp.where(z > 0.5, 1.0, 0.0), None), x, None, 3)[0],
    "in vmap": lambda x: jnp.sum(jax.vmap(lambda s: jnp.where(x > s, 1.0, 0.0))(jnp.arange(3.0))),
    "in checkpoint": jax.checkpoint(lambda x: jnp.where(x > 0.5, 1.0, 0.0)),
    "comparison cast to a number": lambda x: (x > 0.5).astype(float),
    "remainder": lambda x: jnp.mod(x, 1.0),
    "index": lambda x: jnp.arange(4.0)[jnp.clip(x, 0, 3).astype(int)],
    "switch": lambda x: jax.lax.switch(x.astype(int), [lambda: 0.0, lambda: 1.0]),
    "trips of a loop": lambda x: jax.lax.stop_gradient(
        jax.lax.while_loop(lambda i: i < jax.lax.stop_gradient(x), lambda i: i + 1.0, jnp.zeros(()))
    ),
    "stopped comparison": lambda x: jnp.where(jax.lax.stop_gradient(x) > 0.5, 1.0, 0.0),
    "parameter of an atom": lambda x: jnp.where(ppl.flip(jnp.where(x > 0.5, 0.9, 0.1)) @ "b", 1.0, 0.0),
}


@pytest.mark.parametrize("what", DISCONTINUITIES)
def test_pathwise_value_that_reaches_a_jump(what: str) -> None:
    def program(t: Any) -> Any:
        return DISCONTINUITIES[what](ppl.normal(t, 1.0).using(Reparam()) @ "x")

    with pytest.raises(errors.DiscontinuousReparameterization, match="'x'"):
        grad(program)


@pytest.mark.parametrize("what", DISCONTINUITIES)
def test_the_same_jump_is_fine_for_a_score(what: str) -> None:
    def program(t: Any) -> Any:
        return DISCONTINUITIES[what](ppl.normal(t, 1.0).using(Reinforce()) @ "x")

    assert jnp.isfinite(grad(program))


@pytest.mark.parametrize("method", ["grad", "value_and_grad"])
def test_second_derivative_of_a_first_derivative(method: str) -> None:
    objective = ppl.expectation(lambda t: jnp.where(ppl.flip(t) @ "x", t, 0.0))
    first = lambda t: jnp.sum(jnp.stack(jax.tree.leaves(getattr(objective, method)(KEY, t))))
    with pytest.raises(errors.UnsupportedProgram, match="surrogate"):
        jax.grad(first)(0.4)


def _while(how: Any) -> Callable[[Any], Any]:
    def program(t: Any) -> Any:
        def step(state: Any) -> Any:
            i, z = state
            return i + 1, z * t + ppl.flip(jax.nn.sigmoid(z)).using(how).propose().retval

        return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, t))[1]

    return program


def test_while_loop_in_reverse_mode() -> None:
    with pytest.raises(errors.UnsupportedProgram, match=r"while_loop.*jvp"):
        grad(_while(Reinforce()))


@pytest.mark.parametrize("how", [MeasureValued(), Enumerate()], ids=["measure_valued", "enumerate"])
def test_replaced_choice_in_a_while_loop(how: Any) -> None:
    with pytest.raises(errors.UnsupportedProgram, match="while loop"):
        ppl.expectation(_while(how)).jvp(KEY, (0.4,), (1.0,))


def test_choice_in_the_condition_of_a_while_loop() -> None:
    def program(t: Any) -> Any:
        return jax.lax.while_loop(
            lambda z: (z < 3) & (ppl.flip(t).using(Reinforce()) @ "go"), lambda z: z + 1, 0.0
        )

    with pytest.raises(errors.UnsupportedProgram, match="condition"):
        ppl.expectation(program).estimate(KEY, 0.4)


@pytest.mark.parametrize("transform", [jax.grad, jax.jacfwd, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1]])
def test_choice_below_a_derivative_of_the_program(transform: Any) -> None:
    with pytest.raises(errors.UnsupportedProgram, match="'x'"):
        grad(lambda t: transform(lambda s: (ppl.normal(s, 1.0) @ "x") ** 2)(t))


def test_too_many_combinations() -> None:
    def program(t: Any) -> Any:
        return sum(jnp.where(ppl.flip(t).using(Enumerate()) @ f"x{i}", 1.0, 0.0) for i in range(17)) * 1.0

    with pytest.raises(errors.UnsupportedProgram, match=r"131072"):
        grad(program)
