"""The five rows in `ppl`, by its public names only. Each bound is one line."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from _cone_problem import Cell

import ppl

RADIUS = 5.0**0.5


@ppl.gen
def cone():
    x = ppl.normal(0.0, 10.0) @ "x"
    y = ppl.normal(0.0, 10.0) @ "y"
    s = x**2 + y**2
    ppl.normal(s, 0.1 + s / 100.0) @ "z"


posterior = cone().condition({"z": 5.0})


@ppl.gen
def blob(phi):
    ppl.normal(phi["mx"], jnp.exp(phi["lx"])) @ "x"
    ppl.normal(phi["my"], jnp.exp(phi["ly"])) @ "y"


@ppl.gen
def ring(phi):
    theta = 2.0 * jnp.pi * (ppl.uniform(0.0, 1.0) @ "u")
    ppl.normal(RADIUS * jnp.cos(theta), jnp.exp(phi["lx"])) @ "x"
    ppl.normal(RADIUS * jnp.sin(theta), jnp.exp(phi["ly"])) @ "y"


@ppl.expectation
def elbo(phi):
    return ppl.elbo(posterior, blob(phi))


@ppl.expectation
def iwelbo(phi):
    return ppl.iwelbo(5)(posterior, blob(phi))


@ppl.expectation
def hvi(phi):
    return ppl.elbo(posterior, ppl.marginal(ring(phi), ["x", "y"], particles=1))


@ppl.expectation
def iwhvi(phi):
    return ppl.elbo(posterior, ppl.marginal(ring(phi), ["x", "y"], particles=5))


@ppl.expectation
def diwhvi(phi):
    return ppl.iwelbo(5)(posterior, ppl.marginal(ring(phi), ["x", "y"], particles=5))


OBJECTIVES = {
    "ELBO": elbo,
    "IWELBO(5)": iwelbo,
    "HVI": hvi,
    "IWHVI(5,1)": iwhvi,
    "DIWHVI(5,5)": diwhvi,
}


def cell(objective: Any) -> Cell:
    guide = "blob" if objective in (elbo, iwelbo) else "ring"
    gradient = lambda key, phi, batch: objective.grad(key, phi, num_samples=batch)
    return Cell(objective.estimate, gradient, (guide, objective.function.__name__))


CELLS = {name: cell(objective) for name, objective in OBJECTIVES.items()}
