"""The fractional Ornstein-Uhlenbeck bridge: dX = -X dt + dB^, X(0) = 0, X(2) = 0 up to noise.

What the guide finds is held to the best bound of any control, to the log marginal, and, as in the paper's
figure, to the variance of the bridge of the true process along the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from models.processes.fractional_noise import exact, observed
from models.processes.fractional_noise.coefficients import Kind
from models.processes.fractional_noise.covariance import bridge_variance
from models.processes.fractional_noise.observed import Learn, Params, Problem
from models.processes.fractional_noise.training import Stage, trained

HORIZON, PULL, NOISE = 2.0, 1.0, 0.1


class Config(NamedTuple):
    """How bridges are trained, and how often they are drawn to be judged."""

    stages: tuple[Stage, ...] = (Stage(200, 2000, 1e-2), Stage(1600, 200, 3e-3))
    hidden: int = 32
    paths: int = 32
    draws: int = 4000
    types: tuple[tuple[Kind, tuple[float, ...]], ...] = (("II", (0.3, 0.5, 0.7)), ("I", (0.7,)))


def problem(kind: Kind, euler: int) -> Problem:
    return Problem(HORIZON, euler, (euler,), NOISE, PULL, kind)


def shown(euler: int) -> np.ndarray:
    """Which steps are compared with theory: twenty, the last of them the last."""
    return np.linspace(euler / 20, euler, 20).round().astype(int) - 1


class Fit(NamedTuple):
    """A bridge of one kind, one Hurst index and one seed.

    Attributes:
        bound: of the guide, and, as an ablation, without its control.
        best: of any control.
        log_marginal: in the same time steps.
        deviation: of the guide's X after each step.
        exact_deviation: of the bridge of the true process; of type II only.
        draws: some of the guide's paths.
    """

    bound: float
    uncontrolled: float
    best: float
    log_marginal: float
    deviation: np.ndarray
    exact_deviation: np.ndarray | None
    draws: np.ndarray


def fits(config: Config, kind: Kind, indices: Sequence[float], seeds: Sequence[int], progress: bool) -> Any:
    """A `Fit` for each index and seed, trained side by side; H is known here."""
    given = problem(kind, config.stages[-1].euler)
    lanes = [(hurst, seed) for hurst in indices for seed in seeds]
    keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), round(100 * h)) for h, seed in lanes])
    hursts = jnp.array([h for h, _ in lanes])
    params = jax.vmap(lambda key, h: observed.initial(key, given, config.hidden, h))(keys, hursts)
    no = np.zeros(len(lanes), bool)
    data = {"seen": np.zeros((len(lanes), 1, 1), np.float32), "learn": Learn(no, no, ~no)}
    params = trained(
        lambda euler: problem(kind, euler), config.stages, params, data, key=keys[0], paths=config.paths,
        progress=progress,
    )  # fmt: skip
    judge = jax.jit(lambda *lanes: jax.lax.map(lambda lane: _judged(*lane, given, config.draws), lanes))
    drawn, idle = (judge(jax.random.split(keys[-1], len(lanes)), params, use) for use in (~no, no))
    truths = {h: _truth(given, h) for h in indices}
    shapes = {h: _exact_deviation(given, h) for h in indices}
    return {
        lane: Fit(float(drawn[0][i]), float(idle[0][i]), *truths[lane[0]], np.asarray(drawn[1][i]),
                  shapes[lane[0]], np.asarray(drawn[2][i]))
        for i, lane in enumerate(lanes)
    }  # fmt: skip


def _judged(key: jax.Array, params: Params, control: jax.Array, given: Problem, draws: int) -> Any:
    """The bound, the deviation of X, and a few paths."""
    learn, seen = Learn(False, False, control), jnp.zeros(1, jnp.float32)

    @ppl.expectation
    def bound(params: Params) -> jax.Array:
        one = lambda _: observed.with_martingale(
            params, observed.setting(params, given, learn), given, seen, learn
        )
        return jnp.mean(jax.vmap(one)(jnp.arange(draws)))

    def path(key: jax.Array) -> jax.Array:
        prior = observed.setting(params, given, learn)
        return observed.guide(params, prior, given, seen, learn).simulate(key).retval.path.x[:, 0]

    drawn = jax.vmap(path)(jax.random.split(key, draws))
    return bound.estimate(key, params), jnp.std(drawn, axis=0), drawn[:8]


def _truth(given: Problem, hurst: float) -> tuple[float, float]:
    noise = observed.driver(hurst, given.rates, given.horizon, given.kind)
    prior = exact.chain(noise, PULL, 1.0, given.dt, given.steps, given.kind == "I")
    found = jax.jit(lambda seen: exact.truth(prior, np.array(given.at), seen, NOISE))(jnp.zeros(1))
    return float(found.best), float(found.log_marginal)


def _exact_deviation(given: Problem, hurst: float) -> np.ndarray | None:
    """At twenty times; there is no simple kernel for type I."""
    if given.kind == "I":
        return None
    times = given.dt * (shown(given.steps) + 1)
    return np.sqrt(bridge_variance(hurst, PULL, times, HORIZON, NOISE))
