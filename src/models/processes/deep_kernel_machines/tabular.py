"""Two tables of scikit-learn: learned Gram matrices against fixed ones, with the noise and the scale trained.

Diabetes is regression; breast cancer is regression on labels of mean zero and variance one, whose sign
classifies. All machines are trained by the same objective, optimizer and number of steps: at nu = infinity,
where Gram matrices are those of the NNGP, it is the evidence of a Gaussian process with two hyperparameters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.processes.deep_kernel_machines.objective import (
    LAYERS,
    Likelihood,
    free,
    grams_only,
    learned,
    likelihood_of,
    nngp_roots,
    predictions,
    relu,
    roots_of,
)

NUS = {"fixed (nu = inf)": None, "nu = 10": 10.0, "learned, nu = 1": 1.0}
OPTIMIZER = optax.adam(0.02)


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs and outputs by name, as they come."""
    from sklearn.datasets import load_breast_cancer, load_diabetes

    bunches = {"diabetes": load_diabetes(), "breast cancer": load_breast_cancer()}
    return {name: (bunch.data, bunch.target.astype(float)) for name, bunch in bunches.items()}


def split(x: np.ndarray, y: np.ndarray, seed: int, points: int) -> Any:
    """Some rows at random to train on, and the rest; inputs and outputs standardized by the former."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, rest = order[:points], order[points:]
    of = lambda a: (a - a[train].mean(axis=0)) / a[train].std(axis=0)
    x, y = of(x), of(y)
    return (x[train], y[train, None]), (x[rest], y[rest, None])


def trained(train: Any, nu: float | None, steps: int, progress: bool) -> Any:
    """Parameters, from the NNGP's Gram matrices and a noise of a half."""
    data = {"x": jnp.asarray(train[0]), "y": jnp.asarray(train[1])}
    start: dict[str, Any] = {"log_noise": jnp.log(0.5), "log_scale": jnp.zeros(())}
    if nu is not None:
        start["layers"] = [free(root) for root in nngp_roots(grams_only(data["x"]), relu, LAYERS)]
    objective = learned(relu, LAYERS, nu or 0.0)
    key = jax.random.key(0)  # nothing is drawn
    return ppl.fit(objective, start, OPTIMIZER, key=key, steps=steps, data=data, progress=progress).params


@jax.jit
def _scored(params: Any, train: Any, test: Any) -> dict[str, jax.Array]:
    roots = roots_of(params, grams_only(train[0]), relu, LAYERS)
    likelihood: Likelihood = likelihood_of(params, 0.0)
    mean, variance = predictions(roots, *train, test[0], relu, likelihood)
    squares = (test[1] - mean) ** 2
    logs = -0.5 * (squares / variance[:, None] + jnp.log(2 * jnp.pi * variance)[:, None])
    same = jnp.mean(jnp.sign(mean) == jnp.sign(test[1]))
    return {"test LL": jnp.mean(logs), "RMSE": jnp.sqrt(jnp.mean(squares)), "accuracy": same,
            "noise": likelihood.noise}  # fmt: skip


def rows(seeds: range, steps: int, points: int, progress: bool) -> dict[str, dict[str, list[float]]]:
    """Scores by data set and machine: one number for each split."""
    found: dict[str, dict[str, list[float]]] = {}
    for table, (x, y) in tables().items():
        for seed in seeds:
            train, test = split(x, y, seed, points)
            for name, nu in NUS.items():
                scores = _scored(trained(train, nu, steps, progress), train, test)
                for column in ("test LL", "RMSE", *(["accuracy"] if table == "breast cancer" else [])):
                    found.setdefault(f"{table}, {name}", {}).setdefault(column, []).append(
                        float(scores[column])
                    )
    return found
