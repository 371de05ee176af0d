"""The rows of table 2 in GenJAX 1.0.14, with its own estimators: a guide whose flips are of the named kind.

Two forms, as in `_genjax.py`. `of each image` maps `grad_estimate` over the batch and averages the gradients,
as the paper's own code does; it holds a copy of all gradients for each image. `one expectation` maps the
images inside a single expectation by GenJAX's `modular_vmap`, where a score multiplies the whole result.
Its library has an ELBO; the bound of two particles is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import genjax
import jax
import jax.numpy as jnp
from genjax import modular_vmap
from genjax.adev import flip_enum, flip_mvd
from genjax.core import distribution

from models.air.model import NOISE, PRESENT, SMOOTHING, STARTS, WHERE, decode
from models.air.nets import gaussian, network, recur
from models.common.nets import affine
from models.common.spatial_transformer import attend, place

tfd = genjax.distributions.tfd
OFFSET = STARTS["pyro"].where
FLIPS = {
    "REINFORCE": genjax.flip_reinforce,
    "ENUM": distribution(flip_enum, genjax.flip.logpdf),
    "MVD": distribution(flip_mvd, genjax.flip.logpdf),
}
normal = genjax.multivariate_normal_diag_reparam
pixels = genjax.tfp_distribution(lambda loc: tfd.Independent(tfd.Normal(loc, NOISE), 2))


@genjax.gen
def model(params, side):
    canvas, whats = jnp.zeros((side, side)), len(params["decoder"][0]["w"])
    for slot, probability in enumerate(PRESENT):
        present = genjax.flip(probability) @ f"present{slot}"
        where = normal(*WHERE) @ f"where{slot}"
        what = normal(jnp.zeros(whats), jnp.ones(whats)) @ f"what{slot}"
        canvas += jnp.where(present, place(decode(params, what), where, side), 0.0)
    pixels(canvas) @ "image"


def guide_with(flip: Any) -> Any:
    @genjax.gen
    def guide(params, image):
        lstm, encoder = params["lstm"], params["encoder"]
        window, whats = round(len(encoder[0]["w"]) ** 0.5), len(params["decoder"][0]["w"])
        seen = image.reshape(-1) @ lstm["image"] + lstm["b"]
        state = (jnp.zeros(len(seen) // 4),) * 2
        present, where, what = jnp.ones(()), jnp.zeros(3), jnp.zeros(whats)
        for slot in range(len(PRESENT)):
            state = recur(seen, lstm["rest"], jnp.concatenate([where, what, present[None]]), state)
            found = jax.nn.sigmoid(affine(params["presence"], state[0])[0]) * present
            probability = (SMOOTHING + found) / (1 + 1.01 * SMOOTHING)
            present = jnp.where(flip(probability) @ f"present{slot}", 1.0, 0.0)
            loc, scale = gaussian(affine(params["where"], state[0]))
            where = normal(OFFSET[0] + OFFSET[1] * loc, OFFSET[1] * scale) @ f"where{slot}"
            code = network(encoder, attend(image, where, window).reshape(-1))
            what = normal(*gaussian(code)) @ f"what{slot}"

    return guide


def bound(flip: Any, particles: int) -> Callable[[Any, Any], Any]:
    guide = guide_with(flip)

    def log_weight(params: Any, image: Any) -> Any:
        trace = guide.simulate(params, image)
        log_joint, _ = model.assess({**trace.get_choices(), "image": image}, params, len(image))
        return log_joint + trace.get_score()

    def several(params: Any, image: Any) -> Any:
        log_weights = jnp.stack([log_weight(params, image) for _ in range(particles)])
        return jax.nn.logsumexp(log_weights) - jnp.log(particles)

    return log_weight if particles == 1 else several


def of_each(flip: Any, particles: int) -> Callable[..., Any]:
    one = bound(flip, particles)

    def mean(params: Any, images: Any) -> Any:
        each = lambda image: genjax.expectation(lambda params: one(params, image)).grad_estimate(params)
        return jax.tree.map(lambda g: jnp.mean(g, 0), modular_vmap(each)(images))

    seeded = genjax.seed(mean)
    return lambda key, params, images: seeded(key, params, images)


def together(flip: Any, particles: int) -> Callable[..., Any]:
    one = bound(flip, particles)

    def mean(params: Any, images: Any) -> Any:
        whole = lambda params: jnp.mean(modular_vmap(lambda image: one(params, image))(images))
        return genjax.expectation(whole).grad_estimate(params)

    seeded = genjax.seed(mean)
    return lambda key, params, images: seeded(key, params, images)


ROWS = {
    "REINFORCE": ("REINFORCE", 1), "MVD": ("MVD", 1), "ENUM": ("ENUM", 1),
    "IWELBO(2) + REINFORCE": ("REINFORCE", 2), "IWELBO(2) + MVD": ("MVD", 2),
}  # fmt: skip
GRADIENTS = {name: of_each(FLIPS[flip], particles) for name, (flip, particles) in ROWS.items()}
# Its measure-valued flips, mapped inside one expectation, did not compile in ten minutes; its enumerated ones
# were not tried.
TOGETHER = {
    name: together(FLIPS[flip], particles) for name, (flip, particles) in ROWS.items() if flip == "REINFORCE"
}
