"""Training guides of observed paths, first with coarse steps of Euler and then with fine ones.

The last step before an observation leaves a deviation of s (sum_k w_k) sqrt(dt), which no control can
move: it has to be small beside the noise, or bounds are loose and favor priors that are too smooth. What
the control is of time is the same for steps of any length, so that nearly all of the training can be
cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import ppl
from models.processes.fractional_noise import observed
from models.processes.fractional_noise.observed import Params, Problem


class Stage(NamedTuple):
    """A part of training.

    Attributes:
        euler: how many steps a path has.
        steps: of training.
        rate: of Adam at first, for the guide; it falls to zero by a cosine.
        prior_rate: for H and s.
    """

    euler: int
    steps: int
    rate: float
    prior_rate: float = 0.0


def trained(
    problem: Callable[[int], Problem], stages: tuple[Stage, ...], params: Params, data: dict[str, Any],
    *, key: jax.Array, paths: int = 1, progress: bool = False,
) -> Params:  # fmt: skip
    """The parameters of all fits after all stages.

    Args:
        problem: by how many steps a path has.
        params, data: with a leading axis of fits.
        paths: of the guide, for each series of observations and step of training.
    """
    for number, stage in enumerate(stages):
        if not stage.steps:
            continue
        objective = observed.ensemble(problem(stage.euler), paths=paths)
        params = ppl.fit(
            objective, params, _optimizer(stage, params), key=jax.random.fold_in(key, number),
            steps=stage.steps, data=data, progress=progress,
        ).params  # fmt: skip
    return params


def _optimizer(stage: Stage, params: Params) -> optax.GradientTransformation:
    adam = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, stage.steps))
    kinds = {name: "prior" if name in ("hurst", "scale") else "guide" for name in params}
    return optax.partition({"guide": adam(stage.rate), "prior": adam(stage.prior_rate)}, kinds)
