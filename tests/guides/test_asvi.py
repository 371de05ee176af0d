"""Guides with the graph of the model: exact for a chain; the prior where nothing of their own is mixed in."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.guides import ASVI
from ppl.guides.mixed_family import free_parameters, with_parameters

from .test_mean_field import TARGET, everything

KEY = jax.random.key(9)
STEPS, DECAY, NOISE, SEEN_NOISE = 4, 0.9, 0.5, 0.8


@ppl.gen
def chain():
    def step(x, _):
        x = ppl.normal(DECAY * x, NOISE) @ "x"
        ppl.normal(x, SEEN_NOISE) @ "y"
        return x, None

    jax.lax.scan(step, 0.7, None, length=STEPS)


SEEN = np.array([0.3, -0.8, 0.5, 1.1])


def backward():
    """The posterior of a chain of normals, from its end: x_t given x_{t-1} is normal(a_t x_{t-1} + b_t, s_t).

    By information filtering: the future says of x_t a precision and a precision-weighted mean.
    """
    precision, shift, found = 0.0, 0.0, []
    for y in reversed(SEEN):
        total = 1 / NOISE**2 + 1 / SEEN_NOISE**2 + precision
        a, b = DECAY / NOISE**2 / total, (y / SEEN_NOISE**2 + shift) / total
        found.append((a, b, total**-0.5))
        said, of = 1 / SEEN_NOISE**2 + precision, y / SEEN_NOISE**2 + shift
        spread = NOISE**2 + 1 / said  # of what the future says of the mean of x_t
        precision, shift = DECAY**2 / spread, DECAY * (of / said) / spread
    return np.array(found[::-1]).T


def evidence():
    lags = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS)))
    variances = np.array([NOISE**2 * sum(DECAY ** (2 * k) for k in range(t + 1)) for t in range(STEPS)])
    earlier = np.minimum.outer(np.arange(STEPS), np.arange(STEPS))
    covariance = DECAY**lags * variances[earlier] + SEEN_NOISE**2 * np.eye(STEPS)
    mean = 0.7 * DECAY ** np.arange(1, STEPS + 1)
    return npd.MultivariateNormal(jnp.asarray(mean), jnp.asarray(covariance)).log_prob(SEEN)


def test_a_chain_of_normals_is_reached_exactly():
    """At the posterior's own parameters every draw's bound is the evidence: no training, no noise."""
    target = chain().condition({"y": SEEN})
    guide = ASVI(target)
    a, b, s = backward()
    share = a / DECAY
    assert ((share > 0) & (share < 1)).all()
    logit = np.log(share / (1 - share))
    params = {
        "x": {
            "loc": {"own": jnp.asarray(b / (1 - share)), "mix": jnp.asarray(logit)},
            "scale": {
                "own": jnp.asarray((np.log(s) - 0.5 * np.log(NOISE)) / 0.5), "mix": jnp.zeros(STEPS),
            },
        }
    }  # fmt: skip
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda x: x.shape, guide.initial(KEY))
    bound = ppl.expectation(lambda p: ppl.elbo(target, guide(p)))
    values = jax.jit(jax.vmap(lambda key: bound.estimate(key, params)))(jax.random.split(KEY, 200))
    np.testing.assert_allclose(values, evidence(), atol=2e-4)
    slope = ppl.expectation(lambda p: ppl.sticking_the_landing(target, guide(p))).grad(KEY, params)
    assert all(abs(x).max() < 1e-3 for x in jax.tree.leaves(slope)), "it is a maximum"


def test_it_is_the_prior_where_nothing_of_its_own_is_mixed_in():
    """Coins, categories, simplices, loops, lanes, branches and a support that moves."""
    guide = ASVI(TARGET)
    params = guide.initial(KEY)
    assert set(params["scale"]) == {"concentration", "rate"} and set(params["top"]) == {"loc", "log_scale"}
    assert params["x"]["loc"]["mix"].shape == (2, 3) and params["kind"]["probs"]["own"].shape == (3,)
    all_prior = jax.tree.map_with_path(
        lambda path, x: jnp.full_like(x, 40.0) if path[-1].key == "mix" else x, params
    )
    y = jnp.array([0.5, -1.0])
    first = everything().simulate(KEY).choices.without("y")
    changes = {"mean": 0.3, "kind": 2, "weights": jnp.array([0.2, 0.3, 0.5])}
    every = [first, *(first.without(name) | {name: jnp.asarray(value)} for name, value in changes.items())]

    @jax.jit
    @jax.vmap
    def both(choices):
        likelihood = npd.Normal(choices["x"][:, -1] + choices["extra"], 1.0).log_prob(y).sum()
        prior = everything().log_density(choices | {"y": y}) - likelihood
        return prior, guide(all_prior).log_density(choices)

    of_prior, of_guide = both(jax.tree.map(lambda *x: jnp.stack(x), *every))
    # "top" alone, whose family has no parameters but its ends, is a normal of its own: a constant here.
    np.testing.assert_allclose(jnp.diff(of_guide), jnp.diff(of_prior), rtol=1e-3, atol=1e-3)
    assert (abs(jnp.diff(of_prior)) > 0.1).all()


FAMILIES = [
    npd.Normal(jnp.arange(3.0), 2.0), npd.Dirichlet(2 * jnp.ones((2, 3))),
    npd.CategoricalProbs(jnp.array([0.2, 0.8, 0.0])), npd.BernoulliProbs(jnp.array([0.3, 1.0])),
    npd.Binomial(5, 0.3), npd.MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 0.3], [0.3, 1.0]])),
    npd.InverseGamma(2.0, 3.0), npd.Normal(0.0, 1.0).expand([3]).to_event(1),
    npd.NegativeBinomial2(3.0, 2.0), npd.Pareto(2.0, 3.0),
    npd.TransformedDistribution(npd.Normal(0.0, 2.0).expand([2]), npd.transforms.ExpTransform()),
]  # fmt: skip


@pytest.mark.parametrize("distribution", FAMILIES, ids=lambda d: type(d).__name__)
def test_parameters_are_real_numbers_and_back(distribution):
    @jax.jit
    def densities(distribution, value):
        reals = free_parameters(distribution)
        assert reals
        again = with_parameters(distribution, reals)
        moved = with_parameters(distribution, jax.tree.map(lambda x: x + 0.3, reals))
        assert moved.batch_shape == distribution.batch_shape and moved.event_shape == distribution.event_shape
        return [each.log_prob(value) for each in (distribution, again, moved)]

    own, again, moved = densities(distribution, distribution.sample(KEY))
    np.testing.assert_allclose(again, own, rtol=1e-4)
    assert jnp.isfinite(moved).all() and (moved != own).any()


def test_what_has_no_parameters_of_its_own():
    for distribution in (npd.Uniform(0.0, 2.0), npd.Delta(1.0), npd.TruncatedNormal(0.0, 1.0, low=0.0)):
        assert free_parameters(distribution) == {}


def test_impossible_values_stay_impossible():
    """Of a category with probability zero the guide says so too, and its gradient is a number."""
    model = ppl.gen(lambda: ppl.categorical(probs=jnp.array([0.2, 0.8, 0.0])) @ "k")()
    guide = ASVI(model)
    params = guide.initial(KEY)
    assert guide(params).log_density({"k": 2}) == -jnp.inf
    slope = jax.grad(lambda p: guide(p).log_density({"k": 1}))(params)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(slope))
    scored = lambda p: guide(p).using({"k": ppl.estimators.Reinforce()})
    bound = ppl.expectation(lambda p: ppl.elbo(model, scored(p)))
    assert jnp.isfinite(bound.grad(KEY, params, num_samples=50)["k"]["probs"]["own"]).all()
