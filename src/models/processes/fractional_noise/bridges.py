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
from models.processes.fractional_noise.observed import Form, Learn, Params, Problem
from models.processes.fractional_noise.training import Stage, trained

HORIZON, PULL, NOISE = 2.0, 1.0, 0.1


class Case(NamedTuple):
    """Bridges that are trained side by side: their type, form of control, and Hurst indices; and how."""

    kind: Kind
    form: Form
    indices: tuple[float, ...]
    stages: tuple[Stage, ...] = (Stage(200, 2000, 1e-2), Stage(1600, 200, 3e-3))
    hidden: int = 32
    paths: int = 32

    def problem(self, euler: int) -> Problem:
        return Problem(HORIZON, euler, (euler,), NOISE, PULL, self.kind, form=self.form)

    @property
    def given(self) -> Problem:
        """The finest, by which fits are judged."""
        return self.problem(self.stages[-1].euler)


class Config(NamedTuple):
    """All bridges, and how often they are drawn to be judged.

    A general network of (t, x, y) takes several times as long for each step, and many more steps.
    """

    cases: tuple[Case, ...] = (
        Case("II", "affine", (0.3, 0.5, 0.7)),
        Case("I", "affine", (0.7,)),
        Case("II", "network", (0.7,), (Stage(200, 800, 1e-2), Stage(800, 50, 1e-3)), 24, 16),
    )
    draws: int = 4000


def shown(euler: int) -> np.ndarray:
    """Which steps are compared with theory: twenty, the last of them the last."""
    return np.linspace(euler / 20, euler, 20).round().astype(int) - 1


class Fit(NamedTuple):
    """A bridge of one kind, one Hurst index and one seed.

    Attributes:
        bound: of the guide.
        uncontrolled: of a guide without a control; of type I trained as well, for its Y(0).
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


def fits(case: Case, draws: int, seeds: Sequence[int], progress: bool) -> dict[tuple[float, int], Fit]:
    """A `Fit` for each index and seed, trained side by side; H is known here."""
    pairs = [(hurst, seed) for hurst in case.indices for seed in seeds]
    keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), round(100 * h)) for h, seed in pairs])
    judging = jax.random.split(keys[-1], len(pairs))
    yes, given = np.ones(len(pairs), bool), case.given
    params = jax.vmap(lambda key, h: observed.initial(key, given, case.hidden, h))(
        keys, np.array([h for h, _ in pairs])
    )
    # Without a control a guide of type II has nothing to learn.
    idle = _trained(case, params, ~yes, keys[0], progress) if case.kind == "I" else params
    params = _trained(case, params, yes, keys[0], progress)
    judge = jax.jit(lambda *lanes: jax.lax.map(lambda lane: _judged(*lane, given, draws), lanes))
    bounds, deviations, paths = judge(judging, params, yes)
    without = judge(judging, idle, ~yes)[0]
    truths = {h: (*_truth(given, h), _exact_deviation(given, h)) for h in case.indices}

    def fit(i: int, hurst: float) -> Fit:
        best, log_marginal, exactly = truths[hurst]
        drawn = np.asarray(deviations[i]), exactly, np.asarray(paths[i])
        return Fit(float(bounds[i]), float(without[i]), best, log_marginal, *drawn)

    return {pair: fit(i, pair[0]) for i, pair in enumerate(pairs)}


def _trained(case: Case, params: Params, control: np.ndarray, key: jax.Array, progress: bool) -> Params:
    no = np.zeros_like(control)
    data = {"seen": np.zeros((len(control), 1, 1), np.float32), "learn": Learn(no, no, control)}
    return trained(case.problem, case.stages, params, data, key=key, paths=case.paths, progress=progress)


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
