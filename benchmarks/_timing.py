"""Timing side by side: contestants take turns in one process, and share whatever else the machine does.

Only ratios of medians mean anything. Every call waits for the device; compilation is never part of a run.
"""

from __future__ import annotations

import functools
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import jaxprs_in_params

# Makes a function anew, with the arguments to stage it for.
Contestant = Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]


def seconds(run: Callable[[], Any]) -> float:
    """How long one call takes, until its arrays are there."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def in_turns(
    contestants: Mapping[str, Callable[[], float]], repeats: int, warmup: int = 2
) -> dict[str, list[float]]:
    """The times of each contestant, which says itself how long its call took.

    One call each a round, in reversed order every second round.
    """
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        for name in names if turn % 2 else reversed(names):
            taken = contestants[name]()
            if turn >= warmup:
                times[name].append(taken)
    return times


def interleaved(
    contestants: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2
) -> dict[str, float]:
    """The median time of each contestant, taken in turns, until its arrays are there."""
    timed = {name: functools.partial(seconds, run) for name, run in contestants.items()}
    return {name: statistics.median(times) for name, times in in_turns(timed, repeats, warmup).items()}


def machine() -> str:
    """What figures were measured on."""
    return f"{os.cpu_count()} cores, {jax.devices()[0]}, JAX {jax.__version__}"


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
    return sum(1 + sum(map(equations, jaxprs_in_params(e.params))) for e in jaxpr.eqns)


def staged(function: Callable[..., Any], *arguments: Any) -> Staging:
    """Trace and compile with every cache of JAX empty; runs nothing."""
    jax.clear_caches()
    began = time.perf_counter()
    traced = jax.jit(function).trace(*arguments)
    lowered = traced.lower()
    middle = time.perf_counter()
    lowered.compile()
    return Staging(middle - began, time.perf_counter() - middle, equations(traced.jaxpr.jaxpr))


def stagings(contestants: Mapping[str, Contestant], repeats: int) -> dict[str, Staging]:
    """Of each contestant the staging with the median total time."""
    found: dict[str, list[Staging]] = {name: [] for name in contestants}
    for turn in range(1 + repeats):
        for name, make in contestants.items():
            function, arguments = make()
            one = staged(function, *arguments)
            if turn:
                found[name].append(one)
    return {name: sorted(all_, key=lambda s: s.total)[len(all_) // 2] for name, all_ in found.items()}


def staging_rows(program: str, contestants: Mapping[str, Contestant], repeats: int) -> list[tuple[str, ...]]:
    """Rows under `STAGING_HEADER`; the first contestant is what the others are measured by."""
    found = stagings(contestants, repeats)
    base = next(iter(found.values())).total
    return [
        (program, name, f"{s.trace:.2f}", f"{s.compile:.2f}", f"{s.total / base:.2f}", str(s.equations))
        for name, s in found.items()
    ]


STAGING_HEADER = ("program", "written with", "trace s", "compile s", "ratio", "equations")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: columns of numbers to the right, others to the left."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [all(re.fullmatch(r"(> )?[\d.]*", cell) for cell in column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, numbers, strict=True)
        return "  ".join(cell.rjust(w) if number else cell.ljust(w) for cell, w, number in cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, rows)])
