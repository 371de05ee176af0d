"""Three of the five rows in NumPyro 0.22. HVI is possible by hand: the model gets the reverse law of u.

IWHVI and DIWHVI need, for the density of a point, a mean over several u of which one was drawn with it. A
guide's density is a sum over its sites, so the bound can only be smuggled in as a factor.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from _cone_problem import Cell
from numpyro.infer import RenyiELBO, TraceGraph_ELBO

RADIUS = 5.0**0.5


def cone(phi):
    x = numpyro.sample("x", dist.Normal(0.0, 10.0))
    y = numpyro.sample("y", dist.Normal(0.0, 10.0))
    s = x**2 + y**2
    numpyro.sample("z", dist.Normal(s, 0.1 + s / 100.0), obs=5.0)


def blob(phi):
    numpyro.sample("x", dist.Normal(phi["mx"], jnp.exp(phi["lx"])))
    numpyro.sample("y", dist.Normal(phi["my"], jnp.exp(phi["ly"])))


def ring(phi):
    theta = 2.0 * jnp.pi * numpyro.sample("u", dist.Uniform(0.0, 1.0))
    numpyro.sample("x", dist.Normal(RADIUS * jnp.cos(theta), jnp.exp(phi["lx"])))
    numpyro.sample("y", dist.Normal(RADIUS * jnp.sin(theta), jnp.exp(phi["ly"])))


def cone_with_reverse(phi):
    cone(phi)
    numpyro.sample("u", dist.Uniform(0.0, 1.0))


def elbo(phi, key, batch):
    return -TraceGraph_ELBO(num_particles=batch).loss(key, {}, cone, blob, phi)


def iwelbo(phi, key, batch):
    one = lambda key: -RenyiELBO(alpha=0, num_particles=5).loss(key, {}, cone, blob, phi)
    return jnp.mean(jax.vmap(one)(jax.random.split(key, batch)))


def hvi(phi, key, batch):
    return -TraceGraph_ELBO(num_particles=batch).loss(key, {}, cone_with_reverse, ring, phi)


def cell(objective: Any, *written: str) -> Cell:
    value = lambda key, phi: objective(phi, key, 1)
    return Cell(value, lambda key, phi, batch: jax.grad(objective)(phi, key, batch), written)


CELLS = {
    "ELBO": cell(elbo, "blob", "elbo"),
    "IWELBO(5)": cell(iwelbo, "blob", "iwelbo"),
    "HVI": cell(hvi, "ring", "cone_with_reverse", "hvi"),
}
