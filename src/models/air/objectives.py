"""What the figure compares: an objective, and an estimator for the presence of each object.

Places and codes are reparameterized throughout, which is what they get by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import ppl
from models.air.model import Start, guide, model
from models.air.nets import Params
from ppl.estimators import Enumerate, Estimator, MeasureValued, Reinforce
from ppl.objectives import wake_guide, wake_model

Bound = Callable[[ppl.Measure, ppl.Measure], jax.Array]
Estimators = dict[str, Estimator]


class Strategy(NamedTuple):
    """An objective of one image, and the estimators of its choices."""

    bound: Bound
    estimators: Estimators


def reweighted_wake_sleep(particles: int) -> Bound:
    """Model and guide learn from particles weighted by importance; no draw is differentiated."""

    def phases(target: ppl.Measure, proposal: ppl.Measure) -> jax.Array:
        return wake_model(particles)(target, proposal) + wake_guide(particles)(target, proposal)

    return phases


def everywhere(estimator: Estimator) -> Estimators:
    return {"present/*": estimator}


HYBRID: Estimators = {"present/0": MeasureValued(), "present/1": MeasureValued(), "present/2": Enumerate()}

STRATEGIES = {
    "REINFORCE": Strategy(ppl.elbo, everywhere(Reinforce())),
    "MVD": Strategy(ppl.elbo, everywhere(MeasureValued())),
    "ENUM": Strategy(ppl.elbo, everywhere(Enumerate())),
    "hybrid": Strategy(ppl.elbo, HYBRID),
    "IWELBO(2) + REINFORCE": Strategy(ppl.iwelbo(2), everywhere(Reinforce())),
    "IWELBO(2) + MVD": Strategy(ppl.iwelbo(2), everywhere(MeasureValued())),
    "RWS(10)": Strategy(reweighted_wake_sleep(10), {}),
}


def objective(strategy: Strategy, start: Start) -> ppl.Expectation:
    """The mean of the strategy's objective over a batch of images."""

    def bound(params: Params, image: jax.Array) -> jax.Array:
        proposal = guide(params, image, start.where).using(strategy.estimators)
        return strategy.bound(model(params, len(image)).condition({"image": image}), proposal)

    @ppl.expectation
    def mean(params: Params, images: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(lambda image: bound(params, image))(images))

    return mean
