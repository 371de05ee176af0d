"""The rest of a window from some of its quarters: one kernel and one law of the scale for all windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.processes.scale_mixtures import regression
from models.processes.scale_mixtures.conjugate import context, log_evidence, log_evidence_given
from models.processes.scale_mixtures.windows import LENGTH, times, windows

CONTEXTS = (6, 9)
GRID = jnp.linspace(-12.0, 8.0, 161)
OPTIMIZER = optax.adam(0.05)
A_LARGE = 1000.0


class Method(NamedTuple):
    """An objective to fit by, how its result is scored, and what it starts with beside the kernel."""

    objective: ppl.Expectation
    log_density: Callable[..., jax.Array]
    start: dict[str, float]


def _gaussian(params: Any, root: jax.Array, y: jax.Array) -> jax.Array:
    return log_evidence_given(jnp.exp(params["scale"]), context(root @ root.T, y))


def _mixture(params: Any, root: jax.Array, y: jax.Array) -> jax.Array:
    return log_evidence(regression.prior_scale(params), context(root @ root.T, y))


def _burr(params: Any, root: jax.Array, y: jax.Array) -> jax.Array:
    return regression.log_burr_evidence(params, root, y, GRID)


METHODS = {
    "Gaussian process": Method(regression.gaussian_process, _gaussian, {}),
    "mixture, collapsed": Method(regression.evidence, _mixture, {"concentration": 1.0}),
    "mixture, ELBO": Method(regression.implicit, _mixture, {"concentration": 1.0}),
    "mixture, ELBO by scores": Method(regression.scored, _mixture, {"concentration": 1.0}),
    "mixture, marginal": Method(regression.weighted, _mixture, {"concentration": 1.0}),
    "mixture of Burr XII": Method(regression.weighted_burr, _burr, {"power": 0.7, "tail": 0.0}),
}


def fitted(method: Method, y: np.ndarray, key: jax.Array, steps: int, progress: bool) -> Any:
    """Parameters fitted to windows."""
    data = {"y": jnp.asarray(y), "x": jnp.broadcast_to(times(), (len(y), LENGTH, 1))}
    start = regression.initial(LENGTH, **method.start)
    return ppl.fit(
        method.objective, start, OPTIMIZER, key=key, steps=steps, data=data, progress=progress
    ).params


@partial(jax.jit, static_argnames=("log_density",))
def rest(log_density: Any, params: Any, y: jax.Array, orders: jax.Array) -> jax.Array:
    """log p(rest | first n of an order), by quarter: the mean over n and windows, each with an order."""
    covariance = regression.kernel(params, jnp.asarray(times()))

    def one(row: jax.Array, order: jax.Array) -> jax.Array:
        ordered, values = covariance[order][:, order], row[order][None]
        root = jnp.linalg.cholesky(ordered)
        # The leading block of a Cholesky factor is the factor of the leading block.
        until = lambda n: log_density(params, root[:n, :n], values[:, :n])[0]
        whole = until(LENGTH)
        return sum((whole - until(n)) / (LENGTH - n) for n in CONTEXTS) / len(CONTEXTS)

    return jnp.mean(jax.vmap(one)(y, orders))


def scores(
    method: Method, params: Any, held_out: np.ndarray, late: np.ndarray, random: Any
) -> dict[str, float]:
    """Nats of each quarter that is predicted, over contexts of six and of nine quarters."""
    found = {}
    sets = {"in distribution": held_out, "late": late, "late / 3": late / 3, "late x 3": late * 3}
    for name, y in sets.items():
        # As many windows, in orders of their own, for each set.
        y = np.tile(y, (1 + 288 // len(y), 1))[:288]
        orders = random.permuted(np.tile(np.arange(LENGTH), (len(y), 1)), axis=1)
        found[name] = float(rest(method.log_density, params, jnp.asarray(y), jnp.asarray(orders)))
    return found


def run(
    seed: int, steps: int, folds: int, progress: bool, methods: Sequence[str] = tuple(METHODS)
) -> dict[str, dict[str, float]]:
    """Each method on every fold of the early windows; a fold is held out, and what is left is fitted."""
    early, late = windows()
    order = np.random.default_rng(seed).permutation(len(early))
    table: dict[str, dict[str, float]] = {}
    ablation: list[dict[str, float]] = []
    for name in methods:
        method, rows = METHODS[name], []
        for fold in range(folds):
            held = order[fold::4]
            key = jax.random.fold_in(jax.random.key(seed), fold)
            params = fitted(method, np.delete(early, held, axis=0), key, steps, progress)
            random = np.random.default_rng([seed, fold])
            rows.append(scores(method, params, early[held], late, random))
            if name == "Gaussian process":
                ablated = params | {"concentration": jnp.log(A_LARGE)}
                random = np.random.default_rng([seed, fold])
                ablation.append(scores(METHODS["mixture, collapsed"], ablated, early[held], late, random))
        table[name] = _mean(rows)
    for name in {"mixture, ELBO", "mixture, ELBO by scores"} & set(methods):
        table[name]["gradient s.d."] = gradient_spread(METHODS[name], early, jax.random.key(seed))
    return table | {f"ablation: a = {A_LARGE:g}": _mean(ablation)}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}


def gradient_spread(method: Method, y: np.ndarray, key: jax.Array, draws: int = 64) -> float:
    """The standard deviation of the derivative in log a', the shape of the guide's scale, at the start."""
    data = {"y": jnp.asarray(y), "x": jnp.broadcast_to(times(), (len(y), LENGTH, 1))}
    start = regression.initial(LENGTH, **method.start)
    one = lambda k: method.objective.grad(k, start, data)["guide"]["a"]
    return float(jnp.std(jax.jit(jax.vmap(one))(jax.random.split(key, draws))))
