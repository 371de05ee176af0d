"""What trains the estimators of a program beside its parameters: baselines and control variates.

A parameter that reaches the program through estimators only (the output of a baseline network, the parameters
of a control variate) does not move the expected value, whose derivative in it is zero. It is trained to lower
the variance instead: a learned baseline by regression on the return, anything else by the gradient of the
squared norm of the objective's gradient, whose expected value is the variance plus a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.address import show
from ppl.estimators.baselines import Learned
from ppl.transforms.dependence import reaching
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence, occurrences
from ppl.transforms.plan import kept, plan, static


class Learning(NamedTuple):
    """One step's worth of training; a pytree.

    Attributes:
        value: an unbiased estimate of the expected value.
        grad: an unbiased estimate of its gradient; for a parameter that reaches the program through
            estimators only, the direction that lowers the variance.
        state: the state of the estimators after the step.
    """

    value: jax.Array
    grad: Any
    state: dict[str, Any]


def _kind(item: Occurrence) -> Any:
    return getattr(static(item.site)[1], "baseline", None)


def is_learning(jaxpr: Any) -> bool:
    """Whether any estimator of the program has something to be trained or kept from step to step."""
    return any(
        item.site.control or isinstance(_kind(item), Learned) or kept(item) is not None
        for item in occurrences(jaxpr)
    )


def has_control(jaxpr: Any) -> bool:
    """Whether any estimator of the program has a control variate."""
    return any(item.site.control for item in occurrences(jaxpr))


def through_estimators_only(jaxpr: Any) -> list[bool]:
    """For each input of a staged program, whether it reaches its result through estimators only."""
    found = reaching(jaxpr)
    return [number not in found for number in range(len(jaxpr.invars))]


def label(name: Name) -> str:
    """The name of a choice as a key of the state."""
    return show(name[0]) + (f"#{name[1]}" if name[1] else "")


def averaged(jaxpr: Any) -> dict[Name, Occurrence]:
    """The choices with a moving average as their baseline."""
    return {name: item for name, item in plan(jaxpr, 1).scored.items() if kept(item) is not None}


def initial(jaxpr: Any) -> dict[str, Any]:
    """The state before the first step: a sum and its weight for each average."""
    return {
        label(name): (jnp.zeros(kept(item) or ()), jnp.zeros(())) for name, item in averaged(jaxpr).items()
    }


def by_name(jaxpr: Any, state: Mapping[str, Any]) -> dict[Name, Any]:
    """The state as a derivation wants it."""
    return {name: state[label(name)] for name in averaged(jaxpr) if label(name) in state}


def updated(jaxpr: Any, averages: Mapping[Name, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a step with these average returns."""
    items = averaged(jaxpr)
    return {
        label(name): _kind(item).update(averages[name], state[label(name)]) for name, item in items.items()
    }
