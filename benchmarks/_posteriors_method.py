"""How a method is judged: what it draws, against what is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from _posteriors_known import Moments
from _posteriors_problems import Posterior


class Sizes(NamedTuple):
    """How much each method may do.

    Attributes:
        steps: of training a guide.
        batch: draws that a step averages.
        draws: of a trained guide, or particles of the prior.
        particles: of the algorithms that move them.
        chain: draws of each of four Markov chains, after half as many of warming up.
        reference: the same for the chains that tell what is known.
    """

    steps: int = 4000
    batch: int = 8
    draws: int = 40_000
    particles: int = 2000
    chain: int = 4000
    reference: int = 25_000


FULL = Sizes()
QUICK = Sizes(50, 4, 500, 50, 100, 200)
RATE = 0.03


def optimizer(sizes: Sizes) -> optax.GradientTransformation:
    """Everybody's: Adam, with a rate that falls to nothing."""
    return optax.adam(optax.cosine_decay_schedule(RATE, sizes.steps))


class Draws(NamedTuple):
    """By address, with the draws along the first axis; `weights` add up to one."""

    values: dict[str, Any]
    weights: Any = None


class Cannot(Exception):
    """A method that a problem is not for, with the reason."""


Method = Callable[[Posterior, jax.Array, Sizes], Draws]


class Cell(NamedTuple):
    """How far a method is off.

    Attributes:
        mean: the largest distance of an entry's mean from the true one, in standard deviations.
        sd: the largest relative error of a standard deviation, as `|log(sd / true sd)|`.
        seconds: all that it took, compiling too.
        reason: why there is no such figure.
    """

    mean: float = np.nan
    sd: float = np.nan
    seconds: float = np.nan
    reason: str = ""


def moments(draws: Draws) -> Moments:
    """The weighted means and standard deviations, in double precision."""
    mean, sd = {}, {}
    for address, x in draws.values.items():
        x = np.asarray(x, np.float64)
        weights = np.full(len(x), 1 / len(x)) if draws.weights is None else np.asarray(draws.weights)
        mean[address] = np.tensordot(weights, x, 1)
        sd[address] = np.sqrt(np.tensordot(weights, (x - mean[address]) ** 2, 1))
    return Moments(mean, sd)


def judged(method: Method, posterior: Posterior, truth: Moments, key: jax.Array, sizes: Sizes) -> Cell:
    """One cell of the table."""
    began = time.perf_counter()
    try:
        found = moments(method(posterior, key, sizes))
    except Cannot as error:
        return Cell(reason=str(error))
    taken = time.perf_counter() - began
    assert set(found.mean) == set(truth.mean), (set(found.mean), set(truth.mean))
    worst = lambda error: float(max(np.max(error(a)) for a in truth.mean))
    return Cell(
        worst(lambda a: np.abs(found.mean[a] - truth.mean[a]) / truth.sd[a]),
        worst(lambda a: np.abs(np.log(np.maximum(found.sd[a], 1e-9) / truth.sd[a]))),
        taken,
    )
