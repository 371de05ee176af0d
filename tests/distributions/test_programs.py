"""Families that are reparameterized by default, inside programs: lanes, arrays and loops, differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.estimators import Reparam
from ppl.estimators.registry import default_estimator

HALF = npd.CategoricalProbs(jnp.array([0.5, 0.5]))
ADJACENCY = np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]])
MADE = {
    "wishart": lambda t: npd.Wishart(jnp.exp(t) + 3.0, scale_tril=jnp.eye(2)),
    "inverse_wishart": lambda t: npd.InverseWishart(jnp.exp(t) + 6.0, scale_tril=jnp.eye(2)),
    "lkj": lambda t: npd.LKJ(3, jnp.exp(t)),
    "car": lambda t: npd.CAR(t * jnp.ones(3), 0.4, jnp.exp(t), ADJACENCY),
    "copula": lambda t: npd.GaussianCopula(npd.Gumbel(t, 1.0), jnp.eye(2) + 0.3 * ADJACENCY[:2, :2]),
    "dagum": lambda t: npd.Dagum(jnp.exp(t), 3.0, 1.0),
    "asymmetric_laplace_quantile": lambda t: npd.AsymmetricLaplaceQuantile(t, 1.0, 0.3),
    "power_law": lambda t: npd.DoublyTruncatedPowerLaw(t, 0.5, 2.0),
    "truncated_gamma": lambda t: npd.LeftTruncatedGamma(npd.Gamma(jnp.exp(t), 1.0), 0.3),
    "gaussian_state_space": lambda t: npd.GaussianStateSpace(
        3, jnp.eye(2) * 0.5, scale_tril=jnp.exp(t) * jnp.eye(2)
    ),
    "zero_sum_normal": lambda t: npd.ZeroSumNormal(jnp.exp(t), (3,)),
    "mixture_of_gammas": lambda t: npd.MixtureSameFamily(HALF, npd.Gamma(jnp.stack([jnp.exp(t), 2.0]), 1.0)),
    "mixture_of_vectors": lambda t: npd.MixtureSameFamily(
        HALF, npd.Normal(t * jnp.ones((2, 3)), 1.0).to_event(1)
    ),
    "general_mixture": lambda t: npd.MixtureGeneral(
        HALF, [npd.Gamma(jnp.exp(t), 1.0), npd.LogNormal(t, 0.5)]
    ),
}


@pytest.mark.parametrize("family", MADE)
def test_gradient_is_that_of_the_draws_in_every_flow(family):
    """In two lanes of a loop of two steps; the mean of many runs agrees with that of single ones to 5 s.e."""
    assert isinstance(default_estimator(MADE[family](0.2)), Reparam)

    def one(t):
        return jnp.sum(jnp.tanh(ppl.dist(MADE[family](t)) @ "x"))

    def many(t):
        step = lambda z, _: (z, jax.vmap(lambda s: one(t + 0.0 * s))(jnp.arange(2.0)))
        return jnp.mean(jax.lax.scan(step, 0.0, None, 2)[1])

    key = jax.random.key(0)
    gradients = []
    for number, program in enumerate((one, many)):
        keys = jax.random.split(jax.random.fold_in(key, number), 1000)
        found = jax.jit(jax.vmap(lambda k, p=program: ppl.expectation(p).grad(k, 0.2)))(keys)
        assert jnp.all(jnp.isfinite(found))
        gradients.append(np.asarray(found, np.float64))
    means = [g.mean() for g in gradients]
    error = np.sqrt(sum(g.var() / len(g) for g in gradients))
    assert abs(means[0] - means[1]) < 5 * error, (means, error)
    assert gradients[1].std() < 0.8 * gradients[0].std()  # four independent draws in each run
