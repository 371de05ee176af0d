"""What the objectives cannot do they refuse, by name, wherever it lies and however it is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam

from .problems import COINS, MIXED, NORMAL

KEY = jax.random.key(5)
POINT = jnp.array([0.3, -0.2])

TWICE = {
    "forward-forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "hessian": jax.hessian,
    "reverse-forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "reverse-reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "jit": lambda f: jax.jit(jax.jacfwd(jax.jit(jax.jacrev(f)))),
}
WHERE: dict[str, Callable[[Any], Any]] = {
    "straight": lambda bound: bound,
    "jit": lambda bound: jax.jit(lambda t: jax.jit(bound)(t)),
    "vmap": lambda bound: lambda t: jnp.sum(jax.vmap(lambda s: bound(t * s))(jnp.array([1.0, 0.5]))),
    "scan": lambda bound: lambda t: jax.lax.scan(lambda s, _: (s + bound(t), None), 0.0, None, 2)[0],
    "cond": lambda bound: lambda t: jax.lax.cond(t[0] > -9.0, bound, lambda t: t[0], t),
    "checkpoint": lambda bound: lambda t: jax.checkpoint(bound)(t),
    "expect": lambda bound: lambda t: ppl.expect(bound)(t) + t[0],
}
ONCE = {
    "sticking_the_landing": lambda t: ppl.sticking_the_landing(NORMAL.target(t), NORMAL.guide(t)),
    "dreg": lambda t: ppl.dreg(2)(NORMAL.target(t), NORMAL.guide(t)),
    "vargrad": lambda t: ppl.vargrad(2)(NORMAL.target(t), NORMAL.guide(t)),
}


def _refused(bound: Any, name: str, twice: Any, key: Any = KEY) -> None:
    objective = ppl.expectation(bound)
    assert np.all(np.isfinite(objective.grad(key, POINT)))
    assert np.all(np.isfinite(jax.grad(lambda t: objective.surrogate(key, t))(POINT)))
    with pytest.raises(ppl.UnsupportedProgram, match=f"{name} is right for a first derivative only"):
        twice(lambda t: objective.surrogate(key, t))(POINT)


@pytest.mark.parametrize("name", ONCE)
def test_a_second_derivative(name: str) -> None:
    _refused(ONCE[name], name, jax.hessian)


@pytest.mark.parametrize("where", WHERE)
def test_a_second_derivative_in_every_control_flow(where: str) -> None:
    _refused(WHERE[where](ONCE["sticking_the_landing"]), "sticking_the_landing", jax.hessian)


@pytest.mark.parametrize("twice", TWICE)
def test_a_second_derivative_in_every_mode(twice: str) -> None:
    _refused(WHERE["scan"](ONCE["sticking_the_landing"]), "sticking_the_landing", TWICE[twice])


@pytest.mark.parametrize("name", ["dreg", "vargrad"])
def test_a_mixed_derivative_in_the_guide_and_then_in_the_model(name: str) -> None:
    """The weights of the guide's gradient depend on the model, and are held fixed."""
    objective = ppl.expectation(lambda q, p: OF[name](ppl.normal(p, 2.0), ppl.normal(q, 1.0)))
    slope = jax.grad(lambda q, p: objective.surrogate(KEY, q, p), argnums=0)
    with pytest.raises(ppl.UnsupportedProgram, match="first derivative only"):
        jax.grad(slope, argnums=1)(0.3, 0.5)


@pytest.mark.parametrize("how", [Reinforce(), MeasureValued(), Enumerate()], ids=["score", "weak", "sum"])
def test_a_second_derivative_that_comes_of_estimators_alone(how: Any) -> None:
    """The bound itself does not move here: neither the detached density nor the target does."""

    def bound(t: Any) -> Any:
        return ppl.sticking_the_landing(ppl.flip(0.3), ppl.flip(jax.nn.sigmoid(t[0])).using(how))

    _refused(bound, "sticking_the_landing", jax.hessian)
    with pytest.raises(ppl.UnsupportedProgram, match="first derivative only"):
        jax.hessian(ppl.expectation(bound).exact)(POINT)


# --- dreg -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Reinforce(), MeasureValued(), Enumerate()], ids=["score", "weak", "sum"])
def test_dreg_of_a_choice_that_moves_and_is_not_pathwise(how: Any) -> None:
    objective = ppl.expectation(lambda t: ppl.dreg(2)(MIXED.target(t), MIXED.guide(t).using({"b": how})))
    assert np.isfinite(objective.estimate(KEY, POINT))
    with pytest.raises(ppl.UnsupportedProgram, match=r"its choice 'b' .*is not reparameterized"):
        objective.grad(KEY, POINT)
    with pytest.raises(ppl.UnsupportedProgram, match="its choice 'b'"):
        jax.grad(lambda t: objective.surrogate(KEY, t))(POINT)
    with pytest.raises(ppl.UnsupportedProgram, match="its choice 'b'"):
        objective.jvp(KEY, (POINT,), (POINT,))


def test_dreg_of_a_scored_choice_that_only_an_earlier_draw_moves() -> None:
    @ppl.gen
    def guide(t: Any) -> Any:
        x = ppl.normal(t[0], 1.0) @ "x"
        ppl.normal(x, 1.0).using(Reinforce()) @ "z"

    target = ppl.gen(lambda: (ppl.normal(0.0, 1.0) @ "x", ppl.normal(0.0, 1.0) @ "z"))
    with pytest.raises(ppl.UnsupportedProgram, match="its choice 'z'"):
        ppl.expectation(lambda t: ppl.dreg(2)(target(), guide(t))).grad(KEY, POINT)


