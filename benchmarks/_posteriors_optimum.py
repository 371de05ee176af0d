"""The best that a normal in unconstrained space can do: the limit of a family, without noise of training.

The ELBO of z = m + A e, with e standard normal,

    E log p(m + A e) + 1/2 log |A A'| + constant,

is a mean over fixed quasi-random points, in double precision, which L-BFGS maximizes: no random step, no
estimator, and of `ppl` only the density of the target's vector. What it finds is what a perfectly trained
guide would have as moments. Of the change point, ASVI is independent gammas and a category: coordinate
ascent finds the best of those, in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _posteriors_method import Cannot, Draws, Method, Sizes
from _posteriors_problems import EVENTS, GAMMA, POSTERIORS, Posterior
from jax.flatten_util import ravel_pytree
from scipy import optimize, special, stats
from scipy.stats import qmc

import ppl

POINTS = 2**10
"""Of the objective; as many again are their mirror images."""
FACTOR = 8
"""As many times more of them tell the moments."""
RADII = (0.0, 1.0, 2.0)
"""How far from zero searches begin: there may be several optima."""
RANK = 2

# Of parameters, a matrix A; and where the search begins, for so many dimensions.
Family = tuple[Callable[[Any], jax.Array], Callable[[int], Any]]


def _lower(entries: jax.Array) -> jax.Array:
    """A lower triangular matrix whose diagonal is positive."""
    return jnp.tril(entries, -1) + jnp.diag(jnp.exp(jnp.diagonal(entries)))


FAMILIES: dict[str, Family] = {
    "mean field": (lambda logs: jnp.diag(jnp.exp(logs)), lambda size: np.full(size, -2.0)),
    "full rank": (_lower, lambda size: -2.0 * np.eye(size)),
    "low rank": (
        lambda parts: jnp.concatenate([jnp.diag(jnp.exp(parts[0])), parts[1]], 1),
        lambda size: (np.full(size, -2.0), 0.01 * np.random.default_rng(0).normal(size=(size, RANK))),
    ),
}


def normals(points: int, size: int) -> np.ndarray:
    """Quasi-random standard normal points, and their mirror images."""
    uniforms = qmc.Sobol(size, seed=0).random(points)
    half = special.ndtri(np.clip(uniforms, 1e-9, 1 - 1e-9))
    return np.concatenate([half, -half])


def optimum(family: Family) -> Method:
    """Draws of the best guide of a family; they are not random, and `sizes` and the key say nothing."""

    def run(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
        with jax.enable_x64(True):
            return _best(family, posterior)

    return run


def _best(family: Family, posterior: Posterior) -> Draws:
    matrix, begin = family
    try:
        latent = ppl.unconstrained(posterior.target)
    except ppl.UnsupportedProgram as error:
        raise Cannot(str(error)) from error
    size = latent.size
    first = (np.zeros(size), begin(size))
    columns = jax.eval_shape(matrix, first[1]).shape[1]
    blank, back = ravel_pytree(first)

    def negative(flat: Any, points: Any) -> Any:
        loc, parts = back(flat)
        factor = matrix(parts)
        entropy = 0.5 * jnp.linalg.slogdet(factor @ factor.T)[1]
        return -entropy - jnp.mean(jax.vmap(latent.log_density)(loc + points @ factor.T))

    both = jax.jit(jax.value_and_grad(negative))
    points, random = normals(POINTS, columns), np.random.default_rng(1)

    def searched(radius: float) -> Any:
        start = np.array(blank)
        start[:size] = random.uniform(-radius, radius, size)
        return optimize.minimize(
            lambda flat: [np.asarray(x, float) for x in both(flat, points)], start, jac=True,
            method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 5000},
        )  # fmt: skip

    found = min((searched(radius) for radius in RADII), key=lambda found: found.fun)
    loc, parts = back(found.x)
    many = loc + normals(FACTOR * POINTS, columns) @ matrix(parts).T
    choices = jax.jit(jax.vmap(lambda z: latent.constrain(z)[0]))(many)
    return Draws({"/".join(address): np.asarray(x) for address, x in choices.leaves()})


def independent(posterior: Posterior, key: jax.Array, sizes: Sizes) -> Draws:
    """The best independent category and gammas for the change point: evenly spaced quantiles."""
    if posterior is not POSTERIORS["change point"]:
        raise Cannot("of this guide the best is not computed")
    share, shapes, rates = coordinate_ascent(np.asarray(EVENTS), *GAMMA)
    uniforms = (np.arange(FACTOR * POINTS) + 0.5) / (FACTOR * POINTS)
    early, late = (stats.gamma(a, scale=1 / b).ppf(uniforms) for a, b in zip(shapes, rates, strict=True))
    return Draws({"when": np.searchsorted(np.cumsum(share), uniforms), "early": early, "late": late})


def coordinate_ascent(y: np.ndarray, a: float, b: float, steps: int = 1000) -> tuple[Any, Any, Any]:
    """Probabilities of the year of the change, and shapes and rates of both gammas (Bishop, 2006, 10.1)."""
    before = np.tril(np.ones((len(y), len(y))), -1)  # of a change in the row's year, the years before it
    share = np.full(len(y), 1 / len(y))
    for _ in range(steps):
        years = np.stack([share @ before, 1 - share @ before])
        shapes, rates = a + years @ y, b + years.sum(1)
        logs, means = special.digamma(shapes) - np.log(rates), shapes / rates
        early, late = (np.outer(log, y) - mean for log, mean in zip(logs, means[:, None], strict=True))
        share = special.softmax((before * early + (1 - before) * late).sum(1))
    return share, shapes, rates


METHODS: dict[str, Method] = {name: optimum(family) for name, family in FAMILIES.items()}
METHODS["ASVI"] = independent
