"""Posterior draws of Markov chains, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ppl
from ppl.infer import HMC, NUTS, Cycle, RandomWalk, Regenerate

KEY = jax.random.key(23)


@ppl.gen
def regression(x):
    """Conjugate: the posterior of the coefficients is normal, with correlations and unequal scales."""
    weights = ppl.normal(jnp.zeros(2), jnp.array([1.0, 5.0])) @ "weights"
    ppl.normal(x @ weights, 0.5) @ "y"


def test_nuts_draws_a_correlated_posterior():
    """Means within 5 standard errors by the effective number of draws, standard deviations within 10%."""
    rng = np.random.default_rng(0)
    x = np.stack([np.ones(12), 0.1 * rng.normal(size=12) + 0.3], axis=1)
    y = x @ [0.7, -2.0] + 0.5 * rng.normal(size=12)
    precision = np.diag([1.0, 0.04]) + x.T @ x / 0.25
    covariance = np.linalg.inv(precision)
    mean = covariance @ (x.T @ y) / 0.25
    target = regression(jnp.asarray(x)).condition({"y": jnp.asarray(y)})
    found = ppl.infer.chains(target, NUTS(), key=KEY, draws=1000, warmup=300)
    assert found.choices["weights"].shape == (4, 1000, 2)
    assert (found.rhat["weights"] < 1.02).all() and (found.effective["weights"] > 400).all()
    scale = np.sqrt(np.diag(covariance))
    error = scale / np.sqrt(found.effective["weights"])
    assert (np.abs(found.mean(lambda c: c["weights"]) - mean) < 5 * error).all()
    flat = np.asarray(found.flat["weights"])
    np.testing.assert_allclose(flat.std(axis=0), scale, rtol=0.1)
    np.testing.assert_allclose(np.corrcoef(flat.T)[0, 1], covariance[0, 1] / scale.prod(), atol=0.05)
    densities = jax.vmap(lambda w: target.log_density({"weights": w}))(found.choices["weights"][0])
    np.testing.assert_allclose(found.log_density[0], densities, rtol=1e-4)
    assert 0.6 < found.acceptance.mean() < 0.99


def test_discrete_choices_move_by_drawing_anew_and_continuous_ones_along_gradients():
    @ppl.gen
    def either():
        k = ppl.flip(0.7) @ "k"
        m = ppl.normal(jnp.where(k, 2.0, -1.0), 1.0) @ "m"
        w = jax.lax.cond(k, lambda: 0.0, lambda: ppl.normal(0.0, 1.0) @ "w")
        ppl.normal(m + w, 0.5) @ "y"

    one, other = 0.7 * stats.norm.pdf(0.6, 2.0, 1.25**0.5), 0.3 * stats.norm.pdf(0.6, -1.0, 2.25**0.5)
    share = one / (one + other)
    mean = share * (2.0 - 1.4 / 1.25) + (1 - share) * (-1.0 + 1.6 / 2.25)
    # Not adapted: 0.4 is stable for both values of k. A step of a good acceptance on the whole may not be so
    # for the rarer one, where the posterior is narrower.
    move = Cycle(Regenerate("k"), HMC(0.4, 5, only=("m", "w")))
    found = ppl.infer.chains(either().condition({"y": 0.6}), move, key=KEY, draws=3000, warmup=0)
    for name, truth in (("k", share), ("m", mean)):
        draws = np.asarray(found.flat[name], float)
        error = draws.std() / np.sqrt(found.effective[name])
        assert abs(draws.mean() - truth) < 5 * error < 0.25
    assert (found.choices["w"] != 0).mean() == (~found.choices["k"]).mean()


def test_divergences_are_counted_and_warned_about():
    @ppl.gen
    def funnel():
        scale = ppl.normal(0.0, 3.0) @ "log_scale"
        ppl.normal(jnp.zeros(5), jnp.exp(scale / 2)) @ "x"

    with pytest.warns(RuntimeWarning, match=r"of 400 steps diverged.*HMC"):
        found = ppl.infer.chains(funnel(), HMC(1.5, 10), key=KEY, draws=100, warmup=0)
    assert found.divergent.sum() > 0


@pytest.mark.filterwarnings("ignore:.*diverged")  # at the lower one
def test_steps_are_adapted_to_the_acceptance_that_is_asked_for():
    """A higher one gives smaller steps, of which more are accepted."""
    banana = ppl.gen(lambda: ppl.normal((ppl.normal(0.0, 1.0) @ "x") ** 2, 0.3) @ "y")
    found = {
        wanted: ppl.infer.chains(banana(), HMC(0.1, 5, acceptance=wanted), key=KEY, draws=500, warmup=300)
        for wanted in (0.6, 0.95)
    }
    means = {wanted: float(chains.acceptance.mean()) for wanted, chains in found.items()}
    assert means[0.6] < 0.8 < 0.9 < means[0.95]
    with pytest.raises(ValueError, match="acceptance lies between zero and one, got 1"):
        NUTS(acceptance=1)


def test_chains_that_disagree_have_a_large_rhat():
    modes = ppl.gen(
        lambda: ppl.mixture(ppl.normal(jnp.array([-30.0, 30.0]), 1.0), probs=jnp.ones(2) / 2) @ "x"
    )
    begin = {"x": jnp.array([-30.0, 30.0])}
    found = ppl.infer.chains(modes(), RandomWalk(1.0), key=KEY, draws=100, warmup=0, chains=2, initial=begin)
    assert found.rhat["x"] > 1.5 and found.effective["x"] < 10
    again = ppl.infer.chains(modes(), RandomWalk(1.0), key=KEY, draws=100, warmup=0, chains=2, initial=begin)
    np.testing.assert_array_equal(found.choices["x"], again.choices["x"])
    assert (found.choices["x"][0] != found.choices["x"][1] + 60.0).all()  # chains have noise of their own


def test_refusals():
    target = regression(jnp.ones((3, 2))).condition({"y": jnp.ones(3)})
    with pytest.raises(ValueError, match="draws is a Python integer"):
        ppl.infer.chains(target, NUTS(), key=KEY, draws=0)
    with pytest.raises(TypeError, match="takes a move"):
        ppl.infer.chains(target, "nuts", key=KEY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"4 chains.*\(4, 2\) is wanted, got \(2,\)"):
        ppl.infer.chains(target, NUTS(), key=KEY, initial={"weights": jnp.zeros(2)})
    with pytest.raises(ValueError, match="no other: weights; got bias"):
        ppl.infer.chains(target, NUTS(), key=KEY, initial={"bias": jnp.zeros(4)})
    nowhere = ppl.gen(lambda: ppl.uniform(ppl.flip(0.5) @ "u", 2.0) @ "x")().condition({"x": 5.0})
    with pytest.raises(ppl.errors.NonFiniteObjective, match=r"4 of 4 chains.*initial="):
        ppl.infer.chains(nowhere, Regenerate("u"), key=KEY, draws=2, warmup=0)
    posterior = ppl.normalize(target, ppl.infer.Importance(2))
    with pytest.raises(ppl.UnsupportedProgram, match="a Normalized"):
        ppl.infer.chains(posterior, NUTS(), key=KEY)
