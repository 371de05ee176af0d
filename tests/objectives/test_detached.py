"""A detached measure: the same numbers and draws, its own parameters fixed in the density alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.detached import held
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.testing.rules import normal_panels, tanh_sinh

from ..laws import oracles
from ..laws.laws import check_exactly
from ..laws.oracles import coins

KEY = jax.random.key(11)
sigmoid, stop = jax.nn.sigmoid, jax.lax.stop_gradient


@ppl.gen
def chain(mean: Any, log_sd: Any) -> Any:
    x = ppl.normal(mean, jnp.exp(log_sd)) @ "x"
    return ppl.normal(jnp.sin(x) * mean, 0.7) @ "y"


def chain_density(mean: Any, log_sd: Any, x: Any, y: Any) -> Any:
    logpdf = jax.scipy.stats.norm.logpdf
    return logpdf(x, mean, jnp.exp(log_sd)) + logpdf(y, jnp.sin(x) * mean, 0.7)


POINT = (0.4, -0.3, 0.8, -0.2)


def _same_but_for_parameters(density: Callable[..., Any]) -> None:
    np.testing.assert_allclose(density(*POINT), chain_density(*POINT), rtol=1e-6)
    slopes = jax.grad(density, argnums=(0, 1, 2, 3))(*POINT)
    _, _, *wanted = jax.grad(chain_density, argnums=(0, 1, 2, 3))(*POINT)
    assert slopes[0] == slopes[1] == 0
    np.testing.assert_allclose(slopes[2:], wanted, rtol=1e-6)


def test_the_density_moves_with_the_choices_alone() -> None:
    _same_but_for_parameters(lambda m, s, x, y: ppl.detached(chain(m, s)).log_density({"x": x, "y": y}))


def test_given_choices_are_choices() -> None:
    _same_but_for_parameters(
        lambda m, s, x, y: ppl.detached(chain(m, s)).condition({"y": y}).log_density({"x": x})
    )
    _same_but_for_parameters(
        lambda m, s, x, y: ppl.detached(chain(m, s).condition({"y": y})).log_density({"x": x})
    )


def _closing_over(mean: Any, log_sd: Any, how: str) -> Any:
    """The chain with its parameters closed over, in a place of the program where JAX may lose them."""

    def density(x: Any) -> Any:
        return ppl.normal(jnp.sin(x) * mean, 0.7)

    @ppl.gen
    def plain() -> Any:
        x = ppl.normal(mean, jnp.exp(log_sd)) @ "x"
        density(x) @ "y"

    @ppl.gen
    def jitted() -> Any:
        x = jax.jit(lambda: ppl.normal(mean, jnp.exp(log_sd)) @ "x")()
        jax.jit(lambda x: jax.jit(lambda x: density(x) @ "y")(x))(x)

    @ppl.gen
    def looped() -> Any:
        step = lambda carry, _: (ppl.normal(mean, jnp.exp(log_sd)) @ "x", None)
        x = jax.lax.scan(step, 0.0, None, 1)[0]
        jax.vmap(lambda x: density(x) @ "y")(x[None])

    @ppl.gen
    def branched() -> Any:
        x = jax.lax.cond(
            mean < 100.0, lambda: ppl.normal(mean, jnp.exp(log_sd)) @ "x", lambda: ppl.normal(0.0, 1.0) @ "x"
        )
        jax.checkpoint(lambda x: density(x) @ "y")(x)

    @ppl.gen
    def custom() -> Any:
        location = jax.custom_jvp(lambda x, mean: jnp.sin(x) * mean)
        location.defjvp(lambda primals, tangents: jax.jvp(lambda x, m: jnp.sin(x) * m, primals, tangents))
        x = ppl.normal(mean, jnp.exp(log_sd)) @ "x"
        ppl.normal(location(x, mean), 0.7) @ "y"

    @ppl.gen
    def inner(sd: Any) -> Any:
        return ppl.normal(mean, sd) @ "x"

    @ppl.gen
    def nested() -> Any:
        density(inner(jnp.exp(log_sd)) @ ()) @ "y"

    return locals()[how]()


@pytest.mark.parametrize("how", ["plain", "jitted", "looped", "branched", "custom", "nested"])
def test_what_a_program_closes_over_is_a_parameter(how: str) -> None:
    def density(m: Any, s: Any, x: Any, y: Any) -> Any:
        shaped = {"x": x, "y": y} if how != "looped" else {"x": x[None], "y": y[None]}
        return ppl.detached(_closing_over(m, s, how)).log_density(shaped)

    _same_but_for_parameters(jax.jit(density) if how == "looped" else density)
    _same_but_for_parameters(jax.jit(density))


def test_a_draw_is_that_of_the_measure() -> None:
    for measure in (chain(0.4, -0.3), chain(0.4, -0.3).using({"x": Reinforce()})):
        trace, wanted = ppl.detached(measure).simulate(KEY), measure.simulate(KEY)
        np.testing.assert_allclose(trace.choices["x"], wanted.choices["x"])
        np.testing.assert_allclose(trace.log_density, wanted.log_density)
        _, weight = ppl.detached(measure).generate(KEY, {"x": 0.3})
        np.testing.assert_allclose(weight, measure.generate(KEY, {"x": 0.3})[1])
    assert repr(ppl.detached(chain(0.4, -0.3))) == "detached(chain(...))"
    leaves, tree = jax.tree.flatten(ppl.detached(chain(0.4, -0.3)))
    assert len(leaves) == 2 and isinstance(jax.tree.unflatten(tree, leaves), ppl.Measure)


NORMAL = {"reparam": Reparam(), "reinforce": Reinforce(baseline=0.3), "measure_valued": MeasureValued()}


@pytest.mark.parametrize("kind", ["program", "distribution"])
@pytest.mark.parametrize("how", NORMAL.values(), ids=NORMAL)
def test_proposals_move_and_their_density_does_not(how: Any, kind: str) -> None:
    """Exactly the function of the parameters in which those of the density are constants."""

    @ppl.gen
    def one(t: Any) -> Any:
        ppl.normal(t[0], jnp.exp(0.3 * t[1])) @ "x"

    def program(t: Any) -> Any:
        if kind == "distribution":
            trace = ppl.detached(ppl.normal(t[0], jnp.exp(0.3 * t[1]))).using(how).propose()
            x = trace.choices
        else:
            trace = ppl.detached(one(t)).using({"x": how}).propose()
            x = trace.choices["x"]
        return trace.log_density * (1 + x)

    law = oracles.normal(lambda t: t[0], lambda t: jnp.exp(0.3 * t[1]), 0.0)

    def truth(t: Any) -> Any:
        fixed = stop(t)
        density = lambda x: jax.scipy.stats.norm.logpdf(x, fixed[0], jnp.exp(0.3 * fixed[1]))
        return law.mean(lambda x: density(x) * (1 + x), t)

    check_exactly(program, truth, draws=1, rules=COUPLED if isinstance(how, MeasureValued) else None)


# The coupled Maxwell variable of a measure-valued normal has the sign of the normal one.
COUPLED = {"normal": normal_panels([0], 12, (-3, 3)), "uniform": tanh_sinh(1 / 6)}
COIN = {"enumerate": Enumerate(), "reinforce": Reinforce(), "measure_valued": MeasureValued()}


@pytest.mark.parametrize("how", COIN.values(), ids=COIN)
def test_proposals_of_coins_in_lanes_that_close_over_the_parameters(how: Any) -> None:
    def program(t: Any) -> Any:
        @ppl.gen
        def two() -> Any:
            jax.vmap(lambda s: ppl.flip(sigmoid(t[0] + s * t[1])) @ "b")(jnp.array([1.0, -0.5]))

        trace = ppl.detached(two()).using({"b": how}).propose()
        return trace.log_density * (trace.choices["b"][0] + 2.0 * trace.choices["b"][1] + t[1])

    def truth(t: Any) -> Any:
        p = [sigmoid(t[0] + s * t[1]) for s in (1.0, -0.5)]
        log = lambda b: sum(jnp.log(stop(p[i] if b[i] else 1 - p[i])) for i in range(2))
        return coins(lambda i, _: p[i], lambda b: log(b) * (b[0] + 2.0 * b[1] + t[1]), 2)

    check_exactly(program, truth, draws=2)


# --- refusals -------------------------------------------------------------------------------------


@ppl.gen
def within(end: Any) -> Any:
    ppl.uniform(0.0, end) @ "x"


@ppl.gen
def stacked(end: Any) -> Any:
    top = ppl.uniform(0.0, end) @ "top"
    ppl.uniform(0.0, top) @ "x"


def test_a_parameter_that_moves_an_end_of_the_support_is_refused() -> None:
    for density in (
        lambda end: ppl.detached(within(end)).log_density({"x": 0.5}),
        lambda end: ppl.detached(within(end).condition({"x": 0.5})).log_density({}),
        lambda end: ppl.detached(ppl.uniform(0.0, end)).log_density(0.5),
        lambda end: jax.lax.scan(
            lambda s, _: (s + ppl.detached(within(end)).log_density({"x": 0.5}), None), 0.0, None, 2
        )[0],
    ):
        np.testing.assert_allclose(np.exp(density(2.0)) in (0.5, 0.25), True)
        for slope in (jax.grad(density), jax.jacfwd(density), jax.jit(jax.grad(density))):
            with pytest.raises(ppl.UnsupportedProgram, match=r"moves an end of the support of .*uniform"):
                slope(2.0)


def test_an_end_that_only_choices_move_is_not_refused() -> None:
    density = lambda top, x: ppl.detached(stacked(2.0)).log_density({"top": top, "x": x})
    np.testing.assert_allclose(jax.grad(density, argnums=(0, 1))(1.5, 0.5), (-1 / 1.5, 0.0), rtol=1e-6)
    with pytest.raises(ppl.UnsupportedProgram, match="'top'"):
        jax.grad(lambda end: ppl.detached(stacked(end)).log_density({"top": 1.5, "x": 0.5}))(2.0)


def test_it_is_no_part_of_another_program() -> None:
    @ppl.gen
    def outer(mean: Any) -> Any:
        ppl.detached(chain(mean, 0.0)) @ "inner"

    with pytest.raises(ppl.UnsupportedProgram, match="detach the whole"):
        outer(0.3).simulate(KEY)


def test_what_has_no_known_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match="applied to its arguments"):
        ppl.detached(chain)  # type: ignore[arg-type]

    class Own(ppl.Measure):
        __matmul__ = propose = log_density = simulate = generate = using = None  # type: ignore[assignment]

    with pytest.raises(ppl.UnsupportedProgram, match="Own"):
        held(Own())  # type: ignore[abstract]


def test_draws_of_a_held_measure_do_not_move_either() -> None:
    objective = ppl.expectation(
        lambda mean: held(chain(mean, -0.3)).using({"y": Reinforce()}).propose().retval
    )
    assert objective.grad(KEY, 0.4) == 0
    assert ppl.expectation(lambda mean: held(ppl.normal(mean, 1.0)).propose().retval).grad(KEY, 0.4) == 0
