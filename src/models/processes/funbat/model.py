"""The model of FunBaT and its guide, as programs that both ways of inference share.

    y_n = sum_r W_r prod_k u^k_{r_k}(i^k_n) + e_n,  e_n ~ N(0, 1/τ),  τ ~ Gamma(a_0, b_0),  vec(W) ~ N(0, I)
    u^k_r ~ GP(0, κ_k), independent: along the sorted indices of mode k, z_{t+1} = A z_t + noise, u^k = H z

In the CP variant W is the superdiagonal of ones. The guide is q(τ) q(W) prod_k q(Z^k), where q(Z^k) is the
prior chain times Gaussian sites, a chain again.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from models.common.linear_gaussian import Chain, Sites, posterior
from models.common.markov_chain import markov_chain

# a_0 and b_0; a larger b_0 would inflate the noise of standardized data.
PRIOR = (1e-3, 1e-3)


class Mode(NamedTuple):
    """A mode of the tensor.

    Attributes:
        prior: of its functions, as a chain over the sorted distinct indices.
        seen: H, so that the functions are H z; of shape (rank, states).
    """

    prior: Chain
    seen: np.ndarray


class Core(NamedTuple):
    """q(W), normal: the mean of vec(W), and a lower triangular root of its covariance."""

    mean: jax.Array
    factor: jax.Array


class Approximation(NamedTuple):
    """The parameters of the guide.

    Attributes:
        sites: of each mode.
        core: `None` in the CP variant.
        shape, rate: of q(τ), a gamma distribution.
    """

    sites: tuple[Sites, ...]
    core: Core | None
    shape: jax.Array
    rate: jax.Array


def ranks(modes: tuple[Mode, ...]) -> tuple[int, ...]:
    return tuple(mode.seen.shape[0] for mode in modes)


def superdiagonal(modes: tuple[Mode, ...]) -> np.ndarray:
    """vec(W) of the CP variant."""
    size = ranks(modes)
    core = np.zeros(size)
    core[(np.arange(min(size)),) * len(size)] = 1.0
    return core.ravel()


def entries(core: jax.Array, rows: list[jax.Array]) -> jax.Array:
    """sum_r core_r prod_k rows^k_{n, r_k}, for each n; what a Tucker decomposition says about its entries."""
    letters = "abcdefgh"[: len(rows)]
    core = core.reshape([row.shape[1] for row in rows])
    return jnp.einsum(f"{letters},{','.join('n' + letter for letter in letters)}->n", core, *rows)


@ppl.gen
def model(modes: tuple[Mode, ...], index: jax.Array, tucker: bool = True):
    """Entries at the rows `index`, of shape (entries, modes), of the indices of each mode."""
    precision = ppl.gamma(*PRIOR) @ "precision"
    core = superdiagonal(modes)
    if tucker:
        core = ppl.normal(jnp.zeros(core.shape), 1.0) @ "core"
    functions = []
    for k, mode in enumerate(modes):
        states = markov_chain(mode.prior) @ f"factor {k}"
        functions.append(states @ mode.seen.T)
    mean = entries(core, [function[index[:, k]] for k, function in enumerate(functions)])
    ppl.normal(mean, precision**-0.5) @ "y"


@ppl.gen
def guide(modes: tuple[Mode, ...], q: Approximation):
    ppl.gamma(q.shape, q.rate) @ "precision"
    if q.core is not None:
        ppl.multivariate_normal(q.core.mean, scale_tril=q.core.factor) @ "core"
    for k, (mode, sites) in enumerate(zip(modes, q.sites, strict=True)):
        markov_chain(posterior(mode.prior, mode.seen, sites).chain, reverse=True) @ f"factor {k}"


def seen_rows(index: np.ndarray | jax.Array) -> list[np.ndarray]:
    """The indices of each mode at which anything was seen: no other needs a site."""
    return [np.unique(column) for column in np.asarray(index).T]


def random_functions(key: jax.Array, modes: tuple[Mode, ...]) -> list[jax.Array]:
    """Where inference starts: values that say nothing about smoothness, the same for every prior."""
    keys = jax.random.split(key, len(modes))
    return [
        jax.random.normal(k, (len(mode.prior.offset), mode.seen.shape[0]))
        for k, mode in zip(keys, modes, strict=True)
    ]
