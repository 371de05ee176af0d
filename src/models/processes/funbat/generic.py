"""Program 2: the same model and the same guide, by stochastic gradients of the ELBO as a program.

The states of each mode are drawn backward, from the smoothed chain that the sites make of the prior; W is a
normal vector, τ gamma. All are reparameterized: the gradient passes through the draws, and from there through
the filter.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.common.linear_gaussian import Sites
from models.processes.funbat.conjugate import Entries, Fit, beliefs_of
from models.processes.funbat.model import (
    Approximation,
    Core,
    Mode,
    guide,
    model,
    random_functions,
    superdiagonal,
)


def objective(modes: tuple[Mode, ...], data: Entries, tucker: bool = True) -> ppl.Expectation:
    """The ELBO, of the parameters in unconstrained space."""
    target = model(modes, data.index, tucker).condition({"y": data.value})
    rows = seen_rows(data)

    @ppl.expectation
    def bound(params):
        return ppl.elbo(target, guide(modes, constrained(modes, rows, params)))

    return bound


def seen_rows(data: Entries) -> list[np.ndarray]:
    """The indices of each mode at which anything was seen: no other index needs a site."""
    return [np.unique(np.asarray(column)) for column in np.asarray(data.index).T]


def constrained(modes: tuple[Mode, ...], rows: list[np.ndarray], params: Any) -> Approximation:
    """The guide's parameters from arrays that may take any value."""
    sites = []
    for mode, at, site in zip(modes, rows, params["sites"], strict=True):
        root = lower(site["root"])
        precision = root @ jnp.swapaxes(root, -1, -2)
        linear = jnp.einsum("tij,tj->ti", precision, site["target"])
        times, rank = len(mode.prior.offset), mode.seen.shape[0]
        none = Sites(jnp.zeros((times, rank, rank)), jnp.zeros((times, rank)))
        sites.append(Sites(none.precision.at[at].set(precision), none.linear.at[at].set(linear)))
    core = params["core"] and Core(params["core"]["mean"], lower(params["core"]["root"]))
    shape = jnp.exp(params["precision"]["log_shape"])
    return Approximation(tuple(sites), core, shape, shape * jnp.exp(-params["precision"]["log_mean"]))


def lower(root: jax.Array) -> jax.Array:
    """Lower triangular: the exponential of the diagonal scales the columns of a unit triangle."""
    unit = jnp.tril(root, -1) + jnp.eye(root.shape[-1])
    return unit * jnp.exp(jnp.diagonal(root, axis1=-2, axis2=-1))[..., None, :]


def initial(
    key: jax.Array, modes: tuple[Mode, ...], data: Entries, precision: float, tucker: bool = True
) -> Any:
    """Random functions, of no certainty to speak of, a random core, and a high precision."""
    first, second = jax.random.split(key)
    size = len(superdiagonal(modes))
    sites = []
    for at, function in zip(seen_rows(data), random_functions(first, modes), strict=True):
        rank = function.shape[1]
        sites.append(
            {"root": jnp.zeros((len(at), rank, rank)) + jnp.log(30.0) * jnp.eye(rank), "target": function[at]}
        )
    core = (
        {"mean": jax.random.normal(second, (size,)), "root": jnp.log(0.01) * jnp.eye(size)}
        if tucker
        else None
    )
    shape = jnp.log(0.5 * len(data.value))
    return {
        "sites": sites,
        "core": core,
        "precision": {"log_shape": shape, "log_mean": jnp.log(jnp.asarray(precision, float))},
    }


def fit(
    key: jax.Array, modes: tuple[Mode, ...], data: Entries, *, steps: int, rate: float = 0.03,
    precision: float = 1e3, num_samples: int = 1, tucker: bool = True, progress: bool = False,
) -> Fit:  # fmt: skip
    """Adam with a decaying rate from a random start; q(τ) stays put for the first third."""
    first, second = jax.random.split(key)
    decay = optax.cosine_decay_schedule(rate, steps)
    # Held gradients are dropped before Adam sees them: it would remember their size and step too little.
    free = optax.scale_by_schedule(lambda step: jnp.where(step < steps // 3, 0.0, 1.0))
    each = {"rest": optax.adam(decay), "late": optax.chain(free, optax.adam(decay))}
    optimizer = optax.partition(each, {"sites": "rest", "core": "rest", "precision": "late"})
    result = ppl.fit(
        objective(modes, data, tucker), initial(first, modes, data, precision, tucker), optimizer,
        key=second, steps=steps, num_samples=num_samples, progress=progress,
    )  # fmt: skip
    q = constrained(modes, seen_rows(data), result.params)
    return Fit(q, beliefs_of(modes, q)[0], result.values)
