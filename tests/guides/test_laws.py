"""What every ready-made guide has to satisfy, over one registry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl

from .registry import GUIDES

KEY = jax.random.key(5)


@ppl.gen
def controls(mean=0.0):
    """Lanes, a loop, a simplex, and a support that depends on an earlier choice."""
    scale = ppl.gamma(2.0, 1.0) @ "scale"
    top = ppl.uniform(0.0, scale) @ "top"

    def chain(start):
        return jax.lax.scan(lambda x, _: (ppl.normal(x, 0.7) @ "x", None), start, None, length=2)[0]

    ends = jax.vmap(chain)(jnp.stack([mean + scale, top]))
    weights = ppl.dirichlet(jnp.full(3, 2.0)) @ "weights"
    jax.vmap(lambda end: ppl.normal(end + weights[0], 1.0) @ "y")(ends)


CONTROLS = controls().condition({"y": jnp.array([0.5, -1.0])})
SHAPES = {("scale",): (), ("top",): (), ("x",): (2, 2), ("weights",): (3,)}


@ppl.gen
def corner(y=0.3):
    scale = ppl.gamma(2.0, 1.0) @ "scale"
    top = ppl.uniform(0.0, scale) @ "top"
    ppl.normal(top, 1.0) @ "y"


CORNER = corner().condition({"y": 0.3})


@pytest.fixture(scope="module", params=GUIDES)
def of_controls(request):
    guide = GUIDES[request.param](CONTROLS)
    return guide, guide.initial(KEY)


@pytest.mark.parametrize("name", [name for name in GUIDES if name != "Transported"])
def test_parameters_of_another_guide_are_refused(name):
    """By place and shape, before they broadcast to something."""
    guide = GUIDES[name](CORNER)
    params = guide.initial(KEY)
    leaves, tree = jax.tree.flatten(params)
    wrong = jax.tree.unflatten(tree, [jnp.zeros((*leaves[0].shape, 3)), *leaves[1:]])
    for given in (wrong, {**params, "more": jnp.zeros(2)}, {}):
        with pytest.raises(ppl.UnsupportedProgram, match=r"the parameters of .* got .*test_laws.py.*initial"):
            guide(given)


def test_a_draw_is_scored_as_it_says_and_lies_in_the_support(of_controls):
    guide, params = of_controls

    @jax.jit
    def draws(keys):
        traces = jax.vmap(lambda key: guide(params).simulate(key))(keys)
        again = jax.vmap(lambda choices: guide(params).log_density(choices))(traces.choices)
        return traces, again, jax.vmap(CONTROLS.log_density)(traces.choices)

    traces, again, of_target = draws(jax.random.split(KEY, 50))
    assert {a: x.shape[1:] for a, x in traces.choices.leaves()} == SHAPES
    np.testing.assert_allclose(again, traces.log_density, rtol=2e-3, atol=2e-3)
    assert jnp.isfinite(of_target).all() and jnp.std(traces.log_density) > 0.1


@pytest.mark.parametrize("name", GUIDES)
def test_the_density_integrates_to_one(name):
    """By quadrature, with the change of variables by hand: two bounds, one of which is a choice."""
    guide = GUIDES[name](CORNER)
    params = guide.initial(KEY, scale=0.5)
    line = jnp.linspace(-14.0, 14.0, 561)

    def mass_at(u, v):
        scale, share = jnp.exp(u), jax.nn.sigmoid(v)
        volume = 2 * u + jnp.log(share) + jax.nn.log_sigmoid(-v)
        return jnp.exp(guide(params).log_density({"scale": scale, "top": scale * share}) + volume)

    mass = jax.jit(jax.vmap(jax.vmap(mass_at, (None, 0)), (0, None)))(line, line)
    assert mass.max() * (line[1] - line[0]) ** 2 < 0.05, "the grid is fine enough"
    np.testing.assert_allclose(mass.sum() * (line[1] - line[0]) ** 2, 1.0, atol=5e-3)


def made_of(**choices):
    """A program of these choices."""

    @ppl.gen
    def program():
        for address, measure in choices.items():
            measure() @ address

    return program()


REAL, HALF = lambda: ppl.normal(0.0, 1.0), lambda: ppl.half_normal(1.0)
OTHERS = {
    "more": (made_of(x=REAL, s=HALF, more=REAL), ppl.errors.MissingChoice, r"missing: 'more' \(normal"),
    "less": (made_of(x=REAL), ppl.errors.UnusedChoice, r"'s' is no choice of the program"),
    "narrow": (
        made_of(x=HALF, s=HALF),
        ppl.errors.SupportMismatch,
        r"'x'.*the whole real line; the target's",
    ),
    "wide": (made_of(x=REAL, s=REAL), ppl.errors.SupportMismatch, r"'s'.*Values that the guide never has"),
}


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_that_does_not_cover_the_target_is_an_error_before_the_first_step(name):
    guide = GUIDES[name](made_of(x=REAL, s=HALF))
    params = guide.initial(KEY)
    for target, error, pattern in OTHERS.values():
        objective = ppl.expectation(lambda p, target=target: ppl.elbo(target, guide(p)))
        with pytest.raises(error, match=pattern):
            objective.stage(params)
