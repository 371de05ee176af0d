"""Draws of a proposal with the log densities that make their importance weights, and ways to move them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ppl.errors import PPLError
from ppl.measure import Distribution, Measure
from ppl.testing.pareto import Weights, smoothed

# Draws that are scored at once.
_BATCH = 500
# Rounds of moment matching of one kind, and by how much `k` must fall for another round.
_ROUNDS, _WORTH = 12, 0.02


class Draws(NamedTuple):
    """Draws of a proposal.

    Attributes:
        choices: with the draws along a first axis.
        log_proposal, log_target: log densities in double precision, shape `(S,)`.
        rounding: by how much two log weights may differ by rounding alone.
    """

    choices: Any
    log_proposal: np.ndarray
    log_target: np.ndarray
    rounding: float

    @property
    def log_weights(self) -> np.ndarray:
        """Of the target against the proposal; not a number where both densities are zero."""
        with np.errstate(invalid="ignore"):
            return self.log_target - self.log_proposal

    @property
    def weights(self) -> Weights:
        """The weights with their tail smoothed."""
        return smoothed(self.log_weights, rounding=self.rounding)


def mapped(function: Callable[[Any], Any], values: Any) -> Any:
    """The function at each of the values, some hundreds at once."""
    length = len(jax.tree.leaves(values)[0])
    return jax.jit(lambda values: jax.lax.map(function, values, batch_size=min(_BATCH, length)))(values)


def of_guide(target: Measure, guide: Measure, key: jax.Array, count: int) -> Draws:
    """Draws of a guide, scored by the target.

    Raises:
        MissingChoice, UnusedChoice, ChoiceShapeError, ChoiceDtypeError: the guide does not fit the target.
    """

    def one(key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        trace = guide.simulate(key)
        return trace.choices, trace.log_density, target.log_density(trace.choices)

    choices, log_q, log_p = mapped(one, jax.random.split(key, count))
    return Draws(choices, np.asarray(log_q, float), np.asarray(log_p, float), _rounding(log_q, log_p))


class PriorDraws(NamedTuple):
    """Draws of a target before it is conditioned.

    Attributes:
        log_weights: densities of what is given, shape `(S,)`: importance weights of the target.
        log_guide: the guide's log density at them, shape `(S,)`.
    """

    log_weights: np.ndarray
    log_guide: np.ndarray


def of_prior(target: Measure, guide: Measure, like: Any, key: jax.Array, count: int) -> PriorDraws | None:
    """Draws of the target's prior, scored by the guide; `None` for a target that has none to draw from."""
    if isinstance(target, Distribution) or not hasattr(like, "leaves"):
        return None
    addresses = [address for address, _ in like.leaves()]

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        trace, log_weight = target.generate(key, {})
        return log_weight, guide.log_density(trace.choices.select(*addresses))

    try:
        log_weights, log_guide = mapped(one, jax.random.split(key, count))
    except (PPLError, NotImplementedError):
        return None
    return PriorDraws(np.asarray(log_weights, float), np.asarray(log_guide, float))


def _rounding(log_q: jax.Array, log_p: jax.Array) -> float:
    """Eight units in the last place of the largest log density."""
    logs = np.concatenate([np.asarray(log_q, float), np.asarray(log_p, float)])
    logs = np.abs(logs[np.isfinite(logs)])
    return 8 * float(jnp.finfo(log_q.dtype).eps) * max(float(logs.max(initial=0.0)), 1.0)


class Space(NamedTuple):
    """A guide's draws as vectors, where all choices are real numbers.

    Attributes:
        vectors: shape `(S, D)`.
        log_target: from vectors of that shape to log densities of the target.
    """

    vectors: np.ndarray
    log_target: Callable[[np.ndarray], np.ndarray]


def space(target: Measure, draws: Draws) -> Space | None:
    """The draws as vectors; `None` where some are not real numbers."""
    leaves = jax.tree.leaves(draws.choices)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        return None
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], draws.choices))
    vectors = jax.vmap(lambda choices: ravel_pytree(choices)[0])(draws.choices)
    score = jax.jit(
        lambda rows: jax.lax.map(
            lambda row: target.log_density(unravel(row)), rows, batch_size=min(_BATCH, len(rows))
        )
    )
    log_target = lambda rows: np.asarray(score(jnp.asarray(rows, vectors.dtype)), float)
    return Space(np.asarray(vectors, float), log_target)


