"""RELAX and REBAR: whatever the control is, the derivative is right.

The exact tier: the estimator is integrated over its own noise, and compared with a sum over the choice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import errors
from ppl.estimators import Estimator, Rebar, Reinforce, Relax
from ppl.testing.rules import Rule, panels, tanh_sinh

from ..laws import oracles
from ..laws.cases import FAMILIES, Family, drawer, integrand
from ..laws.flows import FLOWS, WHILE
from ..laws.laws import KEY, check_exactly, check_forward, check_statistically

FEW = {"uniform": Rule(*panels([0.0, 1.0], 6))}
"""Enough for a control that is a rational function of the uniform number, as the sigmoid is."""
SOME = {"uniform": tanh_sinh(1 / 4)}

NET = eqx.nn.MLP("scalar", "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(1))


def relu(z: Any) -> Any:
    return jnp.maximum(z, 0.0)


def wave(w: Any, z: Any) -> Any:
    return w * jnp.sin(z) + 0.1 * z**2


def square(b: Any) -> Any:
    return 0.8 * b - 0.6 * b**2


COINS: dict[str, Callable[[Any], Estimator]] = {
    "relax": lambda t: Relax(lambda z: 0.7 * jnp.tanh(0.6 * z) + 0.2),
    "relax-far_off": lambda t: Relax(functools.partial(wave, -3.0)),
    "relax-kink": lambda t: Relax(relu),
    "relax-moving": lambda t: Relax(functools.partial(wave, t[0] * t[1])),
    "relax-module": lambda t: Relax(NET),
    "rebar": lambda t: Rebar(square),
    "rebar-warm": lambda t: Rebar(square, temperature=2.0, scale=-3.0),
    "rebar-moving": lambda t: Rebar(square, temperature=jnp.exp(t[0]), scale=1.0 + t[1]),
}


def one_hot(t: Any) -> Any:
    logits = jnp.stack([t[..., 0], t[..., 1], 0.3 * t[..., 0] * t[..., 1]], axis=-1)
    return ppl.families.one_hot_categorical(logits=logits)


def index_draw(measure: Callable[[Any], Any], estimator: Callable[[Any], Any]) -> Any:
    """One-hot vectors turned into indices, linearly."""

    def draw(t: Any, address: str | None) -> Any:
        made = measure(t).using(estimator(t))
        x = made.propose().retval if address is None else made @ address
        return x @ jnp.arange(x.shape[-1], dtype=x.dtype)

    return draw


def coin_draw(family: Family, estimator: Callable[[Any], Any]) -> Any:
    return lambda t, address: drawer(family, estimator(t))(t, address)


@pytest.mark.parametrize("family", ["flip", "bernoulli"])
@pytest.mark.parametrize("control", COINS)
def test_a_coin(family: str, control: str) -> None:
    entry = FAMILIES[family]
    f, flow = integrand(entry.jump), FLOWS["straight"]
    draw = coin_draw(entry, COINS[control])
    check_exactly(flow.program(draw, f), flow.truth(entry.law, f), draws=2)


CATEGORIES: dict[str, Callable[[Any], Estimator]] = {
    "relax": lambda t: Relax(lambda z: jnp.tanh(z[0] - 0.5 * z[2]) + 0.1 * z[1]),
    "rebar": lambda t: Rebar(
        lambda b: (b @ jnp.array([1.0, -2.0, 0.5])) ** 2, temperature=1.3, scale=0.7 + t[1]
    ),
}


@pytest.mark.parametrize("family", ["categorical", "categorical_probs", "one_hot_categorical"])
@pytest.mark.parametrize("control", CATEGORIES)
def test_a_category(family: str, control: str) -> None:
    law = oracles.categorical(lambda t: jnp.stack([t[0], t[1], 0.3 * t[0] * t[1]]), 3)
    f, flow = integrand(1.5), FLOWS["straight"]
    if family == "one_hot_categorical":
        draw = index_draw(one_hot, CATEGORIES[control])
    else:
        draw = coin_draw(FAMILIES[family], CATEGORIES[control])
    check_exactly(flow.program(draw, f), flow.truth(law, f), draws=4, rules=SOME)


def test_while_loop_in_forward_mode() -> None:
    entry, f = FAMILIES["flip"], integrand(0.5)
    draw = coin_draw(entry, lambda t: Rebar(square, temperature=1.0))
    check_forward(WHILE.program(draw, f), WHILE.truth(entry.law, f), draws=3, rules=FEW)


@pytest.mark.parametrize("whole", [False, True])
def test_an_array_that_interacts(whole: bool) -> None:
    """With `whole`, the control is a function of the relaxed variables of both coins."""

    def control(b: Any) -> Any:
        return jnp.prod(b) - 0.5 * jnp.sum(b) if whole else square(b)

    entry, f = FAMILIES["flip"], integrand(0.5)
    draw = coin_draw(entry, lambda t: Rebar(control, temperature=1.0, scale=1.5, whole=whole))
    flow = FLOWS["array"]
    check_exactly(flow.program(draw, f), flow.truth(entry.law, f), draws=4, rules=FEW)


@pytest.mark.parametrize("whole", [False, True])
def test_an_array_of_categories(whole: bool) -> None:
    def control(z: Any) -> Any:
        return jnp.sum(jnp.tanh(z)) + z[..., 0].sum() * z[..., 2].sum()

    law = oracles.categorical(lambda t: jnp.stack([t[0], t[1], 0.3 * t[0] * t[1]]), 3)
    f, flow = integrand(1.5), FLOWS["array"]
    draw = index_draw(one_hot, lambda t: Relax(control, whole=whole))
    check_statistically(flow.program(draw, f), flow.truth(law, f), second=False, runs=500)


def test_lanes_may_have_controls_of_their_own() -> None:
    def program(t: Any) -> Any:
        def lane(w: Any) -> Any:
            measure = ppl.flip(jax.nn.sigmoid(t[0] + w * t[1])).using(Relax(functools.partial(sigmoids, w)))
            return jnp.asarray(measure @ "b", float)

        return jnp.prod(0.3 + jax.vmap(lane)(jnp.array([1.0, -2.0])))

    def sigmoids(w: Any, z: Any) -> Any:
        return w * jax.nn.sigmoid(z)

    def truth(t: Any) -> Any:
        return jnp.prod(0.3 + jax.nn.sigmoid(t[0] + jnp.array([1.0, -2.0]) * t[1]))

    check_exactly(program, truth, draws=4, rules=FEW)


def test_chosen_from_outside() -> None:
    model = ppl.gen(lambda t: ppl.flip(jax.nn.sigmoid(t[0] - t[1])) @ "b")

    def program(t: Any) -> Any:
        relax = Relax(functools.partial(wave, 0.5))
        return 2.0 * model(t).using({"b": relax}).propose().retval + t[0]

    check_exactly(program, lambda t: 2.0 * jax.nn.sigmoid(t[0] - t[1]) + t[0], draws=2)


def test_a_parameter_of_the_control_has_gradient_zero_on_average() -> None:
    """It is no parameter of the expectation."""

    def program(t: Any) -> Any:
        relax = Relax(functools.partial(lambda w, z: jnp.tanh(w * z), t[1]))
        return jnp.asarray(ppl.flip(jax.nn.sigmoid(t[0])).using(relax) @ "b", float)

    check_exactly(program, lambda t: jax.nn.sigmoid(t[0]), draws=2)


EXTREMES = jnp.array([-1e5, -200.0, -40.0, 40.0, 200.0, 1e5])


def test_extreme_log_odds_are_finite() -> None:
    @ppl.expectation
    def coin(t: Any) -> Any:
        return 1.0 * (ppl.bernoulli(logits=t).using(Relax(lambda z: z + jnp.tanh(z))) @ "b")

    @ppl.expectation
    def category(t: Any) -> Any:
        logits = jnp.stack([t, jnp.zeros(()), -t])
        rebar = Rebar(lambda b: b[0] ** 2 + b[1], temperature=0.1)
        return (ppl.families.one_hot_categorical(logits=logits).using(rebar) @ "b")[1]

    for objective in (coin, category):
        check_finite(objective, EXTREMES)


def check_finite(objective: Any, at: Any) -> None:
    one = lambda x: objective.value_and_grad(jax.random.key(KEY), x, num_samples=1000)
    assert all(np.all(np.isfinite(found)) for found in jax.jit(jax.vmap(one))(at))


def test_extreme_probabilities_are_finite() -> None:
    @ppl.expectation
    def coin(p: Any) -> Any:
        return 1.0 * (ppl.flip(p).using(Relax(lambda z: z)) @ "b")

    @ppl.expectation
    def category(p: Any) -> Any:
        measure = ppl.categorical(jnp.stack([p, 1 - p, 0.0 * p])).using(
            Relax(lambda z: jnp.tanh(z[0]) + z[2])
        )
        return 1.0 * (measure @ "k")

    for objective in (coin, category):
        check_finite(objective, jnp.array([0.0, 1e-30, 1e-7, 1.0]))


def test_the_draws_are_those_of_the_score_function() -> None:
    """The law of the choice is exact: it is the family's own draw."""

    def program(estimator: Any) -> Any:
        return ppl.expectation(lambda p: 1.0 * (ppl.flip(p).using(estimator) @ "b"))

    keys = jax.random.split(jax.random.key(KEY), 100)
    objectives = [program(Relax(jnp.tanh)), program(Reinforce())]
    relaxed, scored = (jax.vmap(lambda k, o=o: o.estimate(k, 0.3))(keys) for o in objectives)
    np.testing.assert_array_equal(relaxed, scored)


