"""Inducing points: all digits with their labels, in minibatches, linear in the number of data.

    sum over data of E_q[log p(label | f)] / C  -  KL(q(u) || N(0, K_ii)) / C
        -  sum_l nu_l KL(N(0, G_l) || N(0, K(G_(l-1)))),      here with nu_l = 1,

with q(u_c) = N(m_c, A), the same A for all C classes, and G_l among inducing points only. In the coordinates
v = L^-1 u, L L' = K_ii, the prior of v is standard.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp

import ppl
from models.processes.deep_kernel_machines.objective import (
    LAYERS,
    Params,
    ascend,
    free,
    jittered,
    nngp_roots,
    of_inputs,
    relu,
    root_of,
    roots_of,
)

CLASSES, BATCH = 10, 128


def marginals(params: Params, weights: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean (points, classes) and standard deviation (points, 1) of each f under q."""
    spread = weights @ root_of(params["root"])
    scale = jnp.exp(params["scale"])
    return scale * weights @ params["mean"].T, scale * jnp.sqrt(jnp.sum(spread**2, axis=1) + residual)[
        :, None
    ]


@ppl.gen
def values(params, weights, residual):
    """q(f) of each point: (points, classes)."""
    return ppl.normal(*marginals(params, weights, residual)) @ "f"


def layered(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows w of f = w'v + residual, the residuals' variances, and the divergences of the layers."""
    first = of_inputs(params["points"], x)
    top, divergences = ascend(first, roots_of(params, first, relu, LAYERS), relu)
    root = jnp.linalg.cholesky(jittered(top.inducing))
    weights = solve_triangular(root, top.cross.T, lower=True).T
    return weights, jnp.maximum(top.variance - jnp.sum(weights**2, axis=1), 1e-6), divergences


def kl_of_outputs(params: Params) -> jax.Array:
    """KL(q(v) || N(0, I)), summed over classes."""
    root, mean = root_of(params["root"]), params["mean"]
    shared = jnp.sum(root**2) - len(root) - 2 * jnp.sum(jnp.log(jnp.diag(root)))
    return 0.5 * (len(mean) * shared + jnp.sum(mean**2))


def by_datum(params: Params, likelihood: jax.Array, divergences: jax.Array) -> jax.Array:
    """The objective by datum and class, of the expected log likelihood of a datum, all classes together."""
    classes = len(params["mean"])
    return likelihood / classes - (kl_of_outputs(params) / classes + jnp.sum(divergences)) / params["total"]


@ppl.expectation
def bound(params, batch):
    """The objective of categorical labels."""
    weights, residual, divergences = layered(params, batch["x"])
    f = values(params, weights, residual).propose().retval
    logs = jnp.take_along_axis(jax.nn.log_softmax(f), batch["label"][:, None], axis=1)
    return by_datum(params, jnp.mean(logs), divergences)


def _trained(params: Params) -> dict[str, str]:
    held = lambda name: "held" if name == "points" else "trained"
    return {name: jax.tree.map(lambda _, name=name: held(name), leaf) for name, leaf in params.items()}


OPTIMIZER = optax.multi_transform({"trained": optax.adam(1e-2), "held": optax.set_to_zero()}, _trained)


def fitted(data: Any, points: int, learn: bool, key: jax.Array, steps: int, progress: bool) -> Params:
    """Parameters of the machine; without learning, Gram matrices are those of the NNGP."""
    inducing = jnp.asarray(data["x"][:points])
    start: Params = {
        "points": inducing, "mean": jnp.zeros((CLASSES, points)), "root": jnp.zeros((points, points)),
        "scale": jnp.log(3.0), "total": jnp.array(len(data["label"])),
    }  # fmt: skip
    if learn:
        roots = nngp_roots(of_inputs(inducing, inducing[:0]), relu, LAYERS)
        start["layers"] = [free(root) for root in roots]
    return ppl.fit(
        bound, start, OPTIMIZER, key=key, steps=steps, data=data, batch_size=BATCH, progress=progress
    ).params


@partial(jax.jit, static_argnames="draws")
def log_probabilities(params: Params, x: jax.Array, key: jax.Array, draws: int = 50) -> jax.Array:
    """log E[softmax f]."""
    weights, residual, _ = layered(params, x)
    program = values(params, weights, residual)
    drawn = jax.vmap(lambda k: jax.nn.log_softmax(program.simulate(k).retval))(jax.random.split(key, draws))
    return logsumexp(drawn, axis=0) - jnp.log(draws)


def scores(params: Params, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = np.asarray(log_probabilities(params, jnp.asarray(x), jax.random.key(1)))
    return {
        "label NLL": float(-found[np.arange(len(labels)), labels].mean()),
        "accuracy": float((found.argmax(axis=1) == labels).mean()),
    }
