"""A latent model of movies: what is seen is a code, how it moves a stochastic differential equation.

    code ~ N(0, I),   X(0) ~ N(m, v^2),   dX = b(X) dt + s(X) dB^,   frame_i ~ N(render(code, X_i), 0.1^2)

Drift b, diffusion s, the decoder and the Hurst index are learned with the guide, which reads the frames.
The baseline is the same with H = 1/2 held, a prior driven by Brownian motion. The control is a network of
the state (x, y), of time within a frame, and of what was read from the frames around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd

import ppl
from models.common.nets import affine, layers, linear, perceptron
from models.common.spatial_transformer import attend, place
from models.processes.fractional_noise.coefficients import Driver, driver, geometric_rates
from models.processes.fractional_noise.equation import (
    Control,
    Controlled,
    State,
    energy,
    guided_path,
    prior_path,
)
from models.processes.fractional_noise.movies import CANVAS, DIGIT

Params = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Of the model, and of its networks.

    Attributes:
        frames: that are seen.
        interval: between two frames.
        substeps: of Euler in an interval; highest rate * interval / substeps has to be below a half.
        latents: dimensions of X.
        code, hidden: of the networks.
        features: read from each frame; the first two are where the digit is.
        ahead: how many frames to come the control sees.
        noise: of a pixel.
    """

    frames: int = 16
    interval: float = 0.06
    substeps: int = 3
    latents: int = 4
    code: int = 16
    hidden: int = 128
    features: int = 8
    ahead: int = 3
    noise: float = 0.1

    @property
    def dt(self) -> float:
        return self.interval / self.substeps

    @property
    def horizon(self) -> float:
        return self.interval * (self.frames - 1)

    @property
    def rates(self) -> np.ndarray:
        return geometric_rates(5)

    def times(self, frames: int) -> np.ndarray:
        """When the steps of so many intervals begin."""
        return (self.dt * np.arange(frames * self.substeps)).astype(np.float32)


def initial(key: jax.Array, sizes: Sizes, hurst: float = 0.5) -> Params:
    """All parameters in single precision; the control is zero at first."""
    keys = iter(jax.random.split(key, 10))
    d, hidden, features, number = sizes.latents, sizes.hidden, sizes.features, len(sizes.rates)
    around = features * (sizes.ahead + 1)
    made = {
        "hurst": jnp.log(hurst) - jnp.log1p(-hurst),
        "start": {"mean": jnp.zeros(d), "scale": jnp.zeros(d)},
        "drift": layers(next(keys), (d, hidden, d), silent=True),
        "diffusion": layers(next(keys), (d, hidden, d), silent=True),
        "readout": linear(next(keys), d, 2),
        "decoder": layers(next(keys), (sizes.code, hidden, DIGIT**2)),
        "reader": layers(next(keys), (CANVAS**2, hidden, features)),
        "encoder": layers(next(keys), (DIGIT**2, hidden, 2 * sizes.code)),
        "first": layers(next(keys), (around, hidden, 2 * d)),
        "control": layers(next(keys), (d * (1 + number) + around + 1, hidden, hidden, d), silent=True),
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), made)


def noise_of(params: Params, sizes: Sizes, learn: Any) -> Driver:
    """That of the Hurst index, which is held where it is unless it is to be learned."""
    raw = jnp.where(learn, params["hurst"], jax.lax.stop_gradient(params["hurst"]))
    found = driver(jax.nn.sigmoid(raw), sizes.rates, sizes.horizon)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), found)


