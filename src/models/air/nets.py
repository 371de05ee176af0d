"""The networks of attend, infer, repeat: functions of pytrees of weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.common.nets import affine, linear

Params = dict[str, Any]


class Sizes(NamedTuple):
    """Of the networks; a window is what an object is drawn in and looked at through, `z_what` its code."""

    canvas: int = 24
    window: int = 10
    what: int = 20
    hidden: int = 100
    lstm: int = 128


def initial(key: jax.Array, sizes: Sizes = Sizes(), decoder_bias: float = 0.0) -> Params:  # noqa: B008
    """All parameters: the model's decoder, and the guide's recurrent network, its heads and its encoder."""
    keys = jax.random.split(key, 8)
    pixels, window = sizes.canvas**2, sizes.window**2
    drawing = linear(keys[1], sizes.hidden, window)
    lstm = linear(keys[2], pixels + 3 + sizes.what + 1 + sizes.lstm, 4 * sizes.lstm)
    return {
        "decoder": [
            linear(keys[0], sizes.what, sizes.hidden),
            {"w": drawing["w"], "b": drawing["b"] + decoder_bias},
        ],
        "lstm": {"image": lstm["w"][:pixels], "rest": lstm["w"][pixels:], "b": lstm["b"]},
        "presence": linear(keys[3], sizes.lstm, 1),
        "where": linear(keys[4], sizes.lstm, 6),
        "encoder": [linear(keys[5], window, sizes.hidden), linear(keys[6], sizes.hidden, 2 * sizes.what)],
    }


def network(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """Two layers, leaky rectified between."""
    first, second = layers
    return affine(second, jax.nn.leaky_relu(affine(first, x)))


def gaussian(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Location and scale, of the halves of an output."""
    loc, scale = jnp.split(x, 2)
    return loc, jax.nn.softplus(scale)


def recur(seen: jax.Array, weights: jax.Array, x: jax.Array, state: Any) -> Any:
    """One step of a long short-term memory, `seen` being what the image adds to its gates at every step."""
    hidden, cell = state
    update, forget, output, new = jnp.split(seen + jnp.concatenate([x, hidden]) @ weights, 4)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(update) * jnp.tanh(new)
    return jax.nn.sigmoid(output) * jnp.tanh(cell), cell
