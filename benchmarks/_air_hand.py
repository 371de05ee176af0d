"""Three rows of table 2 as somebody who knows JAX writes them: one block of noise, plain log densities.

The networks are those of `models.air.nets`, and so is their meaning; the program, its densities and its
estimators are written out. A run is a function of the noise of one image, mapped over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from models.air.model import NOISE, PRESENT, SMOOTHING, STARTS, WHERE, decode
from models.air.nets import gaussian, network, recur
from models.common.nets import affine
from models.common.spatial_transformer import attend, place

OFFSET = STARTS["pyro"].where
SLOTS = len(PRESENT)
LOG_2PI = jnp.log(2 * jnp.pi)


class Carry(NamedTuple):
    """Between two slots: the recurrent state, the last choices, the canvas, and log p less log q so far."""

    state: Any
    present: Any
    where: Any
    what: Any
    canvas: Any
    log_ratio: Any


def normal_ratio(x: Any, noise: Any, scale: Any, prior: tuple[Any, Any]) -> Any:
    """The log density of a normal prior less that of the guide, whose noise is known: constants cancel."""
    return jnp.sum(0.5 * (noise**2 - ((x - prior[0]) / prior[1]) ** 2) + jnp.log(scale / prior[1]))


def begin(params: Any, image: Any) -> tuple[Any, Carry]:
    seen = image.reshape(-1) @ params["lstm"]["image"] + params["lstm"]["b"]
    hidden, whats = len(seen) // 4, len(params["decoder"][0]["w"])
    state = (jnp.zeros(hidden), jnp.zeros(hidden))
    return seen, Carry(state, 1.0, jnp.zeros(3), jnp.zeros(whats), jnp.zeros_like(image), 0.0)


def look(params: Any, seen: Any, carry: Carry) -> tuple[Any, Any]:
    """The recurrent state of a slot, and its probability of an object."""
    x = jnp.concatenate([carry.where, carry.what, jnp.reshape(carry.present, 1)])
    state = recur(seen, params["lstm"]["rest"], x, carry.state)
    found = jax.nn.sigmoid(affine(params["presence"], state[0])[0]) * carry.present
    return state, (SMOOTHING + found) / (1 + 1.01 * SMOOTHING)


def fill(params: Any, image: Any, carry: Carry, state: Any, noise: Any) -> Carry:
    """Place and code of a slot, with an object that is not on the canvas yet."""
    loc, scale = gaussian(affine(params["where"], state[0]))
    loc, scale = OFFSET[0] + OFFSET[1] * loc, OFFSET[1] * scale
    where = loc + scale * noise[:3]
    window = round(len(params["encoder"][0]["w"]) ** 0.5)
    mean, spread = gaussian(network(params["encoder"], attend(image, where, window).reshape(-1)))
    what = mean + spread * noise[3:]
    ratio = normal_ratio(where, noise[:3], scale, WHERE) + normal_ratio(what, noise[3:], spread, (0.0, 1.0))
    return Carry(state, carry.present, where, what, carry.canvas, carry.log_ratio + ratio)


def show(params: Any, carry: Carry, slot: int, present: Any, log_q: Any) -> Carry:
    """The object on the canvas, if it is present, and the densities of that."""
    prior = jnp.where(present > 0, jnp.log(PRESENT[slot]), jnp.log1p(-PRESENT[slot]))
    drawn = place(decode(params, carry.what), carry.where, len(carry.canvas))
    return carry._replace(
        present=present, canvas=carry.canvas + present * drawn, log_ratio=carry.log_ratio + prior - log_q
    )


def end(image: Any, carry: Carry) -> Any:
    constant = image.size * (jnp.log(NOISE) + 0.5 * LOG_2PI)
    return carry.log_ratio - 0.5 * jnp.sum(((image - carry.canvas) / NOISE) ** 2) - constant


def bernoulli(present: Any, probability: Any) -> Any:
    return jnp.where(present > 0, jnp.log(probability), jnp.log1p(-probability))


def run(
    params: Any, image: Any, uniforms: Any, noise: Any, flipped: int | None = None,
    straight_through: bool = False,
) -> Any:  # fmt: skip
    """The bound of one run; its flips, log densities and probabilities. One flip may be turned over."""
    seen, carry = begin(params, image)
    flips, scores, probabilities = [], [], []
    for slot in range(SLOTS):
        state, probability = look(params, seen, carry)
        present = (uniforms[slot] < stop_gradient(probability)).astype(float)
        present = 1 - present if slot == flipped else present
        if straight_through:  # for the ablation: a derivative that is made up
            present = present + probability - stop_gradient(probability)
        score = bernoulli(present, probability)
        carry = show(params, fill(params, image, carry, state, noise[slot]), slot, present, score)
        flips, scores, probabilities = [*flips, present], [*scores, score], [*probabilities, probability]
    return end(image, carry), jnp.stack(flips), jnp.stack(scores), jnp.stack(probabilities)


def reinforce(params: Any, image: Any, uniforms: Any, noise: Any) -> Any:
    bound, _, scores, _ = run(params, image, uniforms, noise)
    score = jnp.sum(scores)
    return bound + stop_gradient(bound) * (score - stop_gradient(score))


def measure_valued(params: Any, image: Any, uniforms: Any, noise: Any) -> Any:
    bound, flips, _, probabilities = run(params, image, uniforms, noise)
    fixed = stop_gradient(params)
    others = jnp.stack([run(fixed, image, uniforms, noise, slot)[0] for slot in range(SLOTS)])
    gain = (2 * flips - 1) * (stop_gradient(bound) - others)
    return bound + jnp.sum((probabilities - stop_gradient(probabilities)) * gain)


def enumerate_(params: Any, image: Any, uniforms: Any, noise: Any) -> Any:
    seen, carry = begin(params, image)

    def rest(slot: int, carry: Carry) -> Any:
        if slot == SLOTS:
            return end(image, carry)
        state, probability = look(params, seen, carry)
        filled = fill(params, image, carry, state, noise[slot])
        each = lambda p: rest(slot + 1, show(params, filled, slot, p, bernoulli(p, probability)))
        absent, present = jax.vmap(each)(jnp.arange(2.0))
        return (1 - probability) * absent + probability * present

    return rest(0, carry)


def gradient(one: Callable[..., Any]) -> Callable[..., Any]:
    """Value and gradient of the mean over a batch, as a function of key, parameters and images."""

    def mean(params: Any, key: Any, images: Any) -> Any:
        first, second = jax.random.split(key)
        size, whats = len(images), len(params["decoder"][0]["w"])
        uniforms = jax.random.uniform(first, (size, SLOTS))
        noise = jax.random.normal(second, (size, SLOTS, 3 + whats))
        return jnp.mean(jax.vmap(one, (None, 0, 0, 0))(params, images, uniforms, noise))

    return lambda key, params, images: jax.value_and_grad(mean)(params, key, images)


GRADIENTS = {
    "REINFORCE": gradient(reinforce), "MVD": gradient(measure_valued), "ENUM": gradient(enumerate_)
}  # fmt: skip
