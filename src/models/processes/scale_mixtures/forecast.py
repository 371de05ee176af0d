"""The rest of a window from some of its quarters, in nats for each quarter that is predicted.

Two protocols: given every six and every nine of the twelve quarters (what random ones give on average), and
given the first six or nine. Two readings of each: the density of the rest jointly, and of each of its
quarters on its own. In double precision, for gamma functions at a = 1000 and above.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.processes.scale_mixtures import regression
from models.processes.scale_mixtures.conjugate import Context
from models.processes.scale_mixtures.windows import LENGTH, times

CONTEXTS = (6, 9)
PROTOCOLS, READINGS = ("any quarters", "first quarters"), ("jointly", "one by one")

Predict = Callable[[Any, Context, jax.Array], Callable[[Context], jax.Array]]
"""Of parameters, what one row of observations left, and a key: the log density of blocks to be predicted."""


def orders(given: int, every: int = 1) -> np.ndarray:
    """Each set of so many quarters, followed by the others; the first set is that of the first quarters."""
    chosen = list(combinations(range(LENGTH), given))[::every]
    return np.array([[*some, *(i for i in range(LENGTH) if i not in some)] for some in chosen])


def scores(predict: Predict, params: Any, y: np.ndarray, every: int = 1) -> np.ndarray:
    """Log densities of windows (windows, LENGTH): of shape (windows, protocols, readings).

    Args:
        every: look at one in so many contexts.
    """
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        found = [_scores(predict, double, jnp.asarray(y, jnp.float64), orders(n, every), n) for n in CONTEXTS]
        return np.mean([np.stack([each.mean(0), each[0]], 1) for each in map(np.asarray, found)], 0)


@partial(jax.jit, static_argnames=("predict", "given"))
def _scores(predict: Predict, params: Any, y: jax.Array, orders: jax.Array, given: int) -> jax.Array:
    """Of shape (contexts, windows, readings)."""
    covariance = regression.kernel(params, jnp.asarray(times(), y.dtype))
    keys = jax.random.split(jax.random.key(0), len(orders))

    def one(order: jax.Array, key: jax.Array) -> jax.Array:
        root = jnp.linalg.cholesky(covariance[order][:, order])
        whitened = jax.scipy.linalg.solve_triangular(root, y[:, order].T, lower=True).T
        row = lambda some, key: _readings(predict, params, root, some, given, key)
        return jax.vmap(row)(whitened, jax.random.split(key, len(y)))

    return jax.lax.map(lambda both: one(*both), (orders, keys))


def _readings(predict: Any, params: Any, root: Any, whitened: Any, given: int, key: jax.Array) -> jax.Array:
    """Of one window. The trailing block of the root is that of the rest's covariance given what is seen."""
    density = predict(params, observed(whitened[:given], root[:given, :given]), key)
    after, block = whitened[given:], root[given:, given:]
    jointly = density(observed(after, block))[0] / len(after)
    variance = jnp.sum(block**2, axis=1)
    standard = block @ after / jnp.sqrt(variance)
    alone = Context(standard**2, standard[:, None], jnp.ones((1, 1)))
    return jnp.stack([jointly, jnp.mean(density(alone) - 0.5 * jnp.log(variance))])


def observed(whitened: jax.Array, root: jax.Array) -> Context:
    """One row, whitened already."""
    return Context(jnp.sum(whitened**2)[None], whitened[None], root)
