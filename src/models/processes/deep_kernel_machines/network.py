"""The deep Gaussian process of finite width, as a program; its ELBO, divided by the width, tends to L.

    F_l | F_(l-1):  N_l columns N(0, K(F_(l-1) F_(l-1)' / N_(l-1)))          y_c | F_L ~ N(0, K(G_L) + s^2 I)

with the guide F_l: N_l columns N(0, G_l), the form of the posterior of infinite width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

import ppl
from models.processes.deep_kernel_machines.objective import Gram, Kernel, jittered, root_of


def columns(root: jax.Array, width: int) -> ppl.Measure:
    """As many independent Gaussian columns, as rows of an array (width, points)."""
    return ppl.dist(npd.MultivariateNormal(jnp.zeros(len(root)), scale_tril=root).expand([width]).to_event(1))


def only(inducing: jax.Array) -> Gram:
    """A Gram matrix of inducing points alone."""
    return Gram(inducing, inducing[:0], jnp.diag(inducing)[:0])


def deep_process(kernel: Kernel, widths: Sequence[int], channels: int) -> Any:
    """The model of these widths: a program of the first Gram matrix and the variance of the noise."""

    @ppl.gen
    def model(first, noise):
        gram = first
        for layer, width in enumerate(widths):
            prior = kernel(only(gram)).inducing
            features = columns(jnp.linalg.cholesky(jittered(prior)), width) @ f"features{layer}"
            gram = features.T @ features / width
        last = jittered(kernel(only(gram)).inducing) + noise * jnp.eye(len(gram))
        columns(jnp.linalg.cholesky(last), channels) @ "y"

    return model


def independent_layers(widths: Sequence[int]) -> Any:
    """The guide: features of each layer on their own, by the Cholesky factors of their Gram matrices."""

    @ppl.gen
    def guide(roots):
        for layer, (root, width) in enumerate(zip(roots, widths, strict=True)):
            columns(root, width) @ f"features{layer}"

    return guide


def bound(kernel: Kernel, width: int, layers: int, replicated: bool = True) -> ppl.Expectation:
    """The ELBO divided by the width.

    The mean log density of a channel counts `width` times, as if outputs were replicated with the width; or
    once, whatever the width is, if not `replicated`: then nothing is learned in the limit.
    """
    widths = [width] * layers

    @ppl.expectation
    def elbo(params, data):
        first, y = data["x"] @ data["x"].T / data["x"].shape[1], data["y"]
        model = deep_process(kernel, widths, y.shape[1])
        target = model(first, data["noise"][0]).condition({"y": y.T})
        guide = independent_layers(widths)([root_of(v) for v in params["layers"]])
        counted = ppl.objectives.tempered(likelihood=(width if replicated else 1.0) / y.shape[1])
        return counted(target, guide) / width

    return elbo


def sampled_grams(roots: Sequence[jax.Array], width: int, key: jax.Array, draws: int) -> list[jax.Array]:
    """F_l F_l' / N_l of draws of the guide: (draws, points, points) a layer."""
    guide = independent_layers([width] * len(roots))(list(roots))
    choices = jax.jit(jax.vmap(guide.simulate))(jax.random.split(key, draws)).choices
    features = [choices[f"features{layer}"] for layer in range(len(roots))]
    return [jnp.einsum("dnp,dnq->dpq", f, f) / width for f in features]
