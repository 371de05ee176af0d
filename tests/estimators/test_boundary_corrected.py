"""BoundaryCorrected: exact at jumps of the value itself, in every flow; all else that jumps is refused.

The estimator is integrated over its noise and compared with quadrature over the choice, to 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.special
import scipy.stats

import ppl
from ppl.errors import (
    DiscontinuousReparameterization,
    EstimatorNotAdmitted,
    ParameterError,
    UnsupportedProgram,
)
from ppl.estimators import BoundaryCorrected, Reinforce, Reparam
from ppl.noise import Noise
from ppl.testing.rules import normal_panels

from ..laws import oracles
from ..laws.cases import FAMILIES, THETA, drawer, integrand
from ..laws.flows import ASIDE, FLOWS
from ..laws.laws import check_exactly, close, truth_of
from .continuous import variance_ratio

JUMP = 0.5
HOW = BoundaryCorrected(at=(JUMP,))
KEY = jax.random.key(0)


def _normal_rule(*parameters: Any, jumps: Any = (JUMP,)) -> Any:
    """Panels that end where a normal draw at one of these parameters jumps."""
    with jax.enable_x64(True):
        laws = [FAMILIES["normal"].measure(np.asarray(t)).numpyro for t in parameters or (THETA,)]
        breaks = [float((c - law.loc) / law.scale) for law in laws for c in jumps]
    return {"normal": normal_panels(breaks, 16, (-4, 0, 4))}


def _other(t: Any, times: float = 1.0) -> Any:
    return np.asarray(t) + times * np.array([0.25, -0.1])


@pytest.mark.parametrize("flow", ["jit_twice", "checkpoint", "vmap_interacting", "vmap_independent", "array"])
def test_instances(flow: str) -> None:
    entry, made = FAMILIES["normal"], FLOWS[flow]
    f, draw = integrand(JUMP), drawer(entry, HOW)
    places = {"vmap_interacting": [THETA]}.get(flow, [THETA, _other(THETA)])
    check_exactly(
        made.program(draw, f),
        made.truth(entry.law, f),
        draws=made.choices,
        rules=_normal_rule(*places),
        surrogate=False,
    )


NORMAL, SMOOTH = FAMILIES["normal"], integrand(None)


def _choose(t: Any, address: str = "x", how: Any = HOW) -> Any:
    return FAMILIES["normal"].measure(t).using(how) @ address


def _above(x: Any, c: float = JUMP) -> Any:
    return jnp.where(x > c, 1.3, 0.0)


def test_a_branch() -> None:
    """The choice, and what its value is compared for, in one branch of a conditional."""

    def program(t: Any) -> Any:
        b = ppl.flip(jax.nn.sigmoid(t[1])).using(Reinforce()) @ "b"

        def taken() -> Any:
            x = _choose(t)
            return SMOOTH(x, t) + _above(x)

        return jax.lax.cond(b, taken, lambda: SMOOTH(ASIDE, t)) ** 2

    def truth(t: Any) -> Any:
        p, g = jax.nn.sigmoid(t[1]), lambda x: (SMOOTH(x, t) + _above(x)) ** 2
        return p * NORMAL.law.mean(g, t) + (1 - p) * SMOOTH(ASIDE, t) ** 2

    check_exactly(program, truth, draws=2, rules=_normal_rule(), surrogate=False)


def test_the_predicate_of_a_branch_and_choices_below() -> None:
    """A jump into a branch that makes another choice, whose law the value moves too."""

    def program(t: Any) -> Any:
        x = _choose(t)
        p = jax.lax.cond(x > JUMP, lambda: jax.nn.sigmoid(t[0] + x), lambda: jax.nn.sigmoid(t[1] * x))
        return jnp.where(ppl.flip(p).using(Reinforce()) @ "b", SMOOTH(x, t), x * t[0])

    def truth(t: Any) -> Any:
        def inner(x: Any) -> Any:
            p = jnp.where(x > JUMP, jax.nn.sigmoid(t[0] + x), jax.nn.sigmoid(t[1] * x))
            return p * SMOOTH(x, t) + (1 - p) * x * t[0]

        return NORMAL.law.mean(inner, t)

    check_exactly(program, truth, draws=2, rules=_normal_rule(), surrogate=False)


def test_a_value_upstream_moves_where_the_jump_is() -> None:
    """The second choice's parameters depend on the first, smoothly and by a jump."""

    def program(t: Any) -> Any:
        x = _choose(t, "x")
        y = ppl.normal(0.3 * jnp.tanh(x) + 0.2 * _above(x), 1.0).using(BoundaryCorrected(at=(0.0,))) @ "y"
        return SMOOTH(x, t) * jax.nn.sigmoid(y) + _above(y, 0.0) * x

    law = oracles.normal(lambda m: m, lambda m: 1.0, 0.0)

    def truth(t: Any) -> Any:
        def inner(x: Any) -> Any:
            mean = lambda f, m: law.mean(f, m)
            m = 0.3 * jnp.tanh(x) + 0.2 * _above(x)
            return SMOOTH(x, t) * mean(jax.nn.sigmoid, m) + x * mean(lambda y: _above(y, 0.0), m)

        return jnp.sum(NORMAL.law.weights(t) * jax.vmap(inner)(jnp.asarray(NORMAL.law.values)))

    # The place of the second jump depends on the first draw, so no rule ends there: 100,000 draws.
    right, objective = truth_of(truth), ppl.expectation(program)
    keys = jax.random.split(KEY, 100_000)
    found = jax.jit(jax.vmap(objective.value_and_grad, in_axes=(0, None)))(
        keys, jnp.asarray(THETA, jnp.float32)
    )
    close("value", np.asarray(found[0], float), right.value)
    close("gradient", np.asarray(found[1], float), right.gradient)


