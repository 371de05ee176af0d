r"""Variance and time of gradient estimates, measured.

A *configuration* is an expectation with its estimators. `num_runs` independent estimates of its gradient,
each the mean of `num_samples` runs, come in `BATCHES` batches of one compiled call. Of each batch the mean
and the sum of squares about it are kept, so that the variance of an array is pooled over batches,

    tr Cov = 1 / (B (m - 1)) sum over batches and estimates of |g - mean of the batch|^2,

and its standard error is that of the batches' own estimates. Batches of several configurations alternate,
with the same keys, so that whatever else the machine does hits all of them alike; the time is the median
over batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.expectation import Expectation
from ppl.transforms.gradient import evaluations
from ppl.transforms.stage import split

BATCHES = 20
"""In how many batches the estimates of a configuration are made."""

EXACT = 1e-10
"""A variance below this share of the squared mean is rounding: it is reported as zero."""


@dataclass(frozen=True)
class Task:
    """How a gradient is measured.

    Attributes:
        args: the expectation's arguments.
        argnums: which of them are differentiated.
        num_samples: how many runs an estimate averages.
        num_runs: how many estimates, rounded up to full batches.
    """

    args: tuple[Any, ...]
    argnums: Any
    num_samples: int
    num_runs: int

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.num_runs < 2 * BATCHES:
            raise ValueError(
                f"measuring needs num_samples of 1 or more and num_runs of {2 * BATCHES} or more, got "
                f"{self.num_samples} and {self.num_runs}"
            )

    @property
    def batch(self) -> int:
        """How many estimates a batch holds."""
        return -(-self.num_runs // BATCHES)

    def keys(self, key: jax.Array) -> jax.Array:
        """The keys of all estimates, by batch."""
        return jax.random.split(key, (BATCHES, self.batch))


@dataclass(frozen=True)
class Measurement:
    """What was measured of a gradient, or of a part of one. Variances are of a single run.

    Attributes:
        variance: the trace of its covariance.
        error: the standard error of that.
        mean: its mean, an array for each array that is differentiated.
        variances: the trace for each of these arrays.
        time: seconds for a run, within a compiled loop; not a number for a part.
        evaluations: how often the program is run for a gradient; zero for a part.
        batches: the estimates of the variance from each batch.
        times: and those of the time.
        count: how many runs there were in all.
    """

    variance: float
    error: float
    mean: list[np.ndarray] = field(repr=False)
    variances: np.ndarray
    time: float
    evaluations: int
    batches: np.ndarray = field(repr=False)
    times: np.ndarray = field(repr=False)
    count: int = field(repr=False)

    @property
    def signal_to_noise(self) -> float:
        """The norm of the mean over the standard deviation, of a single run; infinite without noise."""
        return math.sqrt(_ratio(self._signal(range(len(self.mean))), self.variance))

    def signal_to_noise_of(self, number: int) -> float:
        """The same of one array."""
        return math.sqrt(_ratio(self._signal([number]), float(self.variances[number])))

    def _signal(self, numbers: Sequence[int] | range) -> float:
        """The squared norm of the mean, without what noise adds to it."""
        squared = sum(float(np.sum(self.mean[n] ** 2)) for n in numbers)
        noise = sum(float(self.variances[n]) for n in numbers) / self.count
        return max(squared - noise, 0.0)


def _ratio(signal: float, noise: float) -> float:
    return signal / noise if noise else (math.inf if signal else 0.0)


Batch = Callable[[jax.Array], tuple[Any, Any]]
"""From the keys of a batch to the mean of each array, and its sum of squares about it."""


def gradient_batch(objective: Expectation, task: Task) -> Batch:
    """A compiled function that makes a batch of gradients, one after the other.

    Raises:
        PPLError: the program is refused with these estimators.
    """

    def one(key: jax.Array, *args: Any) -> list[Any]:
        return jax.tree.leaves(objective.grad(key, *args, argnums=task.argnums, num_samples=task.num_samples))

    return compiled_batch(one, task)


def compiled_batch(one: Callable[..., list[Any]], task: Task, rows: int = 0) -> Batch:
    """A compiled function that makes a batch of lists of arrays, with `rows` leading axes kept apart."""
    parts = split(task.args, floats=True)

    def batch(keys: jax.Array, arrays: list[Any]) -> tuple[Any, Any]:
        found = jax.lax.map(lambda key: one(key, *parts.rebuild(arrays)), keys)
        found = [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in found]
        means = [jnp.mean(x, axis=0) for x in found]
        squares = [
            jnp.sum((x - mean) ** 2, axis=(0, *range(1 + rows, x.ndim)))
            for x, mean in zip(found, means, strict=True)
        ]
        return means, squares

    keys = jax.random.split(jax.random.key(0), task.batch)
    made = jax.jit(batch).lower(keys, parts.arrays).compile()
    return lambda keys: made(keys, parts.arrays)


def measured(
    configurations: Mapping[Any, Expectation], batches: Mapping[Any, Batch], key: jax.Array, task: Task
) -> dict[Any, Measurement]:
    """The gradients of several configurations, measured side by side."""
    names, keys = list(configurations), task.keys(key)
    found: dict[Any, list[Any]] = {name: [] for name in names}
    times: dict[Any, list[float]] = {name: [] for name in names}
    for name in names:  # the first call of a compiled function is slower
        jax.block_until_ready(batches[name](keys[0]))
    for number in range(BATCHES):
        # Another one begins each time, because a change of program is what costs.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begin = time.perf_counter()
            result = jax.block_until_ready(batches[name](keys[number]))
            times[name].append((time.perf_counter() - begin) / (task.batch * task.num_samples))
            found[name].append(jax.tree.map(np.asarray, result))
    return {
        name: pooled(
            found[name], task, times[name], evaluations(configurations[name].stage(*task.args).jaxpr)
        )
        for name in names
    }


def pooled(
    results: Sequence[Any], task: Task, times: Sequence[float] = (math.nan,), runs: int = 0
) -> Measurement:
    """The measurement of one configuration from its batches."""
    mean = [
        np.mean(np.stack(x), axis=0, dtype=np.float64) for x in zip(*(r[0] for r in results), strict=True)
    ]
    squares = np.asarray([r[1] for r in results], np.float64).reshape(len(results), -1)
    traces = task.num_samples * squares / (task.batch - 1)
    variances, totals = traces.mean(axis=0), traces.sum(axis=1)
    # Noise below rounding is none: an exact gradient differs in its last digits from run to run.
    if variances.sum() <= EXACT * sum(float(np.sum(x**2)) for x in mean):
        variances, totals = np.zeros_like(variances), np.zeros_like(totals)
    return Measurement(
        float(variances.sum()), standard_error(totals), mean, variances, float(np.median(times)), runs,
        totals, np.asarray(times), task.batch * len(results) * task.num_samples,
    )  # fmt: skip


def standard_error(batches: np.ndarray) -> float:
    """The standard error of the mean of independent numbers."""
    return float(batches.std(ddof=1) / math.sqrt(len(batches)))
