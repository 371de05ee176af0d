"""Posteriors whose means and standard deviations are known: each as a program of `ppl` and one of NumPyro.

Data are real where an ordinary package or a textbook has them; else they are made here, with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import _posteriors_known as known
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
from _posteriors_known import Moments
from sklearn.datasets import load_breast_cancer, load_diabetes

import ppl


class Posterior(NamedTuple):
    """A problem.

    Attributes:
        target: in `ppl`.
        peer: in NumPyro, with the same addresses.
        moments: of every latent choice; `None` where a long run of NUTS has to tell.
        how: they are known.
        estimators: of a guide's choices, where the default has too much variance: a guide has the defaults,
            whatever its target's choices have.
    """

    target: ppl.Measure
    peer: Callable[[], None]
    moments: Callable[[], Moments] | None
    how: str
    estimators: dict[str, ppl.estimators.Estimator] = {}  # noqa: RUF012


# One coin: 7 of 10 are heads.
HEADS = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0])


@ppl.gen
def coin():
    p = ppl.beta(2.0, 2.0) @ "p"
    ppl.bernoulli(probs=jnp.full(10, p)) @ "y"


def numpyro_coin():
    p = numpyro.sample("p", npd.Beta(2.0, 2.0))
    numpyro.sample("y", npd.Bernoulli(p).expand([10]).to_event(1), obs=HEADS)


# Deaths by horse kicks in 200 corps-years of the Prussian army (von Bortkiewicz, 1898).
KICKS = np.repeat(np.arange(5), [109, 65, 22, 3, 1])


@ppl.gen
def counts():
    rate = ppl.gamma(1.0, 1.0) @ "rate"
    ppl.poisson(jnp.full(200, rate)) @ "y"


def numpyro_counts():
    rate = numpyro.sample("rate", npd.Gamma(1.0, 1.0))
    numpyro.sample("y", npd.Poisson(rate).expand([200]).to_event(1), obs=KICKS)


def _standardized(x: Any) -> Any:
    return (x - x.mean(0)) / x.std(0)


# Progress of diabetes in 442 patients, by four blood values; two of them are almost the same.
_diabetes = load_diabetes(scaled=False)
BLOOD, PROGRESS = _standardized(_diabetes.data[:, 4:8]), _standardized(_diabetes.target)


@ppl.gen
def regression():
    b = ppl.normal(jnp.zeros(4), 1.0) @ "b"
    ppl.normal(BLOOD @ b, 0.9) @ "y"


def numpyro_regression():
    b = numpyro.sample("b", npd.Normal(0.0, 1.0).expand([4]).to_event(1))
    numpyro.sample("y", npd.Normal(BLOOD @ b, 0.9).to_event(1), obs=PROGRESS)


@ppl.gen
def unknown_noise():
    """Of the first 12 patients, with the variance to be found: its posterior is skewed."""
    variance = ppl.dist(npd.InverseGamma(3.0, 2.0)) @ "variance"
    b = ppl.normal(jnp.zeros(2), jnp.sqrt(variance)) @ "b"
    ppl.normal(BLOOD[:12, ::3] @ b, jnp.sqrt(variance)) @ "y"


def numpyro_unknown_noise():
    variance = numpyro.sample("variance", npd.InverseGamma(3.0, 2.0))
    b = numpyro.sample("b", npd.Normal(0.0, jnp.sqrt(variance)).expand([2]).to_event(1))
    numpyro.sample("y", npd.Normal(BLOOD[:12, ::3] @ b, jnp.sqrt(variance)).to_event(1), obs=PROGRESS[:12])


# A level that wanders, seen through noise.
STEP, NOISE, TIMES = 0.3, 0.5, 20
_random = np.random.default_rng(7)
LEVELS = np.cumsum(_random.normal(0, STEP, TIMES)) + _random.normal(0, NOISE, TIMES)


@ppl.gen
def local_level():
    def step(x, _):
        x = ppl.normal(x, STEP) @ "x"
        ppl.normal(x, NOISE) @ "y"
        return x, None

    jax.lax.scan(step, 0.0, None, length=TIMES)


def numpyro_local_level():
    x = numpyro.sample("x", npd.GaussianRandomWalk(STEP, num_steps=TIMES))
    numpyro.sample("y", npd.Normal(x, NOISE).to_event(1), obs=LEVELS)


# Coaching for a test in eight schools (Rubin, 1981).
EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@ppl.gen
def eight_schools():
    mu = ppl.normal(0.0, 5.0) @ "mu"
    tau = ppl.dist(npd.HalfCauchy(5.0)) @ "tau"
    theta = ppl.normal(jnp.full(8, mu), tau) @ "theta"
    ppl.normal(theta, ERROR) @ "y"


def numpyro_eight_schools():
    mu = numpyro.sample("mu", npd.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", npd.HalfCauchy(5.0))
    theta = numpyro.sample("theta", npd.Normal(mu, tau).expand([8]).to_event(1))
    numpyro.sample("y", npd.Normal(theta, ERROR).to_event(1), obs=EFFECT)


@ppl.gen
def eight_schools_apart():
    """The same, in other coordinates, which depend on each other less."""
    mu = ppl.normal(0.0, 5.0) @ "mu"
    tau = ppl.dist(npd.HalfCauchy(5.0)) @ "tau"
    z = ppl.normal(jnp.zeros(8), 1.0) @ "z"
    ppl.normal(mu + tau * z, ERROR) @ "y"


def numpyro_eight_schools_apart():
    mu = numpyro.sample("mu", npd.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", npd.HalfCauchy(5.0))
    z = numpyro.sample("z", npd.Normal(0.0, 1.0).expand([8]).to_event(1))
    numpyro.sample("y", npd.Normal(mu + tau * z, ERROR).to_event(1), obs=EFFECT)


# Benign or not, 80 tumors by five of their measures.
_cancer = load_breast_cancer()
TUMORS, BENIGN = _standardized(_cancer.data[:80, :5]), _cancer.target[:80]


@ppl.gen
def logistic():
    b = ppl.normal(jnp.zeros(5), 2.0) @ "b"
    ppl.bernoulli(logits=TUMORS @ b) @ "y"


def numpyro_logistic():
    b = numpyro.sample("b", npd.Normal(0.0, 2.0).expand([5]).to_event(1))
    numpyro.sample("y", npd.Bernoulli(logits=TUMORS @ b).to_event(1), obs=BENIGN)


# Returns whose volatility wanders; the recipe of the model itself.
DAYS = 30
RETURNS = _random.normal(0, np.exp(0.5 * np.cumsum(_random.normal(0, 0.4, DAYS))))


@ppl.gen
def volatility():
    def step(h, _):
        h = ppl.normal(h, 0.4) @ "h"
        ppl.normal(0.0, jnp.exp(0.5 * h)) @ "y"
        return h, None

    jax.lax.scan(step, 0.0, None, length=DAYS)


def numpyro_volatility():
    h = numpyro.sample("h", npd.GaussianRandomWalk(0.4, num_steps=DAYS))
    numpyro.sample("y", npd.Normal(0.0, jnp.exp(0.5 * h)).to_event(1), obs=RETURNS)


BEND, WIDTH = 1.0, 0.3


@ppl.gen
def banana():
    """Nothing is observed: a curved density whose moments are known."""
    x = ppl.normal(0.0, 1.0) @ "x"
    ppl.normal(BEND * (x**2 - 1), WIDTH) @ "y"


def numpyro_banana():
    x = numpyro.sample("x", npd.Normal(0.0, 1.0))
    numpyro.sample("y", npd.Normal(BEND * (x**2 - 1), WIDTH))


@ppl.gen
def two_modes():
    x = ppl.normal(0.5, 1.5) @ "x"
    ppl.normal(x**2, 0.7) @ "y"


def numpyro_two_modes():
    x = numpyro.sample("x", npd.Normal(0.5, 1.5))
    numpyro.sample("y", npd.Normal(x**2, 0.7), obs=2.0)


# Events a year; their rate falls after year 18.
YEARS = 40
GAMMA = 2.0, 1.0  # prior of both rates
EVENTS = _random.poisson(np.where(np.arange(YEARS) < 18, 3.0, 1.2))


@ppl.gen
def change():
    """A discrete choice among continuous ones."""
    when = ppl.categorical(logits=jnp.zeros(YEARS)) @ "when"
    early = ppl.gamma(*GAMMA) @ "early"
    late = ppl.gamma(*GAMMA) @ "late"
    ppl.poisson(jnp.where(jnp.arange(YEARS) < when, early, late)) @ "y"


def numpyro_change():
    when = numpyro.sample("when", npd.Categorical(logits=jnp.zeros(YEARS)))
    early = numpyro.sample("early", npd.Gamma(*GAMMA))
    late = numpyro.sample("late", npd.Gamma(*GAMMA))
    numpyro.sample("y", npd.Poisson(jnp.where(jnp.arange(YEARS) < when, early, late)).to_event(1), obs=EVENTS)


def _floats(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


POSTERIORS = {
    "coin": Posterior(
        coin().condition({"y": HEADS}), numpyro_coin, lambda: known.coin(HEADS), "conjugate",
    ),
    "counts": Posterior(
        counts().condition({"y": KICKS}), numpyro_counts, lambda: known.counts(KICKS), "conjugate",
    ),
    "regression": Posterior(
        regression().condition({"y": _floats(PROGRESS)}), numpyro_regression,
        lambda: known.regression(BLOOD, PROGRESS, 0.9), "conjugate",
    ),
    "unknown noise": Posterior(
        unknown_noise().condition({"y": _floats(PROGRESS[:12])}), numpyro_unknown_noise,
        lambda: known.unknown_noise(BLOOD[:12, ::3], PROGRESS[:12], 3.0, 2.0), "conjugate",
    ),
    "local level": Posterior(
        local_level().condition({"y": _floats(LEVELS)}), numpyro_local_level,
        lambda: known.local_level(LEVELS, STEP, NOISE), "linear-Gaussian",
    ),
    "eight schools": Posterior(
        eight_schools().condition({"y": _floats(EFFECT)}), numpyro_eight_schools,
        lambda: known.eight_schools(EFFECT, ERROR, "theta"), "quadrature",
    ),
    "eight schools, apart": Posterior(
        eight_schools_apart().condition({"y": _floats(EFFECT)}), numpyro_eight_schools_apart,
        lambda: known.eight_schools(EFFECT, ERROR, "z"), "quadrature",
    ),
    "logistic": Posterior(
        logistic().condition({"y": BENIGN}), numpyro_logistic, None, "NUTS",
    ),
    "volatility": Posterior(
        volatility().condition({"y": _floats(RETURNS)}), numpyro_volatility, None, "NUTS",
    ),
    "banana": Posterior(
        banana(), numpyro_banana, lambda: known.banana(BEND, WIDTH), "closed form",
    ),
    "two modes": Posterior(
        two_modes().condition({"y": 2.0}), numpyro_two_modes,
        lambda: known.two_modes(2.0, 0.5, 1.5, 0.7), "quadrature",
    ),
    "change point": Posterior(
        change().condition({"y": EVENTS}), numpyro_change, lambda: known.change(EVENTS, *GAMMA), "summed",
        {"when": ppl.estimators.Enumerate()},
    ),
}  # fmt: skip
