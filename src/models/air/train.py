"""Training, epoch by epoch, and the scores after each: the bound, and how often the count is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import ppl
from models.air.data import MOST, Canvases
from models.air.model import PRESENT, Start, guide, model
from models.air.nets import Params, Sizes, initial
from models.air.objectives import Strategy, objective


class Setting(NamedTuple):
    """How to train: by Adam.

    Attributes:
        rate: of learning.
        presence: what the rate is multiplied with for the head that says whether there is an object. With
            one, slots are given up before their objects are worth seeing, in runs as chance has it.
        decay: whether the rates fall to zero by a cosine.
    """

    rate: float
    presence: float = 1.0
    batch: int = 32
    epochs: int = 40
    decay: bool = False


class Epoch(NamedTuple):
    """What is known after an epoch.

    Attributes:
        number: of the epoch, from 1; 0 is before training.
        seconds: of training until here, without compilation and without the scores.
        objective: the mean over the epoch of what is trained; of no meaning across objectives.
        elbo: of the test images, one draw each.
        accuracy: the share of test images whose number of objects one draw of the guide has right.
        confusion: of images with 0, 1, 2 digits, how many are said to have 0, 1, 2, 3.
    """

    number: int
    seconds: float
    objective: float
    elbo: float
    accuracy: float
    confusion: list[list[int]]


class Trained(NamedTuple):
    """An epoch, and the parameters after it."""

    epoch: Epoch
    params: Params


def trainer(
    strategy: Strategy, start: Start, data: tuple[Canvases, Canvases], setting: Setting,
    sizes: Sizes = Sizes(),  # noqa: B008
) -> Callable[[int], Iterator[Trained]]:  # fmt: skip
    """A function of a seed: parameters and scores before the first epoch and after each; compiled once."""
    images, mean, scores = jnp.asarray(data[0].images), objective(strategy, start), scorer(start, data[1])
    steps = len(images) // setting.batch
    optimizer = adam(setting, steps * setting.epochs)

    def fit(params: Params, noise: jax.Array, steps: int, **options: Any) -> ppl.FitResult:
        batches = {"data": images, "batch_size": setting.batch, "block_size": len(images) // setting.batch}
        return ppl.fit(mean, params, optimizer, key=noise, steps=steps, progress=False, **batches, **options)

    def train(seed: int) -> Iterator[Trained]:
        first, noise, scoring = jax.random.split(jax.random.key(seed), 3)
        params = initial(first, sizes, start.decoder_bias)
        fit(params, noise, 1)  # compiles
        yield Trained(Epoch(0, 0.0, float("nan"), *scores(scoring, params)), params)
        state, seconds = {}, 0.0
        for number in range(setting.epochs):
            began = time.perf_counter()
            found = fit(params, noise, steps, start=steps * number, **state)
            params = jax.block_until_ready(found.params)
            state = {"optimizer_state": found.optimizer_state, "estimator_state": found.estimator_state}
            seconds += time.perf_counter() - began
            scored = scores(jax.random.fold_in(scoring, number), params)
            yield Trained(Epoch(number + 1, seconds, float(found.values.mean()), *scored), params)

    return train


def adam(setting: Setting, steps: int) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(setting.rate, steps) if setting.decay else setting.rate

    def slower(updates: Params) -> Params:
        return {
            name: jax.tree.map(lambda x: setting.presence * x, part) if name == "presence" else part
            for name, part in updates.items()
        }

    return optax.chain(optax.adam(rate), optax.stateless(lambda updates, _: slower(updates)))


def scorer(start: Start, tests: Canvases) -> Any:
    """A function of a key and parameters: ELBO, accuracy and confusion on test images, one draw each."""
    images, counts = jnp.asarray(tests.images), jnp.asarray(tests.counts)

    def one(key: jax.Array, params: Params, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = guide(params, image, start.where).simulate(key)
        target = model(params, len(image)).condition({"image": image})
        present = [drawn.choices["present", str(slot)] for slot in range(len(PRESENT))]
        return target.log_density(drawn.choices) - drawn.log_density, sum(x.astype(int) for x in present)

    @jax.jit
    def each(key: jax.Array, params: Params) -> tuple[jax.Array, jax.Array]:
        elbos, found = jax.vmap(one, (0, None, 0))(jax.random.split(key, len(images)), params, images)
        table = jnp.zeros((MOST + 1, len(PRESENT) + 1), int).at[counts, found].add(1)
        return jnp.mean(elbos), table

    def scores(key: jax.Array, params: Params) -> tuple[float, float, list[list[int]]]:
        elbo, table = jax.device_get(each(key, params))
        return float(elbo), float(table.trace() / table.sum()), table.tolist()

    return scores
