"""The five rows in GenJAX 1.0.14. Its library has the ELBO; the others are written out by hand.

It has no marginal and no bound of several particles. Its uniform is reparameterized, as ours is.
"""

from __future__ import annotations

from typing import Any

import genjax
import jax
import jax.numpy as jnp
from _cone_problem import Cell
from genjax import modular_vmap, normal_reparam, uniform_reparam
from genjax.inference.vi import elbo_factory

RADIUS = 5.0**0.5
OBSERVED = {"z": 5.0}


@genjax.gen
def cone():
    x = genjax.normal(0.0, 10.0) @ "x"
    y = genjax.normal(0.0, 10.0) @ "y"
    s = x**2 + y**2
    genjax.normal(s, 0.1 + s / 100.0) @ "z"


@genjax.gen
def blob(observed, phi):
    normal_reparam(phi["mx"], jnp.exp(phi["lx"])) @ "x"
    normal_reparam(phi["my"], jnp.exp(phi["ly"])) @ "y"


@genjax.gen
def ring(phi):
    theta = 2.0 * jnp.pi * (uniform_reparam(0.0, 1.0) @ "u")
    normal_reparam(RADIUS * jnp.cos(theta), jnp.exp(phi["lx"])) @ "x"
    normal_reparam(RADIUS * jnp.sin(theta), jnp.exp(phi["ly"])) @ "y"


elbo = elbo_factory(cone, blob, OBSERVED)


def blob_weight(phi):
    trace = blob.simulate(OBSERVED, phi)
    log_p, _ = cone.assess({**trace.get_choices(), **OBSERVED})
    return log_p + trace.get_score()


@genjax.expectation
def iwelbo(phi):
    log_weights = modular_vmap(lambda _: blob_weight(phi))(jnp.arange(5))
    return jax.nn.logsumexp(log_weights) - jnp.log(5.0)


@genjax.expectation
def hvi(phi):
    trace = ring.simulate(phi)
    choices = trace.get_choices()
    log_p, _ = cone.assess({"x": choices["x"], "y": choices["y"], **OBSERVED})
    return log_p + trace.get_score()  # the reverse density of u is 1


def ring_weight(phi):
    choices = ring.simulate(phi).get_choices()
    log_p, _ = cone.assess({"x": choices["x"], "y": choices["y"], **OBSERVED})
    others = modular_vmap(lambda _: uniform_reparam.sample(0.0, 1.0))(jnp.arange(4))
    us = jnp.concatenate([choices["u"][None], others])
    log_q = modular_vmap(lambda u: ring.assess({**choices, "u": u}, phi)[0])(us)
    return log_p - jax.nn.logsumexp(log_q) + jnp.log(5.0)


@genjax.expectation
def iwhvi(phi):
    return ring_weight(phi)


@genjax.expectation
def diwhvi(phi):
    log_weights = modular_vmap(lambda _: ring_weight(phi))(jnp.arange(5))
    return jax.nn.logsumexp(log_weights) - jnp.log(5.0)


def cell(objective: Any, *written: str) -> Cell:
    one = genjax.seed(lambda phi: objective.grad_estimate(phi))

    def gradient(key: Any, phi: Any, batch: int) -> Any:
        found = jax.vmap(one, in_axes=(0, None))(jax.random.split(key, batch), phi)
        return jax.tree.map(lambda x: jnp.mean(x, 0), found)

    return Cell(genjax.seed(lambda phi: objective.estimate(phi)), gradient, written)


CELLS = {
    "ELBO": cell(elbo, "blob", "elbo"),
    "IWELBO(5)": cell(iwelbo, "blob", "blob_weight", "iwelbo"),
    "HVI": cell(hvi, "ring", "hvi"),
    "IWHVI(5,1)": cell(iwhvi, "ring", "ring_weight", "iwhvi"),
    "DIWHVI(5,5)": cell(diwhvi, "ring", "ring_weight", "diwhvi"),
}