def test_a_chain_in_a_scan() -> None:
    """Each step compares its own draw; replaced ones carry on into the steps after them."""

    def program(t: Any) -> Any:
        def step(z: Any, _: Any) -> Any:
            x = _choose(t)
            return 0.5 * z + _above(x), SMOOTH(x, t) * (1 + z)

        last, ys = jax.lax.scan(step, jnp.asarray(0.25), None, 2)
        return last * jnp.sum(ys)

    def truth(t: Any) -> Any:
        p = NORMAL.law.weights(t)
        x = jnp.asarray(NORMAL.law.values)
        jump, smooth = _above(x), SMOOTH(x, t)
        z0 = 0.25
        first, second = smooth * (1 + z0), 0.5 * z0 + jump  # of the first draw
        total = first[:, None] + smooth[None, :] * (1 + second[:, None])
        return p @ ((0.5 * second[:, None] + jump[None, :]) * total) @ p

    check_exactly(program, truth, draws=2, rules=_normal_rule(), surrogate=False)


def test_several_constants_and_arrangements() -> None:
    """Entries of an array however they are arranged, each with jumps of its own."""
    how = BoundaryCorrected(at=(0.1, JUMP))

    def program(t: Any) -> Any:
        xs = ppl.normal(jnp.stack([t[0], t[1]]), 1.0).using(how) @ "x"
        first, second = jnp.flip(xs)[1], xs.reshape(2, 1)[1, 0]
        most = jnp.max(xs)  # one of them
        return _above(first, 0.1) * (1 + second) + _above(second) * first**2 + _above(most, 0.1) * t[1]

    def truth(t: Any) -> Any:
        law = oracles.continuous(
            lambda x, m: jax.scipy.stats.norm.pdf(x, m), [-9, -4, -1, 0.1, JUMP, 2, 5, 9]
        )
        x, p, q = jnp.asarray(law.values), law.weights(t[0]), law.weights(t[1])
        a, b = x[:, None], x[None, :]
        whole = _above(a, 0.1) * (1 + b) + _above(b) * a**2 + _above(jnp.maximum(a, b), 0.1) * t[1]
        return p @ whole @ q

    with jax.enable_x64(True):
        rules = {"normal": normal_panels([c - m for c in (0.1, JUMP) for m in THETA], 12, (-4, 0, 4))}
    check_exactly(program, truth, draws=2, rules=rules, surrogate=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("at", [0.0, 0.3, -2.0, 1e-39])
def test_the_phantoms_lie_on_both_sides_in_compiled_code(at: float, dtype: str) -> None:
    """One draw gives the density at the constant."""

    @ppl.expectation
    def program(mean: Any) -> Any:
        x = ppl.normal(mean.astype(dtype), jnp.ones((), dtype)).using(BoundaryCorrected(at=(at,))) @ "x"
        return jnp.where(x.astype(jnp.float32) >= at, 2.0, 0.0)

    mean = jnp.float32(0.25)
    slope = program.grad(KEY, mean)
    density = 2 * scipy.stats.norm.pdf(float(jnp.asarray(at, dtype)), 0.25)
    np.testing.assert_allclose(slope, density, rtol=1e-5 if dtype == "float32" else 1e-2)


def test_the_phantoms_of_zero_are_normal_floats() -> None:
    """Some devices take subnormal numbers for zero, and would find both on one side of it."""
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        law = npd.Normal(jnp.zeros((), dtype), jnp.ones((), dtype))
        made = BoundaryCorrected(at=(0.0,)).contribute(law, Noise(KEY), 1)
        assert made.phantoms.dtype == dtype and jnp.all(jnp.abs(made.phantoms) >= jnp.finfo(dtype).tiny)
        assert made.phantoms[0] > 0 > made.phantoms[1]


def test_a_constant_outside_the_support_does_no_harm() -> None:
    @ppl.expectation
    def program(rate: Any) -> Any:
        x = ppl.exponential(rate).using(BoundaryCorrected(at=(-1.0, 0.0, 0.4))) @ "x"
        return (
            jnp.where(x > -1.0, jnp.log(x), 0.0) * 0.0
            + jnp.where(x > 0.4, 1.0, 0.0)
            + jnp.where(x > 0, 1.0, 0.0)
        )

    slope = program.grad(KEY, 1.5)
    np.testing.assert_allclose(slope, -0.4 * np.exp(-0.6), rtol=1e-5)


OTHERS: dict[str, Callable[[Any], Any]] = {
    "beta": lambda t: ppl.beta(jnp.exp(t), 2.0),
    "student_t": lambda t: ppl.families.student_t(jnp.exp(t) + 2.0, t, 1.3),
    "von_mises": lambda t: ppl.families.von_mises(t, jnp.exp(t)),
    "laplace": lambda t: ppl.families.laplace(t, 1.0),
    "truncated_normal": lambda t: ppl.families.truncated_normal(t, 1.0, low=-1.0, high=1.0),
    "uniform": lambda t: ppl.uniform(0.0, jnp.exp(t)),
    "inverse_gamma": lambda t: ppl.families.inverse_gamma(jnp.exp(t), 0.4),
    "mixture": lambda t: ppl.mixture(ppl.normal(jnp.stack([t, -1.0]), 0.7), logits=jnp.stack([t, 0.3])),
}


@pytest.mark.parametrize("family", OTHERS)
def test_a_step_function_from_one_draw(family: str) -> None:
    """The derivative of P(x > c) is exact, whatever is drawn; the truth is a quadrature of the density."""
    c = 0.45
    how, density = BoundaryCorrected(at=(c,)), lambda t, x: OTHERS[family](t).log_density(x)

    @ppl.expectation
    def program(t: Any) -> Any:
        return jnp.where(OTHERS[family](t).using(how) @ "x" > c, 1.0, 0.0)

    nodes, weights = np.polynomial.legendre.leggauss(1200)
    with jax.enable_x64(True):
        high = {"beta": 1.0, "von_mises": np.pi, "truncated_normal": 1.0, "uniform": np.exp(0.3)}.get(family)
        # A half line as (c, 1/c') by x = c + s / (1 - s).
        s = 0.5 * (1 + nodes)
        x, jacobian = (c + s / (1 - s), 1 / (1 - s) ** 2) if high is None else (c + (high - c) * s, high - c)
        if family == "uniform":
            truth = c * np.exp(-0.3)
        else:
            measure = jax.jit(jax.vmap(density, in_axes=(None, 0)))
            mass = lambda t: float(np.sum(0.5 * weights * jacobian * np.exp(measure(t, jnp.asarray(x)))))
            h = 1e-3
            truth = (8 * (mass(0.3 + h) - mass(0.3 - h)) - (mass(0.3 + 2 * h) - mass(0.3 - 2 * h))) / (12 * h)
        slope = program.grad(KEY, 0.3)
    np.testing.assert_allclose(slope, truth, rtol=1e-6)


REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "another constant": lambda x, t: jnp.where(x > 0.6, 1.0, 0.0),
    "a parameter": lambda x, t: jnp.where(x > t, 1.0, 0.0),
    "a shifted value": lambda x, t: jnp.where(x + 0.1 > JUMP, 1.0, 0.0),
    "a scaled value": lambda x, t: jnp.where(2.0 * x > JUMP, 1.0, 0.0),
    "a negated value": lambda x, t: jnp.where(-x > JUMP, 1.0, 0.0),
    "the sum of two": lambda x, t: jnp.where(x + (ppl.normal(t, 1.0).using(HOW) @ "y") > JUMP, 1.0, 0.0),
    "another choice": lambda x, t: jnp.where(x > (ppl.normal(t, 1.0).using(HOW) @ "y"), 1.0, 0.0),
    "floor": lambda x, t: jnp.floor(x),
    "sign": lambda x, t: jnp.sign(x),
    "a cast to an integer": lambda x, t: x.astype(int) * 1.0,
    "a cast to a boolean": lambda x, t: x.astype(bool) * 1.0,
    "a narrower float": lambda x, t: jnp.where(x.astype(jnp.bfloat16) > JUMP, 1.0, 0.0),
    "a rounded value": lambda x, t: jnp.where(jax.lax.reduce_precision(x, 5, 4) > JUMP, 1.0, 0.0),
    "a selected value": lambda x, t: jnp.where(jnp.where(t > 0, x, 2.0 * x) > JUMP, 1.0, 0.0),
    "a carried value": lambda x, t: jax.lax.scan(
        lambda c, _: (0.5 * c, jnp.where(c > JUMP, 1.0, 0.0)), x, None, 2)[1].sum(),
    "a later value of a carry": lambda x, t: jnp.where(
        jax.lax.fori_loop(0, 2, lambda i, c: 0.5 * c, x) > JUMP, 1.0, 0.0),
    "clipped": lambda x, t: jnp.where(jnp.clip(x, -1.0, 1.0) > JUMP, 1.0, 0.0),
    "an average": lambda x, t: jnp.where(
        jnp.mean(ppl.normal(t * jnp.ones(2), 1.0).using(HOW) @ "y") > JUMP, 1.0, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_value_against_a_declared_constant_is_refused(what: str) -> None:
    program = ppl.expectation(lambda t: REFUSED[what](ppl.normal(t, 1.0).using(HOW) @ "x", t) * 1.0)
    with pytest.raises(DiscontinuousReparameterization):
        program.grad(KEY, 0.4)


PASSES: dict[str, Callable[[Any], Any]] = {
    "greater": lambda x: jnp.where(x > JUMP, 1.0, 0.0),
    "on the other side": lambda x: jnp.where(x <= JUMP, 1.0, 0.0),
    "an indicator": lambda x: (x < JUMP).astype(float),
    "equal": lambda x: jnp.where(x == JUMP, 1.0, x),
    "heaviside of a wider float": lambda x: jnp.where(jnp.asarray(x, jnp.float32) > JUMP, 1.0, 0.0),
    "stopped": lambda x: jnp.where(jax.lax.stop_gradient(x) > JUMP, x, 0.0),
    "branch": lambda x: jax.lax.cond(x > JUMP, lambda: 1.0, lambda: x),
    "jit": jax.jit(lambda x: jnp.where(x > JUMP, 1.0, 0.0)),
    "a constant of an inner loop": lambda x: jax.lax.scan(
        lambda c, _: (c + jnp.where(x > JUMP, 1.0, 0.0), None), 0.0, None, 2)[0],
    "vmap over what it adds": lambda x: jnp.sum(
        jax.vmap(lambda s: s * jnp.where(x > JUMP, 1.0, 0.0))(jnp.arange(3.0))),
    "rows of a scan": lambda x: jnp.sum(jax.lax.scan(
        lambda c, row: (c, jnp.where(row > JUMP, 1.0, 0.0)), 0.0, jnp.broadcast_to(x, 3))[1]),
}  # fmt: skip


@pytest.mark.parametrize("what", PASSES)
def test_the_value_against_a_declared_constant_passes(what: str) -> None:
    program = lambda how: ppl.expectation(lambda t: PASSES[what](ppl.normal(t, 1.0).using(how) @ "x") * 1.0)
    assert jnp.isfinite(program(HOW).grad(KEY, 0.4))
    with pytest.raises(DiscontinuousReparameterization):
        program(Reparam()).grad(KEY, 0.4)


def test_the_message_names_the_constant_where_declaring_it_would_help() -> None:
    def message(program: Any) -> str:
        with pytest.raises(DiscontinuousReparameterization) as caught:
            ppl.expectation(program).grad(KEY, 0.4)
        return str(caught.value)

    draw = lambda t, how: ppl.normal(t, 1.0).using(how) @ "x"
    assert "BoundaryCorrected(at=(0.25,))" in message(
        lambda t: jnp.where(draw(t, Reparam()) > 0.25, 1.0, 0.0)
    )
    assert "BoundaryCorrected(at=(0.25,))" in message(lambda t: jnp.where(draw(t, HOW) > 0.25, 1.0, 0.0))
    assert "BoundaryCorrected" not in message(lambda t: jnp.where(draw(t, Reparam()) + t > 0.25, 1.0, 0.0))
    assert "BoundaryCorrected" not in message(lambda t: jnp.floor(draw(t, Reparam())))


def test_second_derivatives_and_foreign_families_are_refused() -> None:
    program = ppl.expectation(lambda t: jnp.where(ppl.normal(t, 1.0).using(HOW) @ "x" > JUMP, 1.0, 0.0))
    with pytest.raises(UnsupportedProgram, match=r"BoundaryCorrected.*Normal.*first derivative.*Reinforce"):
        program.surrogate(KEY, 0.4)
    for measure in (
        ppl.poisson(2.0),
        ppl.dirichlet(jnp.ones(3)),
        ppl.dist(npd.Normal(jnp.zeros(2)).to_event(1)),
    ):
        with pytest.raises(EstimatorNotAdmitted, match="BoundaryCorrected"):
            measure.using(HOW)


@pytest.mark.parametrize("at", [(), 0.5, [0.5], (jnp.inf,), ("a",), (jnp.zeros(()),)])
def test_constants_are_checked(at: Any) -> None:
    with pytest.raises(ParameterError, match="at must be a tuple of finite Python numbers"):
        BoundaryCorrected(at=at)


def test_variance_is_less_than_that_of_the_score_function() -> None:
    """A kinked, jumping reward of a wide normal choice."""

    def reward(estimator: Any) -> Any:
        def program(t: Any) -> Any:
            x = ppl.normal(t[0], jnp.exp(t[1])).using(estimator) @ "x"
            return jnp.abs(x) + jnp.where(x > 0.0, 1.0, 0.0)

        return program

    how = BoundaryCorrected(at=(0.0,))
    ratio, low, high = variance_ratio(reward, how, Reinforce(), jnp.array([0.3, -0.2]))
    print(f"{ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert high < 1
