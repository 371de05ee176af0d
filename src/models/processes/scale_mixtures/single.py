"""One data set has one scale: there the mixture has nothing to adapt to."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import ppl
from models.processes.kernels import nngp
from models.processes.scale_mixtures import regression
from models.processes.scale_mixtures.conjugate import context, interpolated, predictive
from models.processes.scale_mixtures.tasks import METHODS, OPTIMIZER


def diabetes(seed: int, rows: int) -> tuple[Any, Any, Any, Any]:
    """Standardized inputs and outcomes of some patients, and those of the others."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x = (x / x.std(axis=0)).astype(np.float32)
    y = ((y - y[order[:rows]].mean()) / y[order[:rows]].std()).astype(np.float32)
    return x[order[:rows]], y[order[:rows]], x[order[rows:]], y[order[rows:]]


def run(seed: int, steps: int, rows: int, progress: bool) -> dict[str, float]:
    """Mean log density of an outcome, by either process, each fitted by its own evidence."""
    x, y, new_x, new_y = diabetes(seed, rows)
    found = {}
    for name in ("Gaussian process", "mixture, collapsed"):
        method = METHODS[name]
        start = regression.initial(rows, **method.start) | {"scale": jnp.array(0.0), "noise": jnp.array(0.0)}
        data = {"y": jnp.asarray(y[None]), "x": jnp.asarray(x[None])}
        params = ppl.fit(
            method.objective,
            start,
            OPTIMIZER,
            key=jax.random.key(seed),
            steps=steps,
            data=data,
            progress=progress,
        ).params
        weight, noise = jnp.exp(params["weight"]), jnp.exp(params["noise"])
        seen = context(regression.kernel(params, jnp.asarray(x)), jnp.asarray(y[None]))
        cross = nngp(jnp.asarray(x), jnp.asarray(new_x), weight)
        variance = jnp.diag(nngp(jnp.asarray(new_x), jnp.asarray(new_x), weight)) + noise
        if name == "Gaussian process":
            mean, spread = interpolated(seen, cross, variance)
            law = stats.norm(np.asarray(mean[0]), np.sqrt(jnp.exp(params["scale"]) * spread))
        else:
            t = predictive(regression.prior_scale(params), seen, cross, variance)
            law = stats.t(float(t.freedoms), np.asarray(t.mean[0]), np.sqrt(np.asarray(t.variance[0])))
        found[name] = float(np.mean(law.logpdf(new_y)))
    return found
