"""What a step of `ppl.fit` costs beyond the gradient: the check that all is finite, the values, the loop.

The same objective, optimizer and keys in a `fori_loop` of one's own that checks nothing. Both run a block of
steps in one compiled call, and end at the same parameters.

    python benchmarks/fit_step.py [--repeats 20]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import seconds, table
from _vae_contestants import data_of, objective, parameters

import ppl

KEY = jax.random.key(0)
WARMUP = 2


class Problem(NamedTuple):
    """An objective of parameters, an optimizer, and how many steps a block takes."""

    objective: Any
    params: Any
    optimizer: optax.GradientTransformation
    steps: int


def scalar() -> Problem:
    """Two numbers: nearly all of a step is what the loop itself costs."""

    @ppl.expectation
    def reward(params):
        z = ppl.normal(params["loc"], jnp.exp(params["log_scale"])) @ "z"
        return -((z - 1.0) ** 2) + params["log_scale"]

    return Problem(reward, {"loc": 0.0, "log_scale": 0.0}, optax.adam(1e-2), 50_000)


def regression() -> Problem:
    """Logistic regression of 500 rows on 20 columns, with a mean-field guide."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(500, 20)), jnp.float32)
    y = jnp.asarray(rng.random(500) < 0.5, jnp.int32)

    @ppl.gen
    def model():
        weights = ppl.normal(jnp.zeros(20), 1.0) @ "weights"
        ppl.bernoulli(logits=x @ weights) @ "y"

    @ppl.gen
    def guide(params):
        ppl.normal(params["loc"], jnp.exp(params["log_scale"])) @ "weights"

    bound = ppl.expectation(lambda params: ppl.elbo(model().condition({"y": y}), guide(params)))
    start = {"loc": jnp.zeros(20), "log_scale": jnp.full(20, -2.0)}
    return Problem(bound, start, optax.adam(1e-2), 20_000)


def autoencoder() -> Problem:
    """A variational autoencoder of 784-200-10, 64 images."""
    return Problem(objective(), parameters(), optax.adam(1e-3), 200)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "two numbers": scalar,
    "regression": regression,
    "VAE": autoencoder,
}


def by_hand(problem: Problem) -> Callable[..., Any]:
    """The loop that one would write, and which checks nothing."""

    def step(key: Any, data: tuple[Any, ...], i: Any, carry: Any) -> Any:
        params, state, values = carry
        value, grads = problem.objective.value_and_grad(jax.random.fold_in(key, i), params, *data)
        updates, state = problem.optimizer.update(jax.tree.map(jnp.negative, grads), state, params)
        return optax.apply_updates(params, updates), state, values.at[i].set(value)

    @jax.jit
    def block(key: Any, params: Any, state: Any, *data: Any) -> Any:
        start = (params, state, jnp.zeros(problem.steps))
        return jax.lax.fori_loop(0, problem.steps, functools.partial(step, key, data), start)

    return block


def in_turns(problem: Problem, data: tuple[Any, ...], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of blocks of `ppl.fit`, and of one's own loop, which runs after each of them."""
    params = jax.tree.map(jnp.asarray, problem.params)
    block, state = by_hand(problem), problem.optimizer.init(params)
    ours, theirs, began = [], [], 0.0

    def after(progress: Any) -> None:
        nonlocal began
        ours.append(time.perf_counter() - began)
        theirs.append(seconds(lambda: block(KEY, params, state, *data)))
        began = time.perf_counter()

    found = ppl.fit(
        problem.objective, params, problem.optimizer, key=KEY, steps=problem.steps * (repeats + WARMUP),
        data=data[0] if data else None, block_size=problem.steps, progress=after,
    )  # fmt: skip
    agree(block(KEY, params, state, *data)[2], found.values[: problem.steps])
    return ours[WARMUP:], theirs[WARMUP:]


def agree(one: Any, other: Any) -> None:
    """Values of the same steps, but for rounding that grows from step to step."""
    few = min(len(one), 20)
    np.testing.assert_allclose(one[:few], other[:few], rtol=1e-3)


def main(repeats: int) -> None:
    rows = []
    for name, make in PROBLEMS.items():
        problem = make()
        data = (data_of(64),) if name == "VAE" else ()
        times = dict(zip(("ppl.fit", "by hand"), in_turns(problem, data, repeats), strict=True))
        median = {way: statistics.median(found) for way, found in times.items()}
        rows += [
            (name, way, f"{1e6 * m / problem.steps:.1f}", f"{m / median['by hand']:.3f}")
            for way, m in median.items()
        ]
    print(f"A step of training: median of {repeats} blocks on {jax.devices()[0]}")
    print(table(("problem", "loop", "microseconds", "ratio"), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    main(parser.parse_args().repeats)
