"""Training an objective by stochastic gradient ascent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppl.noise import check_key
from ppl.train.arguments import check_callables, check_data, one_of, whole
from ppl.train.block import Block, Plan, State, compiled, last_good
from ppl.train.failure import failure
from ppl.train.minibatches import ORDER, cursor_at, next_rows, take
from ppl.train.parameters import partition, strong
from ppl.train.progress import Pace, Progress, reporter, summarize

# Values that a block of a length chosen by its speed can hold.
_CAPACITY = 2**15


class FitResult(NamedTuple):
    """What training leaves; a pytree.

    Attributes:
        params: the trained parameters, structured as they were given.
        optimizer_state: the optimizer's state after the last step.
        values: the objective's estimate at each step of this run, before the step; shape `(steps,)`.
        step: the number of the next step: `start=` of a run that goes on from here.
        estimator_state: the state of the estimators after the last step (moving averages), mostly empty.
        skipped: how many steps of this run were not finite and changed nothing, under `nonfinite="skip"`.
    """

    params: Any
    optimizer_state: Any
    values: np.ndarray
    step: int
    estimator_state: Any = None
    skipped: int = 0


class _Run(NamedTuple):
    """The arrays and numbers of one run; `plan` holds the rest."""

    plan: Plan
    key: jax.Array
    fixed: list[jax.Array]
    data: Any
    rows: int
    start: int
    steps: int


def fit(
    objective: Any,
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    key: jax.Array,
    steps: int,
    data: Any = None,
    batch_size: int | None = None,
    num_samples: int = 1,
    maximize: bool = True,
    progress: bool | Callable[[Progress], Any] = True,
    block_size: int | None = None,
    optimizer_state: Any = None,
    estimator_state: Any = None,
    start: int = 0,
    nonfinite: str = "raise",
) -> FitResult:
    """Parameters that make the expected value of an objective large, by stochastic gradient steps.

    Step `t` draws one estimate of value and gradient with the key `jax.random.fold_in(key, t)` and
    hands the gradient to the optimizer. Steps run in compiled blocks on the device. The result does
    not depend on the length of the blocks, bit for bit, nor on stopping and going on (`start=`).

    Args:
        objective: what `@ppl.expectation` makes, a program of `params`, or of `params, batch`.
        params: a pytree. Its inexact arrays are trained; other leaves (functions, strings, integer
            arrays, the Python floats inside modules) reach the objective as they are.
        optimizer: an Optax gradient transformation. One of chained transformations may hold parameters fixed:
            `optax.chain(optax.adam(1e-2), optax.transforms.freeze({"loc": False, "scale": True}))`.
        key: a key made by `jax.random.key`; the only source of randomness.
        steps: how many steps to take; zero gives the parameters back.
        data: arrays whose leading axes are equal; the objective receives rows of them.
        batch_size: how many rows a step sees, all of them where `None`. Batches run through one random
            permutation of the rows after another, so each row is used once in an epoch.
        num_samples: independent estimates averaged in each step.
        maximize: ascend; `False` descends.
        progress: a bar on a terminal and lines on stderr elsewhere, showing the mean of the objective
            over the last block and its standard error; `False` for silence; or a function that is
            called with a `Progress` after each block.
        block_size: steps between two reports; by default so many as take a third of a second.
        optimizer_state: the state to go on from, instead of a fresh one.
        estimator_state: the estimators' state to go on from, instead of a fresh one.
        start: the number of the first step, to go on with a run.
        nonfinite: what to do at a step whose value, gradient or update is not finite: `"raise"`, or `"skip"`,
            which leaves parameters and states as they were and counts the step in `skipped`.

    Raises:
        NonFiniteObjective: a value, gradient or update is not finite; or all of them, where such steps are
            skipped. The error's `step`, `key`, `params` and `batch` replay it, its `result` is the run up
            to it.
        TypeError: `objective` is not an expectation, or nothing in `params` can be trained.
        ValueError: data whose rows do not match, or numbers out of range.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> import ppl
        >>> @ppl.expectation
        ... def objective(loc):
        ...     x = ppl.normal(loc, 1.0) @ "x"
        ...     return -((x - 3.0) ** 2)
        >>> result = ppl.fit(
        ...     objective, jnp.array(0.0), optax.sgd(0.05), key=jax.random.key(0), steps=500, progress=False
        ... )
        >>> bool(abs(result.params - 3.0) < 1.0)
        True
    """
    check_callables(objective, optimizer)
    check_key(key)
    steps, start = whole("steps", steps, 0), whole("start", start, 0)
    if start + steps > ORDER:
        raise ValueError(
            f"start + steps may be at most {ORDER}, got {start + steps}: fold a number into the key."
        )
    if block_size is not None:
        block_size = whole("block_size", block_size, 1)
    data, rows, batch_size = check_data(data, batch_size)
    layout, trained, fixed = partition(params)
    capacity = block_size or _CAPACITY
    num_samples = whole("num_samples", num_samples, 1)
    skip = one_of("nonfinite", nonfinite, ("raise", "skip")) == "skip"
    plan = Plan(objective, optimizer, layout, batch_size, num_samples, bool(maximize), capacity, skip)
    state = optimizer.init(trained) if optimizer_state is None else optimizer_state
    run = _Run(plan, key, fixed, data, rows, start, steps)
    cursor = cursor_at(key, start, rows, batch_size) if batch_size is not None else None
    if estimator_state is None:
        estimator_state = _initial_state(run, trained)
    first = State(trained, strong(state), strong(estimator_state), cursor)
    return _blocks(run, first, Pace(block_size, capacity), progress)


def _blocks(run: _Run, state: State, pace: Pace, progress: Any) -> FitResult:
    """Runs block after block, with one look from the host between two."""
    plan = run.plan
    empty = jnp.zeros(plan.capacity, _value_dtype(run, state))
    history = np.zeros(run.steps, empty.dtype)
    block, done, skipped = compiled(plan).block, 0, 0
    report = reporter(progress, run.steps)
    try:
        while done < run.steps:
            count = min(pace.count, run.steps - done)
            first = jnp.uint32(run.start + done)
            take_steps = functools.partial(_take_steps, block, run, state, first, empty)
            ended = take_steps(count)
            if bad := not (ended.loop.going and ended.sound):
                ended = last_good(take_steps, ended)
            state, taken = ended.loop.state, int(ended.loop.done)
            history[done : done + taken] = np.asarray(ended.loop.values)[:taken]
            done += taken
            skipped += int(ended.loop.skipped)
            if bad:
                raise _stopped(run, state, history[:done])
            pace.block_done()
            report(summarize(done, run.steps, history[done - taken : done]))
    finally:
        report.close()
    if run.steps and skipped == run.steps:  # the parameters are those that were given: say why, at the first
        raise _stopped(run, state, history[:0])
    return _result(run, state, history)._replace(skipped=skipped)


def _take_steps(
    block: Callable[..., Block], run: _Run, state: State, first: Any, empty: Any, count: int
) -> Block:
    return block(state, run.key, run.fixed, run.data, first, jnp.uint32(count), empty)


def _result(run: _Run, state: State, history: np.ndarray) -> FitResult:
    params = run.plan.layout.combine(state.trained, run.fixed)
    step = run.start + len(history)
    return FitResult(params, state.optimizer_state, history, step, state.estimator_state)


def _stopped(run: _Run, state: State, history: np.ndarray) -> Exception:
    """The error of the step that follows the history."""
    step = run.start + len(history)
    batch = () if run.data is None else (run.data,)
    if run.plan.batch_size is not None:
        cursor = cursor_at(run.key, step, run.rows, run.plan.batch_size)
        batch = (take(run.data, next_rows(run.key, cursor, run.plan.batch_size)[0]),)
    step_key = jax.random.fold_in(run.key, jnp.uint32(step))
    return failure(run.plan, step, step_key, state, run.fixed, batch, _result(run, state, history))


def _batch_shapes(run: _Run) -> tuple[Any, ...]:
    """Shapes and dtypes of the batch of a step, if there is one."""
    rows = run.plan.batch_size or run.rows
    like = lambda array: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)
    return () if run.data is None else (jax.tree.map(like, run.data),)


def _initial_state(run: _Run, trained: Any) -> Any:
    """The state of the estimators before the first step."""
    if not hasattr(run.plan.objective, "initial_state"):
        return {}

    shapes = jax.eval_shape(compiled(run.plan).initial_state, trained, run.fixed, _batch_shapes(run))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _value_dtype(run: _Run, state: State) -> Any:
    """The dtype of the objective's value, which must be a real scalar."""
    value = jax.eval_shape(
        compiled(run.plan).value,
        run.key, state.trained, state.estimator_state, run.fixed, _batch_shapes(run),
    )  # fmt: skip
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"an objective to be fitted returns a real scalar, got {value.dtype}{list(value.shape)}: "
            "sum or average what it returns."
        )
    return value.dtype
