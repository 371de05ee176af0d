"""The deep Gaussian process of finite width, as a program; its ELBO, divided by the width, tends to L.

    F_l | F_(l-1):  N_l columns N(0, K(F_(l-1) F_(l-1)' / N_(l-1)))          y_c | F_L ~ N(0, K(G_L) + s^2 I)

with the guide F_l: N_l columns N(0, G_l), the form of the posterior of infinite width; and its posterior by
Markov chains, in which no guide has a say.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from jax.scipy.linalg import solve_triangular

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


@functools.cache
def bound(kernel: Kernel, width: int, layers: int, noise: float, replicated: bool = True) -> ppl.Expectation:
    """The ELBO divided by the width.

    The mean log density of a channel counts `width` times, as if outputs were replicated with the width; or
    once, whatever the width is, if not `replicated`: then nothing is learned in the limit.
    """
    widths = [width] * layers

    @ppl.expectation
    def elbo(params, data):
        first, y = data["x"] @ data["x"].T / data["x"].shape[1], data["y"]
        model = deep_process(kernel, widths, y.shape[1])
        target = model(first, noise).condition({"y": y.T})
        guide = independent_layers(widths)([root_of(v) for v in params["layers"]])
        counted = ppl.objectives.tempered(likelihood=(width if replicated else 1.0) / y.shape[1])
        return counted(target, guide) / width

    return elbo


@functools.cache
def whitened_process(kernel: Kernel, width: int, layers: int) -> Any:
    """The same model in standard normal features, F_l = W_l L', L L' = K(G_(l-1)), with `width` outputs."""

    @ppl.gen
    def model(first, noise):
        gram = first
        for layer in range(layers):
            root = jnp.linalg.cholesky(jittered(kernel(only(gram)).inducing))
            white = ppl.normal(jnp.zeros((width, len(root))), 1.0) @ f"white{layer}"
            gram = root @ (white.T @ white) @ root.T / width
        last = jittered(kernel(only(gram)).inducing) + noise * jnp.eye(len(gram))
        columns(jnp.linalg.cholesky(last), width) @ "y"

    return model


def posterior_grams(
    first: jax.Array, y: jax.Array, roots: Sequence[jax.Array], kernel: Kernel, width: int, noise: float,
    key: jax.Array, draws: int, warmup: int,
) -> list[jax.Array]:  # fmt: skip
    """Gram matrices of draws of a network's posterior, by Hamiltonian Monte Carlo: (draws, points, points).

    Outputs are replicated to as many as the network is wide. It is the network's own posterior, so that no
    guide has a say in it; the chain begins at features with the Gram matrices of `roots`, on the average.
    """
    if width % y.shape[1]:
        raise ValueError(f"a width of {width} is no multiple of the {y.shape[1]} outputs to be replicated.")
    observed = jnp.tile(y.T, (width // y.shape[1], 1))
    target = whitened_process(kernel, width, len(roots))(first, noise).condition({"y": observed})
    begin, gram = {}, first
    for layer, root in enumerate(roots):
        own = jnp.linalg.cholesky(jittered(kernel(only(gram)).inducing))
        white = jax.random.normal(jax.random.fold_in(key, layer), (width, len(own)))
        begin[f"white{layer}"] = (white @ solve_triangular(own, root, lower=True).T)[None]
        gram = root @ root.T
    found = ppl.infer.chains(
        target, ppl.infer.HMC(0.05, 10), key=key, draws=draws, warmup=warmup, chains=1, initial=begin
    )
    return _grams(found.flat, first, kernel, len(roots))


@functools.partial(jax.jit, static_argnames=("kernel", "layers"))
def _grams(choices: Any, first: jax.Array, kernel: Kernel, layers: int) -> list[jax.Array]:
    """The Gram matrices of each layer, of whitened features."""

    def of_one(choice):
        gram, found = first, []
        for layer in range(layers):
            white = choice[f"white{layer}"]
            root = jnp.linalg.cholesky(jittered(kernel(only(gram)).inducing))
            gram = root @ (white.T @ white) @ root.T / len(white)
            found.append(gram)
        return found

    return jax.vmap(of_one)(dict(choices))
