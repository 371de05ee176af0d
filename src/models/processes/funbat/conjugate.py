"""Program 1: conjugate message passing, all expectations in closed form.

Given the others, each block of the guide has its optimum in closed form. Its natural parameters are the
prior's plus the gradient of the expected log likelihood, a multilinear function of the expected sufficient
statistics

    E[log p(y | .)] = N/2 (E[log τ] - log 2π) - E[τ]/2 sum_n (y_n² - 2 y_n E[f_n] + E[f_n²]),

with respect to that block's own: (E[u], E[u u']) gives the sites (h, -Λ/2), summed over data of equal index;
(E[w], E[w w']) the natural parameters of q(W); (E[log τ], E[τ]) those of q(τ). These are the messages of the
paper with exact second moments, so that no damping is needed and the ELBO never falls.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
from jax.scipy.linalg import cho_solve
from jax.scipy.special import digamma
from tqdm import tqdm

from models.common.linear_gaussian import Sites, moments, posterior
from models.processes.funbat.model import (
    PRIOR,
    Approximation,
    Core,
    Mode,
    entries,
    random_functions,
    ranks,
    superdiagonal,
)


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


class Sweep(NamedTuple):
    """The guide after a sweep, its sufficient statistics and its ELBO."""

    q: Approximation
    beliefs: Beliefs
    elbo: jax.Array


@functools.partial(jax.jit, static_argnames="block")
def message(beliefs: Beliefs, data: Entries, block: int | str) -> Any:
    """The gradient with respect to the statistics of a block: a mode's number, "core" or "precision"."""
    if isinstance(block, int):
        moved = lambda own: beliefs._replace(factors=_with(beliefs.factors, block, own))
        own = beliefs.factors[block]
    elif block == "core":
        moved, own = (lambda own: beliefs._replace(core=own)), beliefs.core
    else:
        moved = lambda own: beliefs._replace(precision=own[0], log_precision=own[1])
        own = (beliefs.precision, beliefs.log_precision)
    return jax.grad(lambda own: expected_log_likelihood(moved(own), data))(own)


def _with(some: tuple[Any, ...], at: int, one: Any) -> tuple[Any, ...]:
    return (*some[:at], one, *some[at + 1 :])


def sweep(
    modes: tuple[Mode, ...],
    data: Entries,
    beliefs: Beliefs,
    hold: bool = False,
    tucker: bool = True,
) -> Sweep:
    """Every block's optimum given the others: the modes in order, then the core, then the precision.

    Args:
        hold: leave E[τ] where it is.
        tucker: whether the core is learned; else it is the superdiagonal of ones.
    """
    sites, divergence = [], jnp.zeros(())
    for k, mode in enumerate(modes):
        toward = message(beliefs, data, k)
        sites.append(Sites(-2.0 * toward.second, toward.mean))
        factor, cost = of_factor(mode, sites[k])
        divergence += cost
        beliefs = beliefs._replace(factors=_with(beliefs.factors, k, factor))
    core = _core(message(beliefs, data, "core")) if tucker else None
    of_w, cost = of_core(core, modes)
    divergence += cost
    slope, slope_log = message(beliefs._replace(core=of_w), data, "precision")
    shape = PRIOR[0] + slope_log
    rate = shape / beliefs.precision if hold else PRIOR[1] - slope
    mean, mean_log, cost = of_precision(shape, rate)
    beliefs = Beliefs(beliefs.factors, of_w, mean, mean_log)
    bound = expected_log_likelihood(beliefs, data) - divergence - cost
    return Sweep(Approximation(tuple(sites), core, shape, rate), beliefs, bound)


@jax.jit
def _core(toward: Moments) -> Core:
    """N(0, I) times the factor exp(-w' P w / 2 + h' w), where the message is (h, -P/2)."""
    size = len(toward.mean)
    weight = jnp.linalg.cholesky(jnp.eye(size) - 2.0 * toward.second)
    covariance = cho_solve((weight, True), jnp.eye(size))
    return Core(covariance @ toward.mean, jnp.linalg.cholesky(covariance))


def start(key: jax.Array, modes: tuple[Mode, ...], precision: float, tucker: bool = True) -> Beliefs:
    """Random functions and a random core. A low precision would let weak components collapse: begin high."""
    first, second = jax.random.split(key)
    known = lambda mean: of_vector(mean, jnp.zeros((*mean.shape, mean.shape[-1])))
    core = jnp.asarray(superdiagonal(modes))
    core = jax.random.normal(second, core.shape) if tucker else core
    factors = tuple(map(known, random_functions(first, modes)))
    high = jnp.asarray(precision, float)
    return Beliefs(factors, known(core), high, jnp.log(high))


class Fit(NamedTuple):
    """What inference leaves: the guide, its sufficient statistics, and its ELBO after each sweep or step."""

    q: Approximation
    beliefs: Beliefs
    elbos: np.ndarray


def fit(
    key: jax.Array, modes: tuple[Mode, ...], data: Entries, *, sweeps: int, held: int = 20,
    precision: float = 1e3, tucker: bool = True, progress: bool = False, label: str = "",
) -> Fit:  # fmt: skip
    """Coordinate ascent from a random start; E[τ] is held at `precision` for the first `held` sweeps."""
    if not tucker and len(set(ranks(modes))) > 1:
        raise ValueError(f"CP has one rank for all modes, got {ranks(modes)}")
    beliefs, elbos, q = start(key, modes, precision, tucker), [], None
    for number in tqdm(range(sweeps), desc=label, disable=not progress, leave=False):
        q, beliefs, bound = sweep(modes, data, beliefs, number < held, tucker=tucker)
        elbos.append(float(bound))
    assert q is not None, "at least one sweep"
    return Fit(q, beliefs, np.array(elbos))


@jax.jit
def predict(beliefs: Beliefs, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the noiseless entries at these rows, seen or not."""
    mean, second = entry_moments(beliefs, index)
    return mean, jnp.sqrt(jnp.maximum(second - mean**2, 0.0))
