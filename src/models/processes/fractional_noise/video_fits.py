"""Training the latent model of movies, with H learned and held, and judging it on new movies."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.processes.fractional_noise import video
from models.processes.fractional_noise.equation import State, prior_path
from models.processes.fractional_noise.movies import Movies, movies
from models.processes.fractional_noise.video import Params, Sizes

OURS, BROWNIAN = "MA-fBM", "BM"
VARIANTS = {OURS: True, BROWNIAN: False}


class Config(NamedTuple):
    """How much of everything.

    The decoder takes long to train, and by chance more or less long. So that this does not decide, both
    variants go on from one start: networks trained with a Brownian prior.

    Attributes:
        sizes: of the model.
        train, test: numbers of movies.
        beyond: frames after the last that is seen, to be predicted.
        batch: movies in a step.
        first, then: numbers of steps, of the start and of each variant.
        rates: of Adam, for both; each falls to a hundredth, by a cosine.
        prior_rate: for the Hurst index.
    """

    sizes: Sizes = Sizes()
    train: int = 1400
    test: int = 200
    beyond: int = 8
    batch: int = 32
    first: int = 900
    then: int = 500
    rates: tuple[float, float] = (5e-3, 2e-3)
    prior_rate: float = 3e-2


class Fit(NamedTuple):
    """One variant and seed, on movies whose digits were not trained on; bounds in nats for each movie.

    Attributes:
        hurst: that was found, or held.
        bound: of the guide, by one draw for each movie.
        seen: peak signal-to-noise ratio of the frames that the guide reads, in decibels.
        beyond: the same of those that follow, as the prior goes on by one draw from the guide's last state.
        pictures: of the first movies: drawn frames, those that follow included.
    """

    hurst: float
    bound: float
    seen: float
    beyond: float
    pictures: np.ndarray


class Run(NamedTuple):
    """All fits, by variant and seed, and the movies that those of the first seed are judged by."""

    fits: dict[tuple[str, int], Fit]
    test: Movies


def run(config: Config, seeds: tuple[int, ...], progress: bool) -> Run:
    """Both variants of all seeds, trained side by side.

    A seed is a data set, with its division into digits to train on and to judge by, networks to start from,
    and noise. The two variants of a seed share all but the noise.
    """
    lanes = [(name, seed) for name in VARIANTS for seed in seeds]
    length = config.sizes.frames + config.beyond
    sets = [movies(seed, config.train, config.test, length) for seed in seeds]
    frames = np.stack([train.frames[:, : config.sizes.frames] for train, _ in sets], axis=1)
    tests = jnp.asarray(np.stack([test.frames for _, test in sets] * len(VARIANTS)))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    params = jax.vmap(lambda key: video.initial(key, config.sizes))(keys)
    train = lambda stage, params, learn: _trained(config, stage, keys[0], params, learn, frames, progress)
    params = train(0, params, np.zeros(len(seeds), bool))
    params = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(VARIANTS)), params)
    learn = np.array([VARIANTS[name] for name, _ in lanes])
    params = train(1, params, learn)
    judge = jax.jit(lambda lanes: jax.lax.map(lambda lane: _judged(*lane, config), lanes))
    found = judge((jnp.concatenate([keys] * len(VARIANTS)), params, tests))
    hursts = jax.nn.sigmoid(params["hurst"])
    fits = {
        lane: Fit(float(hursts[i]), *(float(part[i]) for part in found[:3]), np.asarray(found[3][i]))
        for i, lane in enumerate(lanes)
    }
    return Run(fits, sets[0][1])


def _trained(
    config: Config,
    stage: int,
    key: jax.Array,
    params: Params,
    learn: np.ndarray,
    frames: np.ndarray,
    progress: bool,
) -> Params:
    """After one of the two stages, each with its own batches and noise; each fit has noise of its own."""
    steps = (config.first, config.then)[stage]
    if not steps:
        return params
    adam = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, steps, 0.01))
    kinds = {name: "prior" if name == "hurst" else "networks" for name in params}
    optimizer = optax.partition(
        {"networks": adam(config.rates[stage]), "prior": adam(config.prior_rate)}, kinds
    )
    return ppl.fit(
        video.ensemble(config.sizes, learn), params, optimizer, key=jax.random.fold_in(key, stage),
        steps=steps, data=frames, batch_size=config.batch, progress=progress,
    ).params  # fmt: skip


def _judged(key: jax.Array, params: Params, frames: jax.Array, config: Config) -> tuple[jax.Array, ...]:
    """Means over movies of the bound and of both ratios; and pictures of the first."""
    sizes = config.sizes
    noise = video.noise_of(params, sizes, False)

    def one(key: jax.Array, movie: jax.Array) -> tuple[jax.Array, ...]:
        first, second = jax.random.split(key)
        seen = movie[: sizes.frames]
        drawn = video.guide(params, sizes, noise, seen).simulate(first)
        target = video.model(params, sizes, noise).condition({"frames": seen})
        bound = target.log_density(drawn.choices) - drawn.log_density
        found = drawn.retval
        last = State(found.controlled.path.x[-1], found.controlled.path.y[-1])
        times = sizes.times(config.beyond) + jnp.float32(sizes.horizon)
        path = prior_path(noise, video.field(params), sizes.dt, times, last).simulate(second).retval
        x = jnp.concatenate([found.x, path.x[sizes.substeps - 1 :: sizes.substeps]])
        made = video.render(params, found.code, x)
        errors = jnp.mean((made - movie) ** 2, axis=(1, 2))
        ratio = lambda some: -10.0 * jnp.log10(jnp.mean(some))
        return bound, ratio(errors[: sizes.frames]), ratio(errors[sizes.frames :]), made

    *scores, made = jax.vmap(one)(jax.random.split(key, len(frames)), frames)
    return *(jnp.mean(score) for score in scores), made[:2]
