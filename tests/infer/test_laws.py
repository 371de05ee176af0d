"""The two laws of estimated densities, exactly: every draw, hidden ones too, is enumerated."""

from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.infer import Importance

from .enumerable import MEASURES, A, coin, guess, laws_of

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("name", MEASURES)
def test_both_estimates_are_unbiased(name):
    _, laws = laws_of(MEASURES[name])
    possible = laws.probability > 0
    assert possible.sum() > 1
    np.testing.assert_allclose(laws.probability.sum(), 1, rtol=1e-10)
    np.testing.assert_allclose(laws.reciprocal[possible], 1, rtol=1e-10)
    np.testing.assert_allclose(laws.density[possible], laws.probability[possible], rtol=1e-10)


def _coin_pair(u, v, x, a=A):
    p = [(a, u), (0.9 if u else 0.3, v), (0.8 if u and v else 0.25, x)]
    return float(np.prod([q if value else 1 - q for q, value in p]))


@pytest.mark.parametrize("particles", [1, 3])
def test_a_marginal_is_the_sum_over_what_is_left_out(particles):
    values, laws = laws_of(MEASURES[f"marginal, {particles} particle{'s' if particles > 1 else ''}"])
    for value, probability in zip(values, laws.probability, strict=True):
        truth = sum(_coin_pair(u, v, bool(value["x"])) for u in (0, 1) for v in (0, 1))
        np.testing.assert_allclose(probability, truth, rtol=1e-10)


@pytest.mark.parametrize("particles", [1, 2, 3])
def test_a_posterior_is_what_resampling_draws(particles):
    """The law of one of n draws of the prior, chosen by its weight, summed by hand."""
    values, laws = laws_of(MEASURES[f"posterior, {particles} particle{'s' if particles > 1 else ''}"])
    likelihood = np.array([0.25, 0.8])
    prior = np.array([1 - A, A])
    truth = np.zeros(2)
    for draws in np.ndindex((2,) * particles):
        weights = likelihood[list(draws)]
        for one, weight in zip(draws, weights / weights.sum(), strict=True):
            truth[one] += prior[list(draws)].prod() * weight
    found = dict(zip([int(v["u"]) for v in values], laws.probability, strict=True))
    np.testing.assert_allclose([found[0], found[1]], truth, rtol=1e-10)


def test_the_evidence_is_estimated_without_bias():
    target = coin(A).condition({"x": jnp.array(True)})
    for proposal in (None, guess(0.35)):
        algorithm = Importance(3, proposal)
        estimate = ppl.expectation(lambda algorithm=algorithm: jnp.exp(algorithm.log_normalizer(target)))
        np.testing.assert_allclose(estimate.exact(), A * 0.8 + (1 - A) * 0.25, rtol=1e-10)


class Broken(Importance):
    """Importance sampling with a fault; the laws must find it."""

    @override
    def log_normalizer_given(self, target: Any, retained: Any) -> jax.Array:
        return self.log_normalizer(target)  # nothing is retained


class JointWeights(Importance):
    """Weights by the whole joint density, not less that of the draw: a fault of the artifact of 2024."""

    @override
    def _particle(self, target: Any) -> Any:
        particle = super()._particle(target)
        return particle._replace(log_weight=particle.log_density)


class FreeOfCharge(Importance):
    """The retained particle weighs one: the artifact's other fault."""

    @override
    def _retained(self, target: Any, retained: Any) -> jax.Array:
        return jnp.zeros_like(retained.log_density)


@pytest.mark.parametrize("fault", [Broken, JointWeights, FreeOfCharge])
def test_the_laws_find_faults(fault):
    jax.tree_util.register_dataclass(fault, ["proposal"], ["particles"])
    _, laws = laws_of(lambda a: ppl.marginal(coin(a), ["x"], fault(2)))
    wrong = np.abs(laws.reciprocal - 1).max() + np.abs(laws.density - laws.probability).max()
    assert wrong > 1e-3
