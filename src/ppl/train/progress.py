"""How a training run reports where it is, and how many steps it takes between two reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

SECONDS_BETWEEN_REPORTS = 0.3


class Progress(NamedTuple):
    """Where a run is after a block of steps.

    Attributes:
        step: steps taken in this run.
        steps: steps it will take.
        mean: mean of the objective's estimates over the last block.
        standard_error: of that mean, by the spread within the block; nan for a block of one step.
    """

    step: int
    steps: int
    mean: float
    standard_error: float

    def __str__(self) -> str:
        error = "" if np.isnan(self.standard_error) else f" ± {self.standard_error:.2g}"
        return f"objective {self.mean:.5g}{error}"


def summarize(step: int, steps: int, block: np.ndarray) -> Progress:
    """The report on a block of values; those that are not finite, of skipped steps, do not count."""
    block = block[np.isfinite(block)].astype(np.float64)
    spread = float(block.std(ddof=1) / np.sqrt(block.size)) if block.size > 1 else float("nan")
    return Progress(step, steps, float(block.mean()) if block.size else float("nan"), spread)


class Reporter(Protocol):
    """What is told about each block."""

    def __call__(self, progress: Progress) -> None:
        """Called after each block."""
        ...

    def close(self) -> None:
        """Called once, when the run ends in whatever way."""
        ...


class _Callback:
    """Silence, or the user's own function."""

    def __init__(self, report: Callable[[Progress], Any] | None = None) -> None:
        self._report = report

    def __call__(self, progress: Progress) -> None:
        if self._report is not None:
            self._report(progress)

    def close(self) -> None:
        pass


class _Lines:
    """A line on stderr for each tenth of the run: for logs, where a bar would be noise."""

    def __init__(self, steps: int) -> None:
        self._next = steps / 10

    def __call__(self, progress: Progress) -> None:
        if progress.step >= min(self._next, progress.steps):
            print(f"step {progress.step}/{progress.steps}: {progress}", file=sys.stderr, flush=True)
            self._next = progress.step + progress.steps / 10

    def close(self) -> None:
        pass


class _Bar:
    """A tqdm bar."""

    def __init__(self, tqdm: Any, steps: int) -> None:
        self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True)

    def __call__(self, progress: Progress) -> None:
        self._bar.set_postfix_str(str(progress), refresh=False)
        self._bar.update(progress.step - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def reporter(progress: bool | Callable[[Progress], Any], steps: int) -> Reporter:
    """A bar on a terminal, lines elsewhere, nothing for `False`, or the user's function."""
    if callable(progress):
        return _Callback(progress)
    if not progress or steps == 0:
        return _Callback()
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            return _Lines(steps)
        return _Bar(tqdm, steps)
    return _Lines(steps)


class Pace:
    """How many steps to run before looking again: so many that a look costs nothing, so few that one sees."""

    def __init__(self, block_size: int | None, capacity: int) -> None:
        self._fixed, self._capacity = block_size, capacity
        self.count = block_size or 1
        self._last: float | None = None

    def block_done(self) -> None:
        """Takes the time of the block that has just ended; the first one, which compiles, does not count."""
        now = time.perf_counter()
        if self._fixed is None:
            growth = 4.0 if self._last is None else SECONDS_BETWEEN_REPORTS / max(now - self._last, 1e-6)
            self.count = int(min(max(self.count * min(growth, 10.0), 1), self._capacity))
        self._last = now