JUMPS: dict[str, Callable[[Any], Any]] = {
    "comparison": lambda z: jnp.where(z > 0, 1.0, 0.0),
    "rounding": jnp.round,
    "of a traced parameter": functools.partial(lambda w, z: jnp.where(z > w, z, 2 * z), jnp.float32(0.3)),
}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("lanes", [False, True])
def test_a_control_that_jumps_is_refused(jump: str, lanes: bool) -> None:
    def draw(p: Any) -> Any:
        return 1.0 * (ppl.flip(p).using(Relax(JUMPS[jump])) @ "win")

    def program(p: Any) -> Any:
        return jnp.sum(jax.vmap(draw)(jnp.stack([p, p / 2]))) if lanes else draw(p)

    with pytest.raises(
        errors.DiscontinuousReparameterization, match=r"Relax of the choice 'win'.*test_relax\.py"
    ):
        ppl.expectation(program).grad(jax.random.key(KEY), 0.4)


def test_a_jump_in_the_relaxed_function_is_refused_and_can_be_vouched_for() -> None:
    def leaky(b: Any) -> Any:
        return jnp.where(b > 0.5, b, 0.5 * b + 0.25)

    def grad(relaxed: Any) -> Any:
        program = lambda p: 1.0 * (ppl.flip(p).using(Rebar(relaxed)) @ "win")
        return ppl.expectation(program).grad(jax.random.key(KEY), 0.4)

    with pytest.raises(errors.DiscontinuousReparameterization, match="Rebar"):
        grad(leaky)
    assert jnp.isfinite(grad(ppl.continuous(leaky)))


