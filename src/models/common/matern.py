"""Gaussian processes with a Matérn kernel of half-integer smoothness, as linear-Gaussian chains.

A process f of smoothness p + 1/2, length scale l and variance s² solves (d/dt + λ)^(p+1) f = white noise of
spectral density q, with λ = sqrt(2p + 1) / l. Its state is (f, f', ..., f^(p)), with dz = F z dt + e_p dw.
All eigenvalues of F are -λ, so that N = F + λ I is nilpotent, and everything has a finite closed form:

    A(D) = exp(F D) = exp(-λ D) sum_k N^k D^k / k!
    Q(D) = q int_0^D exp(F s) e_p e_p' exp(F s)' ds = q sum_ij c_i c_j' (i+j)! / (2 λ)^(i+j+1) P(i+j+1, 2 λ D)

with c_k = N^k e_p / k! and P the regularized incomplete gamma function. P_inf - A P_inf A' is the same
matrix, but loses all digits of the smallest entry, which goes with D^(2p+1), where steps are short.

References: Hartikainen, Särkkä, "Kalman filtering and smoothing solutions to temporal Gaussian process
regression models", 2010; Särkkä, Solin, "Applied stochastic differential equations", 2019, section 12.3.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jax.scipy.special import gammainc

from models.common.linear_gaussian import Chain


def transition(
    order: int, length: float, gap: jax.Array, variance: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """A and Q of a step of length `gap`, for smoothness `order + 1/2`; an infinite gap gives zero, P_inf."""
    rate = math.sqrt(2 * order + 1) / length
    powers = _powers(order, rate)
    near = jnp.where(jnp.isinf(gap), 0.0, gap)
    factorials = np.array([math.factorial(k) for k in range(2 * order + 1)], float)
    terms = near ** np.arange(order + 1) / factorials[: order + 1]
    matrix = jnp.exp(-rate * gap) * jnp.einsum("k,kij->ij", terms, powers)
    columns = powers[:, :, -1] / factorials[: order + 1, None]
    integrals = factorials / (2 * rate) ** np.arange(1, 2 * order + 2)
    integrals = integrals * gammainc(jnp.arange(1.0, 2 * order + 2), 2 * rate * gap)
    pairs = integrals[np.add.outer(np.arange(order + 1), np.arange(order + 1))]
    return matrix, _spectral_density(order, rate, variance) * columns.T @ pairs @ columns


def _powers(order: int, rate: float) -> np.ndarray:
    """I, N, N², ..., N^order, of shape (order + 1, states, states)."""
    states = order + 1
    drift = np.diag(np.ones(order), 1)
    drift[-1] -= [math.comb(states, k) * rate ** (states - k) for k in range(states)]
    return np.stack([np.linalg.matrix_power(drift + rate * np.eye(states), k) for k in range(states)])


def _spectral_density(order: int, rate: float, variance: float) -> float:
    """q such that f has the variance: 2 s² λ, 4 s² λ³, 16/3 s² λ⁵, ..."""
    gammas = math.gamma(order + 1) / math.gamma(order + 0.5)
    return variance * 2 * math.sqrt(math.pi) * gammas * rate ** (2 * order + 1)


def matern(times: np.ndarray, length: float, order: int = 1, copies: int = 1) -> tuple[Chain, np.ndarray]:
    """Independent unit-variance processes at sorted times as one chain, and H with values = H @ state.

    Args:
        times: strictly increasing.
        length: the length scale.
        order: 0, 1, 2 for Matérn-1/2, 3/2, 5/2.
        copies: how many processes; the state holds each with its derivatives, one after the other.

    Raises:
        ValueError: times that do not increase; equal indices have to share one state.
    """
    times = np.asarray(times, float)
    if not np.all(np.diff(times) > 0.0):
        raise ValueError("times must increase strictly: merge equal indices, and add up their sites.")
    gaps = jnp.asarray(np.diff(times, prepend=-np.inf))
    matrices, covariances = jax.vmap(lambda gap: transition(order, length, gap))(gaps)
    repeated = jax.vmap(lambda block: block_diag(*[block] * copies))
    factors = repeated(jnp.linalg.cholesky(covariances))
    seen = np.kron(np.eye(copies), np.eye(1, order + 1))
    return Chain(repeated(matrices), jnp.zeros((len(times), seen.shape[1])), factors), seen


def white(size: int, copies: int = 1) -> tuple[Chain, np.ndarray]:
    """Independent N(0, I) at every index, in the same form: what a table of embeddings has as its prior."""
    matrix, factor = (
        jnp.zeros((size, copies, copies)),
        jnp.broadcast_to(jnp.eye(copies), (size, copies, copies)),
    )
    return Chain(matrix, jnp.zeros((size, copies)), factor), np.eye(copies)
