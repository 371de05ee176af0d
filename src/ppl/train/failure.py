"""The error of a training step that is not finite: what went first, and how to see it again."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from ppl.errors import NonFiniteObjective
from ppl.train.block import Plan, State, descend, is_finite, value_and_grad


def _not_finite(tree: Any) -> list[str]:
    return [
        f"params{keystr(path)} {list(np.shape(leaf))}"
        for path, leaf in tree_leaves_with_path(tree)
        if not bool(is_finite(leaf))
    ]


def _symptom(plan: Plan, state: State, value: Any, grads: Any) -> str:
    """What is wrong, the earliest cause first: bad parameters make a bad value, that makes a bad gradient."""
    if leaves := _not_finite(state.trained):
        return f"{', '.join(leaves)} is not finite before the step: it was given so"
    if not bool(is_finite(value)):
        return f"the objective is {float(value)}"
    if leaves := _not_finite(grads):
        names = ", ".join(leaves)
        return f"the objective is {value:.6g}, but its gradient is not finite with respect to {names}"
    names = ", ".join(_not_finite(descend(plan, value, grads, state)[0]))
    return (
        f"{names} became not finite in an update from finite gradients: "
        "lower the optimizer's step size, or clip its updates"
    )


def _choice(plan: Plan, key: jax.Array, params: Any, batch: tuple[Any, ...]) -> str:
    """A sentence on the first draw or log density that is not finite."""
    find = getattr(plan.objective, "first_nonfinite", None)
    if find is None:
        return ""
    found = find(key, params, *batch, num_samples=plan.num_samples)
    if found is None:
        return (
            "Every draw and log density is finite: look at the objective's other terms and at derivatives.\n"
        )
    return f"First: {found}.\n"


def failure(
    plan: Plan, step: int, key: jax.Array, state: State, fixed: Any, batch: tuple[Any, ...], result: Any
) -> NonFiniteObjective:
    """The error for a bad step, from the state before it. `key` is the key of the step."""
    trained = state.trained
    params = plan.layout.combine(trained, fixed)
    value, grads, _ = value_and_grad(plan, key, trained, state.estimator_state, fixed, batch)
    updated = bool(is_finite((trained, value, grads)))
    arguments = "error.key, error.params" + (", error.batch" if batch else "")
    if plan.num_samples != 1:
        arguments += f", num_samples={plan.num_samples}"
    error = NonFiniteObjective(
        f"fit stopped at step {step}: {_symptom(plan, state, value, grads)}.\n"
        f"{'' if updated else _choice(plan, key, params, batch)}"
        "Parameters and optimizer state are those from before the step (error.result).\n"
        f"To replay the step: objective.value_and_grad({arguments})\n"
        "To train past such steps: fit(..., nonfinite='skip') leaves them out, and counts them."
    )
    error.step, error.key, error.params, error.result = step, key, params, result
    error.batch = batch[0] if batch else None
    return error