MISTAKES = {
    "no function": (lambda p: Relax(3.0), errors.PPLError, "expected a function"),  # pyright: ignore[reportArgumentType]
    "a closure over a parameter": (
        lambda p: Relax(lambda z: p * z),
        errors.PPLError,
        r"closure over 'p'.*partial",
    ),
    "not a scalar": (lambda p: Relax(lambda z: z * jnp.ones(2)), errors.UnsupportedProgram, r"shape \(2,\)"),
    "temperature zero": (
        lambda p: Rebar(square, temperature=0.0),
        errors.ParameterError,
        "positive, got 0.0",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        ppl.expectation(lambda p: 1.0 * (ppl.flip(p).using(make(p)) @ "b")).grad(jax.random.key(KEY), 0.4)


def test_families_without_a_relaxation_are_refused() -> None:
    with pytest.raises(errors.EstimatorNotAdmitted, match=r"Relax does not exist for poisson"):
        ppl.poisson(2.0).using(Relax(relu))


def test_compiled_methods_are_found_again() -> None:
    """Arrays in the control are traced; the function itself is part of the identity."""
    traced = []

    def program(p: Any, w: Any) -> Any:
        traced.append(None)
        return 1.0 * (ppl.flip(p).using(Relax(functools.partial(wave, w))) @ "b")

    objective = ppl.expectation(program)
    for w in (0.1, 0.2, 0.3):
        objective.grad(jax.random.key(KEY), 0.4, w)
    assert len(traced) == 1
    model = ppl.gen(lambda p: ppl.flip(p) @ "b")

    def outside(p: Any, relax: Any) -> Any:
        traced.append(None)
        return 1.0 * model(p).using({"b": relax}).propose().retval

    objective = ppl.expectation(outside)
    for w in (0.1, 0.2, 0.3):
        objective.grad(jax.random.key(KEY), 0.4, Relax(functools.partial(wave, w)))
    assert len(traced) == 2
