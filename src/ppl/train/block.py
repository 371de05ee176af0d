"""The compiled inner loop of training: a block of steps on the device.

A block is a `while_loop` whose number of steps is an operand. XLA makes of it what it makes of a
`scan`, but one compilation serves blocks of every length, and the loop ends at the first step whose value or
gradient is not finite, unless such steps are to be skipped.

A step that is good pays for one look at its gradient, and nothing else. That an update is finite is looked at
once, at the end of a block, and what a bad step has left is thrown away: `last_good` goes back to the start
of the block, and takes the steps before the bad one again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ppl.train.minibatches import Cursor, next_rows, take
from ppl.train.parameters import Layout


@dataclass(frozen=True)
class Plan:
    """What a step computes: everything of a run that is not an array."""

    objective: Any
    optimizer: optax.GradientTransformation
    layout: Layout
    batch_size: int | None
    num_samples: int
    maximize: bool
    capacity: int
    skip: bool = False


class State(NamedTuple):
    """What one step hands to the next."""

    trained: Any
    optimizer_state: Any
    estimator_state: Any
    cursor: Cursor | None


class Loop(NamedTuple):
    """The carry of a block.

    Attributes:
        state: after the last step, the bad one at which the loop has stopped included.
        done: how many steps were good, or were skipped.
        going: whether the last step was one of these.
        values: of the steps.
        skipped: how many of them changed nothing.
    """

    state: State
    done: jax.Array
    going: jax.Array
    values: jax.Array
    skipped: jax.Array


class Block(NamedTuple):
    """What a block returns.

    Attributes:
        loop: how it ended.
        sound: whether the parameters are finite.
    """

    loop: Loop
    sound: jax.Array


def value_and_grad(
    plan: Plan, key: jax.Array, trained: Any, estimator_state: Any, fixed: Any, batch: tuple[Any, ...]
) -> Any:
    """The objective's value, its gradient as a tree like `trained`, and the new state of the estimators."""
    params = plan.layout.combine(trained, fixed)
    if hasattr(plan.objective, "learn"):
        value, grads, estimator_state = plan.objective.learn(
            key, estimator_state, params, *batch, num_samples=plan.num_samples, maximize=plan.maximize
        )
    else:
        value, grads = plan.objective.value_and_grad(key, params, *batch, num_samples=plan.num_samples)
    return value, plan.layout.only_trained(grads), estimator_state


def is_finite(tree: Any) -> jax.Array:
    """Whether every number of a tree is finite.

    Zero times a number is zero, unless that is infinite or nan; and what a sum has met of these, it keeps.
    As a product of rows with a vector of zeros, XLA vectorizes it on a CPU, where a conjunction takes four
    times as long. A maximum would lose nan, in code that is optimized.
    """

    def is_zero(x: Any) -> jax.Array:
        if x.size < _SMALL:
            return jnp.sum(x * 0) == 0
        width = math.gcd(x.size, _WIDTH)
        rows = jnp.matmul(x.reshape(-1, width), jnp.zeros(width, x.dtype), precision="highest")
        return jnp.sum(rows) == 0

    return functools.reduce(jnp.logical_and, map(is_zero, jax.tree.leaves(tree)))


_SMALL = 1024
"""Below so many numbers a sum is as fast."""
_WIDTH = 128
"""How many numbers a row has, at most."""


def descend(plan: Plan, value: Any, grads: Any, state: State) -> tuple[Any, Any]:
    """The parameters and the optimizer's state after one step: Optax descends, so ascent negates."""
    if plan.maximize:
        value, grads = -value, jax.tree.map(jnp.negative, grads)
    # `value` is for the transformations that watch it, such as `optax.contrib.reduce_on_plateau`.
    update: Any = optax.with_extra_args_support(plan.optimizer).update
    updates, optimizer_state = update(grads, state.optimizer_state, state.trained, value=value)
    new = (optax.apply_updates(state.trained, updates), optimizer_state)
    # An optimizer may promote a dtype; the loop's carry may not change.
    return jax.tree.map(
        lambda new, old: jnp.asarray(new, old.dtype), new, (state.trained, state.optimizer_state)
    )