def field(params: Params) -> Callable[..., Any]:
    """b(x) and s(x)."""

    def of(t: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        diffusion = 0.01 + jax.nn.softplus(perceptron(params["diffusion"], x) - 0.5)
        return perceptron(params["drift"], x), diffusion

    return of


def render(params: Params, code: jax.Array, x: jax.Array) -> jax.Array:
    """Frames of a digit at the places that X says, of shape (times, CANVAS, CANVAS)."""
    ink = jax.nn.sigmoid(perceptron(params["decoder"], code, jax.nn.leaky_relu) - 1.0)
    window = ink.reshape(DIGIT, DIGIT)
    shifts = affine(params["readout"], x)
    return jax.vmap(lambda shift: place(window, (CANVAS / DIGIT, *shift), CANVAS))(shifts)


# --- the two programs


@ppl.gen
def frames(params: Params, sizes: Sizes, code: jax.Array, x: jax.Array):
    means = render(params, code, x)
    ppl.normal(means, jnp.full_like(means, sizes.noise)) @ "frames"


@ppl.gen
def model(params: Params, sizes: Sizes, noise: Driver):
    zero = jnp.zeros(sizes.code, jnp.float32)
    code = ppl.normal(zero, jnp.ones_like(zero)) @ "code"
    x = ppl.normal(params["start"]["mean"], jnp.exp(params["start"]["scale"])) @ "X(0)"
    start, times = State(x, _quiet(x, noise)), sizes.times(sizes.frames - 1)
    path = prior_path(noise, field(params), sizes.dt, times, start) @ ()
    frames(params, sizes, code, _at_frames(sizes, x, path)) @ ()


class Found(NamedTuple):
    """What the guide draws: the code, X at the frames, and the path with its control."""

    code: jax.Array
    x: jax.Array
    controlled: Controlled


@ppl.gen
def guide(params: Params, sizes: Sizes, noise: Driver, movie: jax.Array):
    features = perceptron(params["reader"], movie.reshape(len(movie), -1), jax.nn.leaky_relu)
    code = ppl.normal(*_code(params, movie, features)) @ "code"
    around = _around(sizes, features)
    x = ppl.normal(*_first(params, around)) @ "X(0)"
    start, times = State(x, _quiet(x, noise)), sizes.times(sizes.frames - 1)
    known = jnp.repeat(around[:-1], sizes.substeps, axis=0), _phase(sizes)
    steer = control(params, sizes)
    found = guided_path(noise, field(params), sizes.dt, times, start, steer, known) @ ()
    return Found(code, _at_frames(sizes, x, found.path), found)


def _quiet(x: jax.Array, noise: Driver) -> jax.Array:
    """Y(0) = 0."""
    return jnp.zeros((len(x), len(noise.rates)), x.dtype)


def _at_frames(sizes: Sizes, first: jax.Array, path: State) -> jax.Array:
    return jnp.concatenate([first[None], path.x[sizes.substeps - 1 :: sizes.substeps]])


def _phase(sizes: Sizes) -> np.ndarray:
    """The share of an interval that is left at each step, of shape (steps, 1)."""
    left = 1.0 - np.arange(sizes.substeps) / sizes.substeps
    return np.tile(left, sizes.frames - 1)[:, None].astype(np.float32)


def _around(sizes: Sizes, features: jax.Array) -> jax.Array:
    """Those of each frame and of the next ones; the last is repeated where there are no more."""
    index = np.arange(len(features))[:, None] + np.arange(sizes.ahead + 1)
    return features[np.minimum(index, len(features) - 1)].reshape(len(features), -1)


def _code(params: Params, movie: jax.Array, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of the code: from the mean of what windows show that follow the digit."""
    look = lambda frame, at: attend(frame, (CANVAS / DIGIT, at[0], at[1]), DIGIT)
    window = jnp.mean(jax.vmap(look)(movie, features), axis=0)
    loc, scale = jnp.split(perceptron(params["encoder"], window.ravel(), jax.nn.leaky_relu), 2)
    return loc, jax.nn.softplus(scale)


def _first(params: Params, around: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of X(0)."""
    loc, scale = jnp.split(perceptron(params["first"], around[0]), 2)
    return loc, jax.nn.softplus(scale - 1.0)


def control(params: Params, sizes: Sizes) -> Control:
    """u(x, y, what was read); y in units of its deviations without a control."""
    rates = sizes.rates
    deviations = np.sqrt(-np.expm1(-2.0 * rates * sizes.horizon) / (2.0 * rates)).astype(np.float32)

    def of(known: Any, state: State) -> jax.Array:
        around, phase = known
        inputs = jnp.concatenate([state.x, (state.y / deviations).ravel(), around, phase])
        return sizes.interval**-0.5 * perceptron(params["control"], inputs)

    return of


# --- the bound, in two forms of one mean


def with_martingale(params: Params, sizes: Sizes, noise: Driver, movie: jax.Array) -> jax.Array:
    """log p - log q."""
    target = model(params, sizes, noise).condition({"frames": movie})
    return ppl.elbo(target, guide(params, sizes, noise, movie))


def without_martingale(params: Params, sizes: Sizes, noise: Driver, movie: jax.Array) -> jax.Array:
    """The expected log likelihood less divergences in closed form."""
    found = guide(params, sizes, noise, movie).propose().retval
    features = perceptron(params["reader"], movie.reshape(len(movie), -1), jax.nn.leaky_relu)
    prior = npd.Normal(params["start"]["mean"], jnp.exp(params["start"]["scale"]))
    first = npd.Normal(*_first(params, _around(sizes, features)))
    divergences = (
        jnp.sum(npd.kl_divergence(npd.Normal(*_code(params, movie, features)), npd.Normal(0.0, 1.0)))
        + jnp.sum(npd.kl_divergence(first, prior))
        + energy(found.controlled.control, sizes.dt)
    )
    return frames(params, sizes, found.code, found.x).log_density({"frames": movie}) - divergences


Form = Callable[[Params, Sizes, Driver, jax.Array], jax.Array]


def ensemble(sizes: Sizes, learn: np.ndarray, form: Form = without_martingale) -> ppl.Expectation:
    """The sum over fits, which have nothing in common, of the mean over a batch of each one's movies.

    Args:
        learn: for each fit, whether its Hurst index is learned.
    """

    @ppl.expectation
    def total(params: Params, batch: jax.Array) -> jax.Array:
        def one(params: Params, learn: jax.Array, movies: jax.Array) -> jax.Array:
            noise = noise_of(params, sizes, learn)
            return jnp.mean(jax.vmap(lambda movie: form(params, sizes, noise, movie))(movies))

        return jnp.sum(jax.vmap(one)(params, jnp.asarray(learn), by_fit(batch, len(learn))))

    return total


def by_fit(batch: jax.Array, fits: int) -> jax.Array:
    """Movies (fits, movies, ...) of a batch (movies, sets, ...): fits take the sets in turn."""
    sets = jnp.swapaxes(batch, 0, 1)
    return jnp.concatenate([sets] * (fits // len(sets)))
