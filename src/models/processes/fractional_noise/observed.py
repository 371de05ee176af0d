"""Paths that are seen at some times with noise: dX = -θ X dt + s dB^, X(0) = 0, seen_i ~ N(X(t_i), noise^2).

The model, a guide with a learned control, and the two forms of the bound. All is linear and Gaussian, so
that the best control is an affine function of the state, u = gain_n (x, y) + offset_n, where the offset
is linear in the observations that are still to come. The guide has this form by default ("affine"); its
coefficients are a network of time, and it starts as the control that pins a Brownian motion to the next
observation, which favors a Brownian prior. The paper's control is a network of everything, (t, x, y) and
the observations, and starts at zero: "network" (in `video.py` too). What either has to find is known from
`exact.py`, which has the bound of the best control and the log marginal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd

import ppl
from models.common.nets import layers, perceptron
from models.processes.fractional_noise.coefficients import (
    Driver,
    Kind,
    driver,
    geometric_rates,
    initial_covariance,
    spread_rates,
)
from models.processes.fractional_noise.equation import State, energy, guided_path, prior_path

Params = dict[str, Any]
Form = Literal["affine", "network"]


@dataclass(frozen=True)
class Problem:
    """What is given. To a program it is one constant, where a named tuple would be traced number by number.

    Attributes:
        horizon: T.
        steps: of Euler; their length has to be small beside noise^2 / (s sum_k w_k)^2.
        at: after how many steps there are observations.
        noise: of the observations.
        pull: θ.
        kind: "II" begins with Y(0) = 0; "I" with a stationary Y(0), which the guide has to infer.
        ahead: how many of the observations to come the control looks at.
        form: of the control, "affine" in (x, y) or a "network" of them.
    """

    horizon: float
    steps: int
    at: tuple[int, ...]
    noise: float
    pull: float = 0.0
    kind: Kind = "II"
    ahead: int = 1
    form: Form = "affine"

    @property
    def dt(self) -> float:
        return self.horizon / self.steps

    @property
    def times(self) -> np.ndarray:
        """When each step begins."""
        return (self.dt * np.arange(self.steps)).astype(np.float32)

    @property
    def rates(self) -> np.ndarray:
        """Type I needs slower processes than type II."""
        return geometric_rates(5) if self.kind == "II" else spread_rates(10, 1e-4, 20.0)

    @property
    def deviations(self) -> np.ndarray:
        """Of each Y_k at the end, without a control."""
        rates, share = self.rates, 1.0
        if self.kind == "II":
            share = -np.expm1(-2.0 * rates * self.horizon)
        return np.sqrt(share / (2.0 * rates)).astype(np.float32)

    @property
    def upcoming(self) -> np.ndarray:
        """Which observations are next, at each step; the number of all of them where there are no more."""
        first = np.searchsorted(self.at, np.arange(self.steps), side="right")
        return np.minimum(first[:, None] + np.arange(self.ahead), len(self.at))

    @property
    def left(self) -> np.ndarray:
        """The time until the next observation, from the beginning of each step."""
        ends = np.append(self.at, self.steps)
        return (self.dt * (ends[self.upcoming[:, 0]] - np.arange(self.steps))).astype(np.float32)

    @property
    def clock(self) -> np.ndarray:
        """What the control sees of time, the same for steps of any length: t, and the log of what is left."""
        longest = self.dt * np.max(np.diff(self.at, prepend=0))
        both = self.times / self.horizon - 0.5, np.log(self.left / longest) + 1.5
        return np.stack(both, 1).astype(np.float32)


class Learn(NamedTuple):
    """Which parts are learned, or used; a Boolean each, and an array of them for a fit of several.

    Attributes:
        hurst: else it stays where it is.
        scale: else s stays where it is.
        control: else u = 0, and the guide's paths are the prior's.
    """

    hurst: Any
    scale: Any
    control: Any


class Setting(NamedTuple):
    """What the parameters say about the prior."""

    driver: Driver
    scale: jax.Array


def setting(params: Params, problem: Problem, learn: Learn) -> Setting:
    """In single precision, but for the weights, which are solved for in double."""
    held = lambda leaf, free: jnp.where(free, leaf, jax.lax.stop_gradient(leaf))
    hurst = jax.nn.sigmoid(held(params["hurst"], learn.hurst))
    noise = driver(hurst, problem.rates, problem.horizon, problem.kind)
    single = lambda leaf: jnp.asarray(leaf, params["scale"].dtype)
    return Setting(jax.tree.map(single, noise), jnp.exp(held(params["scale"], learn.scale)))


def initial(key: jax.Array, problem: Problem, hidden: int, hurst: float = 0.5) -> Params:
    """A network that returns zero, s = 1, and the stationary Y(0)."""
    number, units, out = len(problem.rates), 2 + problem.ahead, problem.ahead + len(problem.rates) + 1
    if problem.form == "network":
        units, out = units + problem.ahead + number + 1, 1
    params: Params = {
        "hurst": jnp.log(hurst) - jnp.log1p(-hurst),
        "scale": jnp.zeros(()),
        "control": layers(key, (units, hidden, hidden, out), silent=True),
    }
    if problem.kind == "I":
        params["Y(0)"] = {"mean": jnp.zeros((number, problem.ahead)), "root": jnp.zeros((number, number))}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


# --- the two programs


@ppl.gen
def start(problem: Problem, mean: Any = None, root: Any = None):
    """X(0) = 0, and Y(0): zero, or normal, by default with the stationary moments."""
    number = len(problem.rates)
    if problem.kind == "II":
        return State(jnp.zeros(1, jnp.float32), jnp.zeros((1, number), jnp.float32))
    root = _stationary(problem) if root is None else root
    mean = jnp.zeros(number, jnp.float32) if mean is None else mean
    y = ppl.multivariate_normal(mean, scale_tril=root) @ "Y(0)"
    return State(jnp.zeros(1, jnp.float32), y[None])


def _stationary(problem: Problem) -> np.ndarray:
    return np.linalg.cholesky(initial_covariance(problem.rates)).astype(np.float32)


def _field(problem: Problem, scale: jax.Array) -> Callable[..., Any]:
    return lambda t, x: (-problem.pull * x, scale)


@ppl.gen
def observations(problem: Problem, path: State):
    x = path.x[np.array(problem.at) - 1, 0]
    ppl.normal(x, jnp.full_like(x, problem.noise)) @ "seen"


@ppl.gen
def model(prior: Setting, problem: Problem):
    begin = start(problem) @ ()
    field = _field(problem, prior.scale)
    path = prior_path(prior.driver, field, problem.dt, problem.times, begin) @ ()
    observations(problem, path) @ ()


@ppl.gen
def guide(params: Params, prior: Setting, problem: Problem, seen: jax.Array, learn: Learn):
    begin = start(problem, *_of_start(params, problem, seen)) @ ()
    if problem.form == "network":
        control, known = _network(params, prior, problem, seen, learn)
    else:
        known = coefficients(params, prior, problem, seen, learn)
        control = lambda known, state: known[0] @ jnp.append(state.y[0], state.x) + known[1][None]
    field = _field(problem, prior.scale)
    return guided_path(prior.driver, field, problem.dt, problem.times, begin, control, known) @ ()


def _network(params: Params, prior: Setting, problem: Problem, seen: jax.Array, learn: Learn) -> Any:
    """u(t, x, y, observations to come), and what it knows of each step; zero where the network is.

    X and observations are in units of what is not known of the next observation, d = (a^2 left + noise^2)^1/2
    with a = s sum_k w_k, and u in units of a / d.
    """
    some = jnp.abs(prior.scale * jnp.sum(prior.driver.weights))
    doubt = jnp.sqrt(some**2 * problem.left + problem.noise**2)
    there = (problem.upcoming < len(problem.at)).astype(np.float32)
    coming = jnp.append(seen, 0.0)[problem.upcoming] / doubt[:, None]
    facts = jnp.concatenate([problem.clock, there, coming], axis=1)

    def control(known: Any, state: State) -> jax.Array:
        facts, doubt = known
        inputs = jnp.concatenate([facts, state.y[0] / problem.deviations, state.x / doubt])
        return learn.control * some / doubt * perceptron(params["control"], inputs)

    return control, (facts, doubt)


def coefficients(
    params: Params, prior: Setting, problem: Problem, seen: jax.Array, learn: Learn
) -> tuple[jax.Array, jax.Array]:
    """Gains on (y, x), of shape (steps, K + 1), and offsets, of shape (steps,).

    In units of what pins a Brownian motion to the next observation, a / (a^2 left + noise^2) with
    a = s sum_k w_k, which grows as the time that is left falls; and, for y, of its standard deviations. Where
    the network returns zero the control is that pin: from u = 0, the authors' start, H is slow to be found.
    """
    some = jnp.abs(prior.scale * jnp.sum(prior.driver.weights))
    unit = learn.control * some / (some**2 * problem.left + problem.noise**2)
    there = (problem.upcoming < len(problem.at)).astype(np.float32)
    out = perceptron(params["control"], np.concatenate([problem.clock, there], 1)) * unit[:, None]
    pulls, gain = out[:, : problem.ahead] * there, out[:, problem.ahead :]
    pulls = pulls.at[:, 0].add(unit * there[:, 0])
    gain = gain / np.append(problem.deviations, np.float32(1.0))
    offset = jnp.sum(pulls * jnp.append(seen, 0.0)[problem.upcoming], axis=1)
    return gain.at[:, -1].add(-jnp.sum(pulls, axis=1)), offset


def _of_start(params: Params, problem: Problem, seen: jax.Array) -> tuple[jax.Array, jax.Array] | tuple[()]:
    """Mean and root of Y(0) under the guide, in units of the prior's root."""
    if problem.kind == "II":
        return ()
    root, given = _stationary(problem), params["Y(0)"]["root"]
    lower = jnp.tril(given, -1) + jnp.diag(jnp.exp(jnp.diag(given)))
    return root @ params["Y(0)"]["mean"] @ seen[: problem.ahead], root @ lower