MEAN, SCALE, COVARIANCE = "mean", "mean and scale", "mean and covariance"


def matched(where: Space, draws: Draws) -> dict[str, Weights]:
    r"""Weights after the guide's draws are moved so that their moments are the importance-weighted ones.

    `x' = A x + b` has density `q(x) / |det A|`. First only `b` moves, then a scale of each entry, then a full
    matrix; each over again while the tail shape falls, each from where the one before has ended.

    Reference: Paananen, Piironen, Bürkner, Vehtari, "Implicitly adaptive importance sampling", 2021.
    """
    vectors, log_q, best = where.vectors, draws.log_proposal, draws.weights
    found = {}
    for kind in (MEAN, SCALE, COVARIANCE):
        if kind == COVARIANCE and (vectors.shape[1] == 1 or vectors.shape[1] > len(vectors) / 20):
            continue
        for _ in range(_ROUNDS):
            moved = _moved(kind, vectors, np.exp(best.log_weights))
            if moved is None:
                break
            with np.errstate(invalid="ignore"):
                log_weights = where.log_target(moved[0]) - (log_q - moved[1])
            weights = smoothed(log_weights, rounding=draws.rounding)
            if not weights.khat < best.khat - _WORTH:
                break
            vectors, log_q, best = moved[0], log_q - moved[1], weights
        found[kind] = best
    return found


def _moved(kind: str, vectors: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The vectors with weighted moments, and the log determinant; `None` where moments are degenerate."""
    mean, wanted = vectors.mean(0), weights @ vectors
    centered = vectors - mean
    if kind == MEAN:
        return vectors + wanted - mean, 0.0
    spread = (weights @ (vectors - wanted) ** 2) ** 0.5
    if not (np.isfinite(spread).all() and (spread > 0).all() and (centered.std(0) > 0).all()):
        return None
    if kind == SCALE:
        ratio = spread / centered.std(0)
        return centered * ratio + wanted, float(np.log(ratio).sum())
    try:
        present = np.linalg.cholesky(centered.T @ centered / len(vectors))
        future = np.linalg.cholesky((vectors - wanted).T @ (weights[:, None] * (vectors - wanted)))
    except np.linalg.LinAlgError:
        return None
    matrix = np.linalg.solve(present.T, future.T)
    return centered @ matrix + wanted, float(np.log(np.diag(future) / np.diag(present)).sum())


def unbounded_rays(where: Space, key: jax.Array) -> int:
    """How many rays have infinite mass, of those along axes and those through draws, as far as floats reach.

    In polar coordinates the mass along a ray is the integral of `p(c + t u) t^D` over `log t`; along an axis,
    that of a conditional density, `D = 1`. It is infinite where the logarithm does not fall in the end. The
    same is asked of positive entries towards zero.
    """
    vectors = where.vectors
    center, sizes = vectors.mean(0), vectors.std(0)
    dimension, most = vectors.shape[1], 32
    axes = np.eye(dimension)[:most]
    through = vectors[np.asarray(jax.random.permutation(key, len(vectors)))[:most]] - center
    rays = np.concatenate([axes * sizes, -axes * sizes, through])
    powers = np.concatenate([np.ones(2 * len(axes)), np.full(len(through), dimension)])
    outwards = lambda log_t: center + np.exp(log_t) * rays
    found = _not_falling(where, outwards, powers, math.log(1e6), math.log(1e8))
    positive = axes[(vectors > 0).all(0)[:most]]
    if len(positive):
        inwards = lambda log_t: np.where(positive > 0, np.exp(-log_t) * sizes, center)
        found += _not_falling(where, inwards, -np.ones(len(positive)), 30.0, 60.0)
    return found


def _not_falling(
    where: Space, points: Callable[[float], np.ndarray], powers: np.ndarray, near: float, far: float
) -> int:
    """How many of the points have a density that, times `t` to a power, does not fall from near to far."""
    logs = [where.log_target(points(log_t)) for log_t in (near, far)]
    with np.errstate(invalid="ignore"):
        slope = (logs[1] - logs[0]) / (far - near) + powers
    return int((np.isfinite(logs[1]) & (slope > -0.02)).sum())
