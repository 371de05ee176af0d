"""Mean-field guides: in every control flow, against densities by hand, and at known posteriors."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import optax
import pytest
from jax.scipy.stats import norm

import ppl
from ppl.guides import MeanField
from ppl.testing.integrate import integrate

KEY = jax.random.key(3)


@ppl.gen
def everything():
    mean = ppl.normal(0.0, 2.0) @ "mean"
    scale = ppl.gamma(2.0, 1.0) @ "scale"
    weights = ppl.dirichlet(jnp.ones(3)) @ "weights"
    ppl.categorical(probs=weights) @ "kind"
    heads = ppl.flip(0.3) @ "heads"
    top = ppl.uniform(0.0, scale) @ "top"

    def chain(start):
        def step(x, _):
            x = ppl.normal(x, scale) @ "x"
            return x, None

        return jax.lax.scan(step, start, None, length=3)[0]

    ends = jax.vmap(chain)(jnp.stack([mean, top]))
    extra = jax.lax.cond(heads, lambda: ppl.normal(0.0, 1.0) @ "extra", lambda: 0.0)
    jax.vmap(lambda end: ppl.normal(end + extra, 1.0) @ "y")(ends)


TARGET = everything().condition({"y": jnp.array([0.5, -1.0])})


def guide_and_start():
    guide = MeanField(TARGET)
    return guide, guide.initial(KEY)


def test_it_makes_the_choices_of_the_target():
    guide, params = guide_and_start()
    mine = guide(params).simulate(KEY).choices
    shapes = lambda choices: {address: (x.shape, x.dtype) for address, x in choices.leaves()}
    assert shapes(mine) == shapes(everything().simulate(KEY).choices.without("y"))
    assert params["x"]["loc"].shape == (2, 3) and params["weights"]["loc"].shape == (2,)
    assert jnp.isfinite(TARGET.log_density(mine))
    assert 0 < mine["top"] < mine["scale"]
    objective = ppl.expectation(lambda p: ppl.elbo(TARGET, guide(p)))
    value, slope = objective.value_and_grad(KEY, params, num_samples=3)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((value, slope)))


def test_each_lane_and_step_has_its_own_parameters():
    """Of a chain in lanes, in the order of a trace: the density against independent normals."""
    guide, params = guide_and_start()
    loc = jnp.arange(6.0).reshape(2, 3)
    moved = params | {"x": {"loc": loc, "log_scale": jnp.log(0.1 + loc)}}
    x = loc + 0.3
    choices = guide(moved).simulate(KEY).choices
    score = guide(moved).log_density(choices.without("x") | {"x": x})
    other = guide(moved).log_density(choices.without("x") | {"x": loc})
    truth = norm.logpdf(x, loc, 0.1 + loc) - norm.logpdf(loc, loc, 0.1 + loc)
    np.testing.assert_allclose(score - other, truth.sum(), rtol=1e-4)


def test_constrained_choices_have_the_density_of_transformed_normals():
    guide, params = guide_and_start()
    choices = guide(params).simulate(KEY).choices

    def changed(name, value):
        return guide(params).log_density(choices.without(name) | {name: value})

    loc, scale = params["scale"]["loc"], jnp.exp(params["scale"]["log_scale"])
    law = npd.LogNormal(loc, scale)
    values = [choices["scale"], choices["scale"] + 0.5]
    # What depends on the scale is also the change of variables of "top", whose support ends there.
    top = npd.TransformedDistribution(
        npd.Normal(params["top"]["loc"], jnp.exp(params["top"]["log_scale"])),
        [npd.transforms.SigmoidTransform(), npd.transforms.AffineTransform(0.0, 1.0)],
    )
    inner = [top.log_prob(choices["top"] / s) - jnp.log(s) for s in values]
    truth = law.log_prob(values[1]) - law.log_prob(values[0]) + inner[1] - inner[0]
    np.testing.assert_allclose(changed("scale", values[1]) - changed("scale", values[0]), truth, rtol=1e-3)
    odds = jnp.log(jax.nn.sigmoid(params["heads"]["logits"]) / jax.nn.sigmoid(-params["heads"]["logits"]))
    never = choices.without("heads", "extra")
    both = [guide(params).log_density(never | {"heads": h, "extra": 0.0}) for h in (True, False)]
    extra = norm.logpdf(0.0, params["extra"]["loc"], jnp.exp(params["extra"]["log_scale"]))
    np.testing.assert_allclose(both[0] - both[1], odds + extra, rtol=1e-3)


def test_it_finds_a_posterior_that_factorizes():
    """Normal means and a coin, each seen on its own: the guide is exact, and the bound the evidence."""

    @ppl.gen
    def model():
        means = jax.vmap(lambda _: ppl.normal(0.0, 1.0) @ "mean")(jnp.arange(3))
        jax.vmap(lambda m: ppl.normal(m, 0.5) @ "y")(means)
        fair = ppl.flip(0.4) @ "fair"
        ppl.flip(jnp.where(fair, 0.5, 0.9)) @ "up"

    seen = jnp.array([1.0, -0.5, 0.2])
    target = model().condition({"y": seen, "up": True})
    guide = MeanField(target)
    bound = ppl.expectation(lambda params: ppl.sticking_the_landing(target, guide(params)))
    schedule = optax.cosine_decay_schedule(0.1, 1500)
    found = ppl.fit(
        bound, guide.initial(KEY), optax.adam(schedule), key=KEY, steps=1500, num_samples=4, progress=False
    ).params
    np.testing.assert_allclose(found["mean"]["loc"], seen * 0.8, atol=0.01)
    np.testing.assert_allclose(jnp.exp(found["mean"]["log_scale"]), 0.2**0.5, rtol=0.02)
    np.testing.assert_allclose(jax.nn.sigmoid(found["fair"]["logits"]), 0.2 / 0.74, atol=0.01)
    evidence = norm.logpdf(seen, 0.0, 1.25**0.5).sum() + jnp.log(0.74)
    np.testing.assert_allclose(bound.estimate(KEY, found, num_samples=1000), evidence, atol=0.01)


def test_locations_are_drawn_until_the_density_is_finite():
    """Nan above one: about a quarter of the first locations will do."""

    @ppl.gen
    def narrow():
        x = ppl.normal(0.0, 1.0) @ "x"
        y = ppl.normal(0.0, 1.0) @ "y"
        ppl.normal(jnp.sqrt(1.0 - x) + jnp.sqrt(1.0 - y), 1.0) @ "z"

    target = narrow().condition({"z": 0.5})
    guide = MeanField(target)
    for seed in range(8):
        params = guide.initial(jax.random.key(seed), scale=1e-3)
        assert params["x"]["loc"] < 1.01 and params["y"]["loc"] < 1.01

    @ppl.gen
    def never():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.normal(jnp.sqrt(-1.0 - x**2), 1.0) @ "z"

    with pytest.raises(ppl.errors.NonFiniteObjective, match="at 20 draws"):
        MeanField(never().condition({"z": 0.5})).initial(KEY)


def test_refusals():
    count = ppl.gen(lambda: ppl.poisson(3.0) @ "n")
    with pytest.raises(ppl.UnsupportedProgram, match=r"'n'.*is discrete.*by hand"):
        MeanField(count()).initial(KEY)
    hidden = ppl.gen(lambda: ppl.marginal(everything(), ["mean"]) @ "m")
    with pytest.raises(ppl.UnsupportedProgram, match=r"'m/mean'.*estimated"):
        MeanField(hidden()).initial(KEY)
    with pytest.raises(TypeError, match="generative function"):
        MeanField(ppl.normal(0.0, 1.0))
    guide, params = guide_and_start()
    with pytest.raises(ppl.UnsupportedProgram, match="the parameters of MeanField"):
        guide({"x": params["x"]}).simulate(KEY)


BOUNDED = {
    "uniform": lambda: npd.Uniform(0.5, 2.0),
    "truncated_normal": lambda: npd.TruncatedNormal(0.3, 1.0, low=-0.5),
    "pareto": lambda: npd.Pareto(1.2, 2.0),
    "von_mises": lambda: npd.VonMises(0.2, 1.5),
}
# Each has the gradient of the bound at the end: of one draw, of two.
BOUNDS = {
    1: [ppl.sticking_the_landing, ppl.objectives.vargrad(2), ppl.elbo],
    2: [ppl.objectives.dreg(2), ppl.objectives.vimco(2), ppl.iwelbo(2)],
}


@pytest.mark.parametrize("family", BOUNDED)
def test_detached_and_scored_bounds_of_bounded_choices_have_the_gradient_of_the_bound(family, x64):
    """Integrated over the guide's noise."""

    @ppl.gen
    def model():
        x = ppl.dist(BOUNDED[family]()) @ "x"
        ppl.normal(x + 0.1 * x**2, 1.0) @ "y"

    target = model().condition({"y": 1.3})
    guide = MeanField(target)
    params = {"x": {"loc": jnp.asarray(0.2), "log_scale": jnp.asarray(-1.5)}}
    of = lambda bound: ppl.expectation(lambda p: bound(target, guide(p)))
    for bounds in BOUNDS.values():
        *found, wanted = (integrate(of(bound).grad, KEY, params).mean for bound in bounds)
        for got in found:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, wanted)
    assert np.isfinite(float(of(ppl.objectives.wake_guide(2)).grad(KEY, params)["x"]["loc"]))
