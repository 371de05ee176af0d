"""Targets and guides with their truths: sums over values of the choices, or over a grid of them.

A problem's `grid(theta)` is what a guide may draw: weights that move with the parameters, and the log
densities of target and guide. Bounds over several particles are sums over all tuples of draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.testing.rules import panels

sigmoid, logpdf = jax.nn.sigmoid, jax.scipy.stats.norm.logpdf


class Grid(NamedTuple):
    """What a guide may draw: weights that sum to one, and the logarithms of both densities."""

    weights: Any
    log_p: Any
    log_q: Any

    def elbo(self) -> Any:
        """The evidence lower bound."""
        return jnp.sum(self.weights * (self.log_p - self.log_q))

    def iwelbo(self, particles: int) -> Any:
        """The importance-weighted bound, over all tuples of draws."""
        weights, total = jnp.ones(()), -jnp.inf
        for axis in range(particles):
            shape = [-1 if i == axis else 1 for i in range(particles)]
            weights = weights * self.weights.reshape(shape)
            total = jnp.logaddexp(total, (self.log_p - self.log_q).reshape(shape))
        return jnp.sum(weights * (total - jnp.log(particles)))


class Problem(NamedTuple):
    """A target and a guide that share the parameters.

    Attributes:
        target: `theta -> measure`.
        guide: `theta -> measure`, to be given estimators.
        grid: `theta -> Grid`.
        draws: how many random numbers a draw of the guide takes, at least.
    """

    target: Callable[[Any], Any]
    guide: Callable[[Any], Any]
    grid: Callable[[Any], Grid]
    draws: int


# --- one normal -----------------------------------------------------------------------------------


@ppl.gen
def normal_model(t: Any) -> Any:
    x = ppl.normal(0.2, 1.1) @ "x"
    ppl.normal(x * (1 + 0.2 * t[1]), 0.8) @ "y"


@ppl.gen
def normal_guide(t: Any) -> Any:
    ppl.normal(t[0], 0.9 * jnp.exp(0.3 * t[1])) @ "x"


def normal_grid(t: Any) -> Grid:
    x, step = panels(np.linspace(-9, 9, 10), 10)
    log_q = logpdf(x, t[0], 0.9 * jnp.exp(0.3 * t[1]))
    log_p = logpdf(x, 0.2, 1.1) + logpdf(0.7, x * (1 + 0.2 * t[1]), 0.8)
    return Grid(step * jnp.exp(log_q), log_p, log_q)


NORMAL = Problem(lambda t: normal_model(t).condition({"y": 0.7}), normal_guide, normal_grid, 1)


# --- two coins, the second after the first --------------------------------------------------------


@ppl.gen
def coins_model(t: Any) -> Any:
    a = ppl.flip(0.4) @ "a"
    b = ppl.flip(jnp.where(a, 0.7, 0.2)) @ "b"
    ppl.normal(a + 2.0 * b * t[1], 1.0) @ "y"


@ppl.gen
def coins_guide(t: Any) -> Any:
    a = ppl.flip(sigmoid(t[0])) @ "a"
    ppl.flip(sigmoid(t[1] + a)) @ "b"


def coins_grid(t: Any) -> Grid:
    rows = []
    for a, b in itertools.product((0.0, 1.0), repeat=2):
        p, q = sigmoid(t[0]), sigmoid(t[1] + a)
        weight = (p if a else 1 - p) * (q if b else 1 - q)
        prior = (0.4 if a else 0.6) * ((0.7, 0.3) if a else (0.2, 0.8))[0 if b else 1]
        rows.append((weight, jnp.log(prior) + logpdf(1.3, a + 2.0 * b * t[1], 1.0), jnp.log(weight)))
    return Grid(*(jnp.stack(column) for column in zip(*rows, strict=True)))


COINS = Problem(lambda t: coins_model(t).condition({"y": 1.3}), coins_guide, coins_grid, 2)


# --- a coin, then a normal ------------------------------------------------------------------------


@ppl.gen
def mixed_model(t: Any) -> Any:
    b = ppl.flip(0.3) @ "b"
    x = ppl.normal(jnp.where(b, 1.0, -0.5), 1.0) @ "x"
    ppl.normal(x + 0.3 * t[1], 0.9) @ "y"


def _mixed(probability: Callable[[Any], Any]) -> tuple[Any, Any]:
    @ppl.gen
    def guide(t: Any) -> Any:
        b = ppl.flip(probability(t)) @ "b"
        ppl.normal(t[0] + 0.8 * b, 0.7 * jnp.exp(0.2 * t[1])) @ "x"

    def grid(t: Any) -> Grid:
        x, step = panels(np.linspace(-9, 9, 10), 10)
        rows = []
        for b in (0.0, 1.0):
            p = probability(t) if b else 1 - probability(t)
            log_q = jnp.log(p) + logpdf(x, t[0] + 0.8 * b, 0.7 * jnp.exp(0.2 * t[1]))
            prior = np.log(0.3 if b else 0.7) + logpdf(x, 1.0 if b else -0.5, 1.0)
            rows.append((step * jnp.exp(log_q), prior + logpdf(0.4, x + 0.3 * t[1], 0.9), log_q))
        return Grid(*(jnp.concatenate(column) for column in zip(*rows, strict=True)))

    return guide, grid


def _mixed_problem(probability: Callable[[Any], Any]) -> Problem:
    guide, grid = _mixed(probability)
    return Problem(lambda t: mixed_model(t).condition({"y": 0.4}), guide, grid, 1)


MIXED = _mixed_problem(lambda t: sigmoid(t[1] - 0.3))
FIXED_COIN = _mixed_problem(lambda t: jnp.asarray(0.35))


# --- two normals in a chain -----------------------------------------------------------------------


@ppl.gen
def chain_model(t: Any) -> Any:
    x = ppl.normal(0.1, 1.0) @ "x"
    z = ppl.normal(0.5 * x, 1.0) @ "z"
    ppl.normal(z, 1.6) @ "y"


@ppl.gen
def chain_guide(t: Any) -> Any:
    x = ppl.normal(0.3 * t[0], 0.95) @ "x"
    ppl.normal(0.5 * x + 0.2 * t[1], 0.9 * jnp.exp(0.2 * t[0])) @ "z"


def chain_grid(t: Any) -> Grid:
    nodes, step = np.polynomial.hermite_e.hermegauss(24)
    x, z = (axis.ravel() for axis in np.meshgrid(1.1 * nodes, 1.3 * nodes, indexing="ij"))
    lebesgue = np.outer(1.1 * step, 1.3 * step).ravel() * np.exp(0.5 * ((x / 1.1) ** 2 + (z / 1.3) ** 2))
    log_q = logpdf(x, 0.3 * t[0], 0.95) + logpdf(z, 0.5 * x + 0.2 * t[1], 0.9 * jnp.exp(0.2 * t[0]))
    log_p = logpdf(x, 0.1, 1.0) + logpdf(z, 0.5 * x, 1.0) + logpdf(0.6, z, 1.6)
    return Grid(lebesgue * jnp.exp(log_q), log_p, log_q)


CHAIN = Problem(lambda t: chain_model(t).condition({"y": 0.6}), chain_guide, chain_grid, 2)
