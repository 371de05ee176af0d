"""What is measured of a cell: its values after both schedules, its time, and the variance of its gradient."""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _cone_problem import ASCENT, ROWS, SCHEDULES, Cell, Phi, Row, Schedule, Sizes
from _timing import seconds

import ppl

# Lanes at once, so that draws fit in a cache.
LANES = 5000
# One object, by which `ppl.fit` finds what it has compiled.
ASCENDING = optax.sgd(ASCENT)


def optimizer_of(schedule: Schedule, steps: int) -> optax.GradientTransformation:
    if not schedule.adam:
        return ASCENDING
    return optax.adam(optax.cosine_decay_schedule(schedule.adam, steps), b2=0.99)


def arrays(phi: Phi) -> dict[str, jax.Array]:
    return {name: jnp.float32(value) for name, value in phi.items()}


# --- training

# Parameters after some steps from the start, of a key and the steps.
Trainer = Callable[[Any, int], Any]


def our_trainer(objective: Any, row: Row, optimizer: Any, batch: int, sizes: Sizes) -> Trainer:
    """`ppl.fit`, with all that it looks after."""

    def train(key: Any, steps: int) -> Any:
        return ppl.fit(
            objective, arrays(row.start), optimizer, key=key, steps=steps, num_samples=batch,
            block_size=sizes.block, progress=False,
        ).params  # fmt: skip

    return train


class Block(NamedTuple):
    """Steps of the loop that one would write around a gradient, compiled; it checks nothing.

    `run` takes a key, the number of steps, and the parameters with the optimizer's state.
    """

    run: Callable[..., Any]
    carry: Any

    def train(self, key: Any, steps: int) -> Any:
        return self.run(key, jnp.int32(steps), self.carry)[0]


def their_block(cell: Cell, row: Row, optimizer: Any, batch: int) -> Block:
    def step(key: Any, i: Any, carry: Any) -> Any:
        phi, state = carry
        found = cell.gradient(jax.random.fold_in(key, i), phi, batch)
        updates, state = optimizer.update(jax.tree.map(jnp.negative, found), state, phi)
        return optax.apply_updates(phi, updates), state

    def loop(key: Any, steps: Any, carry: Any) -> Any:
        return jax.lax.fori_loop(0, steps, functools.partial(step, key), carry)

    phi = arrays(row.start)
    carry = (phi, optimizer.init(phi))
    return Block(jax.jit(loop).lower(jax.random.key(0), jnp.int32(1), carry).compile(), carry)


# How a library makes a trainer, from an optimizer and a batch.
Making = Callable[[Any, int], Trainer]


# --- values


def drawer(cell: Cell) -> Callable[[Any, int], np.ndarray]:
    """Independent draws of the objective, of parameters and their number; compiled once."""
    lanes = jax.jit(lambda keys, phi: jax.vmap(cell.value, in_axes=(0, None))(keys, phi))

    def draw(phi: Any, count: int) -> np.ndarray:
        keys = jax.random.split(jax.random.key(7), -(-count // LANES) * LANES).reshape(-1, LANES)
        return np.concatenate([np.asarray(lanes(some, phi)) for some in keys])[:count].astype(np.float64)

    return draw


def value(found: np.ndarray, few: int) -> dict[str, float]:
    error = float(found.std() / len(found) ** 0.5)
    return {"few": float(found[:few].mean()), "value": float(found.mean()), "error": error}


def values(cell: Cell, row: Row, making: Making, sizes: Sizes) -> dict[str, Any]:
    """Under each schedule, and under other seeds where a step takes one draw.

    And the seconds of the first step under the paper's, with JAX's caches empty: tracing and compiling.
    """
    draw, found = drawer(cell), {}
    for name, schedule in SCHEDULES.items():
        steps, batch = max(1, round(schedule.steps * sizes.steps)), schedule.batch or row.batch
        optimizer = optimizer_of(schedule, steps)
        if name == "paper":
            jax.clear_caches()
        began = time.perf_counter()
        train = making(optimizer, batch)
        jax.block_until_ready(train(jax.random.key(0), 1))
        if name == "paper":
            found["first"] = time.perf_counter() - began
        phi = train(jax.random.key(0), steps)
        drawn = draw(phi, sizes.converged if name == "converged" else sizes.draws)
        found[name] = value(drawn, sizes.few)
        found[name]["phi"] = {key: float(x) for key, x in phi.items()}
        if batch == 1:
            phis = [train(jax.random.key(seed), steps) for seed in range(sizes.seeds)]
            found[name]["seeds"] = [float(draw(phi, sizes.draws).mean()) for phi in phis]
    return found


# --- the variance of a gradient


def variances(cell: Cell, row: Row, count: int) -> list[float]:
    """The trace of the covariance of single-sample gradients, at three parameters."""
    every = jax.jit(jax.vmap(lambda key, phi: cell.gradient(key, phi, 1), in_axes=(0, None)))
    keys, found = jax.random.split(jax.random.key(8), count), []
    for phi in (row.start, row.middle, row.end):
        leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(every(keys, arrays(phi)))]
        found.append(float(sum(x.var(ddof=1) for x in leaves)))
    return found


# --- time


def steps_in_turns(objective: Any, blocks: Mapping[str, Block], row: Row, sizes: Sizes) -> dict[str, float]:
    """Seconds of a step of the paper's schedule: `ppl.fit`'s, and after each of its blocks the others'.

    The median of blocks. `ppl.fit` is timed between two of its reports.
    """
    key, steps, began = jax.random.key(0), sizes.block, 0.0
    times: dict[str, list[float]] = {name: [] for name in ("ppl", *blocks)}

    def after(progress: Any) -> None:
        nonlocal began
        times["ppl"].append(time.perf_counter() - began)
        for name, block in blocks.items():
            times[name].append(seconds(lambda block=block: block.train(key, steps)))
        began = time.perf_counter()

    ppl.fit(
        objective, arrays(row.start), ASCENDING, key=key, steps=steps * (1 + sizes.rounds),
        num_samples=row.batch, block_size=steps, progress=after,
    )  # fmt: skip
    # Before the first block `ppl.fit` looks at its arguments.
    return {name: statistics.median(found[1:]) / steps for name, found in times.items()}


# --- Pyro


def pyro(python: Path, names: list[str], sizes: Sizes) -> Iterator[dict[str, Any]]:
    """What `_cone_pyro.py` measures of each row, as it comes."""
    request: dict[str, Any] = {"rows": {}, **sizes._asdict()}
    # A step is a hundred times as long as one that is compiled.
    request["block"] = max(1, sizes.block // 10)
    for name in names:
        schedules = {}
        for key, schedule in SCHEDULES.items():
            numbers = schedule._replace(
                steps=max(1, round(schedule.steps * sizes.steps)), batch=schedule.batch or ROWS[name].batch
            )
            schedules[key] = {**numbers._asdict(), "ascent": ASCENT}
        request["rows"][name] = {"start": ROWS[name].start, "schedules": schedules}
    command = [str(python), str(Path(__file__).parent / "_cone_pyro.py"), json.dumps(request)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield from map(json.loads, child.stdout)
    if child.returncode:
        raise RuntimeError(f"Pyro ended with {child.returncode}")
