"""The parts of a gradient add up to it, in every run; each is what paper and pencil say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.report.parts import gradient_parts
from ppl.transforms.occurrences import choice_equations

KEY = jax.random.key(3)
T = jnp.array([0.3, -0.2])


def coin(p, how, address):
    return jnp.asarray(ppl.flip(p).using(how) @ address, float)


def mixed(t):
    """Every kind of estimator, each choice depending on the ones before."""
    x = ppl.normal(t[0], 1.0) @ "x"
    y = ppl.gamma(jnp.exp(x), 1.0).using(Reinforce(baseline=1.0)) @ "y"
    k = coin(jax.nn.sigmoid(x * t[1]), Enumerate(), "k")
    w = coin(jax.nn.sigmoid(x + t[0]), MeasureValued(), "w")
    z = ppl.normal(x * t[1], jnp.exp(t[0])) @ "z"
    return t[1] * x * z + y * k + w * z**2


def looped(t):
    def step(z, s):
        x = ppl.normal(0.5 * z + t[0], 1.0) @ "x"
        k = coin(jax.nn.sigmoid(x + s * t[1]), MeasureValued(), "k")
        return x + k, x * k

    return jnp.sum(jax.lax.scan(step, jnp.asarray(0.3), jnp.arange(3.0))[1])


def branched(t):
    x = ppl.normal(t[0], 1.0) @ "x"
    y = ppl.normal(x, 1.0).using(Reinforce()) @ "y"
    k = jax.lax.cond(
        y > 0.3,
        lambda: jnp.log(1 + y**2) * coin(jax.nn.sigmoid(t[1] * x), Reinforce(), "k"),
        lambda: y * coin(jax.nn.sigmoid(t[0]), Reinforce(), "k"),
    )
    return x * t[1] + k


def lanes(t):
    x = jax.vmap(lambda s: ppl.normal(s * t[0], 1.0).using(Reinforce(baseline="loo")) @ "x")(jnp.arange(3.0))
    k = jax.vmap(lambda x: coin(jax.nn.sigmoid(x * t[1]), Enumerate(), "k"))(x)
    return jnp.sum(x * k) + x[0] * t[0]


def inner(t):
    x = ppl.normal(t[0], 1.0) @ "x"

    def inside(at):
        y = ppl.normal(at, 1.0) @ "y"
        return y * (1 + coin(jax.nn.sigmoid(y * at), Reinforce(), "k"))

    return x * ppl.expect(inside)(x + t[1]) + jnp.sum(
        jax.vmap(lambda s: ppl.expect(inside)(s * t[0]))(jnp.arange(2.0))
    )


def split(program, samples=2, at=T):
    objective = ppl.expectation(program)
    equations = choice_equations(objective.stage(at).jaxpr)
    addresses = list(dict.fromkeys(equation.params["site"].address for equation in equations))
    run = jax.jit(lambda key, t: gradient_parts(objective, key, (t,), 0, samples, addresses))
    through, direct = run(KEY, at)
    return dict(zip(["/".join(a) for a in addresses], through, strict=True)), direct


@pytest.mark.parametrize("program", [mixed, looped, branched, lanes, inner], ids=lambda p: p.__name__)
def test_the_parts_add_up_to_the_gradient(program, x64):
    parts, direct = split(program, at=jnp.asarray(T, float))
    gradient = ppl.expectation(program).grad(KEY, jnp.asarray(T, float), num_samples=2)
    np.testing.assert_allclose(sum(parts.values()) + direct, gradient, rtol=1e-10)
    assert all(np.any(part) for part in parts.values()), "each estimator has a part"


def test_the_last_choice_on_a_path_owns_it(x64):
    """Of `y (x + t)` with `x = t + e` and `y` scored at `N(x, 1)`: score times return is `y`'s alone."""

    def program(t):
        x = ppl.normal(t, 1.0) @ "x"
        y = ppl.normal(x, 1.0).using(Reinforce()) @ "y"
        return y * (x + t)

    objective, t = ppl.expectation(program), jnp.asarray(0.4)
    parts, direct = split(program, samples=1, at=t)
    x, y = (ppl.expectation(lambda t, name=name: draws(t)[name]).estimate(KEY, t) for name in ("x", "y"))
    np.testing.assert_allclose(parts["x"], y, rtol=1e-10)
    np.testing.assert_allclose(direct, y, rtol=1e-10)
    np.testing.assert_allclose(parts["y"], y * (x + t) * (y - x), rtol=1e-10)
    np.testing.assert_allclose(objective.grad(KEY, t), 2 * y + parts["y"], rtol=1e-10)


def draws(t):
    x = ppl.normal(t, 1.0) @ "x"
    return {"x": x, "y": ppl.normal(x, 1.0) @ "y"}


def test_a_reparameterized_chain_belongs_to_its_end(x64):
    def program(t):
        x = ppl.normal(t, 1.0).using(Reparam()) @ "x"
        y = ppl.normal(2.0 * x, 1.0).using(Reparam()) @ "y"
        return 5.0 * y + 0.5 * x

    parts, direct = split(program, samples=1, at=jnp.asarray(0.4))
    assert (float(parts["x"]), float(parts["y"]), float(direct)) == pytest.approx((0.5, 10.0, 0.0))


def test_without_a_choice_all_is_direct():
    parts, direct = split(lambda t: jnp.sum(t**2))
    assert parts == {}
    np.testing.assert_allclose(direct, 2 * T, rtol=1e-6)


def test_arguments_keep_their_structure():
    @ppl.expectation
    def objective(data, params, scale):
        x = ppl.normal(params["m"], 1.0) @ "x"
        return jnp.sum(data) * x * scale + params["n"]

    params = {"m": 0.5, "n": jnp.ones(2)[0], "name": "static"}
    args = (jnp.ones(3), params, 2.0)
    through, direct = gradient_parts(objective, KEY, args, (2, 1), 1, [("x",)])
    assert through[1]["m"].shape == (1,)
    assert through[1]["name"] is None
    np.testing.assert_allclose(through[1]["m"], [6.0])
    np.testing.assert_allclose(direct[1]["n"], 1.0)
    np.testing.assert_allclose(direct[0] + through[0][0], objective.grad(KEY, *args, argnums=2))
