"""Timing side by side: contestants take turns in one process, so that they share whatever else the machine does.

Only ratios of medians mean anything. Every call waits for the device; compilation is never part of a run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax


def seconds(run: Callable[[], Any]) -> float:
    """How long one call takes, until its arrays are there."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def interleaved(contestants: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2) -> dict[str, float]:
    """The median time of each contestant, one call each in every round, the order reversed in every second one."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        for name in names if turn % 2 else reversed(names):
            taken = seconds(contestants[name])
            if turn >= warmup:
                times[name].append(taken)
    return {name: statistics.median(times[name]) for name in names}


class Staging(NamedTuple):
    """What it takes to get from a Python function to machine code, in seconds, and what lies in between."""

    trace: float
    compile: float
    equations: int

    @property
    def total(self) -> float:
        return self.trace + self.compile


def equations(jaxpr: Any) -> int:
    """How many equations a jaxpr holds, those of nested ones included."""
    return sum(1 + sum(map(equations, jax.core.jaxprs_in_params(e.params))) for e in jaxpr.eqns)


def staged(function: Callable[..., Any], *arguments: Any) -> Staging:
    """Trace and compile with every cache of JAX empty; runs nothing."""
    jax.clear_caches()
    began = time.perf_counter()
    traced = jax.jit(function).trace(*arguments)
    lowered = traced.lower()
    middle = time.perf_counter()
    lowered.compile()
    return Staging(middle - began, time.perf_counter() - middle, equations(traced.jaxpr.jaxpr))


def stagings(
    contestants: Mapping[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]], repeats: int
) -> dict[str, Staging]:
    """The staging of each contestant with the median total time. A contestant makes its function anew each time."""
    found: dict[str, list[Staging]] = {name: [] for name in contestants}
    for turn in range(1 + repeats):
        for name, make in contestants.items():
            function, arguments = make()
            one = staged(function, *arguments)
            if turn:
                found[name].append(one)
    return {name: sorted(all_, key=lambda s: s.total)[len(all_) // 2] for name, all_ in found.items()}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, rows)])
