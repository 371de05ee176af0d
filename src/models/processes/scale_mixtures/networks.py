"""Finite networks, whose last layer shares one random variance, against the limit of infinite width."""

from __future__ import annotations

from functools import partial

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
    """A network of one hidden layer of ReLUs; `scales` is one for all weights of the last layer, or one for each."""
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


def distances(key: jax.Array, law: Scale, width: int, draws: int) -> dict[str, float]:
    """Kolmogorov's distances to the t and to the Gaussian limit, and p-values, of both kinds of network."""
    t = stats.t(2 * law.a, scale=np.sqrt(law.b / law.a * limit_variance()))
    normal = stats.norm(scale=np.sqrt(law.b / (law.a - 1) * limit_variance()))
    found = {}
    for name, shared in (("shared", True), ("each", False)):
        drawn = np.asarray(outputs(key, law, width, shared, draws), np.float64)
        for limit, law_of in (("t", t), ("normal", normal)):
            test = stats.kstest(drawn, law_of.cdf)
            found[f"{name}, {limit}"] = float(test.statistic)
            found[f"{name}, {limit}, p"] = float(test.pvalue)
    return found