# --- the bound, in two forms of one mean


def with_martingale(
    params: Params, prior: Setting, problem: Problem, seen: jax.Array, learn: Learn
) -> jax.Array:
    """log p - log q of the path that was drawn: the same for every path where the guide is exact."""
    target = model(prior, problem).condition({"seen": seen})
    return ppl.elbo(target, guide(params, prior, problem, seen, learn))


def without_martingale(
    params: Params, prior: Setting, problem: Problem, seen: jax.Array, learn: Learn
) -> jax.Array:
    """The expected log likelihood less divergences in closed form, of the path and of Y(0)."""
    found = guide(params, prior, problem, seen, learn).propose().retval
    likelihood = observations(problem, found.path).log_density({"seen": seen})
    return likelihood - energy(found.control, problem.dt) - _divergence_of_start(params, problem, seen)


def _divergence_of_start(params: Params, problem: Problem, seen: jax.Array) -> Any:
    if problem.kind == "II":
        return 0.0
    mean, root = _of_start(params, problem, seen)
    prior = npd.MultivariateNormal(jnp.zeros_like(mean), scale_tril=_stationary(problem))
    return npd.kl_divergence(npd.MultivariateNormal(mean, scale_tril=root), prior)


Bound = Callable[[Params, Setting, Problem, jax.Array, Learn], jax.Array]


def mean_bound(
    problem: Problem, form: Bound = without_martingale, paths: int = 1
) -> Callable[..., jax.Array]:
    """A function of parameters, observations (series, times) and what to learn: the mean over series.

    Args:
        paths: of the guide, for each series.
    """

    def mean(params: Params, seen: jax.Array, learn: Learn) -> jax.Array:
        prior = setting(params, problem, learn)
        one = lambda seen: form(params, prior, problem, seen, learn)
        return jnp.mean(jax.vmap(one)(jnp.repeat(seen, paths, axis=0)))

    return mean


def ensemble(problem: Problem, form: Bound = without_martingale, paths: int = 1) -> ppl.Expectation:
    """The sum of `mean_bound` over fits with nothing in common: all arguments have a leading axis of fits."""

    @ppl.expectation
    def total(params: Params, data: dict[str, Any]) -> jax.Array:
        mean = mean_bound(problem, form, paths)
        return jnp.sum(jax.vmap(mean)(params, data["seen"], data["learn"]))

    return total
