"""The objective in Gram matrices: nothing is drawn, since features are integrated out exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

import ppl
from models.processes.kernels import arc_cosine

JITTER = 1e-4
LAYERS = 2  # of the machines that are run
Params = dict[str, Any]


class Gram(NamedTuple):
    """Covariances of features: among inducing points, of data with these, of each datum with itself."""

    inducing: jax.Array
    cross: jax.Array
    variance: jax.Array


Kernel = Callable[[Gram], Gram]


def relu(gram: Gram) -> Gram:
    """The arc-cosine kernel, of features whose Gram matrix is given."""
    diagonal = jnp.diag(gram.inducing)
    inducing = arc_cosine(gram.inducing, diagonal, diagonal)
    return Gram(inducing, arc_cosine(gram.cross, gram.variance, diagonal), gram.variance)


def squared_exponential(gram: Gram) -> Gram:
    """exp(-|f - f'|^2 / 2) of features f, f'."""
    diagonal = jnp.diag(gram.inducing)
    kernel = lambda cross, left: jnp.exp(cross - (left[:, None] + diagonal) / 2)
    return Gram(
        kernel(gram.inducing, diagonal), kernel(gram.cross, gram.variance), jnp.ones_like(gram.variance)
    )


def linear(gram: Gram) -> Gram:
    """K(G) = G."""
    return gram


def of_inputs(inducing: jax.Array, data: jax.Array) -> Gram:
    """G_0 = X X' / N_0."""
    d = inducing.shape[1]
    return Gram(inducing @ inducing.T / d, data @ inducing.T / d, jnp.sum(data**2, axis=1) / d)


def jittered(matrix: jax.Array) -> jax.Array:
    """With a little more on the diagonal, for the Cholesky factor."""
    return matrix + JITTER * (jnp.mean(jnp.diag(matrix)) + 1.0) * jnp.eye(len(matrix), dtype=matrix.dtype)


def gaussian_kl(root: jax.Array, kernel_root: jax.Array) -> jax.Array:
    """KL(N(0, G) || N(0, K)) of Cholesky factors: (tr K^-1 G - log det K^-1 G - P) / 2."""
    inner = solve_triangular(kernel_root, root, lower=True)
    return 0.5 * (jnp.sum(inner**2) - len(root)) - jnp.sum(jnp.log(jnp.diag(inner)))


def root_of(v: jax.Array) -> jax.Array:
    """A Cholesky factor from any square matrix: the logarithm of its diagonal is free."""
    return jnp.tril(v, -1) + jnp.diag(jnp.exp(jnp.diag(v)))


def free(root: jax.Array) -> jax.Array:
    """The inverse of `root_of`."""
    return jnp.tril(root, -1) + jnp.diag(jnp.log(jnp.diag(root)))


def nngp_roots(first: Gram, kernel: Kernel, layers: int) -> list[jax.Array]:
    """Cholesky factors of G_l = K(G_(l-1)): no representation is learned."""
    roots, gram = [], first
    for _ in range(layers):
        gram = kernel(gram)
        gram = gram._replace(inducing=jittered(gram.inducing))
        roots.append(jnp.linalg.cholesky(gram.inducing))
    return roots


def through(kernel: Gram, root: jax.Array) -> Gram:
    """The Gram of all points, where that of the inducing ones is G = root root' and the prior's is K.

    G_ti = K_ti K_ii^-1 G_ii,      g_t = k_t - K_ti K_ii^-1 K_it + K_ti K_ii^-1 G_ii K_ii^-1 K_it
    """
    factor = jnp.linalg.cholesky(jittered(kernel.inducing))
    weights = cho_solve((factor, True), kernel.cross.T).T
    explained = jnp.sum(solve_triangular(factor, kernel.cross.T, lower=True) ** 2, axis=0)
    spread = weights @ root
    rest = jnp.maximum(kernel.variance - explained, 0.0)
    return Gram(root @ root.T, spread @ root.T, rest + jnp.sum(spread**2, axis=1))


def ascend(first: Gram, roots: Sequence[jax.Array], kernel: Kernel) -> tuple[Gram, jax.Array]:
    """The last kernel, K(G_L), and the divergence of each layer."""
    gram, divergences = first, []
    for root in roots:
        prior = kernel(gram)
        divergences.append(gaussian_kl(root, jnp.linalg.cholesky(jittered(prior.inducing))))
        gram = through(prior, root)
    return kernel(gram), jnp.stack(divergences)


def channel_evidence(covariance: jax.Array, y: jax.Array) -> jax.Array:
    """The mean over columns of log N(y; 0, covariance)."""
    root = jnp.linalg.cholesky(covariance)
    column = lambda one: ppl.multivariate_normal(jnp.zeros(len(root)), scale_tril=root).log_density(one)
    return jnp.mean(jax.vmap(column)(y.T))


def grams_only(inputs: jax.Array) -> Gram:
    """Where all points are inducing: there is nothing else to predict."""
    return of_inputs(inputs, inputs[:0])


def roots_of(params: Params, first: Gram, kernel: Kernel, layers: int) -> list[jax.Array]:
    """Those that are learned; or, where the parameters hold none, those of the NNGP."""
    if "layers" in params:
        return [root_of(v) for v in params["layers"]]
    return nngp_roots(first, kernel, layers)


class Likelihood(NamedTuple):
    """y ~ N(0, scale K(G_L) + noise I), for each channel."""

    noise: Any
    scale: Any = 1.0


def value(
    roots: Sequence[jax.Array], first: Gram, y: jax.Array, kernel: Kernel, nu: Any, likelihood: Likelihood
) -> jax.Array:
    """L(G_1, ..., G_L) of Cholesky factors, with nu_(L+1) = 1."""
    top, divergences = ascend(first, roots, kernel)
    return channel_evidence(_covariance(top, likelihood), y) - jnp.sum(nu * divergences)


def _covariance(top: Gram, likelihood: Likelihood) -> jax.Array:
    return likelihood.scale * jittered(top.inducing) + likelihood.noise * jnp.eye(len(top.inducing))


def likelihood_of(params: Params, noise: float) -> Likelihood:
    """The noise that is given; or, where the parameters hold them, a noise and a scale that are trained."""
    if "log_noise" in params:
        return Likelihood(jnp.exp(params["log_noise"]), jnp.exp(params["log_scale"]))
    return Likelihood(noise)


@functools.cache
def learned(kernel: Kernel, layers: int, nu: float, noise: float = 0.0) -> ppl.Expectation:
    """L as an objective of parameters and data {"x", "y"}; nothing in it is drawn.

    The Gram matrices are the parameters' `layers`; or, where there are none, those of the NNGP.
    """

    @ppl.expectation
    def objective(params, data):
        first = grams_only(data["x"])
        roots = roots_of(params, first, kernel, layers)
        return value(roots, first, data["y"], kernel, nu, likelihood_of(params, noise))

    return objective


def predictions(
    roots: Sequence[jax.Array],
    train: jax.Array,
    y: jax.Array,
    new: jax.Array,
    kernel: Kernel,
    likelihood: Likelihood,
) -> tuple[jax.Array, jax.Array]:
    """Mean (points, channels) and variance (points,) of new outputs, noise included."""
    top, _ = ascend(of_inputs(train, new), roots, kernel)
    factor = jnp.linalg.cholesky(_covariance(top, likelihood))
    cross = likelihood.scale * top.cross
    mean = cross @ cho_solve((factor, True), y)
    explained = jnp.sum(solve_triangular(factor, cross.T, lower=True) ** 2, axis=0)
    return mean, jnp.maximum(likelihood.scale * top.variance - explained, 0.0) + likelihood.noise


def alignment(gram: jax.Array, other: jax.Array) -> jax.Array:
    """The cosine between centered Gram matrices.

    Reference: Cortes, Mohri, Rostamizadeh, "Algorithms for learning kernels based on centered
    alignment", 2012.
    """
    center = lambda g: g - g.mean(axis=0) - g.mean(axis=1)[:, None] + g.mean()
    one, two = center(gram), center(other)
    return jnp.sum(one * two) / jnp.sqrt(jnp.sum(one**2) * jnp.sum(two**2))


def smallest_eigenvalue(root: jax.Array) -> jax.Array:
    """Of the correlations of a Gram matrix: one if no features are alike, zero if some are all alike."""
    correlations = root / jnp.linalg.norm(root, axis=1, keepdims=True)
    return jnp.linalg.eigvalsh(correlations @ correlations.T)[0]


def log_volume(root: jax.Array) -> jax.Array:
    """log det of a Gram matrix's correlations, by point: zero if none are alike, lower if some are."""
    gram = root @ root.T
    return (2 * jnp.sum(jnp.log(jnp.diag(root))) - jnp.sum(jnp.log(jnp.diag(gram)))) / len(root)
