"""Finite networks, whose last layer shares one random variance, against the limit of infinite width."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import ppl
from models.processes.scale_mixtures.conjugate import Scale

INPUT = jnp.array([0.8, -0.6])
WEIGHT, BIAS = 2.0, 1.0


@ppl.gen
def network(x, width, law: Scale, scales: int):
    """One hidden layer of ReLUs; `scales` is one for all weights of the last layer, or one for each."""
    scale = ppl.families.inverse_gamma(jnp.full(scales, law.a), law.b) @ "scale"
    weights = ppl.normal(jnp.zeros((width, len(x))), jnp.sqrt(WEIGHT / len(x))) @ "weights"
    biases = ppl.normal(jnp.zeros(width), jnp.sqrt(BIAS)) @ "biases"
    readout = ppl.normal(jnp.zeros(width), jnp.sqrt(scale)) @ "readout"
    return jnp.sqrt(2.0 / width) * jax.nn.relu(weights @ x + biases) @ readout


def limit_variance() -> float:
    """K at the input, at a scale of one: that of the hidden layer, which the factor 2 of ReLU keeps."""
    return float(BIAS + WEIGHT * jnp.sum(INPUT**2) / len(INPUT))


@partial(jax.jit, static_argnames=("width", "shared", "draws"))
def outputs(key: jax.Array, law: Scale, width: int, shared: bool, draws: int) -> jax.Array:
    """Draws of the output at one input."""
    one = lambda k: network(INPUT, width, law, 1 if shared else width).simulate(k).retval
    # A few hundred at a time, to need little memory.
    return jax.lax.map(one, jax.random.split(key, draws), batch_size=500)


def distances(drawn: dict[str, np.ndarray], law: Scale) -> dict[str, float]:
    """Kolmogorov's distances of draws to the t and to the Gaussian limit, and p-values."""
    found = {}
    for name, values in drawn.items():
        for limit, distribution in limits(law).items():
            test = stats.kstest(np.asarray(values, np.float64), distribution.cdf)
            found[f"{name}, {limit}"] = float(test.statistic)
            found[f"{name}, {limit}, p"] = float(test.pvalue)
    return found


def limits(law: Scale) -> dict[str, Any]:
    """The t of one scale for all weights; the normal law of many independent ones, of the same variance."""
    variance = limit_variance()
    return {
        "t": stats.t(2 * law.a, scale=np.sqrt(law.b / law.a * variance)),
        "normal": stats.norm(scale=np.sqrt(law.b / (law.a - 1) * variance)),
    }
