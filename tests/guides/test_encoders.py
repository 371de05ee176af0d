"""Parameters of a guide from a network of the data: a composition, in lanes of `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest

import ppl
from ppl.guides import FullRank, MeanField

KEY = jax.random.key(13)
LOADING = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.2]])
ROWS = jnp.array([[0.3, -1.0, 0.2], [2.0, 0.1, -0.4]])


@ppl.gen
def factors(y):
    z = ppl.normal(jnp.zeros(2), 1.0) @ "z"
    ppl.normal(jnp.asarray(LOADING) @ z, 0.5) @ "y"


def target(y):
    return factors(y).condition({"y": y})


def guide(encoder, y):
    family = FullRank(target(y))
    return family(family.unravel(encoder["weights"] @ y + encoder["bias"]))


def test_the_encoder_of_the_posterior_is_exact_for_every_row():
    """Of normal factors the posterior mean is linear in the data: each row's bound is its evidence."""
    covariance = np.linalg.inv(np.eye(2) + LOADING.T @ LOADING / 0.25)
    factor = np.linalg.cholesky(covariance)
    family = FullRank(target(ROWS[0]))
    cholesky = npd.biject_to(npd.constraints.lower_cholesky).inv(jnp.asarray(factor))
    zeros = jnp.zeros((3, 3))
    encoder = {
        "weights": jnp.concatenate([zeros, jnp.asarray(covariance @ LOADING.T / 0.25)]),
        "bias": jnp.concatenate([cholesky, jnp.zeros(2)]),
    }
    assert family.size == 5 and family.unravel(jnp.arange(5.0))["loc"].tolist() == [3.0, 4.0]

    def bounds(encoder, rows):
        return jnp.sum(jax.vmap(lambda y: ppl.elbo(target(y), guide(encoder, y)))(rows))

    evidence = npd.MultivariateNormal(jnp.zeros(3), jnp.asarray(LOADING @ LOADING.T + 0.25 * np.eye(3)))
    bound = ppl.expectation(bounds)
    values = jax.jit(jax.vmap(lambda key: bound.estimate(key, encoder, ROWS)))(jax.random.split(KEY, 20))
    np.testing.assert_allclose(values, evidence.log_prob(ROWS).sum(), atol=1e-3)
    stuck = ppl.expectation(
        lambda encoder, rows: jnp.sum(
            jax.vmap(lambda y: ppl.sticking_the_landing(target(y), guide(encoder, y)))(rows)
        )
    )
    slope = stuck.grad(KEY, encoder, ROWS)
    assert all(abs(x).max() < 2e-3 for x in jax.tree.leaves(slope)), "at the optimum there is no noise"


def test_an_output_of_another_size_is_refused():
    with pytest.raises(
        ppl.errors.ChoiceShapeError, match=r"the parameters of MeanField.*raveled.*\(4,\).*\(3,\)"
    ):
        MeanField(target(ROWS[0])).unravel(jnp.zeros(3))