def _step(plan: Plan, key: jax.Array, fixed: Any, data: Any, first: jax.Array, loop: Loop) -> Loop:
    state = loop.state
    batch, cursor = (() if data is None else (data,)), state.cursor
    if cursor is not None and plan.batch_size is not None:
        chosen, cursor = next_rows(key, cursor, plan.batch_size)
        batch = (take(data, chosen),)
    step_key = jax.random.fold_in(key, first + loop.done)
    value, grads, estimator_state = value_and_grad(
        plan, step_key, state.trained, state.estimator_state, fixed, batch
    )
    values = loop.values.at[loop.done].set(value)
    finite = is_finite((value, grads))
    new: Any = (*descend(plan, value, grads, state), estimator_state)
    if plan.skip:
        old = (state.trained, state.optimizer_state, state.estimator_state)
        finite = finite & is_finite(new[0])
        new = jax.lax.cond(finite, lambda: new, lambda: old)
        skipped, finite = loop.skipped + (~finite).astype(jnp.uint32), jnp.bool_(True)
    else:
        skipped = loop.skipped
    done = loop.done + finite.astype(jnp.uint32)
    trained, optimizer_state, estimator_state = new
    state = State(trained, optimizer_state, estimator_state, cursor)
    return Loop(state, done, finite, values, skipped)


class Compiled(NamedTuple):
    """The functions of a plan; each is traced once for its shapes.

    Attributes:
        block: `block(state, key, fixed, data, first, count, empty) -> Block`. `first` is the number of the
            first step, `count <= capacity` how many to take, and `empty` an array of `capacity` values to be
            filled.
        value: `value(key, trained, estimator_state, fixed, batch)`, the objective's value, of which only the
            shape is asked.
        initial_state: `initial_state(trained, fixed, batch)`, of the estimators; its shapes, likewise.
    """

    block: Callable[..., Block]
    value: Callable[..., Any]
    initial_state: Callable[..., Any]


def _compile(plan: Plan) -> Compiled:
    def block(state: State, key: Any, fixed: Any, data: Any, first: Any, count: Any, empty: Any) -> Block:
        start = Loop(state, jnp.uint32(0), jnp.bool_(True), empty, jnp.uint32(0))
        loop = jax.lax.while_loop(
            lambda loop: (loop.done < count) & loop.going,
            functools.partial(_step, plan, key, fixed, data, first),
            start,
        )
        return Block(loop, is_finite(loop.state.trained))

    def value(key: Any, trained: Any, estimator_state: Any, fixed: Any, batch: tuple[Any, ...]) -> Any:
        return value_and_grad(plan, key, trained, estimator_state, fixed, batch)[0]

    def initial_state(trained: Any, fixed: Any, batch: tuple[Any, ...]) -> Any:
        return plan.objective.initial_state(plan.layout.combine(trained, fixed), *batch)

    return Compiled(jax.jit(block), jax.jit(value), jax.jit(initial_state))


def last_good(run: Callable[[int], Block], failed: Block) -> Block:
    """The block up to the first bad step, whose number is how many steps it takes.

    Args:
        run: the block again, with so many steps.
        failed: it has stopped at a bad value or gradient, or its parameters are not finite.
    """
    most = int(failed.loop.done)
    if not failed.loop.going:  # the state is that after the bad step
        failed = run(most)
    if failed.sound:
        return failed
    good, bad = 0, most  # after `bad` steps the parameters are not finite
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if run(middle).sound else (good, middle)
    return run(good)


# Few, because an entry keeps the objective, and what it closes over, alive.
_cached = functools.lru_cache(maxsize=8)(_compile)


def compiled(plan: Plan) -> Compiled:
    """The functions of a plan, kept for the next run."""
    try:
        hash(plan)
    except TypeError:  # a constant leaf of the parameters, or the objective, cannot be hashed
        return _compile(plan)
    return _cached(plan)
