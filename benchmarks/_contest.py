"""Variance, time and mean of gradient estimators, drawn in turns.

Every contestant is called once a round with a fresh key; each call is timed and its gradient kept in
moments. So variance and time come from the same calls, and everybody shares whatever else the machine
does.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from _problem import Problem
from _pyro_process import PYRO, Ask, answering

ERRORS = 5.0
"""How many standard errors a mean may be off: false alarms are one in 1.7 million for each direction."""

ROUNDING = 1e-4
"""What single precision may do to a gradient, relative to its length."""

DIRECTIONS = 8
"""Beside the exact gradient itself, random directions in which means are compared."""

# One gradient, as a vector, and the seconds that it took.
Draw = Callable[[int], tuple[float, np.ndarray]]


class Moments:
    """What is kept of a contestant's gradients, each compared with the exact one."""

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth
        random = np.random.default_rng(0).normal(size=(DIRECTIONS, truth.size))
        self.directions = np.concatenate([truth[None] / np.linalg.norm(truth), random / truth.size**0.5])
        self.seconds: list[float] = []
        self.squares: list[float] = []
        self.offsets: list[np.ndarray] = []
        self.sum = np.zeros_like(truth)

    def add(self, seconds: float, gradient: np.ndarray) -> None:
        off = gradient - self.truth
        self.seconds.append(seconds)
        self.squares.append(float(off @ off))
        self.offsets.append(self.directions @ off)
        self.sum += off

    @property
    def count(self) -> int:
        return len(self.squares)

    @property
    def time(self) -> float:
        """Median seconds of a gradient."""
        return float(np.median(self.seconds))

    @property
    def variance(self) -> float:
        """The trace of the covariance, about the contestant's own mean; zero if rounding is all there is."""
        n, mean = self.count, self.sum / self.count
        found = float(np.mean(self.squares) - mean @ mean) * n / (n - 1)
        return found if found > ROUNDING**2 * float(self.truth @ self.truth) else 0.0

    @property
    def variance_error(self) -> float:
        """Standard error of the variance, relative to it."""
        variance = self.variance
        return float(np.std(self.squares) / self.count**0.5 / variance) if variance else 0.0

    @property
    def along(self) -> tuple[float, float]:
        """Mean along the exact gradient, in units of it, so that 1 is right; and its standard error."""
        offsets = np.array(self.offsets)[:, 0] / np.linalg.norm(self.truth)
        return 1 + float(offsets.mean()), float(offsets.std()) / self.count**0.5

    @property
    def off(self) -> float:
        """How many standard errors the mean is off, in the worst direction; rounding is no error."""
        offsets = np.array(self.offsets)
        rounding = ROUNDING * np.linalg.norm(self.truth) / ERRORS
        errors = offsets.std(0) / self.count**0.5
        return float(np.max(np.abs(offsets.mean(0)) / np.hypot(errors, rounding)))

    @property
    def unbiased(self) -> bool:
        return self.off < ERRORS


def race(draws: Mapping[str, Draw], truth: np.ndarray, rounds: int, seconds: float) -> dict[str, Moments]:
    """Moments of all: one call each a round, in reversed order every second round.

    A contestant stops when it has used its seconds; who is slow is measured in fewer rounds.
    """
    found = {name: Moments(truth) for name in draws}
    for draw in draws.values():
        for turn in range(2):
            draw(-1 - turn)
    for turn in range(rounds):
        for name in draws if turn % 2 else reversed(list(draws)):
            moments = found[name]
            if moments.count < 20 or sum(moments.seconds) < seconds:
                moments.add(*draws[name](turn))
    return found


def drawn(problem: Problem, function: Callable[[Any, Any], Any], seed: int, params: Any = None) -> Draw:
    """A contestant from a function of key and parameters that JAX compiles."""
    compiled = jax.jit(function)
    params = problem.params if params is None else params
    root = jax.random.key(seed)

    def draw(turn: int) -> tuple[float, np.ndarray]:
        key = jax.block_until_ready(jax.random.fold_in(root, turn % 2**32))
        began = time.perf_counter()
        gradient = jax.block_until_ready(compiled(key, params))
        return time.perf_counter() - began, problem.flat(gradient)

    return draw


# --- Pyro, in a process and an environment of its own


@contextmanager
def pyro(problem: Problem) -> Iterator[dict[str, Draw]]:
    """Contestants that run in `.venv-peers`; none where `make bench-peers` has not made it.

    The process gets the same parameters and data, and answers each line with the seconds and the gradient of
    one call.
    """
    if not PYRO.exists():
        yield {}
        return
    given = {"params": problem.params, "constants": problem.constants}
    with answering(PYRO, "_pyro.py", problem.name, **given) as (names, ask):
        yield {name: _asking(ask, name) for name in names}


def _asking(ask: Ask, name: str) -> Draw:
    def draw(turn: int) -> tuple[float, np.ndarray]:
        answer = ask({"name": name, "seed": turn % 2**32})
        gradient = np.frombuffer(base64.b64decode(answer["gradient"]), np.float32)
        return answer["seconds"], gradient.astype(np.float64)

    return draw
