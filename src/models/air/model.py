"""Attend, infer, repeat as two programs: a model that draws up to three objects, a guide that finds them.

For each slot t = 1, 2, 3

    present_t ~ Flip(p_t)      where_t ~ Normal((3, 0, 0), (0.2, 1, 1))      what_t ~ Normal(0, I)
    canvas  +=  present_t * place(decode(what_t), where_t)

and image ~ Normal(canvas, 0.3). As in the paper's experiment, presence is independent from slot to slot in
the model, and an absent object has a place and a code all the same.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

import ppl
from models.air.nets import Params, gaussian, network, recur
from models.common.nets import affine
from models.common.spatial_transformer import attend, place

PRESENT = (0.05, 0.05**2.3, 0.05**5)
"""Prior probability that there is an object in each slot."""
WHERE = (jnp.array([3.0, 0.0, 0.0]), jnp.array([0.2, 1.0, 1.0]))
"""Prior of scale and shift: an object takes a third of the canvas."""
NOISE = 0.3
SMOOTHING = 1e-4
"""What keeps a probability of the guide within (0, 1)."""


class Start(NamedTuple):
    """Where training starts.

    Attributes:
        where: what the guide's place is an offset from, and in units of: location and scale.
        decoder_bias: added to the last biases of the decoder; below zero, objects are faint at first.
    """

    where: tuple[jax.Array, jax.Array]
    decoder_bias: float


STARTS = {
    "artifact": Start((jnp.zeros(3), jnp.ones(3)), 0.0),  # of the paper's own code
    "pyro": Start(WHERE, -2.0),  # of Pyro's example: the guide begins at the prior of the place
}


@ppl.gen
def model(params: Params, side: int):
    canvas = jnp.zeros((side, side))
    for slot, probability in enumerate(PRESENT):
        present = ppl.flip(probability) @ ("present", str(slot))
        where = ppl.normal(*WHERE) @ ("where", str(slot))
        what = ppl.normal(jnp.zeros(params["decoder"][0]["w"].shape[0]), 1.0) @ ("what", str(slot))
        canvas += jnp.where(present, place(decode(params, what), where, side), 0.0)
    ppl.normal(canvas, NOISE) @ "image"


def decode(params: Params, what: jax.Array) -> jax.Array:
    """The window with the object of this code."""
    ink = jax.nn.sigmoid(network(params["decoder"], what))
    side = round(len(ink) ** 0.5)
    return ink.reshape(side, side)


@ppl.gen
def guide(params: Params, image: jax.Array, offset: tuple[jax.Array, jax.Array]):
    lstm, encoder = params["lstm"], params["encoder"]
    window, whats = round(len(encoder[0]["w"]) ** 0.5), len(params["decoder"][0]["w"])
    seen = image.reshape(-1) @ lstm["image"] + lstm["b"]
    state = (jnp.zeros(len(seen) // 4),) * 2
    present, where, what = jnp.ones(()), jnp.zeros(3), jnp.zeros(whats)
    for slot in range(len(PRESENT)):
        state = recur(seen, lstm["rest"], jnp.concatenate([where, what, present[None]]), state)
        found = jax.nn.sigmoid(affine(params["presence"], state[0])[0]) * present
        probability = (SMOOTHING + found) / (1 + 1.01 * SMOOTHING)
        present = jnp.where(ppl.flip(probability) @ ("present", str(slot)), 1.0, 0.0)
        loc, scale = gaussian(affine(params["where"], state[0]))
        where = ppl.normal(offset[0] + offset[1] * loc, offset[1] * scale) @ ("where", str(slot))
        code = network(encoder, attend(image, where, window).reshape(-1))
        what = ppl.normal(*gaussian(code)) @ ("what", str(slot))
