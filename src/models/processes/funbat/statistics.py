"""Expected sufficient statistics under the guide, and what has a closed form in them: the bound, predictions.

The expected log likelihood is a multilinear function of the blocks' statistics,

    E[log p(y | .)] = N/2 (E[log τ] - log 2π) - E[τ]/2 sum_n (y_n² - 2 y_n E[f_n] + E[f_n²]).

It is written out here since `ppl` has no means that would get it from the program: its expectations are
exact where choices are enumerated, and estimates where they are continuous. That it is the program's is
tested: at a fixed guide the bound below is the mean of `ppl.elbo`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
from jax.scipy.special import digamma

from models.common.linear_gaussian import Sites, moments, posterior
from models.processes.funbat.model import PRIOR, Approximation, Core, Mode, entries, superdiagonal


class Entries(NamedTuple):
    """What was seen: rows in each mode's indices, of shape (entries, modes), and values, standardized."""

    index: np.ndarray
    value: np.ndarray


class Moments(NamedTuple):
    """E[x] and E[x x'] of vectors x."""

    mean: jax.Array
    second: jax.Array


class Beliefs(NamedTuple):
    """The expected sufficient statistics of all blocks."""

    factors: tuple[Moments, ...]
    core: Moments
    precision: jax.Array
    log_precision: jax.Array


@jax.jit
def expected_log_likelihood(beliefs: Beliefs, data: Entries) -> jax.Array:
    """E[log p(y | Z, W, τ)]."""
    mean, second = entry_moments(beliefs, data.index)
    residual = jnp.sum(data.value**2 - 2.0 * data.value * mean + second)
    constant = 0.5 * len(data.value) * (beliefs.log_precision - jnp.log(2.0 * jnp.pi))
    return constant - 0.5 * beliefs.precision * residual


def entry_moments(beliefs: Beliefs, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """E[f] and E[f²] of the noiseless entries at these rows.

    The second is multilinear too, in E[w w'] with its axes in pairs and in each mode's E[u u'].
    """
    modes = len(beliefs.factors)
    size = [factor.mean.shape[1] for factor in beliefs.factors]
    at = [index[:, k] for k in range(modes)]
    mean = entries(beliefs.core.mean, [f.mean[rows] for f, rows in zip(beliefs.factors, at, strict=True)])
    pairs = beliefs.core.second.reshape(size * 2).transpose([k + j for k in range(modes) for j in (0, modes)])
    flat = [f.second.reshape(len(f.mean), -1)[rows] for f, rows in zip(beliefs.factors, at, strict=True)]
    return mean, entries(pairs, flat)


def of_vector(mean: jax.Array, covariance: jax.Array) -> Moments:
    return Moments(mean, covariance + mean[..., :, None] * mean[..., None, :])


@jax.jit
def of_factor(mode: Mode, sites: Sites) -> tuple[Moments, jax.Array]:
    """The moments of a mode's functions at each index, and KL(q(Z) | prior).

    The divergence of a chain times sites is the expected log of the sites, less that of their normalizer.
    """
    chain = posterior(mode.prior, mode.seen, sites)
    mean, covariance = moments(chain.chain, reverse=True)
    found = of_vector(mean @ mode.seen.T, mode.seen @ covariance @ mode.seen.T)
    expected = jnp.sum(sites.linear * found.mean) - 0.5 * jnp.sum(sites.precision * found.second)
    return found, expected - chain.log_normalizer


@jax.jit
def of_core(core: Core | None, modes: tuple[Mode, ...]) -> tuple[Moments, jax.Array]:
    """The moments of vec(W), and KL(q(W) | prior); W is known in the CP variant."""
    if core is None:
        known = jnp.asarray(superdiagonal(modes))
        return of_vector(known, jnp.zeros((len(known), len(known)))), jnp.zeros(())
    q = npd.MultivariateNormal(core.mean, scale_tril=core.factor)
    prior = npd.MultivariateNormal(jnp.zeros_like(core.mean), scale_tril=jnp.eye(len(core.mean)))
    return of_vector(core.mean, core.factor @ core.factor.T), npd.kl_divergence(q, prior)


@jax.jit
def of_precision(shape: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """E[τ], E[log τ], and KL(q(τ) | prior)."""
    divergence = npd.kl_divergence(npd.Gamma(shape, rate), npd.Gamma(*PRIOR))
    return shape / rate, digamma(shape) - jnp.log(rate), divergence


def beliefs_of(modes: tuple[Mode, ...], q: Approximation) -> tuple[Beliefs, jax.Array]:
    """The expected sufficient statistics under the guide, and its divergence from the prior."""
    pairs = [of_factor(mode, sites) for mode, sites in zip(modes, q.sites, strict=True)]
    core, of_w = of_core(q.core, modes)
    mean, mean_log, of_tau = of_precision(q.shape, q.rate)
    beliefs = Beliefs(tuple(factor for factor, _ in pairs), core, mean, mean_log)
    return beliefs, sum((divergence for _, divergence in pairs), of_w + of_tau)


def elbo(modes: tuple[Mode, ...], data: Entries, q: Approximation) -> jax.Array:
    """The evidence lower bound of a guide, in closed form."""
    beliefs, divergence = beliefs_of(modes, q)
    return expected_log_likelihood(beliefs, data) - divergence


@jax.jit
def predict(beliefs: Beliefs, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the noiseless entries at these rows, seen or not."""
    mean, second = entry_moments(beliefs, index)
    return mean, jnp.sqrt(jnp.maximum(second - mean**2, 0.0))