def test_dreg_of_a_discrete_guide_is_not_differentiated_exactly_either() -> None:
    objective = ppl.expectation(lambda t: ppl.dreg(2)(COINS.target(t), COINS.guide(t)))
    assert np.isfinite(objective.exact(POINT))
    with pytest.raises(ppl.UnsupportedProgram, match=r"its choice 'a' .* or 'b'"):
        jax.grad(objective.exact)(POINT)
    with pytest.raises(ppl.UnsupportedProgram, match="its choice flip"):
        ppl.expectation(lambda t: ppl.dreg(2)(ppl.flip(0.3), ppl.flip(t[0]))).grad(KEY, POINT)


def test_dreg_asks_which_estimator_using_chooses() -> None:
    scored = ppl.gen(lambda t: ppl.normal(t[0], 1.0).using(Reinforce()) @ "x")
    target = ppl.gen(lambda: ppl.normal(0.0, 1.0) @ "x")
    objective = ppl.expectation(lambda t: ppl.dreg(2)(target(), scored(t).using({"x": Reparam()})))
    assert np.all(np.isfinite(objective.grad(KEY, POINT)))
    with pytest.raises(ppl.UnsupportedProgram, match="its choice 'x'"):
        ppl.expectation(lambda t: ppl.dreg(2)(target(), scored(t))).grad(KEY, POINT)


# --- all of them ----------------------------------------------------------------------------------

ALL = ONCE | {"vimco": lambda t: ppl.vimco(2)(NORMAL.target(t), NORMAL.guide(t))}
OF = {
    "sticking_the_landing": ppl.sticking_the_landing,
    "dreg": ppl.dreg(2),
    "vargrad": ppl.vargrad(2),
    "vimco": ppl.vimco(2),
}


@pytest.mark.parametrize("name", OF)
def test_a_guide_whose_support_moves(name: str) -> None:
    """Its expected score is not zero: that of a uniform on (0, end) is -1 / end."""
    target = ppl.gen(lambda: ppl.uniform(-1.0, 4.0) @ "x")
    guide = ppl.gen(lambda end: ppl.uniform(-0.5, end) @ "x")
    objective = ppl.expectation(lambda end: OF[name](target(), guide(end)))
    assert np.isfinite(objective.estimate(KEY, 1.5))
    # Where weights are exponentiated, the target's own edge is named first.
    with pytest.raises(ppl.PPLError, match=r"end of .* support|at the edge of a support"):
        objective.grad(KEY, 1.5)
    with pytest.raises(ppl.PPLError, match=r"end of .* support|at the edge of a support"):
        objective.jvp(KEY, (1.5,), (1.0,))
    still = ppl.expectation(lambda mean: OF[name](ppl.beta(mean, 2.0), ppl.uniform(0.2, 0.8)))
    assert np.isfinite(still.grad(KEY, 1.5))


@pytest.mark.parametrize("name", OF)
def test_a_guide_that_is_detached_already(name: str) -> None:
    objective = ppl.expectation(lambda t: OF[name](NORMAL.target(t), ppl.detached(NORMAL.guide(t))))
    with pytest.raises(ppl.UnsupportedProgram, match=rf"{name} was given detached.*Pass the guide itself"):
        objective.grad(KEY, POINT)


@pytest.mark.parametrize(
    ("make", "least"), [(ppl.dreg, 1), (ppl.vargrad, 2), (ppl.vimco, 2), (ppl.iwelbo, 1)]
)
def test_too_few_particles(make: Any, least: int) -> None:
    make(least)
    with pytest.raises(ValueError, match=rf"{make.__name__} needs at least .*, got {least - 1}"):
        make(least - 1)


@pytest.mark.parametrize("name", ALL)
def test_the_value_is_that_of_the_plain_bound(name: str) -> None:
    plain = {"sticking_the_landing": ppl.elbo, "dreg": ppl.iwelbo(2), "vimco": ppl.iwelbo(2)}
    found = ppl.expectation(ALL[name]).estimate(KEY, POINT, num_samples=3)
    if name in plain:
        wanted = ppl.expectation(lambda t: plain[name](NORMAL.target(t), NORMAL.guide(t)))
    else:
        elbo = lambda t: lambda _: ppl.elbo(NORMAL.target(t), NORMAL.guide(t))
        wanted = ppl.expectation(lambda t: jnp.mean(jax.vmap(elbo(t))(jnp.arange(2))))
    np.testing.assert_allclose(found, wanted.estimate(KEY, POINT, num_samples=3), rtol=1e-6)
    gradient = ppl.expectation(ALL[name]).value_and_grad(KEY, POINT)[1]
    assert np.all(np.isfinite(gradient))


def test_an_impossible_particle_has_no_say_in_vimco() -> None:
    """A particle of weight zero: the bound and its derivative stay finite, and so do the baselines."""

    def bound(t: Any) -> Any:
        guide = ppl.flip(jax.nn.sigmoid(t[0])).using(Reinforce())
        return ppl.vimco(3)(ppl.flip(0.0), guide)

    for seed in range(4):
        value, gradient = ppl.expectation(bound).value_and_grad(jax.random.key(seed), jnp.array([-1.0, 0.0]))
        assert np.isfinite(value) and np.all(np.isfinite(gradient))
