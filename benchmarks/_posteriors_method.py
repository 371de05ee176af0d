"""How a method is judged: what it draws, against what is known."""

from __future__ import annotations

import time
import traceback
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
        rate: of the first step; it falls to nothing.
        draws: of a trained guide, or particles that are only weighed.
        particles: of the algorithms that move them.
        chain: draws of each of four Markov chains, after half as many of warming up.
        reference: the same for the chains that tell what is known.
    """

    steps: int = 20_000
    batch: int = 8
    rate: float = 0.05
    draws: int = 200_000
    particles: int = 10_000
    chain: int = 4000
    reference: int = 25_000


FULL = Sizes()
QUICK = Sizes(50, 4, 0.05, 500, 50, 100, 200)


FLOW = 0.1
"""What the rate is multiplied with for the networks of a flow; at the whole of it they may diverge."""


ACCEPTANCE = 0.95
"""What the step size of everybody's NUTS is adapted to: some of the densities are strongly curved."""


def optimizer(sizes: Sizes, part: float = 1.0) -> optax.GradientTransformation:
    """Everybody's: Adam."""
    return optax.adam(optax.cosine_decay_schedule(part * sizes.rate, sizes.steps))


class Draws(NamedTuple):
    """By address, with the draws along the first axis; `weights` add up to one.

    `effective` is how many independent draws those of a chain are worth, where they are worth least.
    """

    values: dict[str, Any]
    weights: Any = None
    effective: float = np.nan


class Cannot(Exception):
    """A method that a problem is not for, with the reason."""


Method = Callable[[Posterior, jax.Array, Sizes], Draws]


class Cell(NamedTuple):
    """How far a method is off.

    Attributes:
        mean: the largest distance of an entry's mean from the true one, in standard deviations.
        sd: the largest relative error of a standard deviation, as `|log(sd / true sd)|`.
        seconds: of processor time, compiling too.
        reason: why there is no such figure.
        failed: whether that is an error that nobody expected, and no refusal.
        effective: how many independent draws those of a chain are worth.
    """

    mean: float = np.nan
    sd: float = np.nan
    seconds: float = np.nan
    reason: str = ""
    failed: bool = False
    effective: float = np.nan


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
    """One cell of the table. No error ends the run; one that is no `Cannot` is shown as a failure."""
    began = time.process_time()
    try:
        draws = method(posterior, key, sizes)
        found = apart(moments(draws), truth)
    except Cannot as error:
        return Cell(reason=_line(error))
    except Exception as error:
        traceback.print_exc()
        return Cell(reason=f"{type(error).__name__}: {_line(error)}", failed=True)
    return Cell(*found, time.process_time() - began, effective=draws.effective)


def apart(found: Moments, truth: Moments) -> tuple[float, float]:
    """The largest errors, of means and of standard deviations."""
    if set(found.mean) != set(truth.mean):
        raise ValueError(f"draws are of {sorted(found.mean)}, and known are {sorted(truth.mean)}")
    worst = lambda error: float(max(np.max(error(a)) for a in truth.mean))
    return (
        worst(lambda a: np.abs(found.mean[a] - truth.mean[a]) / truth.sd[a]),
        worst(lambda a: np.abs(np.log(np.maximum(found.sd[a], 1e-9) / truth.sd[a]))),
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]
