"""Program 1: conjugate message passing, all expectations in closed form.

Given the others, each block of the guide has its optimum in closed form. Its natural parameters are the
prior's plus the gradient of the expected log likelihood with respect to the block's own expected statistics:
(E[u], E[u u']) gives the sites (h, -Λ/2), summed over data of equal index; (E[w], E[w w']) the natural
parameters of q(W); (E[log τ], E[τ]) those of q(τ). These are the messages of the paper with exact second
moments, so that no damping is needed and the ELBO never falls. After each sweep the factors are rescaled
(`rescaling.py`): from every start they reach the same bound.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from tqdm import tqdm

from models.common.linear_gaussian import Sites
from models.processes.funbat.model import (
    PRIOR,
    Approximation,
    Core,
    Mode,
    random_functions,
    ranks,
    superdiagonal,
)  # fmt: skip
from models.processes.funbat.rescaling import rescaled
from models.processes.funbat.statistics import (
    Beliefs,
    Entries,
    Moments,
    expected_log_likelihood,
    of_core,
    of_factor,
    of_precision,
    of_vector,
)  # fmt: skip


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
    precision: float = 1e3, tucker: bool = True, rescale: bool = True, begin: Beliefs | None = None,
    progress: bool = False, label: str = "",
) -> Fit:  # fmt: skip
    """Coordinate ascent from a random start; E[τ] is held at `precision` for the first `held` sweeps.

    Or from beliefs to `begin` with, such as those under another prior.

    Factors are rescaled only after these: the best scales of a poor fit are far from those of a good one. In
    the CP variant, whose core is known, `rescale` is without meaning.
    """
    if not tucker and len(set(ranks(modes))) > 1:
        raise ValueError(f"CP has one rank for all modes, got {ranks(modes)}")
    beliefs, elbos, last = begin or start(key, modes, precision, tucker), [], None
    for number in tqdm(range(sweeps), desc=label, disable=not progress, leave=False):
        last = sweep(modes, data, beliefs, number < held, tucker=tucker)
        elbos.append(float(last.elbo))
        beliefs = last.beliefs
        if tucker and rescale and number >= held:
            beliefs = rescaled(modes, data, beliefs, last.q.sites)
    assert last is not None, "at least one sweep"
    return Fit(last.q, last.beliefs, np.array(elbos))


def best(key: jax.Array, modes: tuple[Mode, ...], data: Entries, **settings: Any) -> Fit:
    """With and without rescaling from the same start, the fit of the higher bound.

    Smooth functions reach the same bound from every start if they are rescaled; tables and rough functions
    have local optima, and either way may end in the better one.
    """
    fits = [fit(key, modes, data, rescale=rescale, **settings) for rescale in (True, False)]
    return max(fits, key=lambda found: found.elbos[-1])
