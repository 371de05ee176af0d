"""Gaussian processes with a Matérn kernel of half-integer smoothness, as linear-Gaussian chains.

A process f of smoothness p + 1/2, length scale l and variance s² solves (d/dt + λ)^(p+1) f = white noise
of spectral density q, with λ = sqrt(2p + 1) / l. Its state is (f, f', ..., f^(p)), with dz = F z dt + e_p
dw. All eigenvalues of F are -λ, so that N = F + λ I is nilpotent, and everything has a finite closed
form:

    A(D) = exp(F D) = exp(-λ D) sum_k N^k D^k / k!
    Q(D) = q int_0^D exp(F s) e_p e_p' exp(F s)' ds = q sum_ij c_i c_j' (i+j)! / (2 λ)^(i+j+1) P(i+j+1, 2 λ D)

with c_k = N^k e_p / k! and P the regularized incomplete gamma function. P_inf - A P_inf A' is the same
matrix, but loses all digits of the smallest entry, which goes with D^(2p+1), where steps are short.

References: Hartikainen, Särkkä, "Kalman filtering and smoothing solutions to temporal Gaussian process
regression models", 2010; Särkkä, Solin, "Applied stochastic differential equations", 2019, section 12.3.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammainc

from models.common.linear_gaussian import Chain


def transition(order: int, length: float, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and Q of each gap, of shape (gaps, states, states); an infinite gap gives 0, P_inf.

    Args:
        order: p, for the smoothness p + 1/2.
        length: the length scale l; the variance is one.
        gaps: D, positive.
    """
    rate, states = math.sqrt(2 * order + 1) / length, order + 1
    powers = _powers(order, rate)
    factorials = np.array([math.factorial(k) for k in range(2 * states - 1)], float)
    near = np.where(np.isinf(gaps), 0.0, gaps)[:, None]
    terms = near ** np.arange(states) / factorials[:states]
    matrices = np.exp(-rate * gaps)[:, None, None] * np.einsum("tk,kij->tij", terms, powers)
    shapes = np.arange(1, 2 * states)
    integrals = factorials / (2 * rate) ** shapes * gammainc(shapes, 2 * rate * gaps[:, None])
    pairs = integrals[:, np.add.outer(np.arange(states), np.arange(states))]
    columns = powers[:, :, -1] / factorials[:states, None]
    return matrices, _spectral_density(order, rate) * columns.T @ pairs @ columns


def _powers(order: int, rate: float) -> np.ndarray:
    """I, N, N², ..., N^order, of shape (order + 1, states, states)."""
    states = order + 1
    drift = np.diag(np.ones(order), 1)
    drift[-1] -= [math.comb(states, k) * rate ** (states - k) for k in range(states)]
    return np.stack([np.linalg.matrix_power(drift + rate * np.eye(states), k) for k in range(states)])


def _spectral_density(order: int, rate: float) -> float:
    """q such that the variance of f is one: 2 λ, 4 λ³, 16/3 λ⁵, ..."""
    gammas = math.gamma(order + 1) / math.gamma(order + 0.5)
    return 2 * math.sqrt(math.pi) * gammas * rate ** (2 * order + 1)


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
    matrices, covariances = transition(order, length, np.diff(times, prepend=-np.inf))
    repeated = lambda blocks: np.kron(np.eye(copies), blocks)
    chain = Chain(
        repeated(matrices),
        np.zeros((len(times), copies * (order + 1))),
        repeated(np.linalg.cholesky(covariances)),
    )
    return chain, np.kron(np.eye(copies), np.eye(1, order + 1))


def white(size: int, copies: int = 1) -> tuple[Chain, np.ndarray]:
    """Independent N(0, I) at every index, in the same form: what a table of embeddings has as its prior."""
    factor = np.broadcast_to(np.eye(copies), (size, copies, copies))
    return Chain(np.zeros_like(factor), np.zeros((size, copies)), factor), np.eye(copies)
