"""The compiled inner loop of training: a block of steps on the device.

A block is a `while_loop` whose number of steps is an operand. XLA makes of it what it makes of a
`scan`, but one compilation serves blocks of every length, and the loop ends at the first step that is
not finite, unless such steps are to be skipped.
"""

from __future__ import annotations

import functools
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
    """What one step hands to the next; its buffers are donated."""

    trained: Any
    optimizer_state: Any
    estimator_state: Any
    cursor: Cursor | None


class Loop(NamedTuple):
    """The carry of a block: the state, how many steps are done, whether to go on, values, steps skipped."""

    state: State
    done: jax.Array
    going: jax.Array
    values: jax.Array
    skipped: jax.Array


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
    """Whether every number of a tree is finite."""
    return functools.reduce(jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])


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
    kept = (state.trained, state.optimizer_state, state.estimator_state, jnp.bool_(False))

    def moved() -> Any:
        trained, optimizer_state = descend(plan, value, grads, state)
        intact = is_finite(trained)
        return jax.lax.cond(intact, lambda: (trained, optimizer_state, estimator_state, intact), lambda: kept)

    # A bad step leaves parameters and optimizer as they were, bit for bit. Branches, because selecting
    # old or new number by number would cost a third of a small step.
    trained, optimizer_state, estimator_state, finite = jax.lax.cond(
        is_finite((value, grads)), moved, lambda: kept
    )
    values = loop.values.at[loop.done].set(value)
    state = State(trained, optimizer_state, estimator_state, cursor)
    going = finite | plan.skip
    skipped = loop.skipped + (~finite).astype(jnp.uint32)
    return Loop(state, loop.done + going.astype(jnp.uint32), going, values, skipped)


def _compile(plan: Plan) -> Callable[..., Loop]:
    def block(state: State, key: Any, fixed: Any, data: Any, first: Any, count: Any, empty: Any) -> Loop:
        start = Loop(state, jnp.uint32(0), jnp.bool_(True), empty, jnp.uint32(0))
        return jax.lax.while_loop(
            lambda loop: (loop.done < count) & loop.going,
            functools.partial(_step, plan, key, fixed, data, first),
            start,
        )

    return jax.jit(block, donate_argnames="state")


# Few, because an entry keeps the objective, and what it closes over, alive.
_cached = functools.lru_cache(maxsize=8)(_compile)


def compiled(plan: Plan) -> Callable[..., Loop]:
    """`block(state, key, fixed, data, first, count, empty) -> Loop`, kept for the next run.

    `first` is the number of the first step, `count <= capacity` how many to take, and `empty` an array
    of `capacity` values to be filled.
    """
    try:
        hash(plan)
    except TypeError:  # a constant leaf of the parameters, or the objective, cannot be hashed
        return _compile(plan)
    return _cached(plan)
