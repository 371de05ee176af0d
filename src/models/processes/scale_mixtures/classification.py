"""The sparse variational t process: ten functions of one scale, inducing points, corrupted test images.

    s ~ InverseGamma(a, b),   u_c | s ~ N(0, s K_II),   f_c | u_c, s,   label ~ Categorical(softmax f)

and the guide  s ~ InverseGamma(a', b'),  u_c | s ~ N(m_c, s S_c). Everything is written in v = L^-1 u, where
L L' = K_II and v_c | s ~ N(0, s I). The scale is one for all classes: they share the last layer's variance.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp

import ppl
from models.processes.kernels import nngp, nngp_variance
from models.processes.scale_mixtures.conjugate import Scale, kl_of_scales

CLASSES, JITTER = 10, 1e-3
PRIOR_A = 2.0
Params = dict[str, Any]


class Projection(NamedTuple):
    """The rows w of f = w'v + residual, and the residuals' variances, at a scale of one."""

    weights: jax.Array
    residual: jax.Array


def projection(params: Params, x: jax.Array) -> Projection:
    """Of inputs x on the inducing points, which are data and not trained."""
    weight, points = jnp.exp(params["weight"]), params["points"]
    covariance = nngp(points, points, weight)
    jitter = JITTER * jnp.mean(jnp.diag(covariance))
    root = jnp.linalg.cholesky(covariance + jitter * jnp.eye(len(points)))
    weights = solve_triangular(root, nngp(points, x, weight), lower=True).T
    residual = nngp_variance(x, weight) - jnp.sum(weights**2, axis=1)
    return Projection(weights, jnp.maximum(residual, 0.0) + jitter)


def prior_of(params: Params) -> Scale:
    return Scale(PRIOR_A, PRIOR_A * jnp.exp(params["scale"]))


def posterior_of(params: Params) -> Scale:
    a = jnp.exp(params["a"])
    return Scale(a, a * jnp.exp(params["ratio"]))


def roots(params: Params) -> jax.Array:
    """The Cholesky factors of S_c, in the coordinates of v."""
    lower = jnp.tril(params["root"], -1)
    return lower + jnp.exp(jnp.diagonal(params["root"], axis1=1, axis2=2))[..., None] * jnp.eye(
        lower.shape[-1]
    )


@ppl.gen
def model(prior, at):
    scale = ppl.families.inverse_gamma(*prior) @ "scale"
    v = ppl.normal(jnp.zeros((CLASSES, at.weights.shape[1])), jnp.sqrt(scale)) @ "v"
    f = ppl.normal(at.weights @ v.T, jnp.sqrt(scale * at.residual)[:, None]) @ "f"
    ppl.categorical(logits=f) @ "label"


@ppl.gen
def guide(params, at):
    scale = ppl.families.inverse_gamma(*posterior_of(params)) @ "scale"
    v = ppl.multivariate_normal(params["mean"], scale_tril=jnp.sqrt(scale) * roots(params)) @ "v"
    ppl.normal(at.weights @ v.T, jnp.sqrt(scale * at.residual)[:, None]) @ "f"


def moments(params: Params, at: Projection) -> tuple[jax.Array, jax.Array]:
    """Means of f, and variances at a scale of one, with v summed out: (points, classes)."""
    spread = jnp.einsum("nm,cmk->nck", at.weights, roots(params))
    return at.weights @ params["mean"].T, jnp.sum(spread**2, axis=-1) + at.residual[:, None]


@ppl.gen
def values(params, scale_law, at):
    """What the guide says of f, for each point on its own: t with 2a' degrees of freedom."""
    mean, variance = moments(params, at)
    scale = scale_law(len(mean))
    return ppl.normal(mean, jnp.sqrt(scale[:, None] * variance)) @ "f"


def unknown_scale(params: Params) -> Any:
    a, b = posterior_of(params)
    return lambda points: ppl.families.inverse_gamma(jnp.full(points, a), b) @ "scale"


def known_scale(params: Params) -> Any:
    return lambda points: jnp.full(points, jnp.exp(params["scale"]))


def kl(params: Params, precision: jax.Array) -> jax.Array:
    """KL of the guide's v, given that the mean of 1 / s is `precision`."""
    root, mean = roots(params), params["mean"]
    diagonal = jnp.diagonal(root, axis1=1, axis2=2)
    return 0.5 * (
        jnp.sum(root**2) - mean.size - 2 * jnp.sum(jnp.log(diagonal)) + precision * jnp.sum(mean**2)
    )


def _likelihood(params, scale_law, at, labels):
    f = values(params, scale_law, at).propose().retval
    return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(f), labels[:, None], axis=1))


