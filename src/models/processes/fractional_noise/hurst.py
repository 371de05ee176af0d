"""Whether the bound finds the Hurst index, and what is lost where it is held at one half.

Data are exact paths of fractional Brownian motion of type II, drawn by the Cholesky factor of its
closed-form covariance, seen at 40 times with noise 0.2. The prior is B^ itself, with its scale known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from models.processes.fractional_noise import covariance, exact, observed
from models.processes.fractional_noise.observed import Learn, Problem
from models.processes.fractional_noise.training import Stage, trained

HORIZON, SEEN, NOISE = 1.0, 40, 0.2
OURS, BROWNIAN, SCALED, IDLE = "MA-fBM", "BM", "BM, own scale", "u = 0"
VARIANTS = {
    OURS: Learn(True, False, True),
    BROWNIAN: Learn(False, False, True),
    SCALED: Learn(False, True, True),
    IDLE: Learn(True, False, False),
}


class Config(NamedTuple):
    """How much of everything; `draws` paths of the guide for each series, where it is judged."""

    indices: tuple[float, ...] = (0.3, 0.5, 0.7)
    series: int = 64
    ahead: int = 8
    hidden: int = 32
    stages: tuple[Stage, ...] = (Stage(200, 250, 5e-3, 3e-2), Stage(800, 70, 2e-3, 2e-2))
    draws: int = 4


def problem(config: Config, euler: int) -> Problem:
    every = euler // SEEN
    at = tuple(range(every, euler + 1, every))
    return Problem(HORIZON, euler, at, NOISE, ahead=config.ahead)


def series(random: Any, hurst: float, number: int) -> np.ndarray:
    """Exact paths with noise, of shape (number, SEEN)."""
    times = HORIZON * np.arange(1, SEEN + 1) / SEEN
    exactly = covariance.paths(random, covariance.fractional(hurst, times), number)
    return (exactly + NOISE * random.standard_normal(exactly.shape)).astype(np.float32)


class Fit(NamedTuple):
    """One variant, true Hurst index and seed; bounds are of series not trained on, in nats for each.

    Attributes:
        hurst, scale: that were found, or held.
        bound: of the guide.
        best: of any control of this prior.
        log_marginal: of this prior.
    """

    hurst: float
    scale: float
    bound: float
    best: float
    log_marginal: float


Lane = tuple[str, float, int]


def fits(config: Config, seeds: tuple[int, ...], progress: bool) -> dict[Lane, Fit]:
    """All variants, indices and seeds, trained side by side."""
    lanes = [(name, hurst, seed) for name in VARIANTS for hurst in config.indices for seed in seeds]
    train, test = _data(config, lanes)
    learn = jax.tree.map(lambda *some: np.array(some), *(VARIANTS[name] for name, _, _ in lanes))
    keys = jnp.stack([jax.random.key(seed) for _, _, seed in lanes])
    params = jax.vmap(lambda key: observed.initial(key, problem(config, SEEN), config.hidden))(keys)
    params = trained(
        lambda euler: problem(config, euler), config.stages, params, {"seen": train, "learn": learn},
        key=keys[0], progress=progress,
    )  # fmt: skip
    given = problem(config, config.stages[-1].euler)
    bounds = _bounds(given, config.draws)(keys, params, test, learn)
    hursts, scales = jax.nn.sigmoid(params["hurst"].astype(float)), jnp.exp(params["scale"])
    exactly = truths(given)(hursts, scales, test.astype(float))
    columns = zip(hursts, scales, bounds, exactly.best, exactly.log_marginal, strict=True)
    return {lane: Fit(*map(float, column)) for lane, column in zip(lanes, columns, strict=True)}


def _data(config: Config, lanes: list[Lane]) -> tuple[np.ndarray, np.ndarray]:
    """The same for all variants, of shape (lanes, series, SEEN)."""
    drawn = {}
    for _, hurst, seed in lanes:
        random = np.random.default_rng((seed, round(100 * hurst)))
        drawn[hurst, seed] = series(random, hurst, 2 * config.series)
    every = np.stack([drawn[hurst, seed] for _, hurst, seed in lanes])
    return every[:, : config.series], every[:, config.series :]


def _bounds(given: Problem, draws: int) -> Any:
    """With the martingale term, which makes it vary least."""
    mean = ppl.expectation(observed.mean_bound(given, observed.with_martingale, draws))
    return jax.jit(jax.vmap(lambda key, *lane: mean.estimate(key, *lane)))


def truths(given: Problem) -> Any:
    def of(hurst: jax.Array, scale: jax.Array, seen: jax.Array) -> exact.Truth:
        noise = observed.driver(hurst, given.rates, given.horizon, given.kind)
        prior = exact.chain(noise, given.pull, scale, given.dt, given.steps)
        each = jax.vmap(lambda seen: exact.truth(prior, np.array(given.at), seen, NOISE))(seen)
        return jax.tree.map(jnp.mean, each)

    return jax.jit(lambda *lanes: jax.lax.map(lambda lane: of(*lane), lanes))
