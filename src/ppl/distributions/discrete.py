"""Discrete families, each drawn from the law of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import discrete

from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategorical
from ppl.distributions.registry import Shape, draws, float_dtype, working_dtype
from ppl.noise import BERNOULLI, BINOMIAL, CATEGORICAL, GEOMETRIC, INTEGER, LOG_GAMMA, POISSON, Noise


def integer_dtype() -> Any:
    """The dtype of counts: the default integer."""
    return jnp.result_type(int)


@draws(dist.BernoulliProbs, dist.BernoulliLogits, reparameterized=False)
def bernoulli(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Zero or one."""
    return noise.draw(BERNOULLI, distribution.shape(sample_shape), integer_dtype(), distribution.probs)


@draws(Flip, reparameterized=False)
def flip(distribution: Flip, noise: Noise, sample_shape: Shape) -> jax.Array:
    """False or true."""
    return noise.draw(BERNOULLI, distribution.shape(sample_shape), jnp.bool_, distribution.probs)


@draws(dist.CategoricalProbs, reparameterized=False)
def categorical(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """An index, by probabilities; one of probability zero is never drawn."""
    logits = jnp.log(jnp.asarray(distribution.probs, float_dtype(distribution.probs)))
    return noise.draw(CATEGORICAL, distribution.shape(sample_shape), integer_dtype(), logits)


@draws(dist.CategoricalLogits, reparameterized=False)
def categorical_logits(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """An index, by unnormalised log probabilities."""
    logits = jnp.asarray(distribution.logits, float_dtype(distribution.logits))
    return noise.draw(CATEGORICAL, distribution.shape(sample_shape), integer_dtype(), logits)


@draws(OneHotCategorical, reparameterized=False)
def one_hot_categorical(distribution: OneHotCategorical, noise: Noise, sample_shape: Shape) -> jax.Array:
    """The index of a category, as a one-hot vector."""
    logits = distribution.log_probs
    shape = (*sample_shape, *distribution.batch_shape)
    index = noise.draw(CATEGORICAL, shape, integer_dtype(), logits)
    return jax.nn.one_hot(index, logits.shape[-1], dtype=float_dtype(logits))


@draws(dist.Poisson, reparameterized=False)
def poisson(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """A count."""
    return noise.draw(POISSON, distribution.shape(sample_shape), integer_dtype(), distribution.rate)


@draws(discrete.GeometricProbs, discrete.GeometricLogits, reparameterized=False)
def geometric(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Failures before the first success."""
    return noise.draw(GEOMETRIC, distribution.shape(sample_shape), integer_dtype(), distribution.probs)


@draws(dist.BinomialProbs, dist.BinomialLogits, reparameterized=False)
def binomial(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """Successes among `total_count` trials."""
    shape = distribution.shape(sample_shape)
    return noise.draw(BINOMIAL, shape, integer_dtype(), distribution.probs, distribution.total_count)


@draws(dist.DiscreteUniform, reparameterized=False)
def discrete_uniform(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """An integer from low to high, both included."""
    shape = distribution.shape(sample_shape)
    return noise.draw(INTEGER, shape, integer_dtype(), distribution.low, distribution.high)


@draws(dist.GammaPoisson, reparameterized=False)
def gamma_poisson(distribution: Any, noise: Noise, sample_shape: Shape) -> jax.Array:
    """A Poisson count whose rate is a gamma draw; the negative binomials are of this kind."""
    shape = distribution.shape(sample_shape)
    dtype = working_dtype(float_dtype(distribution.concentration, distribution.rate))
    log_gamma = noise.draw(LOG_GAMMA, shape, dtype, jnp.asarray(distribution.concentration, dtype))
    return noise.draw(POISSON, shape, integer_dtype(), jnp.exp(log_gamma) / distribution.rate)