@ppl.expectation
def mixture_bound(params, batch):
    """The ELBO with the divergence in closed form; each image of a batch has a draw of its own."""
    at = projection(params, batch["x"])
    prior, posterior = prior_of(params), posterior_of(params)
    divergence = kl(params, posterior.a / posterior.b) + kl_of_scales(posterior, prior)
    likelihood = _likelihood(params, unknown_scale(params), at, batch["label"])
    return likelihood / len(batch["label"]) - divergence / params["total"]


@ppl.expectation
def gaussian_bound(params, batch):
    """The same for a Gaussian process, whose scale is a parameter."""
    at = projection(params, batch["x"])
    # v has the variance `scale` under the prior, as it has under the guide but for S.
    divergence = kl(params, jnp.exp(-params["scale"]))
    likelihood = _likelihood(params, known_scale(params), at, batch["label"])
    return likelihood / len(batch["label"]) - divergence / params["total"]


@ppl.expectation
def program_bound(params, batch):
    """The same as `mixture_bound`, of model and guide as they stand: nothing is summed out."""
    at = projection(params, batch["x"])
    target = model(prior_of(params), at).condition({"label": batch["label"]})
    scaled = ppl.objectives.tempered(likelihood=params["total"] / len(batch["label"]))
    return scaled(target, guide(params, at)) / params["total"]


def initial(points: np.ndarray, total: int) -> Params:
    """The guide starts at the prior; the number of data is an integer, and not trained."""
    m = len(points)
    return {
        "weight": jnp.array(0.5), "scale": jnp.array(0.0), "a": jnp.log(PRIOR_A), "ratio": jnp.array(0.0),
        "mean": jnp.zeros((CLASSES, m)), "root": jnp.zeros((CLASSES, m, m)), "points": jnp.asarray(points),
        "total": jnp.array(total),
    }  # fmt: skip


OPTIMIZER = optax.multi_transform(
    {"trained": optax.adam(1e-2), "held": optax.set_to_zero()},
    lambda params: {name: "held" if name == "points" else "trained" for name in params},
)


def fitted(bound: Any, data: dict[str, np.ndarray], points: np.ndarray, key: Any, steps: int, progress: bool):
    start = initial(points, len(data["label"]))
    return ppl.fit(
        bound, start, OPTIMIZER, key=key, steps=steps, data=data, batch_size=100, progress=progress
    ).params


@partial(jax.jit, static_argnames=("mixed", "draws"))
def log_probabilities(
    params: Params, x: jax.Array, key: jax.Array, mixed: bool, draws: int = 100
) -> jax.Array:
    """log E[softmax f] of each image; a draw of the scale serves all classes of an image."""
    law = (unknown_scale if mixed else known_scale)(params)
    program = values(params, law, projection(params, x))
    drawn = jax.vmap(lambda k: jax.nn.log_softmax(program.simulate(k).retval))(jax.random.split(key, draws))
    return logsumexp(drawn, axis=0) - jnp.log(draws)


def corrupted(images: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Images of values 0 to 1, (n, 64): as they are, and in three ways as no image of the training set is."""
    grid = images.reshape(-1, 8, 8)
    shifted = np.zeros_like(grid)
    shifted[:, :, 2:] = grid[:, :, :-2]
    return {
        "clean": images,
        "noise": images + 0.3 * random.standard_normal(images.shape),
        "shift": shifted.reshape(len(images), -1),
        "dropout": images * (random.random(images.shape) > 0.3),
    }


def digits(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """A thousand images to train on; the rest in four versions, and its labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(bunch.data))
    images, labels = bunch.data[order] / 16.0, bunch.target[order].astype(np.int32)
    center = images[:1000].mean(axis=0)
    scale = np.sqrt(np.mean((images[:1000] - center) ** 2))
    ready = lambda x: ((x - center) / scale).astype(np.float32)
    train = {"x": ready(images[:1000]), "label": labels[:1000]}
    versions = corrupted(images[1000:], random)
    return train, {name: ready(x) for name, x in versions.items()}, labels[1000:]


BOUNDS = {"Gaussian": (gaussian_bound, False), "mixture": (mixture_bound, True)}


def run(seed: int, steps: int, progress: bool, inducing: int, bounds: Any) -> dict[str, dict[str, float]]:
    train, tests, labels = digits(seed)
    points = train["x"][:inducing]
    table = {}
    for name, (bound, mixed) in bounds.items():
        params = fitted(bound, train, points, jax.random.key(seed), steps, progress)
        row = {}
        for version, x in tests.items():
            found = np.asarray(log_probabilities(params, jnp.asarray(x), jax.random.key(1), mixed))
            row[version] = float(-found[np.arange(len(labels)), labels].mean())
            if version == "clean":
                row["error"] = float((found.argmax(axis=1) != labels).mean())
        if mixed:
            row["degrees of freedom"] = float(2 * posterior_of(params).a)
        table[name] = row
    return table
